"""Runs every contender of `benches/running.sh` in every round, and prints the best of each and ratios as a Markdown table."""

import json
import os
import subprocess

DLOPT, WORK = os.environ["DLOPT"], os.environ["WORK"]
THREADS, ROUNDS = os.environ["THREADS"], int(os.environ["ROUNDS"])
DATA = {"cnn": "fashion", "lstm": "vowels"}
# What is run, and on which kernels.
CONTENDERS = [
    ("f32", "", []),
    ("90 % pruned", "-pruned", []),
    ("int8, int8 activations", "-int8", []),
    ("int4 g32, f32 activations", "-int4", []),
    ("int4 g32, int8 activations", "-int4", ["--activations", "int8"]),
    ("pruned and int8, int8 activations", "-both", []),
    ("pruned and int8, f32 activations", "-both", ["--activations", "float"]),
    ("90 % of each tensor pruned", "-evenly", []),
    ("the same in int8, f32 activations", "-evenly8", []),
    ("int4 g32, the smallest", "-int4", ["--kernels", "compressed"]),
]


def run(network, suffix, options, batch, repeat):
    command = [DLOPT, "eval", f"{WORK}/{network}{suffix}.safetensors", "--data", f"{WORK}/{DATA[network]}.safetensors"]
    command += ["--batch", str(batch), "--repeat", str(repeat), "--threads", THREADS, "--resamples", "100", "--json", *options]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)["model"]


def accuracy(report):
    return report["metrics"]["classification"]["accuracy"]["value"]


def main():
    print(f"{THREADS} threads, the best of {ROUNDS} rounds; samples/s, in brackets the gain over the row f32\n")
    for network in DATA:
        batches = [1, 32, 250]
        rates = {}
        reports = {}
        for _ in range(ROUNDS):
            for batch in batches:
                repeat = 1 if batch == 1 and network == "cnn" else 3
                for name, suffix, options in CONTENDERS:
                    report = run(network, suffix, options, batch, repeat)
                    rates.setdefault((name, batch), []).append(report["samples_per_second"])
                    reports[name] = report
        print(f"| {network} | accuracy | file | weights in memory | " + " | ".join(f"batch {batch}" for batch in batches) + " |")
        print("|---" * (4 + len(batches)) + "|")
        for name, _, _ in CONTENDERS:
            cells = []
            for batch in batches:
                # Whoever else runs, and a scheduler that leaves both threads on one core, only make it slower.
                own, dense = max(rates[name, batch]), max(rates["f32", batch])
                cells.append(f"{own:,.0f} ({own / dense:.2f})")
            report = reports[name]
            figures = [f"{100 * accuracy(report):.2f} %", f"{report['bytes']:,}", f"{report['memory_bytes']:,}", *cells]
            print(f"| {name} | " + " | ".join(figures) + " |")
        print()


main()
