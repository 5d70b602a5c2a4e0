"""Trains, or runs, one network in Keras on Fashion-MNIST and says how fast: one JSON object on the last line.

    python keras_side.py train|infer DATA NETWORK --batch 32 [--epochs 2] [--mode plain|jit]

Training is `fit` on arrays of 32-bit floats in memory; `--steps` runs several steps in one call of the compiled function,
which spares Python's part of each. Inference is a `tf.function` on slices made beforehand, or
`predict`, whichever is faster.
"""
import argparse
import json
import os
import pathlib
import sys
import time

BORN = float(os.environ.get("DLOPT_BENCH_START") or time.time())
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402
import keras  # noqa: E402
import tomllib  # noqa: E402

import fashion  # noqa: E402
import keras_network  # noqa: E402

PRESETS = pathlib.Path(__file__).resolve().parents[2] / "crates" / "dlopt-model" / "src" / "presets"


def main():
    ask = argparse.ArgumentParser()
    ask.add_argument("what", choices=["train", "infer"])
    ask.add_argument("data")
    ask.add_argument("network")
    ask.add_argument("--batch", type=int, required=True)
    ask.add_argument("--epochs", type=int, default=2)
    ask.add_argument("--mode", choices=["plain", "jit"], default="plain")
    ask.add_argument("--threads", type=int, default=os.cpu_count())
    ask.add_argument("--seed", type=int, default=0)
    ask.add_argument("--steps", type=int, default=1, help="steps an execution of the compiled training function")
    options = ask.parse_args()
    tf.config.threading.set_intra_op_parallelism_threads(options.threads)
    tf.config.threading.set_inter_op_parallelism_threads(options.threads)
    keras.utils.set_random_seed(options.seed)
    images, labels, test_images, test_labels = fashion.load(options.data)
    shape = (28, 28) if options.network in ("lstm", "gru") else (28, 28, 1)
    images, test_images = images.reshape(-1, *shape), test_images.reshape(-1, *shape)
    network = keras_network.build(tomllib.loads((PRESETS / f"{options.network}.toml").read_text())["layers"], shape, 10)
    said = {"side": "Keras" if options.mode == "plain" else "Keras, XLA", "version": f"{keras.__version__} on TensorFlow {tf.__version__}"}
    if options.what == "train":
        train(options, network, images, labels, test_images, test_labels, said)
    else:
        infer(options, network, test_images, said)
    print(json.dumps(said))


def train(options, network, images, labels, test_images, test_labels, said):
    network.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True), jit_compile=options.mode == "jit",
                    steps_per_execution=options.steps)
    size = options.batch
    # Tracing and compiling fall on these steps.
    network.fit(images[:size * options.steps], labels[:size * options.steps], batch_size=size, verbose=0)
    said["first_step_s"] = time.time() - BORN
    rates, accuracies = [], []
    for epoch in range(options.epochs):
        start = time.perf_counter()
        network.fit(images, labels, batch_size=size, verbose=0)
        rates.append(len(images) / (time.perf_counter() - start))
        logits = network.predict(test_images, batch_size=250, verbose=0)
        accuracies.append(float((logits.argmax(1) == test_labels).mean()))
        print(f"epoch {epoch + 1}: {rates[-1]:.0f} samples/s, accuracy {accuracies[-1]:.4f}", file=sys.stderr)
    said |= {"train": rates, "accuracy": accuracies}


def infer(options, network, images, said):
    size = options.batch
    whole = len(images) // size * size
    if options.mode == "jit":
        run = tf.function(lambda x: network(x, training=False), jit_compile=True)
    else:
        run = tf.function(lambda x: network(x, training=False))
    slices = [tf.constant(images[first:first + size]) for first in range(0, whole, size)]
    for _ in range(20):
        run(slices[0])
    by_function, by_predict = [], []
    for _ in range(options.epochs):
        start = time.perf_counter()
        for piece in slices:
            run(piece)
        by_function.append(whole / (time.perf_counter() - start))
    if size >= 32:
        network.predict(images[:size * 3], batch_size=size, verbose=0)
        for _ in range(options.epochs):
            start = time.perf_counter()
            network.predict(images[:whole], batch_size=size, verbose=0)
            by_predict.append(whole / (time.perf_counter() - start))
    said["infer"] = max(by_function, by_predict or [0], key=np.median)


if __name__ == "__main__":
    main()
