"""Flax's parameters and images in PyTorch's layout, for the tests that compare with it."""

import numpy as np
import torch
from torch import nn

NORMS = nn.BatchNorm1d, nn.BatchNorm2d
# What Flax calls them. The last that there is of a number: a convolution may be part of another layer.
KINDS = {
    nn.Linear: ("Dense",),
    nn.Conv2d: ("Conv", "ConvTranspose", "UpsampleConv"),
    nn.ConvTranspose2d: ("ConvTranspose",),
    NORMS: ("BatchNorm",),
}


def nchw(x):
    return torch.from_numpy(np.array(np.moveaxis(x, -1, 1), order="C"))


def pairs(layer, params):
    """Each parameter of a PyTorch layer, and the one of the same Flax layer in its layout."""
    for name, p in layer.named_parameters():
        value = np.asarray(params[name if name == "bias" else "scale" if isinstance(layer, NORMS) else "kernel"])
        if isinstance(layer, nn.ConvTranspose2d) and name == "weight":  # lax's has the kernel turned around
            value = value[::-1, ::-1].transpose(2, 3, 0, 1)
        elif name == "weight":
            value = value.transpose(3, 2, 0, 1) if value.ndim == 4 else value.T
        assert p.shape == value.shape
        yield p, value


def all_pairs(params, net):
    """Those of all layers, each with the Flax layer of the same kind and number."""
    seen = {}
    for layer in (layer for layer in net if list(layer.parameters())):
        kinds = next(names for kind, names in KINDS.items() if isinstance(layer, kind))
        kind = next(name for name in kinds[::-1] if f"{name}_{seen.get(name, 0)}" in params)
        yield from pairs(layer, params[f"{kind}_{seen.get(kind, 0)}"])
        seen[kind] = seen.get(kind, 0) + 1
    assert sum(seen.values()) == len(params), "a layer has no counterpart"


def flat(params, net):
    """All of a Flax tree's arrays, in the order and layout of PyTorch's parameters."""
    return [value for _, value in all_pairs(params, net)]


def load(params, net):
    """Gives PyTorch's layers the parameters of a Flax tree; returns them, as they were given."""
    for p, value in all_pairs(params, net):
        p.data = torch.from_numpy(np.array(value, order="C"))
    return flat(params, net)
