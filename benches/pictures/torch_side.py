"""torch_side.py FOLDER WORKERS OUT: what torchvision's loader takes to make an array of a folder of pictures."""

import sys
import time

import numpy
import torch
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

if __name__ == "__main__":
    folder, workers, out = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    torch.set_num_threads(1)
    began = time.perf_counter()
    pictures = ImageFolder(folder, v2.Compose([v2.Resize((64, 64)), v2.PILToTensor()]))
    all_pixels = numpy.empty((len(pictures), 3, 64, 64), dtype=numpy.uint8)
    place = 0
    for pixels, _ in DataLoader(pictures, batch_size=256, num_workers=workers):
        all_pixels[place : place + len(pixels)] = pixels.numpy()
        place += len(pixels)
    numpy.save(out, all_pixels)
    print(f"loader {time.perf_counter() - began:.3f} s")
