"""Makes the datasets, runs all sides in turn, prints tables. Called by augment.sh."""

import argparse
import pathlib
import re
import shlex
import statistics
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
import measure  # noqa: E402

GEOMETRY = ["--op", "rotate=±15", "--op", "random-resized-crop=0.7..1", "--op", "noise=0.05"]
RAND = ["--op", "rand-augment=9,ops=2,filter=bilinear"]
PEERS = {"torchvision": "torchvision v2", "albumentations": "albumentations", "kornia": "kornia"}


def made(dlopt, work):
    """Fashion-MNIST, and 3,000 crops of two photographs of 224x224, as datasets."""
    small, large = work / "fashion.safetensors", work / "crops.safetensors"
    run = lambda *words: subprocess.run([dlopt, *words, "--quiet"], check=True)  # noqa: E731
    if not small.exists():
        run("prepare", work / "data" / "fashion-mnist", "-o", small)
    if not large.exists():
        photos, few = work / "photos", work / "few.safetensors"
        for name in ("china", "flower"):
            (photos / name).mkdir(parents=True, exist_ok=True)
            for number in range(5):
                data = (work / "data" / "photos" / f"{name}.jpg").read_bytes()
                (photos / name / f"{number}.jpg").write_bytes(data)
        run("prepare", photos, "--resize", "224x224", "-o", few, "--force")
        run("augment", few, "--op", "random-resized-crop=0.2..1", "--op", "horizontal-flip", "--copies", "300", "-o", large)
    return small, large


def shell(command, end):
    """A command whose output goes where `end` says."""
    return ["sh", "-c", f"exec {shlex.join(map(str, command))} {end}"]


def rates(case, pictures, is_peer):
    """Pictures a second of every run: of peers without the start of Python, of dlopt of the whole process."""
    seconds = [float(re.search(r"seconds ([0-9.]+)", run.text).group(1)) if is_peer else run.wall for run in case.runs]
    return [pictures / each for each in seconds]


def table(title, args, dataset, recipe, ops, samples, copies, counts):
    out = args.work / "out.safetensors"
    own = [args.dlopt, "augment", dataset, *ops, "--copies", copies, "--threads", args.workers, "--quiet"]
    names = {"null": "dlopt augment, file to nowhere, whole process", "file": "dlopt augment, file to file, whole process"}
    cases = [measure.Case("null", [shell(own, ">/dev/null")]), measure.Case("file", [[*own, "-o", out]], out)]
    for peer, count in counts.items():
        command = [args.python, HERE / "peer_side.py", peer, recipe, dataset, args.workers, count]
        cases.append(measure.Case(peer, [command]))
    cases = measure.measure(cases, args.rounds)
    print(f"\n{title}, {args.rounds} rounds in turns\n")
    print("| what | pictures/s, median (min to max) | dlopt (to nowhere) is faster, median of rounds | peak MiB |\n|---|---|---|---|")
    ours = rates(cases[0], samples * copies, False)
    for case in cases:
        is_peer = case.name in PEERS
        own_rates = rates(case, counts[case.name] if is_peer else samples * copies, is_peer)
        ratio = f"{statistics.median(a / b for a, b in zip(ours, own_rates)):.1f} times" if is_peer else ""
        name = f"{PEERS[case.name]}, in memory" if is_peer else names[case.name]
        peak = max(max(run.rss) for run in case.runs)
        print(f"| {name} | {statistics.median(own_rates):,.0f} ({min(own_rates):,.0f} to {max(own_rates):,.0f}) | {ratio} "
              f"| {peak:.0f} |")


def training(args, dataset):
    """Samples a second of an epoch of the seed CNN, with and without augmentation."""
    ops = ["--augment-op", "rotate=±15", "--augment-op", "scale=0.8..1.25", "--augment-op", "noise=0.05"]
    out = args.work / "out.safetensors"
    train = [args.dlopt, "train", "--data", dataset, "--model", "cnn", "--epochs", "1", "--seed", "1",
             "--threads", args.workers, "-o", out]
    cases = [measure.Case("as they are", [shell(train, "2>&1")], out), measure.Case("changed", [shell(train + ops, "2>&1")], out)]
    cases = measure.measure(cases, args.rounds)
    print(f"\nTraining the `cnn` on Fashion-MNIST, an epoch, {args.rounds} rounds in turns\n")
    print("| samples | samples/s, median (min to max) |\n|---|---|")
    each = []
    for case in cases:
        own = [float(re.search(r"([0-9]+) samples/s", run.text).group(1)) for run in case.runs]
        each.append(own)
        print(f"| {case.name} | {statistics.median(own):,.0f} ({min(own):,.0f} to {max(own):,.0f}) |")
    print(f"\nratio {statistics.median(b / a for a, b in zip(*each)):.3f}, the median of rounds")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("work", type=pathlib.Path)
    parser.add_argument("dlopt")
    parser.add_argument("python")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    small, large = made(args.dlopt, args.work)
    print(measure.machine(args.dlopt))
    print("Peers are measured in memory, after their start; dlopt with its start, from a file in the page cache.")
    print("albumentations has no RandAugment: it applies two of like operations of like strength.")
    table("Turned by up to 15 degrees, cropped and stretched, noise; 28x28x1", args, small, "geometry-noise", GEOMETRY,
          60_000, 8, {"torchvision": 4000, "albumentations": 8000, "kornia": 40_960})
    table("The same; 224x224x3", args, large, "geometry-noise", GEOMETRY, 3000, 2,
          {"torchvision": 400, "albumentations": 600, "kornia": 192})
    table("RandAugment (two operations, strength 9 of 30, bilinear); 224x224x3", args, large, "rand-augment", RAND, 3000, 2,
          {"torchvision": 800, "albumentations": 1600, "kornia": 192})
    training(args, small)


if __name__ == "__main__":
    main()
