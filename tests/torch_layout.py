"""Flax's parameters and images in PyTorch's layout, and an update in PyTorch, for the tests that compare with it."""

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


def update(alternating, nets, optimizers, gen_loss, disc_losses, clip=None):
    """One update of G and as many of D as it has losses, in place.

    Args:
      alternating: D first, and then G against the new D; otherwise both losses are taken before either moves.
      nets: G and D.
      optimizers: of each, what is to do a step: an optimiser, and a schedule of its rate.
      gen_loss: a function of nothing that applies the networks and gives G's loss.
      disc_losses: likewise, for each update of D.
      clip: the largest value of a gradient that the optimisers see.

    Returns:
      G's loss with its gradients, those in the order of the network's parameters; and the last of D.
    """

    def differentiated(net, loss):
        value = loss()
        return value.item(), torch.autograd.grad(value, [*net.parameters()], materialize_grads=True)

    def descend(i, gradients):
        for p, gradient in zip(nets[i].parameters(), gradients, strict=True):
            p.grad = gradient.clamp(-clip, clip) if clip else gradient.clone()
        for each in optimizers[i]:
            each.step()

    for loss in disc_losses:
        of_disc = differentiated(nets[1], loss)
        if alternating:
            descend(1, of_disc[1])
    of_gen = differentiated(nets[0], gen_loss)
    descend(0, of_gen[1])
    if not alternating:
        descend(1, of_disc[1])
    return of_gen, of_disc
