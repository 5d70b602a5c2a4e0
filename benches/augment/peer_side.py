"""peer_side.py LIBRARY RECIPE DATASET WORKERS PICTURES: augments pictures of a dataset that is in memory; prints seconds.

torchvision and albumentations take one picture at a time, in so many processes of one thread each, and the slowest counts.
kornia takes large batches, with parameters for each picture, in one process of so many threads, which is faster than
processes. All take bytes and give bytes, and none reads or writes a file.
"""
import json
import multiprocessing
import os
import sys
import time

import numpy

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"


def pictures_of(path):
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))["inputs"]
        begin, end = header["data_offsets"]
        file.seek(8 + length + begin)
        return numpy.frombuffer(file.read(end - begin), numpy.uint8).reshape(header["shape"])


def torchvision(recipe, size):
    import torch
    from torchvision.transforms import v2

    torch.set_num_threads(1)
    bilinear = v2.InterpolationMode.BILINEAR
    all_of = {
        "geometry-noise": [
            v2.RandomRotation(15, bilinear), v2.RandomResizedCrop(size, scale=(0.7, 1), antialias=False),
            v2.ToDtype(torch.float32, scale=True), v2.GaussianNoise(0, 0.05), v2.ToDtype(torch.uint8, scale=True),
        ],
        "rand-augment": [v2.RandAugment(2, 9, interpolation=bilinear)],
    }
    change = v2.Compose(all_of[recipe])

    def run(pictures):
        for picture in torch.from_numpy(pictures).permute(0, 3, 1, 2).contiguous():
            change(picture)

    return run


def albumentations(recipe, size):
    import albumentations as A
    import cv2

    cv2.setNumThreads(1)
    # RandAugment is not among them: two of the same operations at strengths of the same sizes.
    both = [
        A.Affine(shear={"x": (-17, 17), "y": 0}), A.Affine(shear={"x": 0, "y": (-17, 17)}),
        A.Affine(translate_percent={"x": (-0.2, 0.2), "y": 0}), A.Affine(translate_percent={"x": 0, "y": (-0.2, 0.2)}),
        A.Rotate((-9, 9)), A.RandomBrightnessContrast((-0.27, 0.27), 0), A.RandomBrightnessContrast(0, (-0.27, 0.27)),
        A.ColorJitter(0, 0, (0.73, 1.27), 0), A.Sharpen((0.27, 0.27)), A.Posterize(7), A.Solarize((0.7, 0.7)),
        A.AutoContrast(), A.Equalize(), A.NoOp(),
    ]
    for operation in both:
        operation.p = 1
    all_of = {
        "geometry-noise": [
            A.Rotate((-15, 15), interpolation=cv2.INTER_LINEAR, p=1), A.RandomResizedCrop((size, size), scale=(0.7, 1), p=1),
            A.GaussNoise(std_range=(0.05, 0.05), p=1),
        ],
        "rand-augment": [A.SomeOf(both, n=2, p=1)],
    }
    change = A.Compose(all_of[recipe])

    def run(pictures):
        for picture in pictures:
            change(image=picture)

    return run


def kornia(recipe, size):
    import kornia.augmentation as K
    import torch

    torch.set_num_threads(int(sys.argv[4]))
    batch_size = 2048 if size < 64 else 96
    all_of = {
        "geometry-noise": lambda: K.AugmentationSequential(
            K.RandomRotation(15.0, p=1.0), K.RandomResizedCrop((size, size), scale=(0.7, 1.0), p=1.0, cropping_mode="resample"),
            K.RandomGaussianNoise(0.0, 0.05, p=1.0),
        ),
        "rand-augment": lambda: K.auto.RandAugment(2, 9),
    }
    change = all_of[recipe]()

    def run(pictures):
        for batch in torch.from_numpy(pictures).permute(0, 3, 1, 2).contiguous().split(batch_size):
            change(batch.float().div_(255)).clamp_(0, 1).mul(255).to(torch.uint8)

    return run


def work(library, recipe, pictures, barrier, seconds):
    run = globals()[library](recipe, pictures.shape[1])
    run(pictures[:256])
    barrier.wait()
    begin = time.perf_counter()
    run(pictures)
    seconds.put(time.perf_counter() - begin)


def main():
    library, recipe, path, workers, count = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5])
    pictures = numpy.array(pictures_of(path)[:count])
    workers = 1 if library == "kornia" else workers
    barrier, seconds = multiprocessing.Barrier(workers), multiprocessing.Queue()
    parts = numpy.array_split(pictures, workers)
    processes = [multiprocessing.Process(target=work, args=(library, recipe, part, barrier, seconds)) for part in parts]
    for process in processes:
        process.start()
    print(f"seconds {max(seconds.get() for _ in processes):.4f}")
    for process in processes:
        process.join()


if __name__ == "__main__":
    main()
