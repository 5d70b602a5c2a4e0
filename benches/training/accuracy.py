"""What PyTorch or Keras reaches on real data with the networks of dlopt's presets: the other half of a comparison.

    python accuracy.py torch|keras fashion FASHION [--network cnn] [--epochs 10] [--batch 32] [--seeds 2]
    python accuracy.py torch series SERIES_FOLDER [--network lstm] [--sets JapaneseVowels,...] [--seeds 5]

FASHION is a folder made by fashion.py, SERIES_FOLDER holds `NAME_TRAIN.ts` and `NAME_TEST.ts`. Adam at 0.001 with
epsilon 1e-7, the cross-entropy of the logits, the remainder of an epoch as a smaller batch, the weights of the last
epoch. As `dlopt prepare` does it, pictures are standardised by the mean and deviation of all training pixels and series by
feature. Series are packed, so that the state after the last valid step is what the dense layer sees. `--start dlopt` draws the first weights as dlopt does (Glorot,
orthogonal, a forget gate's bias of 1), `--start torch` leaves PyTorch's own. One line a seed, then mean and spread.
"""
import argparse
import pathlib
import statistics
import sys
import time

import numpy as np

import fashion

# Epochs and batches: what makes each set converge in both.
SETS = {"JapaneseVowels": (40, 16), "ArrowHead": (200, 16), "BasicMotions": (100, 16), "GunPoint": (200, 16),
        "ItalyPowerDemand": (100, 16)}


def main():
    ask = argparse.ArgumentParser()
    ask.add_argument("side", choices=["torch", "keras"])
    ask.add_argument("what", choices=["fashion", "series"])
    ask.add_argument("data", type=pathlib.Path)
    ask.add_argument("--network", default=None)
    ask.add_argument("--sets", default=",".join(SETS))
    ask.add_argument("--epochs", type=int)
    ask.add_argument("--batch", type=int)
    ask.add_argument("--seeds", type=int, default=5)
    ask.add_argument("--start", choices=["dlopt", "torch"], default="dlopt")
    ask.add_argument("--threads", type=int, default=1)
    options = ask.parse_args()
    for name in options.sets.split(",") if options.what == "series" else ["Fashion-MNIST"]:
        network = options.network or ("lstm" if options.what == "series" else "cnn")
        epochs, batch = SETS.get(name, (10, 32))
        epochs, batch = options.epochs or epochs, options.batch or batch
        data = read_series(options.data, name) if options.what == "series" else read_fashion(options.data, network)
        accuracies = []
        for seed in range(options.seeds):
            began = time.time()
            run = by_torch if options.side == "torch" else by_keras
            accuracies.append(100 * run(options, data, network, epochs, batch, seed))
            print(f"{options.side} {name} {network} epochs={epochs} batch={batch} start={options.start} seed={seed}: "
                  f"{accuracies[-1]:.2f} % test ({time.time() - began:.0f} s)", flush=True)
        spread = statistics.stdev(accuracies) if len(accuracies) > 1 else 0.0
        print(f"= {options.side} {name} {network} epochs={epochs} batch={batch} start={options.start}: mean {statistics.mean(accuracies):.2f} %, "
              f"deviation {spread:.2f}, {min(accuracies):.2f} to {max(accuracies):.2f} of {len(accuracies)} seeds", flush=True)


def read_fashion(folder, network):
    images, labels, test_images, test_labels = fashion.load(folder)
    # What `dlopt prepare` does where nothing is said: the mean and deviation of all training pixels.
    mean, deviation = images.mean(dtype=np.float64), images.std(dtype=np.float64)
    images, test_images = (((x - mean) / deviation).astype(np.float32) for x in (images, test_images))
    if network in ("lstm", "gru"):
        return images, labels, None, test_images, test_labels, None, {"series": {"time": 28, "features": 28}}
    return (images[..., None], labels, None, test_images[..., None], test_labels, None,
            {"image": {"height": 28, "width": 28, "channels": 1}})


def read_series(folder, name):
    parts = [read_ts(folder / f"{name}_{split}.ts") for split in ("TRAIN", "TEST")]
    classes = sorted({label for _, labels in parts for label in labels})
    longest = max(len(series) for cases, _ in parts for series in cases)
    steps = np.concatenate(parts[0][0])
    mean, deviation = steps.mean(0), steps.std(0)
    out = []
    for cases, labels in parts:
        padded = np.zeros((len(cases), longest, steps.shape[1]), np.float32)
        for row, series in enumerate(cases):
            padded[row, :len(series)] = (series - mean) / deviation
        lengths = np.array([len(series) for series in cases])
        out += [padded, np.array([classes.index(label) for label in labels]), lengths if len(set(lengths)) > 1 else None]
    return (*out, {"series": {"time": longest, "features": steps.shape[1]}})


def read_ts(path):
    """Series `[t, f]` and their classes."""
    cases, labels, is_data = [], [], False
    for line in path.read_text().splitlines():
        line = line.strip()
        if not is_data:
            is_data = line.lower() == "@data"
        elif line and not line.startswith("#"):
            *channels, label = line.split(":")
            cases.append(np.array([[float(value) for value in channel.split(",")] for channel in channels]).T)
            labels.append(label)
    return cases, labels


def by_torch(options, data, name, epochs, batch, seed):
    import torch
    import torch.nn.functional as F

    from torch_network import build, preset
    torch.set_num_threads(options.threads)
    torch.manual_seed(seed)
    inputs, labels, lengths, test_inputs, test_labels, test_lengths, sample = data
    inputs, labels, test_inputs, test_labels = map(torch.from_numpy, (inputs, labels.astype(np.int64), test_inputs, test_labels.astype(np.int64)))
    lengths, test_lengths = (None if lengths is None else torch.from_numpy(lengths) for lengths in (lengths, test_lengths))
    if "image" in sample:
        inputs, test_inputs = inputs.permute(0, 3, 1, 2), test_inputs.permute(0, 3, 1, 2)
    network = build(preset(name), sample, int(labels.max()) + 1)
    if options.start == "dlopt":
        start_as_dlopt(torch, network)
    optimizer = torch.optim.Adam(network.parameters(), 1e-3, eps=1e-7, fused=True)
    for epoch in range(epochs):
        network.train()
        for chosen in torch.randperm(len(inputs)).split(batch):
            optimizer.zero_grad()
            logits = network(inputs[chosen], *(() if lengths is None else (lengths[chosen],)))
            F.cross_entropy(logits, labels[chosen]).backward()
            optimizer.step()
    network.eval()
    right = 0
    with torch.inference_mode():
        for chosen in torch.arange(len(test_inputs)).split(250):
            logits = network(test_inputs[chosen], *(() if test_lengths is None else (test_lengths[chosen],)))
            right += (logits.argmax(1) == test_labels[chosen]).sum().item()
    return right / len(test_inputs)


def start_as_dlopt(torch, network):
    init = torch.nn.init
    for name, parameter in network.named_parameters():
        if "bias" in name:
            init.zeros_(parameter)
            if isinstance(network.get_submodule(name.rsplit(".", 1)[0]), torch.nn.LSTM) and "bias_ih" in name:
                hidden = len(parameter) // 4
                parameter.data[hidden:2 * hidden] = 1
        elif "weight_hh" in name:
            size = parameter.shape[1]
            for block in parameter.data.split(size):
                init.orthogonal_(block)
        elif parameter.dim() > 1:
            init.xavier_uniform_(parameter)


def by_keras(options, data, name, epochs, batch, seed):
    import keras
    import tensorflow as tf
    import tomllib

    import keras_network
    if seed == 0:
        tf.config.threading.set_intra_op_parallelism_threads(options.threads)
        tf.config.threading.set_inter_op_parallelism_threads(options.threads)
    keras.utils.set_random_seed(seed)
    inputs, labels, lengths, test_inputs, test_labels, _, sample = data
    if lengths is not None:
        sys.exit("error: series of different lengths are only written for PyTorch here")
    presets = pathlib.Path(__file__).resolve().parents[2] / "crates" / "dlopt-model" / "src" / "presets"
    network = keras_network.build(tomllib.loads((presets / f"{name}.toml").read_text())["layers"], inputs.shape[1:], int(labels.max()) + 1)
    network.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    network.fit(inputs, labels, batch_size=batch, epochs=epochs, verbose=0)
    return float((network.predict(test_inputs, batch_size=250, verbose=0).argmax(1) == test_labels).mean())


if __name__ == "__main__":
    main()
