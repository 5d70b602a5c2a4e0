"""Loads what dlopt writes of MiniLM in transformers. Run by check-transformers.sh: DLOPT DATA WORK.

Every variant X/ is made by dlopt from the f32 model, X-dense/ from X/ by `dlopt convert --decompress`. Then
  plain        AutoModel.from_pretrained(X/), nothing else said: what a user of the model does
  dequantize   the same with CompressedTensorsConfig(dequantize=True): weights decoded, activations left alone
must give the embeddings of X-dense/, which is an ordinary model. Schemes that quantize activations (w8a8,
fp8_dynamic) are simulated in full by the plain route, rounding activations too, so there only the dequantize route
must agree, and the difference of the plain one is printed. Asymmetric packed weights load by dequantize only
(transformers 5.23 with compressed-tensors 0.20 wants another shape of the zero points on the plain route).

Embeddings: mean over tokens, then L2 norm; at most 256 tokens; the 50 texts of Lee, each by itself.
"""
import json
import logging
import pathlib
import shutil
import subprocess
import sys
from dataclasses import dataclass

import compressed_tensors
import tokenizers
import torch
import transformers
from transformers import AutoModel, AutoTokenizer, CompressedTensorsConfig

TOLERANCE = 1e-5  # largest difference of a number of an embedding; vectors have length 1
LINEAR = 6 * 6  # linear layers of MiniLM's six blocks

# First four numbers of f32 embeddings, computed by a numpy forward of its own.
ANCHORS = {
    "Hello, world!": (-0.03818, 0.03291, -0.00546, 0.01437),
    "the first text of Lee": (-0.04227, 0.01426, 0.06447, -0.00446),
}


@dataclass
class Variant:
    """`stages` are dlopt's words, joined by pipes; `routes` are the ways of loading that must agree."""

    name: str
    stages: list
    routes: tuple = ("plain", "dequantize")
    shown: tuple = ()  # routes whose difference is printed and not judged
    shards: int = 1


@dataclass
class Figure:
    """A variant whose quality was measured by another implementation, to come out at."""

    name: str
    stages: list
    expected: float
    within: float


VARIANTS = [
    Variant("prune 2:4 \\| quantize w4a16 g128", ["prune --pattern 2:4", "quantize --scheme w4a16"]),
    Variant("w4a16 g128", ["quantize --scheme w4a16"]),
    Variant("w4a16 g128, mse", ["quantize --scheme w4a16 --method mse"]),
    Variant("w4a16 g64, in shards of 8 MB", ["quantize --scheme w4a16 --group 64 --max-shard-size 8MB"], shards=3),
    Variant("w8a16 per channel", ["quantize --scheme w8a16 --group channel"]),
    Variant("w4a16 g128, asymmetric", ["quantize --scheme w4a16 --asymmetric"], routes=("dequantize",)),
    Variant("w8a8", ["quantize --scheme w8a8"], routes=("dequantize",), shown=("plain",)),
    Variant("fp8_dynamic", ["quantize --scheme fp8_dynamic"], routes=("dequantize",), shown=("plain",)),
    Variant("fp8a16", ["quantize --scheme fp8a16"]),
]

WITH_EMBEDDING = "--include encoder.* --include embeddings.word_embeddings.weight"

# The goals, measured on the linear weights unless said. Their int4 takes the step amax / 7 where compressed-tensors
# takes amax / 7.5, hence the wider margins.
FIGURES = [
    Figure("int8, one scale a row, with the word embedding",
           [f"quantize --scheme w8a16 --group channel {WITH_EMBEDDING}"], 0.9994, 0.0005),
    Figure("int4 symmetric, groups of 64", ["quantize --scheme w4a16 --group 64"], 0.9394, 0.02),
    Figure("int4 symmetric, groups of 128, with the word embedding",
           [f"quantize --scheme w4a16 {WITH_EMBEDDING}"], 0.9207, 0.02),
    Figure("30 % by magnitude, per tensor", ["prune --sparsity 0.3"], 0.9158, 0.001),
    Figure("50 %", ["prune --sparsity 0.5"], 0.6714, 0.001),
    Figure("70 %", ["prune --sparsity 0.7"], 0.3518, 0.001),
    Figure("2:4 by magnitude", ["prune --pattern 2:4"], 0.5370, 0.001),
]


class Check:
    def __init__(self, dlopt, data, work):
        self.dlopt, self.work = dlopt.resolve(), work
        self.source = data / "minilm"
        self.texts = (data / "similarity" / "lee.cor").read_text(encoding="latin-1").splitlines()
        self.tokenizer = tokenizers.Tokenizer.from_file(str(self.source / "tokenizer.json"))
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(256)
        self.failures = []

    def holds(self, claim, what):
        """Notes a claim that does not hold."""
        if not claim:
            self.failures.append(what)
            print(f"\nDOES NOT HOLD: {what}\n", flush=True)
        return claim

    def run(self, *stages):
        """Runs dlopt, the stages joined by pipes."""
        before, started = None, []
        for number, words in enumerate(stages):
            last = number == len(stages) - 1
            stage = subprocess.Popen([str(self.dlopt), *words, "--quiet"], stdin=before, stderr=subprocess.PIPE,
                                     stdout=None if last else subprocess.PIPE)
            if before is not None:
                before.close()
            before = stage.stdout
            started.append(stage)
        errors = "".join(stage.stderr.read().decode(errors="replace") for stage in started)
        if any([stage.wait() for stage in started]):
            command = " | ".join("dlopt " + " ".join(map(str, words)) for words in stages)
            raise RuntimeError(f"{command}: exit codes {[stage.returncode for stage in started]}: {errors.strip()}")

    def make(self, name, stages):
        """The folder that a variant's stages write of MiniLM, and its dense twin."""
        out, dense = self.work / name, self.work / f"{name}-dense"
        for folder in (out, dense):
            shutil.rmtree(folder, ignore_errors=True)
        words = [stage.split() for stage in stages]
        words[0].insert(1, self.source)
        words[-1] += ["-o", f"{out}/"]
        self.run(*words)
        self.run(["verify", out])
        self.run(["convert", "--decompress", out, "-o", f"{dense}/"])
        return out, dense

    def load(self, folder, route="plain"):
        options = {} if route == "plain" else {"quantization_config": CompressedTensorsConfig(dequantize=True)}
        model, info = AutoModel.from_pretrained(folder, dtype=torch.float32, output_loading_info=True, **options)
        odd = {key: sorted(map(str, found)) for key, found in info.items() if found}
        return model.eval(), odd

    @torch.no_grad()
    def embed(self, model, texts=None):
        rows = []
        for text in texts or self.texts:
            ids = torch.tensor([self.tokenizer.encode(text).ids])
            hidden = model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
            rows.append(torch.nn.functional.normalize(hidden.mean(dim=1), dim=1))
        return torch.cat(rows)


def cosine(a, b):
    """The mean cosine of the rows, which have length 1."""
    return float((a * b).sum(dim=1).mean())


def describe(folder):
    """Bytes of weights, and the quantized modules by scheme."""
    files = sorted(folder.glob("*.safetensors"))
    return len(files), sum(file.stat().st_size for file in files)


def check_base(check):
    model, odd = check.load(check.source)
    check.holds(not odd, f"the f32 model itself loads with {odd}")
    for name, text in zip(ANCHORS, ("Hello, world!", check.texts[0])):
        found = check.embed(model, [text])[0, :4]
        gap = float((found - torch.tensor(ANCHORS[name])).abs().max())
        check.holds(gap < 1e-4, f"the f32 embedding of {name} differs by {gap:.2g} from the known one")
    return check.embed(model)


def check_variant(check, variant, base):
    name = "".join(c if c.isalnum() else "-" for c in variant.name)
    out, dense = check.make(name, variant.stages)
    shards, size = describe(out)
    check.holds(shards >= variant.shards, f"{variant.name}: {shards} files, at least {variant.shards} wanted")
    config = json.loads((out / "config.json").read_text())
    check.holds("quantization_config" in config, f"{variant.name}: config.json has no quantization_config")
    config = json.loads((dense / "config.json").read_text())
    check.holds("quantization_config" not in config, f"{variant.name}: the dense twin still has a quantization_config")
    words = AutoTokenizer.from_pretrained(out)("a fox, running").input_ids
    check.holds(words == check.tokenizer.encode("a fox, running").ids, f"{variant.name}: its tokenizer says {words}")

    model, odd = check.load(dense)
    check.holds(not odd, f"{variant.name}: the dense twin loads with {odd}")
    wanted = check.embed(model)
    cells = []
    for route in ("plain", "dequantize"):
        if route not in variant.routes + variant.shown:
            cells.append("not by this route")
            continue
        try:
            model, odd = check.load(out, route)
            gap = float((check.embed(model) - wanted).abs().max())
        except Exception as error:  # whatever a loader raises is the finding
            text = str(error).strip().splitlines()
            check.holds(False, f"{variant.name}, {route}: {type(error).__name__}: {text[0] if text else ''}")
            cells.append("does not load")
            continue
        if route == "plain":
            quantized = sum(hasattr(module, "quantization_scheme") for module in model.modules())
            check.holds(quantized >= LINEAR, f"{variant.name}: {quantized} linear layers are quantized, {LINEAR} wanted")
        check.holds(not odd, f"{variant.name}, {route}: loads with {odd}")
        if route in variant.routes:
            check.holds(gap <= TOLERANCE, f"{variant.name}, {route}: embeddings differ by {gap:.3g} from the dense twin's")
            cells.append(f"{gap:.1e}")
        else:
            cells.append(f"{gap:.1e} (activations rounded too)")
    print(f"| {variant.name} | {shards} | {size / 1e6:.1f} | {cells[0]} | {cells[1]} | {cosine(wanted, base):.4f} |", flush=True)


def check_figure(check, figure, base):
    _, dense = check.make("figure", figure.stages)
    model, odd = check.load(dense)
    check.holds(not odd, f"{figure.name}: loads with {odd}")
    found = cosine(check.embed(model), base)
    check.holds(abs(found - figure.expected) <= figure.within,
                f"{figure.name}: cosine {found:.4f}, {figure.expected} ± {figure.within} wanted")
    print(f"| {figure.name} | {found:.4f} | {figure.expected:.4f} ± {figure.within} |", flush=True)


def main():
    dlopt, data, work = map(pathlib.Path, sys.argv[1:4])
    work.mkdir(parents=True, exist_ok=True)
    logging.disable(logging.WARNING)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    check = Check(dlopt, data, work)
    print(f"torch {torch.__version__}, transformers {transformers.__version__}, "
          f"compressed-tensors {compressed_tensors.__version__}; MiniLM, {len(check.texts)} texts\n")
    base = check_base(check)

    print("| variant | files | MB | plain: largest difference to the dense twin | dequantize: the same | mean cosine to f32 |")
    print("|---|---|---|---|---|---|")
    for variant in VARIANTS:
        attempt(check, variant.name, check_variant, variant, base)
    print("\n| variant, linear weights only unless said | mean cosine to f32 | to come out at |\n|---|---|---|")
    for figure in FIGURES:
        attempt(check, figure.name, check_figure, figure, base)

    print()
    if check.failures:
        print(f"{len(check.failures)} claims do not hold:", *check.failures, sep="\n- ")
        sys.exit(1)
    print("everything holds")


def attempt(check, name, what, *words):
    try:
        what(check, *words)
    except Exception as error:
        check.holds(False, f"{name}: {type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
