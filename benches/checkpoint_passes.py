"""The measurements of checkpoint-passes.sh, which prepares what they need: DLOPT WORK [--rounds N] [--only PARTS]."""
import argparse
import json
import pathlib
import shutil
import statistics
import subprocess
import sys
import time

from measure import HEAD, Case, Failed, machine, measure, progress, ratio, remove, row, run_once

GIB = 1 << 30


def main():
    ask = argparse.ArgumentParser()
    ask.add_argument("dlopt", type=pathlib.Path)
    ask.add_argument("work", type=pathlib.Path)
    ask.add_argument("--rounds", type=int, default=5)
    ask.add_argument("--only", default="passes,large,start,mse")
    options = ask.parse_args()
    wanted = options.only.split(",")
    print(machine(options.dlopt))
    for name, part in (("passes", passes), ("large", large), ("start", start), ("mse", mse)):
        if name in wanted:
            part(options.dlopt, options.work, options.rounds)
            sys.stdout.flush()


def verbs(dlopt, source, out):
    """The passes that are measured, each as one or two processes, with the limit over `cp`."""
    quantize = [dlopt, "quantize", "--scheme", "w4a16", "--quiet"]
    two_four = [dlopt, "prune", "--pattern", "2:4", "--quiet"]
    half = [dlopt, "prune", "--sparsity", "0.5", "--quiet"]
    to = ["-o", out]
    return {
        "quantize w4a16 g128": ([[*quantize, source, *to]], 1.0),
        "prune 50 %, per tensor": ([[*half, source, *to]], 1.5),
        "prune 50 %, global": ([[*half, "--scope", "global", source, *to]], 2.5),
        "prune 2:4": ([[*two_four, source, *to]], 1.5),
        "prune 2:4 \\| quantize w4a16": ([[*two_four, source], [*quantize, *to]], None),
        "prune 50 % \\| quantize w4a16": ([[*half, source], [*quantize, *to]], None),
        "convert (nothing changed)": ([[dlopt, "convert", "--quiet", source, *to]], None),
    }


def passes(dlopt, work, rounds):
    print("### Passes over 1.1 GB\n")
    source = work / "llama"
    copy = work / "copy.safetensors"
    words = ["sh", "-c", 'cp "$1" "$2" && sync "$2"', "cp", source / "model.safetensors", copy]
    base = Case("cp and fsync", [words], copy)
    limits, cases = {}, [base]
    for number, (name, (stages, limit)) in enumerate(verbs(dlopt, source, "OUT").items()):
        out = work / f"out-{number}"
        stages = [[f"{out}/" if word == "OUT" else word for word in stage] for stage in stages]
        cases.append(Case(name, stages, out))
        limits[name] = limit
    done = measure(cases, rounds)
    print(f"A synthetic bf16 Llama of 542 M weights, folder to folder, both sides with fsync; {rounds} interleaved runs "
          "after one to warm up; `× cp` is the median of the ratios of single rounds.\n")
    print(HEAD)
    for case in done:
        print(row(case, base, limits.get(case.name)))
    print()

    by_name = {case.name: case for case in done}
    for pipe, alone in (("prune 2:4 \\| quantize w4a16", "prune 2:4"), ("prune 50 % \\| quantize w4a16", "prune 50 %, per tensor")):
        parts = [by_name.get(name) for name in (pipe, alone, "quantize w4a16 g128")]
        if not all(parts):
            continue
        slower = max(parts[1:], key=lambda case: case.wall())
        against = ratio(parts[0], slower)
        rss = [max(run.rss[stage] for run in parts[0].runs) for stage in (0, 1)]
        print(f"- `{pipe.replace(chr(92), '')}`: {against:.2f} × {slower.name} alone, the slower of the two "
              f"(limit 1.5: {'kept' if against <= 1.5 else 'MISSED'}); peaks {rss[0]:.0f} and {rss[1]:.0f} MiB")
    memory(done)


def memory(done, limit=256):
    peak, name = max((max(max(run.rss) for run in case.runs), case.name) for case in done)
    print(f"- largest peak of resident memory: {peak:.0f} MiB, `{name.replace(chr(92), '')}` "
          f"(limit {limit}: {'kept' if peak <= limit else 'MISSED'})\n")


def large(dlopt, work, rounds):
    """Memory on 16 GiB of holes, one tensor of it 8 GiB; each verb once."""
    print("### Memory on 16 GiB, one tensor of 8 GiB\n")
    room = shutil.disk_usage(work).free
    if room < 40 * GIB:
        print(f"Left out: {room / GIB:.0f} GiB of room in the work folder, 40 are needed.\n")
        return
    source, out = work / "large", work / "large-out"
    down = [(f"model.layers.{layer}.mlp.down_proj.weight", [4096, columns])
            for layer, columns in enumerate((1 << 20, 1 << 18, 1 << 18, 1 << 18, 1 << 18))]
    source.mkdir(exist_ok=True)
    sparse_file(source / "model.safetensors", down)
    (source / "config.json").write_text(json.dumps({"architectures": ["LlamaForCausalLM"], "model_type": "llama"}))
    done = []
    for name, (stages, _) in verbs(dlopt, source, f"{out}/").items():
        case = Case(name, stages, out)
        progress(f"16 GiB: {name}")
        try:
            case.runs.append(run_once(case))
            done.append(case)
        except Failed as failure:
            print(f"FAILED: {failure}\n")
        remove(out)
    remove(source)
    if not done:
        return
    print("A sparse file; one run each. What is to be seen is the memory: the seconds of the first row hold the first reading "
          "of the holes into the page cache, and those of the others what the disk takes.\n")
    print("| what | wall s | peak MiB, each process | GB written |\n|---|---|---|---|")
    for case in done:
        run = case.runs[0]
        print(f"| {case.name} | {run.wall:.1f} | {', '.join(f'{peak:.0f}' for peak in run.rss)} | {run.bytes / 1e9:.2f} |")
    print()
    memory(done)


def sparse_file(path, tensors):
    """A safetensors file of bf16 tensors whose data is a hole."""
    header, at = {}, 0
    for name, shape in tensors:
        size = 2
        for extent in shape:
            size *= extent
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + at)
    return at


def start(dlopt, work, _rounds):
    print("### Start-up\n")
    print("| what | median (min–max) | limit |\n|---|---|---|")
    timed("`dlopt --help`, 20 runs", [dlopt, "--help"], 20, 0.010)
    folder = work / "terabyte"
    folder.mkdir(exist_ok=True)
    index, total, shards = {}, 0, 200
    experts = [f"model.layers.{{}}.mlp.experts.{e}.{part}_proj.weight" for e in range(333) for part in ("gate", "up", "down")]
    for shard in range(shards):
        name = f"model-{shard + 1:05}-of-{shards:05}.safetensors"
        tensors = [(e.format(shard), [1280, 2000]) for e in experts]
        total += sparse_file(folder / name, tensors)
        index.update((tensor, name) for tensor, _ in tensors)
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {"total_size": total}, "weight_map": index}))
    (folder / "config.json").write_text(json.dumps({"model_type": "llama"}))
    what = f"`dlopt inspect` of {total / 1e12:.2f} TB: {len(index):,} tensors in {shards} sparse shards, 5 runs"
    timed(what, [dlopt, "inspect", folder], 5, 1.0)
    remove(folder)
    print()


def timed(what, command, runs, limit):
    walls = []
    for _ in range(runs + 1):
        begin = time.perf_counter()
        done = subprocess.run([str(word) for word in command], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        walls.append(time.perf_counter() - begin)
        if done.returncode:
            print(f"| {what} | FAILED, exit code {done.returncode}: {done.stderr.decode(errors='replace').strip()} | |")
            return
    walls = walls[1:]
    middle = statistics.median(walls)
    print(f"| {what} | {middle * 1000:.1f} ms ({min(walls) * 1000:.1f}–{max(walls) * 1000:.1f}) "
          f"| ≤ {limit * 1000:.0f} ms: {'kept' if middle <= limit else 'MISSED'} |")


def mse(dlopt, work, rounds):
    print("### `mse` against `rtn`, MiniLM, w4a16 in groups of 128\n")
    source = work / "data" / "minilm"
    if not source.is_dir():
        print("Left out: scripts/fetch-data.sh could not fetch `minilm`.\n")
        return
    cases = {}
    for method in ("rtn", "mse"):
        out = work / f"minilm-{method}"
        words = [dlopt, "quantize", source, "--scheme", "w4a16", "--method", method, "--quiet", "-o", f"{out}/"]
        cases[method] = Case(method, [words], out)
    if len(measure(list(cases.values()), rounds)) < 2:
        return
    errors = {}
    for method, case in cases.items():
        run_once(case)
        told = subprocess.run([str(dlopt), "diff", str(source), str(case.output), "--json"], capture_output=True, text=True)
        remove(case.output)
        if told.returncode:
            print(f"FAILED: dlopt diff --json: exit code {told.returncode}: {told.stderr.strip()}\n")
            return
        errors[method] = tensor_errors(json.loads(told.stdout))
    both = sorted(set(errors["rtn"]) & set(errors["mse"]))
    if not both:
        print("FAILED: dlopt diff compares no tensor that both methods changed\n")
        return
    higher = [name for name in both if errors["mse"][name] > errors["rtn"][name] * (1 + 1e-9)]
    total = {method: statistics.fmean(found[name] for name in both) for method, found in errors.items()}
    times = ratio(cases["mse"], cases["rtn"])
    print("| method | wall s, median | mean relative error of a tensor |\n|---|---|---|")
    for method, case in cases.items():
        print(f"| {method} | {case.wall():.3f} | {total[method]:.5f} |")
    print(f"\n- time: mse takes {times:.1f} × rtn (limit 12: {'kept' if times <= 12 else 'MISSED'})")
    print(f"- error: higher under mse on {len(higher)} of {len(both)} tensors {higher[:3] or ''} "
          f"(limit 0: {'kept' if not higher else 'MISSED'}); over all {total['mse'] / total['rtn']:.4f} of rtn's "
          f"(limit below 1: {'kept' if total['mse'] < total['rtn'] else 'MISSED'})\n")


def tensor_errors(report):
    """Name to relative Frobenius error of every tensor that changed, from the JSON of `dlopt diff`."""
    return {entry["name"]: entry["relative_error"] for entry in report["tensors"] if entry["relative_error"] > 0}


if __name__ == "__main__":
    main()
