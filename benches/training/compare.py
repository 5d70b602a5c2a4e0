"""The measurements of training.sh: DLOPT WORK TORCH_PYTHON KERAS_PYTHON [options]. Standard library only.

Every figure comes from a whole process that trains or runs one network; the processes of all sides take turns
(A B C A B C …), so that a slow minute of the machine falls on all of them, and a ratio is the median of the ratios round
by round. Speed is what a side counts itself, without its start; peak memory (`ru_maxrss`, the largest of a run's
processes) and the time from command to the first step are the whole process's.
"""
import argparse
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from measure import machine, progress  # noqa: E402

OURS = "**dlopt**"
TORCH = ["PyTorch eager", "PyTorch channels-last"]
COMPILED = "PyTorch compiled"
KERAS = ["Keras"]
# Neither is always the faster one.
KERAS_TRAINING = [*KERAS, "Keras, 16 steps a call"]


@dataclass
class Case:
    """One row of the tables: a network trained or run by one side."""

    side: str
    command: list
    runs: list = field(default_factory=list)


@dataclass
class Part:
    """One table: `what` is train or infer, `limit` how many times the best peer dlopt must reach."""

    title: str
    what: str
    network: str
    batch: int
    sides: list
    limit: float
    is_small: bool = False


PARTS = {
    "cnn": [Part(f"seed CNN, training, batch {batch}", "train", "cnn", batch, [*TORCH, COMPILED, *KERAS_TRAINING], 2.5) for batch in (32, 128)],
    "cnn-inference": [Part(f"seed CNN, inference, batch {batch}", "infer", "cnn", batch, [*TORCH, COMPILED, *KERAS], 2.0) for batch in (1, 32, 250)],
    **{cell: [Part(f"{cell.upper()}(128) over 28x28, training, batch 128", "train", cell, 128, [TORCH[0], *KERAS_TRAINING], 1.7),
              Part(f"{cell.upper()}(128) over 28x28, inference, batch 250", "infer", cell, 250, [TORCH[0], *KERAS], 1.7)]
       for cell in ("lstm", "gru")},
    **{name: [Part(f"{name}, training, batch 128", "train", name, 128, TORCH, 1.3, is_small=True)] for name in ("resnet20", "mobilenet")},
}


def main():
    ask = argparse.ArgumentParser()
    ask.add_argument("dlopt", type=pathlib.Path)
    ask.add_argument("work", type=pathlib.Path)
    ask.add_argument("torch")
    ask.add_argument("keras")
    ask.add_argument("--rounds", type=int, default=3)
    ask.add_argument("--epochs", type=int, default=2, help="epochs of a training run")
    ask.add_argument("--samples", type=int, default=12800, help="training pictures for resnet20 and mobilenet")
    ask.add_argument("--threads", type=int, default=os.cpu_count())
    ask.add_argument("--only", default=",".join(PARTS))
    ask.add_argument("--without", default="", help="sides to leave out, with commas, such as compiled")
    ask.add_argument("--quick", action="store_true", help="one round of one epoch of 6,400 pictures, to see that everything runs")
    options = ask.parse_args()
    if options.quick:
        options.rounds, options.epochs, options.samples = 1, 1, 6400
    options.dlopt = options.dlopt.resolve()
    prepare(options)

    print("### Training and inference\n")
    print(machine(options.dlopt))
    print(f"Peers: {versions(options)}; all sides use {options.threads} threads; {options.rounds} interleaved rounds; "
          f"a run's speed is the median of its {options.epochs} epochs or {passes(options)} passes.\n", flush=True)
    report, verdicts = [], []
    for name in options.only.split(","):
        for part in PARTS[name]:
            cases = [Case(OURS, ours(options, part))]
            cases += [Case(side, theirs(options, part, side)) for side in part.sides
                      if not any(word and word in side.lower() for word in options.without.lower().split(","))]
            run_all(options, part, cases)
            report.append({"part": part.title, "network": part.network, "what": part.what, "batch": part.batch,
                           "sides": {case.side.strip("*"): case.runs for case in cases}})
            verdicts += table(part, [case for case in cases if case.runs])
            (options.work / "training.json").write_text(json.dumps(report, indent=1) + "\n")
    print("".join(f"- {line}\n" for line in verdicts))


def prepare(options):
    """The pictures as arrays for the peers and as datasets for dlopt, all of them and the first few."""
    raw = options.work / "data" / "fashion-mnist"
    for name, samples in (("fashion", ()), ("small", (options.samples,))):
        call(options.torch, "-B", HERE / "fashion.py", raw, options.work / name, *samples)
        source = options.work / name / "idx" if samples else raw
        call(options.dlopt, "prepare", source, "-o", options.work / f"{name}.safetensors", "--standardise", "none", "--force", "--quiet")
    for checkpoint in options.work.glob("ours-*.safetensors"):
        checkpoint.unlink()


def call(*command):
    subprocess.run([str(word) for word in command], check=True)


def data_of(options, part):
    return "small" if part.is_small or options.quick else "fashion"


def ours(options, part):
    data = options.work / f"{data_of(options, part)}.safetensors"
    checkpoint = options.work / f"ours-{part.network}.safetensors"
    if part.what == "train":
        return [options.dlopt, "train", "--model", part.network, "--data", data, "-o", checkpoint, "--force", "--epochs", options.epochs,
                "--batch", part.batch, "--threads", options.threads, "--validation", "test", "--json", "--quiet"]
    return [options.dlopt, "eval", checkpoint, "--data", data, "--split", "test", "--batch", part.batch,
            "--threads", options.threads, "--repeat", passes(options), "--json", "--quiet"]


def passes(options):
    """How often an inference run goes over the test pictures: a pass takes a fraction of a second."""
    return 1 if options.quick else max(5, options.epochs)


def theirs(options, part, side):
    rounds = options.epochs if part.what == "train" else passes(options)
    tail = [part.what, options.work / data_of(options, part), part.network, "--batch", part.batch, "--epochs", rounds,
            "--threads", options.threads]
    if side in KERAS_TRAINING:
        return [options.keras, "-B", HERE / "keras_side.py", *tail, "--steps", 1 if side in KERAS else 16]
    mode = {TORCH[0]: "eager", TORCH[1]: "channels-last", COMPILED: "compile"}[side]
    return [options.torch, "-W", "ignore", "-B", HERE / "torch_side.py", *tail, "--mode", mode]


def run_all(options, part, cases):
    # Inference runs whatever checkpoint there is, or one that was never trained.
    checkpoint = options.work / f"ours-{part.network}.safetensors"
    if part.what == "infer" and not checkpoint.exists():
        call(options.dlopt, "train", "--model", part.network, "--data", options.work / f"{data_of(options, part)}.safetensors",
             "-o", checkpoint, "--epochs", 0, "--quiet")
    alive = list(cases)
    for number in range(options.rounds):
        for case in list(alive):
            progress(f"{part.title}: round {number + 1} of {options.rounds}: {case.side}")
            try:
                case.runs.append(run_once(case.command))
            except RuntimeError as failure:
                progress(f"FAILED {case.side}: {failure}")
                print(f"\nFAILED: {part.title}: {case.side}: {failure}\n", flush=True)
                alive.remove(case)
                case.runs.clear()


def run_once(command):
    env = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "DLOPT_BENCH_START": repr(time.time())}
    start = time.perf_counter()
    with tempfile.TemporaryFile() as complaint:
        child = subprocess.Popen([str(word) for word in command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=complaint, env=env)
        text = child.stdout.read().decode(errors="replace")
        _, status, usage = os.wait4(child.pid, 0)
        wall = time.perf_counter() - start
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            complaint.seek(0)
            words = complaint.read().decode(errors="replace")[-2000:]
            raise RuntimeError(f"{' '.join(map(str, command))}: exit code {child.returncode}\n{words}")
    said = json.loads(text) if text.lstrip().startswith("{\n") else json.loads(text.strip().splitlines()[-1])
    run = {"wall_s": wall, "peak_mib": usage.ru_maxrss / 1024}
    if "epochs" in said:
        run["rates"] = [epoch["train_samples_per_second"] for epoch in said["epochs"]]
        run["accuracy"] = [epoch.get("validation_accuracy") for epoch in said["epochs"]]
        run["first_step_s"] = said["seconds_to_first_step"]
    elif "model" in said:
        run["rates"] = [said["model"]["samples_per_second"]]
    else:
        run["rates"] = said.get("train") or said.get("infer")
        run |= {key: said[key] for key in ("accuracy", "first_step_s") if key in said}
    return run


def table(part, cases):
    """Prints the table of one part; returns what is to be said about limits."""
    rate = {case.side: [statistics.median(run["rates"]) for run in case.runs] for case in cases}
    peers = [case for case in cases if case.side != OURS]
    us = next((case for case in cases if case.side == OURS), None)
    best = max(peers, key=lambda case: statistics.median(rate[case.side]), default=None)
    print(f"**{part.title}**\n")
    is_training = part.what == "train"
    print("| side | samples/s, median (min–max) | dlopt is times faster | peak MiB |" + (" command to first step, s | accuracy after the last epoch |" if is_training else ""))
    print("|---|---|---|---|" + ("---|---|" if is_training else ""))
    for case in cases:
        rates = rate[case.side]
        faster = f"{ratio(rate[us.side], rates):.2f}" if us else ""
        cells = [case.side, f"{statistics.median(rates):,.0f} ({min(rates):,.0f}–{max(rates):,.0f})", faster, f"{peak(case):.0f}"]
        if is_training:
            cells.append(f"{statistics.median(run['first_step_s'] for run in case.runs):.2f}")
            # Every round of a side starts from the same seed.
            last = case.runs[0]["accuracy"][-1]
            cells.append("" if last is None else f"{100 * last:.2f} %")
        print(f"| {' | '.join(cells)} |")
    print(flush=True)
    if not us or not best:
        return [f"{part.title}: no verdict, a side is missing"]
    factor = ratio(rate[us.side], rate[best.side])
    lines = [f"{part.title}: {factor:.2f} × the best peer ({best.side}); limit {part.limit}: {kept(factor >= part.limit)}"]
    if is_training:
        least = min(peers, key=peak)
        share = peak(us) / peak(least)
        lines.append(f"{part.title}: peak memory {share:.2f} of the smallest peer's ({least.side}); limit 0.33: {kept(share <= 1 / 3)}")
        first = statistics.median(run["first_step_s"] for run in us.runs)
        lines.append(f"{part.title}: {first:.3f} s from command to first step; limit 0.3: {kept(first <= 0.3)}")
    return lines


def ratio(ours, theirs):
    return statistics.median(a / b for a, b in zip(ours, theirs))


def peak(case):
    return max(run["peak_mib"] for run in case.runs)


def kept(holds):
    return "kept" if holds else "MISSED"


def versions(options):
    ask = "import importlib.metadata as m, sys; print('Python', sys.version.split()[0] + ''.join(', %s %s' % (n, m.version(n)) for n in sys.argv[1:]))"
    texts = []
    for python, names in ((options.torch, ["torch"]), (options.keras, ["keras", "tensorflow-cpu"])):
        if shutil.which(python):
            texts.append(subprocess.run([python, "-c", ask, *names], capture_output=True, text=True).stdout.strip())
    return "; ".join(texts)


if __name__ == "__main__":
    main()
