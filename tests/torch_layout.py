"""Flax's parameters and images in PyTorch's layout, for the tests that compare with `torch_reference`."""

import numpy as np
import torch
import torch_reference


def nchw(x):
    return torch.from_numpy(np.array(np.moveaxis(x, -1, 1), order="C"))


def convert(kind, name, value):
    """A Flax parameter in PyTorch's layout."""
    if name == "kernel" and kind == "Dense":
        return value.T
    if name == "kernel" and kind == "ConvTranspose":  # lax's transposed convolution has the kernel turned around
        return value[::-1, ::-1].transpose(2, 3, 0, 1)
    return value.transpose(3, 2, 0, 1) if name == "kernel" else value


def layers_of(params, layers):
    """Pairs each Flax layer's parameters with the PyTorch layer of the same kind and number."""
    seen = {}
    for layer in torch_reference.parametric(layers):
        kind = type(layer).__name__
        names = {"Conv": ["Conv", "UpsampleConv"]}.get(kind, [kind])
        name = next(f"{n}_{seen.get(n, 0)}" for n in names[::-1] if f"{n}_{seen.get(n, 0)}" in params)
        seen[name.rpartition("_")[0]] = int(name.rpartition("_")[2]) + 1
        yield layer, kind, params[name]
    assert sum(seen.values()) == len(params), "a layer has no counterpart"


def flat(params, layers):
    """All of a Flax tree's arrays, in the order and layout of PyTorch's parameters."""
    names = {"weight": "kernel", "bias": "bias", "scale": "scale"}
    return [
        convert(kind, names[n], np.asarray(p[names[n]]))
        for layer, kind, p in layers_of(params, layers)
        for n, _ in layer.named_parameters()
    ]


def load(params, layers):
    """Gives PyTorch's layers the parameters of a Flax tree; returns them, as they were given."""
    start = flat(params, layers)
    for target, value in zip(torch_reference.parameters(layers), start, strict=True):
        assert target.shape == value.shape
        target.data = torch.from_numpy(np.array(value, order="C"))
    return start
