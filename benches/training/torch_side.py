"""Trains, or runs, one network in PyTorch on Fashion-MNIST and says how fast: one JSON object on the last line.

    python torch_side.py train|infer DATA NETWORK --batch 32 [--epochs 2] [--mode eager|channels-last|compile]

The pictures lie in memory as 32-bit floats in the layout of the mode. An epoch is a random order, the gathering of each
batch, forward, backward and a step of (fused) Adam; the remainder that fills no batch is left out. No loss is read
back. Inference takes slices of the test pictures in inference mode.
"""
import argparse
import json
import os
import sys
import time

BORN = float(os.environ.get("DLOPT_BENCH_START") or time.time())

import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402

import fashion  # noqa: E402
from torch_network import build, preset  # noqa: E402


def main():
    ask = argparse.ArgumentParser()
    ask.add_argument("what", choices=["train", "infer"])
    ask.add_argument("data")
    ask.add_argument("network")
    ask.add_argument("--batch", type=int, required=True)
    ask.add_argument("--epochs", type=int, default=2)
    ask.add_argument("--mode", choices=["eager", "channels-last", "compile"], default="eager")
    ask.add_argument("--threads", type=int, default=os.cpu_count())
    ask.add_argument("--seed", type=int, default=0)
    options = ask.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    images, labels, test_images, test_labels = map(torch.from_numpy, fashion.load(options.data))
    is_series = options.network in ("lstm", "gru")
    sample = {"series": {"time": 28, "features": 28}} if is_series else {"image": {"height": 28, "width": 28, "channels": 1}}
    network = build(preset(options.network), sample, 10)
    if not is_series:
        images, test_images = images[:, None], test_images[:, None]
    if options.mode == "channels-last":
        network = network.to(memory_format=torch.channels_last)
        images = images.contiguous(memory_format=torch.channels_last)
        test_images = test_images.contiguous(memory_format=torch.channels_last)
    run = torch.compile(network) if options.mode == "compile" else network
    said = {"side": "torch " + options.mode, "version": torch.__version__}
    if options.what == "train":
        train(options, network, run, images, labels.long(), test_images, test_labels, said)
    else:
        infer(options, network, run, test_images, said)
    print(json.dumps(said))


def train(options, network, run, images, labels, test_images, test_labels, said):
    optimizer = torch.optim.Adam(network.parameters(), 1e-3, fused=True)
    size = options.batch

    def step(chosen):
        optimizer.zero_grad()
        F.cross_entropy(run(images[chosen]), labels[chosen]).backward()
        optimizer.step()

    whole = len(images) // size * size
    rates, accuracies = [], []
    for epoch in range(options.epochs):
        network.train()
        start = time.perf_counter()
        order = torch.randperm(len(images))
        step(order[:size])
        done = size
        if epoch == 0:
            # What is done once (compiling, choosing algorithms) falls on the first step and is told apart.
            said["first_step_s"] = time.time() - BORN
            start, done = time.perf_counter(), 0
        for first in range(size, whole, size):
            step(order[first:first + size])
        rates.append((done + whole - size) / (time.perf_counter() - start))
        network.eval()
        with torch.inference_mode():
            right = sum((network(test_images[first:first + 250]).argmax(1) == test_labels[first:first + 250]).sum().item()
                        for first in range(0, len(test_images), 250))
        accuracies.append(right / len(test_images))
        print(f"epoch {epoch + 1}: {rates[-1]:.0f} samples/s, accuracy {accuracies[-1]:.4f}", file=sys.stderr)
    said |= {"train": rates, "accuracy": accuracies}


def infer(options, network, run, images, said):
    network.eval()
    size, rates = options.batch, []
    with torch.inference_mode():
        for _ in range(20):
            run(images[:size])
        for _ in range(options.epochs):
            start, whole = time.perf_counter(), len(images) // size * size
            for first in range(0, whole, size):
                run(images[first:first + size])
            rates.append(whole / (time.perf_counter() - start))
    said["infer"] = rates


if __name__ == "__main__":
    main()
