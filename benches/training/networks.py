"""The networks that are measured, as dlopt's presets describe them."""

CNN = [
    {"type": "conv2d", "filters": 32, "kernel": 3}, {"type": "activation", "function": "relu"}, {"type": "max_pool2d", "size": 2},
    {"type": "conv2d", "filters": 64, "kernel": 3}, {"type": "activation", "function": "relu"}, {"type": "max_pool2d", "size": 2},
    {"type": "flatten"}, {"type": "dense", "units": 64}, {"type": "activation", "function": "relu"}, {"type": "dense", "units": 10},
]


def layers(name, classes):
    return {"cnn": CNN, "lstm": [{"type": "lstm", "hidden": 128}, {"type": "dense", "units": classes}],
            "gru": [{"type": "gru", "hidden": 128}, {"type": "dense", "units": classes}]}[name]


def sample(name):
    if name in ("lstm", "gru"):
        return {"kind": "series", "time": 28, "features": 28}
    return {"kind": "image", "height": 28, "width": 28, "channels": 1}
