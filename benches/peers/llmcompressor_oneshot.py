"""IN OUT SCHEME: llm-compressor's oneshot without data, through a transformers model."""
import sys
import time

begin = time.perf_counter()
import torch
from llmcompressor import oneshot
from llmcompressor.modifiers.quantization import QuantizationModifier
from transformers import AutoModelForCausalLM

loaded = time.perf_counter()
source, out, scheme = sys.argv[1:]
model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.bfloat16, device_map="cpu")
oneshot(model=model, recipe=QuantizationModifier(targets="Linear", scheme=scheme, ignore=["lm_head"]))
model.save_pretrained(out, save_compressed=True)
print(f"T import={loaded - begin:.3f} work={time.perf_counter() - loaded:.3f}")
