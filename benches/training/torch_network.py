"""Builds the PyTorch network of a dlopt description: the same layers, the same names in its state dict.

A description is `{"layers": [{"type": "conv2d", "filters": 32, ...}, ...]}`, as dlopt keeps it in a checkpoint's config
and reads it from TOML; a sample is `{"kind": "image", "height": 28, "width": 28, "channels": 1}` (in PyTorch
`[n, c, h, w]`), `{"kind": "series", "time": 28, "features": 28}` (`[n, t, f]`), `{"kind": "vector", "features": 13}` or
`{"kind": "tokens", "time": 9}`. Series may have lengths: recurrent layers then see packed sequences.

Shared by the golden files of layers, the check that weights move, and the measurements against PyTorch.
"""
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

ACTIVATIONS = {
    "relu": nn.ReLU, "relu6": nn.ReLU6, "leaky_relu": lambda: nn.LeakyReLU(0.01), "elu": nn.ELU, "gelu": nn.GELU,
    "silu": nn.SiLU, "hard_swish": nn.Hardswish, "sigmoid": nn.Sigmoid, "tanh": nn.Tanh,
}


class Conv1d(nn.Conv1d):
    """Over `[n, t, f]`, as the other layers of series."""

    def forward(self, x):
        return super().forward(x.transpose(1, 2)).transpose(1, 2)


class Pool1d(nn.Module):
    """A pool over the time of `[n, t, f]`."""

    def __init__(self, pool):
        super().__init__()
        self.pool = pool

    def forward(self, x):
        return self.pool(x.transpose(1, 2)).transpose(1, 2)


class BatchNormOfSeries(nn.BatchNorm1d):
    def forward(self, x):
        return super().forward(x.transpose(1, 2)).transpose(1, 2)


class LayerNormOfChannels(nn.LayerNorm):
    """Over the channels of every pixel of `[n, c, h, w]`."""

    def forward(self, x):
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class GlobalPool(nn.Module):
    def __init__(self, is_max, axes):
        super().__init__()
        self.is_max, self.axes = is_max, axes

    def forward(self, x):
        return x.amax(self.axes) if self.is_max else x.mean(self.axes)


class FlattenSeries(nn.Module):
    """`[n, t, f]` to `[n, f * t]`: the order of PyTorch's own `[n, f, t]`."""

    def forward(self, x):
        return x.transpose(1, 2).flatten(1)


class Recurrent:
    """Adds to a recurrent layer of PyTorch what comes out: every step, or the state after the last valid one."""

    returns_sequence = False

    def forward(self, x, lengths=None):
        if lengths is None:
            out, state = super().forward(x)
            if self.returns_sequence:
                return out
            if not self.bidirectional:
                return out[:, -1]
        else:
            packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
            out, state = super().forward(packed)
            if self.returns_sequence:
                return pad_packed_sequence(out, batch_first=True, total_length=x.shape[1])[0]
        last = state[0] if isinstance(state, tuple) else state
        return torch.cat([last[-2], last[-1]], 1) if self.bidirectional else last[-1]


class RNN(Recurrent, nn.RNN):
    pass


class LSTM(Recurrent, nn.LSTM):
    pass


class GRU(Recurrent, nn.GRU):
    pass


class Tokens(nn.Embedding):
    def forward(self, x):
        return super().forward(x.long())


class Residual(nn.Module):
    def __init__(self, body, shortcut):
        super().__init__()
        self.body, self.shortcut = body, shortcut

    def forward(self, x):
        return self.body(x) + self.shortcut(x)


class Network(nn.Sequential):
    """A sequence of named layers; `lengths` (a CPU tensor of integers) reaches the recurrent ones."""

    def forward(self, x, lengths=None):
        for layer in self:
            x = layer(x, lengths) if isinstance(layer, Recurrent) else layer(x)
        return x


def pair(value):
    return (value, value) if isinstance(value, int) else tuple(value)


def build(layers, sample):
    """The network of these layers for such samples; its parameters are PyTorch's own initialisation."""
    shape = {"image": lambda s: ("image", s["channels"], s["height"], s["width"]),
             "series": lambda s: ("series", s["time"], s["features"]),
             "vector": lambda s: ("vector", s["features"]),
             "tokens": lambda s: ("tokens", s["time"])}[sample["kind"]](sample)
    return sequence(layers, shape, {})[0]


def sequence(layers, shape, counts):
    network = Network()
    for layer in layers:
        layer = dict(layer)
        kind = layer.pop("type")
        make, stem = LAYERS[kind]
        name = layer.pop("name", None)
        if name is None:
            counts[stem] = counts.get(stem, 0) + 1
            name = f"{stem}{counts[stem]}"
        if kind == "residual":
            body, _ = sequence(layer["body"], shape, {})
            shortcut, _ = sequence(layer.get("shortcut", []), shape, {})
            module = Residual(body, shortcut)
        else:
            module = make(shape, **layer)
        shape = after(module, shape)
        network.add_module(name, module)
    return network, shape


def after(module, shape):
    """The shape of one sample that comes out."""
    module = module.eval()
    with torch.no_grad():
        kind, *extents = shape
        out = module(torch.zeros(2, *extents))
    module.train()
    extents = tuple(out.shape[1:])
    return ({1: "vector", 2: "series", 3: "image"}[len(extents)], *extents)


def conv2d(shape, filters, kernel, stride=1, padding=0, dilation=1, groups=1, bias=True):
    return nn.Conv2d(shape[1], filters, pair(kernel), pair(stride), pair(padding), pair(dilation), groups, bias)


def depthwise_conv2d(shape, kernel, stride=1, padding=0, dilation=1, multiplier=1, bias=True):
    return conv2d(shape, shape[1] * multiplier, kernel, stride, padding, dilation, shape[1], bias)


def conv1d(shape, filters, kernel, stride=1, padding=0, dilation=1, groups=1, bias=True):
    return Conv1d(shape[2], filters, kernel, stride, padding, dilation, groups, bias)


def max_pool2d(shape, size=2, stride=None, padding=0):
    return nn.MaxPool2d(pair(size), pair(size if stride is None else stride), pair(padding))


def avg_pool2d(shape, size=2, stride=None, padding=0):
    # Cells outside the picture are not counted.
    return nn.AvgPool2d(pair(size), pair(size if stride is None else stride), pair(padding), count_include_pad=False)


def max_pool1d(shape, size=2, stride=None, padding=0):
    return Pool1d(nn.MaxPool1d(size, stride, padding))


def avg_pool1d(shape, size=2, stride=None, padding=0):
    return Pool1d(nn.AvgPool1d(size, stride, padding, count_include_pad=False))


def global_pool(is_max):
    return lambda shape: GlobalPool(is_max, (2, 3) if shape[0] == "image" else 1)


def batch_norm(shape, epsilon=1e-5, momentum=0.1):
    of = {"image": nn.BatchNorm2d, "series": BatchNormOfSeries, "vector": nn.BatchNorm1d}[shape[0]]
    return of(shape[2] if shape[0] == "series" else shape[1], epsilon, momentum)


def layer_norm(shape, epsilon=1e-5):
    return (LayerNormOfChannels if shape[0] == "image" else nn.LayerNorm)(shape[1] if shape[0] == "image" else shape[-1], epsilon)


def dense(shape, units, bias=True):
    return nn.Linear(shape[-1], units, bias)


def flatten(shape):
    return FlattenSeries() if shape[0] == "series" else nn.Flatten()


def activation(shape, function):
    if function == "softmax":
        return nn.Softmax(1 if shape[0] == "image" else -1)
    return ACTIVATIONS[function]()


def dropout(shape, rate):
    return nn.Dropout(rate)


def embedding(shape, vocabulary, size):
    return Tokens(vocabulary, size)


def recurrent(cell):
    def make(shape, hidden, layers=1, bidirectional=False, return_sequences=False):
        module = cell(shape[2], hidden, layers, batch_first=True, bidirectional=bidirectional)
        module.returns_sequence = return_sequences
        return module
    return make


LAYERS = {
    "conv2d": (conv2d, "conv"), "depthwise_conv2d": (depthwise_conv2d, "conv"), "conv1d": (conv1d, "conv"),
    "max_pool2d": (max_pool2d, "pool"), "avg_pool2d": (avg_pool2d, "pool"),
    "max_pool1d": (max_pool1d, "pool"), "avg_pool1d": (avg_pool1d, "pool"),
    "global_max_pool": (global_pool(True), "pool"), "global_avg_pool": (global_pool(False), "pool"),
    "batch_norm": (batch_norm, "bn"), "layer_norm": (layer_norm, "ln"), "dense": (dense, "fc"),
    "flatten": (flatten, "flatten"), "activation": (activation, "act"), "dropout": (dropout, "dropout"),
    "embedding": (embedding, "embedding"), "rnn": (recurrent(RNN), "rnn"), "lstm": (recurrent(LSTM), "lstm"),
    "gru": (recurrent(GRU), "gru"), "residual": (None, "block"),
}
