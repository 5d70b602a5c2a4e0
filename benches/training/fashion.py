"""Fashion-MNIST as unsigned bytes: `python fashion.py IDX_FOLDER OUT [SAMPLES]` decodes the gzipped IDX files once.

OUT gets `train-images.npy` [n, 28, 28], `train-labels.npy` [n], `test-images.npy` and `test-labels.npy`: the peers'
counterpart of a prepared dataset. With SAMPLES only the first so many training pictures, and a folder `idx` with the
same as IDX files for dlopt.
"""
import gzip
import pathlib
import sys

import numpy as np

FILES = {"train-images": ("train-images-idx3-ubyte", 16), "train-labels": ("train-labels-idx1-ubyte", 8),
         "test-images": ("t10k-images-idx3-ubyte", 16), "test-labels": ("t10k-labels-idx1-ubyte", 8)}


def decode(source, out, samples=None):
    out.mkdir(parents=True, exist_ok=True)
    for name, (file, head) in FILES.items():
        values = np.frombuffer(gzip.decompress((source / f"{file}.gz").read_bytes()), np.uint8)[head:]
        values = values.reshape(-1, 28, 28) if head == 16 else values
        if name.startswith("train") and samples:
            values = values[:samples]
        np.save(out / f"{name}.npy", values)
        if samples:
            (out / "idx").mkdir(exist_ok=True)
            extents = b"".join(extent.to_bytes(4, "big") for extent in values.shape)
            (out / "idx" / file).write_bytes(bytes([0, 0, 8, values.ndim]) + extents + values.tobytes())


def load(folder):
    """Training pictures and labels, test pictures and labels; pictures as floats in 0..1."""
    folder = pathlib.Path(folder)
    read = {name: np.load(folder / f"{name}.npy") for name in FILES}
    return (read["train-images"].astype(np.float32) / np.float32(255), read["train-labels"],
            read["test-images"].astype(np.float32) / np.float32(255), read["test-labels"])


if __name__ == "__main__":
    decode(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else None)
