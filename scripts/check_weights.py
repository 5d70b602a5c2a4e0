"""The comparisons of check-weights.sh: SIDE DLOPT WORK DATA SERIES, run once by the Python of each side (torch, keras).

For each network, in both directions:

* dlopt trains a checkpoint for one epoch; the peer loads its weights and computes logits of the test samples, which must
  be those of `dlopt eval --predictions`;
* the peer makes weights (PyTorch trains a few steps, so that running statistics are no longer 0 and 1), saves them under
  the names and in the layouts of a checkpoint, `dlopt train --init WEIGHTS --epochs 0` makes a checkpoint of them, and
  the logits of `dlopt eval` must be the peer's.

For Keras the kernels are transposed, the gates put into PyTorch's order, and the columns of the first dense layer
permuted (keras_network.py). Prints Markdown rows; the exit code is 1 if a difference exceeds the tolerance.
"""
import json
import os
import pathlib
import subprocess
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np  # noqa: E402
from safetensors import safe_open  # noqa: E402
from safetensors.numpy import save_file  # noqa: E402

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "benches" / "training"))

# Largest difference of a logit, as a share of the largest logit: sums of up to a thousand f32 products in another order.
TOLERANCE = 1e-4
SAMPLES = 1000
NETWORKS = {
    "torch": [("cnn", "pictures"), ("lenet5", "pictures"), ("resnet20", "pictures"), ("mobilenet", "pictures"), ("lstm", "pictures"),
              ("lstm", "series"), ("gru", "series")],
    "keras": [("cnn", "pictures"), ("lstm", "pictures"), ("gru", "pictures")],
}


def main():
    side, dlopt, work = sys.argv[1], sys.argv[2], pathlib.Path(sys.argv[3])
    data = {"pictures": pathlib.Path(sys.argv[4]), "series": pathlib.Path(sys.argv[5])}
    peer = Torch() if side == "torch" else Keras()
    failed = False
    for model, kind in NETWORKS[side]:
        prepared = data[kind]
        inputs, labels, lengths, test = read_dataset(prepared)
        stem = work / f"{side}-{model}-{kind}"
        ours, theirs, again = (stem.with_name(f"{stem.name}-{what}.safetensors") for what in ("dlopt", "peer", "back"))

        run(dlopt, "train", "--model", model, "--data", prepared, "--epochs", "1", "-o", ours, "--force", "--quiet")
        config, tensors = read_checkpoint(ours)
        network = peer.build(config)
        peer.load(network, tensors)
        failed |= told(f"{model}, {kind}", f"dlopt → {peer.name}", evaluated(dlopt, ours, prepared),
                       peer.logits(network, inputs[test], None if lengths is None else lengths[test]))

        train = slice(0, 256)
        network = peer.build(config)
        peer.train(network, inputs[train], labels[train], None if lengths is None else lengths[train])
        save_file(peer.weights(network), theirs)
        run(dlopt, "train", "--model", model, "--init", theirs, "--data", prepared, "--epochs", "0", "-o", again, "--force", "--quiet")
        failed |= told(f"{model}, {kind}", f"{peer.name} → dlopt", evaluated(dlopt, again, prepared),
                       peer.logits(network, inputs[test], None if lengths is None else lengths[test]))
    sys.exit(int(failed))


class Torch:
    def __init__(self):
        import torch
        import torch_network
        self.torch, self.network, self.name = torch, torch_network, f"PyTorch {torch.__version__}"
        torch.manual_seed(1)

    def build(self, config):
        sample = config["input"]
        if config["layers"][0]["type"] in ("lstm", "gru", "rnn") and "image" in sample:
            extents = sample["image"]
            sample = {"series": {"time": extents["height"], "features": extents["width"] * extents["channels"]}}
        network = self.network.build(config["layers"], sample, config["outputs"])
        network.is_of_images = "image" in sample
        return network

    def arrange(self, network, inputs):
        if network.is_of_images:
            inputs = inputs.transpose(0, 3, 1, 2)
        elif inputs.ndim == 4:
            inputs = inputs.reshape(*inputs.shape[:2], -1)
        return self.torch.from_numpy(np.ascontiguousarray(inputs))

    def load(self, network, tensors):
        state = {name: self.torch.from_numpy(tensor) for name, tensor in tensors.items()}
        missing, unexpected = network.load_state_dict(state, strict=False)
        missing = [name for name in missing if not name.endswith("num_batches_tracked")]
        if missing or unexpected:
            sys.exit(f"error: PyTorch's network misses {missing} and does not know {unexpected}")

    def weights(self, network):
        return {name: tensor.numpy() for name, tensor in network.state_dict().items()}

    def train(self, network, inputs, labels, lengths):
        optimizer = self.torch.optim.Adam(network.parameters(), 1e-3)
        x, y = self.arrange(network, inputs), self.torch.from_numpy(labels.astype(np.int64))
        for chosen in self.torch.arange(len(x)).split(32):
            optimizer.zero_grad()
            self.torch.nn.functional.cross_entropy(self.run(network, x[chosen], lengths, chosen), y[chosen]).backward()
            optimizer.step()

    def run(self, network, x, lengths, chosen):
        return network(x) if lengths is None else network(x, self.torch.from_numpy(lengths.astype(np.int64))[chosen])

    def logits(self, network, inputs, lengths):
        network.eval()
        x = self.arrange(network, inputs)
        with self.torch.inference_mode():
            return np.concatenate([self.run(network, x[chosen], lengths, chosen).numpy()
                                   for chosen in self.torch.arange(len(x)).split(250)])


class Keras:
    def __init__(self):
        import keras
        import keras_network
        import tensorflow as tf
        self.keras, self.network = keras, keras_network
        self.name = f"Keras {keras.__version__} (TensorFlow {tf.__version__})"
        keras.utils.set_random_seed(1)

    def build(self, config):
        extents = config["input"]["image"]
        shape = (extents["height"], extents["width"], extents["channels"])
        if config["layers"][0]["type"] in ("lstm", "gru"):
            shape = (shape[0], shape[1] * shape[2])
        return self.network.build(config["layers"], shape, config["outputs"])

    def load(self, network, tensors):
        self.network.from_checkpoint(network, tensors)

    def weights(self, network):
        return self.network.to_checkpoint(network)

    def train(self, network, inputs, labels, lengths):
        network.compile("adam", self.keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        network.fit(inputs.reshape(-1, *network.input_shape[1:]), labels, batch_size=32, verbose=0)

    def logits(self, network, inputs, lengths):
        return network.predict(inputs.reshape(-1, *network.input_shape[1:]), batch_size=250, verbose=0)


def read_dataset(path):
    """Inputs as a network gets them `[n, ...]`, labels, lengths or none, and which samples are the first of the test split."""
    with safe_open(path, "np") as file:
        info = json.loads(file.metadata()["dlopt.dataset"])
        raw, labels = file.get_tensor("inputs"), file.get_tensor("labels")
        lengths = file.get_tensor("lengths") if "lengths" in file.keys() else None
    values = raw.astype(np.float32) * np.float32(info.get("scale", 1))
    if info.get("mean"):
        count = len(info["mean"])
        flat = values.reshape(len(values), -1, count)
        values = ((flat - np.float32(info["mean"])) / np.float32(info["deviation"])).reshape(values.shape)
    if lengths is not None:
        values *= (np.arange(values.shape[1]) < lengths[:, None])[..., None]
    first, end = info["splits"]["test"]
    return values, labels, lengths, slice(first, min(end, first + SAMPLES))


def read_checkpoint(path):
    with safe_open(path, "np") as file:
        return json.loads(file.metadata()["config"]), {name: file.get_tensor(name) for name in file.keys()}


def evaluated(dlopt, checkpoint, data):
    out = checkpoint.with_suffix(".predictions")
    run(dlopt, "eval", checkpoint, "--data", data, "--split", "test", "--predictions", out, "--force", "--quiet")
    with safe_open(out, "np") as file:
        return file.get_tensor("outputs")


def told(what, way, ours, theirs):
    ours = ours[:len(theirs)]
    difference, largest = np.abs(ours - theirs).max(), np.abs(theirs).max()
    same = (ours.argmax(1) == theirs.argmax(1)).mean()
    holds = bool(difference <= TOLERANCE * largest)
    print(f"| {what} | {way} | {len(theirs)} | {largest:.2f} | {difference:.1e} | {100 * same:.1f} % | {'yes' if holds else 'NO'} |", flush=True)
    return not holds


def run(*command):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"error: {' '.join(map(str, command))}\n{done.stderr}")


if __name__ == "__main__":
    main()
