"""Writes a folder with random weights in the shape of a Llama, bf16, the same bytes every time.

    python3 make_llama.py OUT [--hidden 2048 --layers 8 --intermediate 5632 --vocab 32000 --heads 16 --shards 1]

The default is 542 million weights in 1.1 GB, 411 million of them in 56 linear layers. Rows differ in spread, as
those of real layers do. Weights are made and written a few MB at a time, so any size fits. Needs numpy only.
"""
import argparse
import json
import pathlib

import numpy as np

BLOCK = 1 << 21  # weights made at a time; part of the definition of the bytes


def main():
    ask = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    ask.add_argument("out", type=pathlib.Path)
    for name, default in (("hidden", 2048), ("layers", 8), ("intermediate", 5632), ("vocab", 32000), ("heads", 16)):
        ask.add_argument(f"--{name}", type=int, default=default)
    ask.add_argument("--shards", type=int, default=1)
    ask.add_argument("--seed", type=int, default=0)
    options = ask.parse_args()

    tensors = list(shapes(options))
    options.out.mkdir(parents=True, exist_ok=True)
    per_shard = -(-len(tensors) // options.shards)
    shards = [tensors[at : at + per_shard] for at in range(0, len(tensors), per_shard)]
    index, number = {}, 0
    for i, shard in enumerate(shards):
        name = "model.safetensors" if len(shards) == 1 else f"model-{i + 1:05}-of-{len(shards):05}.safetensors"
        write(options.out / name, shard, options.seed, number)
        number += len(shard)
        index.update((tensor, name) for tensor, _ in shard)
    total = sum(2 * int(np.prod(shape)) for _, shape in tensors)
    if len(shards) > 1:
        text = json.dumps({"metadata": {"total_size": total}, "weight_map": index}, indent=1)
        (options.out / "model.safetensors.index.json").write_text(text)
    (options.out / "config.json").write_text(json.dumps(config(options), indent=1))
    print(f"{len(tensors)} tensors, {total / 2e6:.0f} M weights, {total / 1e6:.0f} MB in {options.out}")


def shapes(o):
    """Name and shape of every tensor, outputs first."""
    yield "model.embed_tokens.weight", (o.vocab, o.hidden)
    for layer in range(o.layers):
        at = f"model.layers.{layer}."
        for part in "qkvo":
            yield f"{at}self_attn.{part}_proj.weight", (o.hidden, o.hidden)
        yield f"{at}mlp.gate_proj.weight", (o.intermediate, o.hidden)
        yield f"{at}mlp.up_proj.weight", (o.intermediate, o.hidden)
        yield f"{at}mlp.down_proj.weight", (o.hidden, o.intermediate)
        yield f"{at}input_layernorm.weight", (o.hidden,)
        yield f"{at}post_attention_layernorm.weight", (o.hidden,)
    yield "model.norm.weight", (o.hidden,)
    yield "lm_head.weight", (o.vocab, o.hidden)


def write(path, tensors, seed, first):
    header, at = {"__metadata__": {"format": "pt"}}, 0
    for name, shape in tensors:
        end = at + 2 * int(np.prod(shape))
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [at, end]}
        at = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for number, (_, shape) in enumerate(tensors, first):
            for block in weights(shape, seed, number):
                file.write(block)


def weights(shape, seed, number):
    """The bf16 bits of one tensor, in blocks of whole rows."""
    if len(shape) == 1:
        yield bf16(np.ones(shape, np.float32))
        return
    rows, columns = shape
    step = max(1, BLOCK // columns)
    for row in range(0, rows, step):
        here = min(step, rows - row)
        random = np.random.Generator(np.random.PCG64([seed, number, row]))
        spread = 0.02 * np.exp(0.3 * random.standard_normal((here, 1), np.float32))
        yield bf16(random.standard_normal((here, columns), np.float32) * spread)


def bf16(values):
    """The nearest bf16, ties to even, as little-endian u16; the values are finite."""
    bits = values.view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype("<u2")


def config(o):
    return {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": o.hidden,
        "intermediate_size": o.intermediate, "num_hidden_layers": o.layers, "num_attention_heads": o.heads,
        "num_key_value_heads": o.heads, "head_dim": o.hidden // o.heads, "vocab_size": o.vocab, "rms_norm_eps": 1e-5,
        "hidden_act": "silu", "max_position_embeddings": 2048, "rope_theta": 10000.0, "tie_word_embeddings": False,
        "attention_bias": False, "mlp_bias": False, "bos_token_id": 1, "eos_token_id": 2, "initializer_range": 0.02,
        "torch_dtype": "bfloat16", "use_cache": True,
    }


if __name__ == "__main__":
    main()
