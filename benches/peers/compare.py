"""The measurements of peers.sh: DLOPT WORK [--rounds N] [--only PARTS]. Run by the Python that has the peers."""
import argparse
import importlib.metadata
import os
import pathlib
import re
import statistics
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from measure import Case, machine, measure, ratio  # noqa: E402

# Ours, its peers, and how many times faster we must be than the fastest as a whole process and in load, work and save.
PARTS = {
    "quantize": [
        ("quantize w4a16 g128", ["quantize", "--scheme", "w4a16"], (12, 4), [
            ("llm-compressor model_free_ptq W4A16", "llmcompressor_model_free.py", "W4A16"),
            ("llm-compressor oneshot W4A16, no data", "llmcompressor_oneshot.py", "W4A16"),
        ]),
    ],
    "prune": [
        ("prune 50 %, per tensor", ["prune", "--sparsity", "0.5"], None, [
            ("torch, kthvalue of each tensor", "torch_prune.py", "tensor"),
        ]),
        ("prune 50 %, global", ["prune", "--sparsity", "0.5", "--scope", "global"], None, [
            ("torch, kthvalue of all", "torch_prune.py", "global"),
        ]),
        ("prune 2:4", ["prune", "--pattern", "2:4"], None, [
            ("torch, topk of fours", "torch_prune.py", "2:4"),
        ]),
    ],
}


def main():
    ask = argparse.ArgumentParser()
    ask.add_argument("dlopt", type=pathlib.Path)
    ask.add_argument("work", type=pathlib.Path)
    ask.add_argument("--rounds", type=int, default=3)
    ask.add_argument("--only", default="quantize,prune")
    options = ask.parse_args()
    dlopt, source = options.dlopt.resolve(), options.work / "llama"
    env = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1"}

    print("### Peers, 1.1 GB of bf16 Llama\n")
    print(machine(dlopt))
    names = ("torch", "transformers", "llmcompressor", "compressed-tensors", "safetensors")
    print("Peers: Python " + sys.version.split()[0] + ", "
          + ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names)
          + f"; modules compiled beforehand; {options.rounds} interleaved runs after one to warm up, input in the page cache.\n")
    for part in options.only.split(","):
        print("| what | whole process, s, median (min–max) | load, work and save alone, s | peak MiB | MB written "
              "| times ours, whole | times ours, alone |\n|---|---|---|---|---|---|---|")
        verdicts = []
        for name, verb, limits, peers in PARTS[part]:
            out = options.work / "out-ours"
            ours = Case(f"**dlopt {name}**", [[dlopt, *verb, "--quiet", source, "-o", f"{out}/"]], out)
            cases = [ours]
            for number, (peer, script, how) in enumerate(peers):
                out = options.work / f"out-peer-{number}"
                cases.append(Case(peer, [[sys.executable, HERE / script, source, out, how]], out, env))
            done = measure(cases, options.rounds)
            if ours not in done:
                continue
            factors = []
            for case in done:
                inner = ratio_alone = ""
                if case is not ours:
                    alone = [work_seconds(run.text) for run in case.runs]
                    inner = f"{statistics.median(alone):.2f}"
                    ratio_alone = statistics.median(a / b.wall for a, b in zip(alone, ours.runs))
                    factors.append((case.name, ratio(case, ours), ratio_alone))
                    ratio_alone = f"{ratio_alone:.1f}"
                walls = [run.wall for run in case.runs]
                peak = max(max(run.rss) for run in case.runs)
                print(f"| {case.name} | {statistics.median(walls):.2f} ({min(walls):.2f}–{max(walls):.2f}) | {inner} "
                      f"| {peak:.0f} | {case.runs[0].bytes / 1e6:.0f} | {ratio(case, ours):.1f} | {ratio_alone} |", flush=True)
            if limits and factors:
                whole = min(factors, key=lambda f: f[1])
                alone = min(factors, key=lambda f: f[2])
                verdicts += [verdict(name, "the whole process of the fastest peer", whole[0], whole[1], limits[0]),
                             verdict(name, "load, work and save of the fastest peer", alone[0], alone[2], limits[1])]
        print("".join(f"\n{line}" for line in verdicts) + "\n")


def verdict(name, what, peer, factor, limit):
    return (f"- {name}: {factor:.1f} × faster than {what} ({peer}); limit {limit}: "
            f"{'kept' if factor >= limit else 'MISSED'}")


def work_seconds(text):
    """What the peer printed last about its own time, without imports."""
    return float(re.findall(r"^T .*\bwork=([\d.]+)", text, re.M)[-1])


if __name__ == "__main__":
    main()
