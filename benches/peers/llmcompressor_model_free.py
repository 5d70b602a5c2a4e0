"""IN OUT SCHEME: llm-compressor's model_free_ptq, which needs no model class and goes shard by shard."""
import sys
import time

begin = time.perf_counter()
from llmcompressor import model_free_ptq

loaded = time.perf_counter()
source, out, scheme = sys.argv[1:]
model_free_ptq(source, out, scheme=scheme, ignore=["lm_head", "re:.*embed_tokens$"], max_workers=2, device="cpu")
print(f"T import={loaded - begin:.3f} work={time.perf_counter() - loaded:.3f}")
