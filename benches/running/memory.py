"""Runs the networks of `benches/memory.sh`, and prints the peak resident bytes of each process as a Markdown table.

Beside the peak stands that of the same command on the smallest network: the binary, its threads and the data."""

import json
import os
import subprocess
import sys

DLOPT, WORK, THREADS = os.environ["DLOPT"], os.environ["WORK"], os.environ["THREADS"]
SMALL = {
    "mlp": ('{ type = "dense", units = 4 }, { type = "dense", units = "classes" }', "rows"),
    "lstm": (
        '{ type = "embedding", size = 4 }, { type = "lstm", hidden = 4, return_sequences = true }, '
        '{ type = "dense", units = "classes" }',
        "text",
    ),
}
VERBS = {
    "mlp": {
        "eval": ["--data", f"{WORK}/rows.safetensors", "--resamples", "100", "--batch", "8", "--json"],
        "predict": [f"{WORK}/unlabelled.csv", "--batch", "8"],
    },
    "lstm": {
        "eval": ["--data", f"{WORK}/text.safetensors", "--resamples", "100", "--batch", "8", "--json"],
        "generate": ["--prompt", "It is", "--length", "20"],
    },
}
# Peak resident bytes of an int4 network on compressed kernels, by bytes of its file.
MOST = 1.15


def peak(model, verb, options, kernels):
    """Peak resident bytes of a run, and what it printed."""
    command = [DLOPT, verb, model, *options, "--kernels", kernels, "--threads", THREADS]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        text = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        sys.exit(f"{' '.join(command)}: exit code {process.returncode}")
    return usage.ru_maxrss * 1024, text


def small(network):
    """A network of a few weights for the same data."""
    layers, data = SMALL[network]
    path = f"{WORK}/{network}-small.safetensors"
    if not os.path.exists(path):
        with open(f"{WORK}/{network}-small.toml", "w") as file:
            file.write(f"layers = [{layers}]\n")
        command = [DLOPT, "train", "--model", file.name, "--data", f"{WORK}/{data}.safetensors", "--epochs", "1", "-q", "-o", path]
        subprocess.run(command, check=True)
    return path


def main():
    print(f"{THREADS} threads; bytes\n")
    print("| network | verb | kernels | file | weights in memory | peak resident | without weights | peak / file |")
    print("|---" * 8 + "|")
    over = []
    for network, verbs in VERBS.items():
        for verb, options in verbs.items():
            without, _ = peak(small(network), verb, options, "auto")
            for suffix, kernels in [("", "dense"), ("-int4", "dense"), ("-int4", "auto"), ("-int4", "compressed")]:
                model = f"{WORK}/{network}{suffix}.safetensors"
                bytes_of_file = os.path.getsize(model)
                most, text = peak(model, verb, options, kernels)
                memory = f"{json.loads(text)['model']['memory_bytes']:,}" if verb == "eval" else ""
                ratio = most / bytes_of_file
                name = f"{network}{', int4 g128' if suffix else ', f32'}"
                cells = [name, verb, kernels, f"{bytes_of_file:,}", memory, f"{most:,}", f"{without:,}", f"{ratio:.3f}"]
                print("| " + " | ".join(cells) + " |", flush=True)
                if (suffix, kernels) == ("-int4", "compressed") and ratio > MOST:
                    over.append(f"{name}, {verb}: {ratio:.3f}")
    if over:
        sys.exit(f"error: more than {MOST} of the file: {'; '.join(over)}")


main()
