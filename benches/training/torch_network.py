"""Builds the PyTorch network of a dlopt description: the same layers, the same names in its state dict.

A description is a preset's TOML, or the same as JSON in a checkpoint's config: `{"layers": [{"type": "conv2d",
"filters": 32, "kernel": 3}, ...]}`. A sample is `{"image": {"height": 28, "width": 28, "channels": 1}}` (in PyTorch
`[n, c, h, w]`), `{"series": {"time": 28, "features": 28}}` (`[n, t, f]`), `{"vector": {"features": 13}}` or
`{"tokens": {"time": 9}}`. Series may have lengths: recurrent layers then see packed sequences.

Shared by the golden files of layers, the check that weights move, and the measurements against PyTorch.
"""
import pathlib

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

try:
    import tomllib
except ModuleNotFoundError:
    from pip._vendor import tomli as tomllib

PRESETS = pathlib.Path(__file__).resolve().parents[2] / "crates" / "dlopt-model" / "src" / "presets"


def preset(name):
    """The layers that `dlopt train --model NAME` builds."""
    return tomllib.loads((PRESETS / f"{name}.toml").read_text())["layers"]


def build(layers, sample, classes=None):
    """The network of these layers for such samples, initialised as PyTorch does."""
    (kind, extents), = sample.items()
    order = {"image": ("channels", "height", "width"), "series": ("time", "features"), "vector": ("features",), "tokens": ("time",)}
    return sequence(layers, (kind, *(extents[extent] for extent in order[kind])), classes)[0]


class Network(nn.Sequential):
    """A sequence of named layers; `lengths` (a CPU tensor of integers) reaches the recurrent ones."""

    def forward(self, x, lengths=None):
        for layer in self:
            x = layer(x, lengths) if isinstance(layer, Recurrent) else layer(x)
        return x


def sequence(layers, shape, classes):
    """The layers one after the other, and the shape that comes out."""
    network = Network()
    for layer, name in zip(layers, names(layers)):
        layer = {key: classes if value == "classes" else value for key, value in layer.items() if key != "name"}
        function = layer.pop("activation", None) if layer["type"] != "activation" else None
        kind = layer.pop("type")
        if kind == "residual":
            # A checkpoint's config spells names out from the top.
            inside = [{**inner, "name": inner["name"].removeprefix(f"{name}.")} if "name" in inner else inner for inner in layer["body"]]
            body, _ = sequence(inside, shape, classes)
            shortcut = Network()
            if layer.get("shortcut"):
                numbered = [{**inner, "name": str(place)} for place, inner in enumerate(layer["shortcut"])]
                shortcut, _ = sequence(numbered, shape, classes)
            module = Residual(body, shortcut)
        else:
            module = MAKERS[kind](shape, **layer)
        shape = after(module, shape)
        home, path = network, name.split(".")
        for part in path[:-1]:
            if part not in dict(home.named_children()):
                home.add_module(part, Network())
            home = home.get_submodule(part)
        home.add_module(path[-1], module)
        if function:
            home.add_module(f"{path[-1]}_{function}", functional(function, shape, inplace=True))
    return network, shape


def names(layers):
    """PyTorch's habits: conv1, bn1, fc1 are counted, of what stands alone the word is enough."""
    words = [WORDS.get(layer["type"], (layer["type"], False)) if layer["type"] != "activation" else (layer["function"], True)
             for layer in layers]
    counts, out = {}, []
    for layer, (word, is_counted) in zip(layers, words):
        if "name" not in layer and (is_counted or sum(other == word for other, _ in words) > 1):
            counts[word] = counts.get(word, 0) + 1
            word = f"{word}{counts[word]}"
        out.append(layer.get("name", word))
    return out


WORDS = {
    **{kind: ("conv", True) for kind in ("conv2d", "depthwise_conv2d", "conv1d")},
    **{kind: ("pool", True) for kind in ("max_pool2d", "avg_pool2d", "max_pool1d", "avg_pool1d", "global_avg_pool", "global_max_pool")},
    "batch_norm": ("bn", True), "layer_norm": ("norm", True), "dense": ("fc", False), "dropout": ("dropout", True),
    "residual": ("block", True), "pad1d": ("pad", True), "magnitude": ("magnitude", True),
}


def after(module, shape):
    """The shape of one sample that comes out."""
    kind, *extents = shape
    module.eval()
    with torch.no_grad():
        out = module(torch.zeros(2, *extents))
    module.train()
    return ({1: "vector", 2: "series", 3: "image"}[out.dim() - 1], *out.shape[1:])


class Residual(nn.Module):
    """The layers of the body under their own names, those of the shortcut under `downsample`."""

    def __init__(self, body, shortcut):
        super().__init__()
        self.order = [name for name, _ in body.named_children()]
        for name, module in body.named_children():
            self.add_module(name, module)
        self.downsample = shortcut

    def forward(self, x):
        y = x
        for name in self.order:
            y = getattr(self, name)(y)
        return y + self.downsample(x)


class Conv2d(nn.Conv2d):
    """A convolution with other padding on opposite sides."""

    sides = None

    def forward(self, x):
        return super().forward(x if self.sides is None else F.pad(x, self.sides))


class Conv1d(nn.Conv1d):
    """Over `[n, t, f]`, as the other layers of series."""

    def forward(self, x):
        return super().forward(x.transpose(1, 2)).transpose(1, 2)


class OfSeries(nn.Module):
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


class Pad(nn.Module):
    """More steps before and after `[n, t, f]`."""

    def __init__(self, left, right, mode):
        super().__init__()
        self.sides, self.mode = (left, right), {"zeros": "constant", "reflect": "reflect", "edge": "replicate"}[mode]

    def forward(self, x):
        return F.pad(x.transpose(1, 2), self.sides, self.mode).transpose(1, 2)


class Magnitude(nn.Module):
    """Of channels or features: the first half real parts, the second half imaginary ones."""

    def forward(self, x):
        real, imaginary = x.chunk(2, 1 if x.dim() == 4 else -1)
        return torch.complex(real.contiguous(), imaginary.contiguous()).abs()


class GlobalPool(nn.Module):
    def __init__(self, is_max, axes):
        super().__init__()
        self.is_max, self.axes = is_max, axes

    def forward(self, x):
        return x.amax(self.axes) if self.is_max else x.mean(self.axes)


class Flatten(nn.Module):
    """In the order in which `[n, c, h, w]` or `[n, t, f]` is written, or with the other axis last."""

    def __init__(self, swaps):
        super().__init__()
        self.swaps = swaps

    def forward(self, x):
        return (x.permute(0, *self.swaps) if self.swaps else x).flatten(1)


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


def pair(value):
    return (value, value) if isinstance(value, int) else tuple(value)


def sides(padding, sizes, kernel, stride, dilation):
    """Zeros before and after each axis."""
    if padding in ("valid", 0):
        return [(0, 0)] * len(sizes)
    if isinstance(padding, int):
        return [(padding, padding)] * len(sizes)
    if padding == "same":
        out = []
        for size, taps, step, gap in zip(sizes, kernel, stride, dilation):
            zeros = max((-(-size // step) - 1) * step + gap * (taps - 1) + 1 - size, 0)
            out.append((zeros // 2, zeros - zeros // 2))
        return out
    return [tuple(padding[2 * axis:2 * axis + 2]) for axis in range(len(sizes))]


def symmetric(around):
    if any(before != after for before, after in around):
        raise ValueError(f"PyTorch's layer has the same padding on opposite sides; asked for {around}")
    return tuple(before for before, _ in around)


def conv2d(shape, filters, kernel, stride=1, padding="valid", dilation=1, groups=1, bias=True):
    kernel, stride, dilation = pair(kernel), pair(stride), pair(dilation)
    around = sides(padding, shape[2:], kernel, stride, dilation)
    if all(before == after for before, after in around):
        return nn.Conv2d(shape[1], filters, kernel, stride, symmetric(around), dilation, groups, bias)
    module = Conv2d(shape[1], filters, kernel, stride, 0, dilation, groups, bias)
    module.sides = (*around[1], *around[0])
    return module


def depthwise_conv2d(shape, kernel, multiplier=1, stride=1, padding="valid", dilation=1, bias=True):
    return conv2d(shape, shape[1] * multiplier, kernel, stride, padding, dilation, shape[1], bias)


def conv1d(shape, filters, kernel, stride=1, padding="valid", dilation=1, groups=1, bias=True):
    around = symmetric(sides(padding, shape[1:2], [kernel], [stride], [dilation]))
    return Conv1d(shape[2], filters, kernel, stride, around, dilation, groups, bias)


def pool2d(make):
    def of(shape, size=2, stride=None, padding="valid"):
        size, stride = pair(size), pair(size if stride is None else stride)
        return make(size, stride, symmetric(sides(padding, shape[2:], size, stride, (1, 1))))
    return of


def pool1d(make):
    def of(shape, size=2, stride=None, padding="valid"):
        stride = size if stride is None else stride
        return OfSeries(make(size, stride, symmetric(sides(padding, shape[1:2], [size], [stride], [1]))))
    return of


def global_pool(is_max):
    return lambda shape: GlobalPool(is_max, (2, 3) if shape[0] == "image" else 1)


def batch_norm(shape, epsilon=1e-5, momentum=0.1):
    of = {"image": nn.BatchNorm2d, "series": BatchNormOfSeries, "vector": nn.BatchNorm1d}[shape[0]]
    return of(shape[2] if shape[0] == "series" else shape[1], epsilon, momentum)


def layer_norm(shape, epsilon=1e-5):
    return LayerNormOfChannels(shape[1], epsilon) if shape[0] == "image" else nn.LayerNorm(shape[-1], epsilon)


def dense(shape, units, bias=True):
    return nn.Linear(shape[-1], units, bias)


def flatten(shape, order=None):
    # Channels first is how PyTorch writes pictures, channels last how it writes series for recurrent layers.
    swaps = {("image", "channels_last"): (2, 3, 1), ("series", "channels_first"): (2, 1)}.get((shape[0], order))
    return Flatten(swaps)


def activation(shape, function):
    return functional(function, shape)


def functional(function, shape, inplace=False):
    if function == "softmax":
        return nn.Softmax(1 if shape[0] == "image" else -1)
    if function == "leaky_relu":
        return nn.LeakyReLU(0.01, inplace)
    if function in ("relu", "relu6", "elu", "silu", "hard_swish"):
        return {"relu": nn.ReLU, "relu6": nn.ReLU6, "elu": nn.ELU, "silu": nn.SiLU, "hard_swish": nn.Hardswish}[function](inplace=inplace)
    return {"gelu": nn.GELU, "sigmoid": nn.Sigmoid, "tanh": nn.Tanh}[function]()


def pad1d(shape, left=0, right=0, mode="zeros"):
    return Pad(left, right, mode)


def magnitude(shape):
    return Magnitude()


def dropout(shape, rate):
    return nn.Dropout(rate)


def embedding(shape, vocabulary, size):
    return Tokens(vocabulary, size)


def recurrent(cell):
    def make(shape, hidden, layers=1, bidirectional=False, return_sequences=False, dropout=0.0):
        module = cell(shape[2], hidden, layers, batch_first=True, bidirectional=bidirectional, dropout=dropout)
        module.returns_sequence = return_sequences
        return module
    return make


MAKERS = {
    "conv2d": conv2d, "depthwise_conv2d": depthwise_conv2d, "conv1d": conv1d,
    "max_pool2d": pool2d(nn.MaxPool2d), "avg_pool2d": pool2d(lambda *window: nn.AvgPool2d(*window, count_include_pad=False)),
    "max_pool1d": pool1d(nn.MaxPool1d), "avg_pool1d": pool1d(lambda *window: nn.AvgPool1d(*window, count_include_pad=False)),
    "global_max_pool": global_pool(True), "global_avg_pool": global_pool(False),
    "batch_norm": batch_norm, "layer_norm": layer_norm, "dense": dense, "flatten": flatten, "activation": activation,
    "dropout": dropout, "embedding": embedding, "rnn": recurrent(RNN), "lstm": recurrent(LSTM), "gru": recurrent(GRU),
    "pad1d": pad1d, "magnitude": magnitude,
}
