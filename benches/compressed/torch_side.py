"""PyTorch's linear layers of one shape: OUTPUTS INPUTS THREADS. Prints one JSON object a line.

A layer larger than the caches is made several times, and the copies take turns at one row. A figure is the fastest of
its passes. What this PyTorch or this CPU lacks is left out, with a word on standard error.
"""
import json
import sys
import time
import warnings

import torch

warnings.filterwarnings("ignore")

CACHED = 4 << 20
LARGER_THAN_CACHES = 128 << 20


def main():
    outputs, inputs, threads = map(int, sys.argv[1:])
    torch.set_num_threads(threads)
    weight = torch.randn(outputs, inputs)
    with torch.inference_mode():
        for name, make in (("f32", plain(torch.float32)), ("bf16", plain(torch.bfloat16)), ("f16", plain(torch.float16)),
                           ("int8 dynamic, x86", dynamic("x86")), ("int8 dynamic, fbgemm", dynamic("fbgemm")), ("int8 dynamic, oneDNN", dynamic("onednn")),
                           ("int8 weights, bf16 inputs", int8_weights), ("int4 weights in groups of 128, bf16 inputs", int4_weights)):
            try:
                measure(name, make, weight)
            except Exception as failure:
                print(f"{name}: {type(failure).__name__}: {str(failure)[:120]}", file=sys.stderr)


def measure(name, make, weight):
    outputs, inputs = weight.shape
    first, kind, nbytes = make(weight)
    for rows in (1, 64, 512):
        count = -(-LARGER_THAN_CACHES // nbytes) if rows == 1 and nbytes > CACHED else 1
        layers = [first, *(make(weight)[0] for _ in range(count - 1))]
        x = torch.randn(rows, inputs).to(kind)
        best, start, turn = float("inf"), time.perf_counter(), 0
        while turn < 8 or (time.perf_counter() - start < 0.5 and turn < 2000):
            layer, before = layers[turn % count], time.perf_counter()
            layer(x)
            best, turn = min(best, time.perf_counter() - before), turn + 1
        print(json.dumps({"name": name, "rows": rows, "bytes": nbytes, "seconds": best}), flush=True)


def plain(kind):
    def make(weight):
        own = weight.to(kind, copy=True)
        return (lambda x: torch.nn.functional.linear(x, own)), kind, own.nbytes
    return make


def dynamic(engine):
    def make(weight):
        torch.backends.quantized.engine = engine
        layer = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=False)
        layer.weight.copy_(weight)
        quantized = torch.ao.quantization.quantize_dynamic(torch.nn.Sequential(layer), {torch.nn.Linear}, dtype=torch.qint8)
        return quantized, torch.float32, weight.numel()
    return make


def int8_weights(weight):
    scale = (weight.abs().amax(1) / 127).to(torch.bfloat16)
    codes = (weight / scale.float()[:, None]).round().clamp(-128, 127).to(torch.int8)
    return (lambda x: torch._weight_int8pack_mm(x, codes, scale)), torch.bfloat16, codes.nbytes + scale.nbytes


def int4_weights(weight, group=128):
    outputs, inputs = weight.shape
    codes = torch.randint(0, 16, (outputs, inputs), dtype=torch.int32)
    packed = torch.ops.aten._convert_weight_to_int4pack_for_cpu(codes, 1)
    scale = torch.randn(inputs // group, outputs, 2).to(torch.bfloat16)
    multiply = torch.ops.aten._weight_int4pack_mm_for_cpu
    return (lambda x: multiply(x, packed, group, scale)), torch.bfloat16, packed.nbytes + scale.nbytes


if __name__ == "__main__":
    main()
