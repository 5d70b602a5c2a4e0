"""The measurements of compressed.sh: BENCH WORK TORCH_PYTHON [options]. Standard library only.

BENCH is the compiled bench `compressed` of dlopt-kernels. Every side measures one shape with one number of threads in a
process of its own and gives the fastest pass of each of its products; the processes of all sides take turns, and a
figure is the median of the rounds.
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
from collections import defaultdict

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from measure import machine, progress  # noqa: E402

OURS = "**dlopt**"
ROWS = (1, 64, 512)


def main():
    ask = argparse.ArgumentParser()
    ask.add_argument("bench", type=pathlib.Path)
    ask.add_argument("work", type=pathlib.Path)
    ask.add_argument("torch")
    ask.add_argument("--rounds", type=int, default=3)
    ask.add_argument("--shapes", default="4096x4096,384x384,1536x384,384x1536,128x3136")
    ask.add_argument("--threads", default="1,2")
    ask.add_argument("--without", default="", help="sides to leave out, with commas")
    options = ask.parse_args()
    sides = {OURS: ours, "PyTorch": torch, "llama.cpp": ggml, "candle": candle}
    sides = {side: run for side, run in sides.items() if side not in options.without.split(",")}

    print("### Products with compressed matrices\n")
    print(machine(None))
    print(f"{versions(options)}; {options.rounds} interleaved rounds, medians of the fastest passes. A matrix of more than 4 MiB "
          "comes from memory at one row.\n", flush=True)
    print("| matrix | threads | side | weights | MB | 1 row: us | GB/s | 64 rows: Gop/s | 512 rows: Gop/s |")
    print("|---|---|---|---|---|---|---|---|---|")
    report = []
    for shape in options.shapes.split(","):
        outputs, inputs = map(int, shape.split("x"))
        for threads in map(int, options.threads.split(",")):
            seconds, sizes = defaultdict(list), {}
            for number in range(options.rounds):
                for side, run in sides.items():
                    progress(f"{shape}, {threads} threads: round {number + 1} of {options.rounds}: {side}")
                    for said in run(options, outputs, inputs, threads):
                        seconds[side, said["name"], said["rows"]].append(said["seconds"])
                        sizes[side, said["name"]] = said["bytes"]
            for (side, name), size in sizes.items():
                took = {rows: statistics.median(seconds[side, name, rows]) for rows in ROWS if seconds[side, name, rows]}
                rates = [f"{2 * rows * outputs * inputs / took[rows] / 1e9:,.0f}" if rows in took else "" for rows in (64, 512)]
                one = [f"{took[1] * 1e6:,.1f}", f"{size / took[1] / 1e9:.1f}"] if 1 in took else ["", ""]
                print(f"| {' | '.join([shape, str(threads), side, name, f'{size / 1e6:.2f}', *one, *rates])} |", flush=True)
                report.append({"shape": shape, "threads": threads, "side": side.strip("*"), "weights": name, "bytes": size,
                               "seconds": {rows: seconds[side, name, rows] for rows in took}})
            (options.work / "compressed.json").write_text(json.dumps(report, indent=1) + "\n")


def ours(options, outputs, inputs, threads):
    """The rows of the bench's table."""
    text = call([options.bench, "--bench", f"{outputs}x{inputs}/.*/{threads} threads"])
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("| ").split(" | ")]
        if cells[0] == f"{outputs}x{inputs}":
            rows, size, seconds = int(cells[1]), float(cells[4]) * 1e6, float(cells[5]) / 1e6
            yield {"name": cells[3], "rows": rows, "seconds": seconds, "bytes": size}


def torch(options, outputs, inputs, threads):
    return spoken([options.torch, "-B", HERE / "torch_side.py", outputs, inputs, threads])


def ggml(options, outputs, inputs, threads):
    return spoken([options.work / "ggml" / "side", outputs, inputs, threads])


def candle(options, outputs, inputs, threads):
    side = options.work / "candle_side" / "target" / "release" / "candle-side"
    return spoken([side, outputs, inputs], {"RAYON_NUM_THREADS": str(threads)})


def spoken(command, env=None):
    return [json.loads(line) for line in call(command, env).splitlines() if line.startswith("{")]


def call(command, env=None):
    """What a side says; one that fails is reported and leaves its rows empty."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, env={**os.environ, **(env or {})})
    if done.returncode:
        progress(f"FAILED {command[0]}: exit code {done.returncode}\n{done.stderr[-2000:]}")
    return done.stdout


def versions(options):
    ask = "import importlib.metadata as m, sys; print('Python', sys.version.split()[0] + ', torch ' + m.version('torch'))"
    python = subprocess.run([options.torch, "-c", ask], capture_output=True, text=True).stdout.strip()
    source = ["llama.cpp of " + path.name.removesuffix(".tar.gz") for path in (options.work / "ggml").glob("*.tar.gz")]
    lock = options.work / "candle_side" / "Cargo.lock"
    candle = lock.read_text().split('name = "candle-core"\nversion = "')[1:] if lock.exists() else []
    return ", ".join([python, *source, *("candle " + text.split('"')[0] for text in candle)])


if __name__ == "__main__":
    main()
