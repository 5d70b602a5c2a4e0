"""Builds the Keras network of a dlopt description, for the layers that are measured and moved: convolutions, pools, dense
and recurrent layers; and moves weights between Keras's layouts and those of dlopt's checkpoints (PyTorch's).

Pictures are `[n, h, w, c]`. Keras flattens them in the order h, w, c; the checkpoint's dense layer expects c, h, w, so
its columns are permuted on the way.
"""
import keras
import numpy as np
from keras import layers as L


def build(layers, shape, classes):
    """The network of these layers for samples `[h, w, c]` or `[t, f]`; every layer has dlopt's name."""
    network = keras.Sequential([L.Input(shape)])
    counts = {}
    dense_layers = sum(layer["type"] == "dense" for layer in layers)
    for layer in layers:
        kind = layer["type"]
        word = {"conv2d": "conv", "max_pool2d": "pool", "avg_pool2d": "pool", "dense": "fc"}.get(kind, kind)
        counts[word] = counts.get(word, 0) + 1
        name = layer.get("name") or (word if word in ("lstm", "gru", "flatten") or (kind == "dense" and dense_layers == 1)
                                     else f"{word}{counts[word]}")
        network.add(make(layer, name, classes))
    return network


def make(layer, name, classes):
    kind, function = layer["type"], layer.get("activation")
    if kind == "conv2d":
        pad = layer.get("padding", "valid")
        if pad not in ("valid", "same"):
            raise ValueError(f"Keras has no padding {pad}")
        return L.Conv2D(layer["filters"], layer["kernel"], layer.get("stride", 1), pad, activation=function, name=name)
    if kind in ("max_pool2d", "avg_pool2d"):
        of = L.MaxPooling2D if kind == "max_pool2d" else L.AveragePooling2D
        return of(layer.get("size", 2), layer.get("stride"), name=name)
    if kind == "flatten":
        return L.Flatten(name=name)
    if kind == "dense":
        return L.Dense(classes if layer["units"] == "classes" else layer["units"], activation=function, name=name)
    if kind in ("lstm", "gru"):
        return {"lstm": L.LSTM, "gru": L.GRU}[kind](layer["hidden"], name=name)
    raise ValueError(f"no Keras counterpart is written for `{kind}`")


def to_checkpoint(network):
    """The weights as a dlopt checkpoint holds them."""
    out = {}
    for layer, before in zip(network.layers, [None, *network.layers]):
        weights = layer.get_weights()
        if isinstance(layer, L.Conv2D):
            out |= {f"{layer.name}.weight": weights[0].transpose(3, 2, 0, 1), f"{layer.name}.bias": weights[1]}
        elif isinstance(layer, L.Dense):
            kernel = weights[0].T
            if isinstance(before, L.Flatten) and len(before.input.shape) == 4:
                _, h, w, c = before.input.shape
                kernel = kernel.reshape(-1, h, w, c).transpose(0, 3, 1, 2).reshape(len(kernel), -1)
            out |= {f"{layer.name}.weight": kernel, f"{layer.name}.bias": weights[1]}
        elif isinstance(layer, (L.LSTM, L.GRU)):
            order = GATES[type(layer)]
            for name, weight in (("weight_ih", weights[0].T), ("weight_hh", weights[1].T)):
                out[f"{layer.name}.{name}_l0"] = blocks(weight, order)
            # Keras's LSTM has one bias, its GRU a row for the inputs and one for the hidden state.
            bias = weights[2] if weights[2].ndim == 2 else np.stack([weights[2], np.zeros_like(weights[2])])
            out |= {f"{layer.name}.bias_ih_l0": blocks(bias[0], order), f"{layer.name}.bias_hh_l0": blocks(bias[1], order)}
    return {name: np.ascontiguousarray(value, np.float32) for name, value in out.items()}


def from_checkpoint(network, tensors):
    """Puts a dlopt checkpoint's weights into the network."""
    for layer, before in zip(network.layers, [None, *network.layers]):
        of = lambda own: tensors[f"{layer.name}.{own}"]  # noqa: E731
        if isinstance(layer, L.Conv2D):
            layer.set_weights([of("weight").transpose(2, 3, 1, 0), of("bias")])
        elif isinstance(layer, L.Dense):
            kernel = of("weight")
            if isinstance(before, L.Flatten) and len(before.input.shape) == 4:
                _, h, w, c = before.input.shape
                kernel = kernel.reshape(-1, c, h, w).transpose(0, 2, 3, 1).reshape(len(kernel), -1)
            layer.set_weights([kernel.T, of("bias")])
        elif isinstance(layer, (L.LSTM, L.GRU)):
            order = np.argsort(GATES[type(layer)])
            kernel, hidden = (blocks(of(name), order).T for name in ("weight_ih_l0", "weight_hh_l0"))
            bias = np.stack([blocks(of("bias_ih_l0"), order), blocks(of("bias_hh_l0"), order)])
            layer.set_weights([kernel, hidden, bias.sum(0) if isinstance(layer, L.LSTM) else bias])


# Where PyTorch's gates stand among Keras's: i f g o are i f c o; r z n are z r h with the first two exchanged.
GATES = {L.LSTM: [0, 1, 2, 3], L.GRU: [1, 0, 2]}


def blocks(weight, order):
    """The gates of `[gates * hidden, ...]` in another order."""
    return np.concatenate([np.split(weight, len(order))[gate] for gate in order])
