"""Schemes chosen under a budget against uniform int4 and int3: see budgets.sh."""

import json
import os
import re
import struct
import subprocess

import numpy as np

DLOPT, WORK, SILERO = os.environ["DLOPT"], os.environ["WORK"], os.environ["SILERO"]


def dlopt(*words):
    done = subprocess.run([DLOPT, *words], capture_output=True, text=True)
    if done.returncode not in (0, 3):
        raise SystemExit(f"dlopt {' '.join(words)}\n{done.stderr}")
    return done.stdout


def read(path):
    data = open(path, "rb").read()
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + length])
    body = data[8 + length :]
    tensors = {}
    for name, info in header.items():
        if name != "__metadata__":
            begin, end = info["data_offsets"]
            tensors[name] = np.frombuffer(body[begin:end], "<f4").reshape(info["shape"]).copy()
    return header.get("__metadata__", {}), tensors


def write(path, metadata, tensors):
    header, at = {"__metadata__": metadata}, 0
    for name, values in tensors.items():
        header[name] = {"dtype": "F32", "shape": list(values.shape), "data_offsets": [at, at + values.nbytes]}
        at += values.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for values in tensors.values():
            file.write(np.ascontiguousarray(values, "<f4").tobytes())


def rounded(values, bits, group):
    """Symmetric, half a step beyond the largest code as the runtimes have it, a scale for `group` weights of a row or for a row."""
    rows = values.reshape(values.shape[0], -1)
    if group and rows.shape[1] % group == 0:
        rows = rows.reshape(-1, group)
    scale = np.abs(rows).max(1, keepdims=True) / (2 ** (bits - 1) - 0.5)
    codes = np.clip(np.round(rows / np.where(scale > 0, scale, 1)), -(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    return (codes * scale).astype("f4").reshape(values.shape)


def compared(name, model, selection, group, judge, data):
    """Uniform int4 by dlopt, int3 here, and what is chosen at the bytes of each."""
    path = lambda tag: f"{WORK}/{name}-{tag}.safetensors"
    how = ["--group", str(group), "--fallback", "channel"] if group else ["--group", "channel"]
    dlopt("quantize", model, "--scheme", "w4a16", *how, *selection, "-o", path("int4"), "--force", "-q")
    dense = path("dense")
    dlopt("convert", model, "-o", dense, "--force", "-q")
    metadata, tensors = read(dense)
    report = json.loads(dlopt("quantize", model, "--scheme", "w4a16", *how, *selection, "--dry-run", "--json"))
    notes = report["passes"][0]["notes"]
    taken = {note["tensor"] for note in notes if note["action"] != "skipped"}
    weights = sum(tensors[tensor].size for tensor in taken)
    write(path("int3"), metadata, {n: rounded(v, 3, group) if n in taken else v for n, v in tensors.items()})
    bytes4 = os.path.getsize(path("int4"))
    bytes3 = bytes4 - weights // 8
    print(f"{name}: as it is                 {os.path.getsize(model):>9,} bytes  {judge(model)}")
    for label, size, uniform in [("int4", bytes4, path("int4")), ("int3", bytes3, path("int3"))]:
        print(f"{name}: uniform {label}             {size:>9,} bytes  {judge(uniform)}", flush=True)
        for measure in (["weights", "fisher", "measured"] if data else ["weights"]):
            chosen = path(f"{label}-{measure}")
            more = ["--data", data, "--measure", measure] if data else []
            dlopt("quantize", model, "--target-size", f"{size}B", *more, *selection, "-o", chosen, "--force", "-q")
            print(f"{name}: chosen, by {measure:9}     {os.path.getsize(chosen):>9,} bytes  {judge(chosen)}", flush=True)


def accuracy(path):
    report = json.loads(dlopt("eval", path, "--data", f"{WORK}/fashion.safetensors", "--resamples", "100", "--json"))
    own = report["model"]["metrics"]["classification"]
    return f"accuracy {100 * own['accuracy']['value']:.2f} %, loss {own['loss']['value']:.4f}"


def dictionary():
    words = []
    for line in open(f"{WORK}/data/cmudict/cmudict.dict"):
        word, *phonemes = line.split("#")[0].split()
        plain = word.split("(")[0]
        if words and words[-1][0] == plain and plain != word:
            words[-1][1].append(phonemes)
        else:
            words.append((plain, [phonemes]))
    return [entry for entry in words if re.fullmatch("[a-z]+", entry[0])][::60]


def edits(a, b):
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        before, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (x != y))
    return row[-1]


def words_right(path):
    said = dict(line.split("\t") for line in dlopt("predict", path, *[word for word, _ in WORDS]).splitlines())
    right = errors = length = 0
    for word, references in WORDS:
        own = said[word].split()
        right += own in references
        fewest, of = min((edits(own, reference), len(reference)) for reference in references)
        errors, length = errors + fewest, length + of
    return f"words right {100 * right / len(WORDS):.1f} %, phoneme error rate {100 * errors / length:.2f} %"


def probabilities(path):
    return np.array(json.loads(dlopt("predict", path, f"{WORK}/data/speech/prompts/demo-congrats.wav", "--json"))["probabilities"])


def decisions_kept(path):
    own = probabilities(path)
    return f"decisions kept {100 * np.mean((own > 0.5) == (BEFORE > 0.5)):.2f} %, mean change {np.abs(own - BEFORE).mean():.4f}"


compared("cnn", f"{WORK}/cnn.safetensors", [], 32, accuracy, f"{WORK}/fashion.safetensors")
compared("cnn by channel", f"{WORK}/cnn.safetensors", [], 0, accuracy, f"{WORK}/fashion.safetensors")
BEFORE = probabilities(SILERO)
compared("silero", SILERO, [], 0, decisions_kept, None)
WORDS = dictionary()
MATRICES = ["--include", "*_w_*", "--include", "*_emb", "--include", "fc_w"]
compared("g2p", f"{WORK}/data/g2p/checkpoint20.npz", MATRICES, 64, words_right, None)
