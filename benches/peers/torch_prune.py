"""IN OUT tensor|global|2:4: half of every linear weight to zero by magnitude, in plain torch; the lines people write."""
import pathlib
import sys
import time

begin = time.perf_counter()
import torch
from safetensors.torch import load_file, save_file

loaded = time.perf_counter()
source, out, how = sys.argv[1:]
tensors = load_file(f"{source}/model.safetensors")
names = [n for n, t in tensors.items() if t.dim() == 2 and "embed" not in n and "lm_head" not in n]
if how == "tensor":
    for name in names:
        size = tensors[name].abs()
        least = size.flatten().kthvalue(size.numel() // 2).values
        tensors[name] = tensors[name] * (size > least)
elif how == "global":
    every = torch.cat([tensors[name].abs().flatten() for name in names])
    least = every.kthvalue(every.numel() // 2).values
    del every
    for name in names:
        tensors[name] = tensors[name] * (tensors[name].abs() > least)
elif how == "2:4":
    for name in names:
        fours = tensors[name].reshape(-1, 4)
        kept = fours.abs().topk(2, dim=1).indices
        tensors[name] = (fours * torch.zeros_like(fours).scatter_(1, kept, 1)).reshape(tensors[name].shape)
pathlib.Path(out).mkdir(parents=True, exist_ok=True)
save_file(tensors, f"{out}/model.safetensors", metadata={"format": "pt"})
print(f"T import={loaded - begin:.3f} work={time.perf_counter() - loaded:.3f}")
