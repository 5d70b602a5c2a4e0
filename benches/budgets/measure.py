"""Schemes chosen under a budget against uniform int4 and int3: see budgets.sh."""

import json
import os
import re
import subprocess

DLOPT, WORK, SILERO = os.environ["DLOPT"], os.environ["WORK"], os.environ["SILERO"]


# What runtimes may read, as where the model has a config of theirs.
INTEGERS = """f16 w8a16:32 w8a16:channel w4a16_asym:16 w4a16_asym:32 w4a16:32 w4a16:64 w4a16:128 w4a16:channel w3a16_asym:32
w3a16:32 w3a16:64 w3a16_asym:channel w3a16:channel w2a16_asym:16 w2a16_asym:32 w2a16_asym:64 w2a16_asym:channel
w2a16:channel""".split()


def dlopt(*words):
    done = subprocess.run([DLOPT, *words], capture_output=True, text=True)
    if done.returncode not in (0, 3):
        raise SystemExit(f"dlopt {' '.join(words)}\n{done.stderr}")
    return done.stdout


def compared(name, model, selection, group, judge, data, measures):
    """Uniform int4 and int3, and what is chosen at the bytes of each."""
    path = lambda tag: f"{WORK}/{name}-{tag}.safetensors"
    how = ["--group", str(group), "--fallback", "channel"] if group else ["--group", "channel"]
    print(f"{name}: as it is                 {os.path.getsize(model):>9,} bytes  {judge(model)}")
    for bits in (4, 3):
        uniform = path(f"int{bits}")
        dlopt("quantize", model, "--scheme", f"w{bits}a16", *how, *selection, "-o", uniform, "--force", "-q")
        size = os.path.getsize(uniform)
        print(f"{name}: uniform int{bits}             {size:>9,} bytes  {judge(uniform)}", flush=True)
        for choices in ("integers", "all"):
            for measure in measures:
                chosen = path(f"int{bits}-{choices}-{measure}")
                more = ["--data", *data, "--measure", measure] if data else []
                among = [word for choice in INTEGERS for word in ("--choice", choice)] if choices == "integers" else []
                dlopt("quantize", model, "--target-size", f"{size}B", *among, *more, *selection, "-o", chosen, "--force", "-q")
                label = f"chosen of {choices}, by {measure}"
                print(f"{name}: {label:33}{os.path.getsize(chosen):>9,} bytes  {judge(chosen)}", flush=True)


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
    return [entry for entry in words if re.fullmatch("[a-z]+", entry[0])]


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
    return json.loads(dlopt("predict", path, f"{WORK}/data/speech/prompts/demo-congrats.wav", "--json"))["probabilities"]


def decisions_kept(path):
    pairs = list(zip(probabilities(path), BEFORE, strict=True))
    kept = sum((own > 0.5) == (before > 0.5) for own, before in pairs) / len(pairs)
    change = sum(abs(own - before) for own, before in pairs) / len(pairs)
    return f"decisions kept {100 * kept:.2f} %, mean change {change:.4f}"


def words_to_choose_on(network):
    """A dataset for the network of words that are no test words: choices are made on it."""
    own = f"{WORK}/pronunciations.dict"
    with open(own, "w", encoding="utf-8") as file:
        file.writelines(f"{word}  {' '.join(references[0])}\n" for word, references in dictionary()[30::60])
    data = f"{WORK}/pronunciations.safetensors"
    dlopt("prepare", "--train", own, "--like", network, "-o", data, "--force", "-q")
    return data


LEARNED = ["weights", "fisher", "measured"]
compared("cnn", f"{WORK}/cnn.safetensors", [], 32, accuracy, [f"{WORK}/fashion.safetensors"], LEARNED)
compared("cnn by channel", f"{WORK}/cnn.safetensors", [], 0, accuracy, [f"{WORK}/fashion.safetensors"], LEARNED)
BEFORE = probabilities(SILERO)
compared("silero", SILERO, [], 0, decisions_kept, None, ["weights"])
WORDS = dictionary()[::60]
MATRICES = ["--include", "*_w_*", "--include", "*_emb", "--include", "fc_w"]
NETWORK = f"{WORK}/data/g2p/checkpoint20.npz"
CHOSEN_ON = [words_to_choose_on(NETWORK), "--samples", "300"]
compared("g2p", NETWORK, MATRICES, 64, words_right, CHOSEN_ON, ["weights", "measured"])
