"""Makes the pictures, runs both sides in turn, prints a table. Called by pictures.sh."""

import argparse
import pathlib
import random
import re
import statistics
import sys

from PIL import Image

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
import measure  # noqa: E402


def make(photos, folder, count):
    """Crops of photographs, turned and mirrored, of ten classes; the same ones each time."""
    draw = random.Random(0)
    sources = [Image.open(path).convert("RGB") for path in sorted(photos.glob("*.jpg"))]
    for number in range(count):
        path = folder / f"c{number % 10}" / f"{number:05}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        source = draw.choice(sources)
        side = draw.randint(200, min(source.size))
        left, top = draw.randint(0, source.width - side), draw.randint(0, source.height - side)
        crop = source.crop((left, top, left + side, top + side)).resize((256, 256), Image.Resampling.BICUBIC)
        crop.transpose(Image.Transpose(draw.randrange(7))).save(path, quality=90)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("work", type=pathlib.Path)
    parser.add_argument("dlopt")
    parser.add_argument("python")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--count", type=int, default=10_000)
    args = parser.parse_args()
    pictures = args.work / f"jpeg-{args.count}"
    if not pictures.exists():
        partial = args.work / "jpeg-partial"
        make(args.work / "data" / "photos", partial, args.count)
        partial.rename(pictures)
    ours, theirs = args.work / "ours.safetensors", args.work / "theirs.npy"
    prepare = [args.dlopt, "prepare", pictures, "--resize", "64x64", "--threads", args.workers, "--quiet", "-o", ours]
    torch = [args.python, HERE / "torch_side.py", pictures, args.workers, theirs]
    cases = [measure.Case("dlopt prepare", [prepare], ours), measure.Case("torchvision", [torch], theirs)]
    cases = measure.measure(cases, args.rounds)
    print(measure.machine(args.dlopt))
    print(f"{args.count} JPEG files of 256x256 to 64x64, {args.workers} workers, {args.rounds} rounds in turns\n")
    # Of torchvision the loader alone, without the start of Python and its imports.
    loader = [float(re.search(r"loader ([0-9.]+) s", run.text).group(1)) for run in cases[1].runs]
    whole = [run.wall for run in cases[0].runs]
    ratios = [theirs / ours for ours, theirs in zip(whole, loader)]
    print("| what | seconds, median (min to max) | pictures/s | peak MiB of the largest process |\n|---|---|---|---|")
    for name, seconds, case in [("dlopt prepare, whole process", whole, cases[0]), ("torchvision, loader alone", loader, cases[1])]:
        middle = statistics.median(seconds)
        peak = max(max(run.rss) for run in case.runs)
        print(f"| {name} | {middle:.2f} ({min(seconds):.2f} to {max(seconds):.2f}) | {args.count / middle:.0f} | {peak:.0f} |")
    print(f"\n{statistics.median(ratios):.2f} times as fast, the median of rounds ({min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    main()
