"""R3GAN in PyTorch, written from its description: the networks for `test_r3gan`, with losses for `test_torch_r3gan`.

It shares nothing with the package. Maps are [B, C, H, W] here.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn


def conv(c_in, c_out, k=1, groups=1):
    return nn.Conv2d(c_in, c_out, k, padding=k // 2, groups=groups, bias=False)


class Bias(nn.Module):
    """A bias for each channel, and a leaky ReLU."""

    def __init__(self, channels):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x):
        return F.leaky_relu(x + self.bias[None, :, None, None], 0.2)


class Block(nn.Module):
    def __init__(self, width, expansion, group_width):
        super().__init__()
        inside = expansion * width
        self.branch = nn.Sequential(
            conv(width, inside),
            Bias(inside),
            conv(inside, inside, 3, inside // group_width),
            Bias(inside),
            conv(inside, width),
        )

    def forward(self, x):
        return x + self.branch(x)


def smooth():
    """[1, 2, 1] convolved with [1, 1], of both axes, as the kernel of a convolution that sums to 1."""
    one = F.conv1d(torch.tensor([[[1.0, 2.0, 1.0]]]), torch.ones(1, 1, 2), padding=1)[0, 0]
    return (torch.outer(one, one) / one.sum() ** 2)[None, None]


class Upsample(nn.Module):
    def forward(self, x):
        b, c, h, w = x.shape
        spread = x.new_zeros(b, c, h, 2, w, 2)
        spread[:, :, :, 0, :, 0] = x
        padded = F.pad(spread.reshape(b, c, 2 * h, 2 * w), (2, 1, 2, 1))
        return F.conv2d(padded, 4 * smooth().to(x).repeat(c, 1, 1, 1), groups=c)


class Downsample(nn.Module):
    def forward(self, x):
        c = x.shape[1]
        return F.conv2d(F.pad(x, (1, 1, 1, 1)), smooth().to(x).repeat(c, 1, 1, 1), stride=2, groups=c)


class Generator(nn.Module):
    def __init__(self, widths, group_width, classes=0, channels=3, expansion=2, blocks=2, z_size=64):
        super().__init__()
        self.embedding = nn.Linear(classes, z_size, bias=False) if classes else None
        self.basis = nn.Parameter(torch.zeros(widths[0], 4, 4))
        self.linear = nn.Linear(2 * z_size if classes else z_size, widths[0], bias=False)
        layers = []
        for before, width in zip((widths[0], *widths), widths, strict=False):
            if layers:
                layers += [conv(before, width)] if before != width else []
                layers.append(Upsample())
            layers += [Block(width, expansion, group_width) for _ in range(blocks)]
        self.layers = nn.Sequential(*layers, conv(widths[-1], channels))

    def forward(self, z, labels=None):
        if self.embedding is not None:
            one_hot = F.one_hot(labels, self.embedding.in_features).to(z.dtype)
            z = torch.cat([z, self.embedding(one_hot)], 1)
        return self.layers(self.basis[None] * self.linear(z)[:, :, None, None])


class Discriminator(nn.Module):
    def __init__(self, widths, group_width, classes=0, channels=3, expansion=2, blocks=2):
        super().__init__()
        downwards = widths[::-1]
        layers = [conv(channels, downwards[0])]
        for i, width in enumerate(downwards):
            layers += [Block(width, expansion, group_width) for _ in range(blocks)]
            if i + 1 < len(downwards):
                layers.append(Downsample())
                layers += [conv(width, downwards[i + 1])] if downwards[i + 1] != width else []
        self.layers = nn.Sequential(*layers)
        self.basis = nn.Conv2d(widths[0], widths[0], 4, groups=widths[0], bias=False)
        self.linear = nn.Linear(widths[0], widths[0] if classes else 1, bias=False)
        self.embedding = nn.Linear(classes, widths[0], bias=False) if classes else None

    def forward(self, images, labels=None):
        x = self.linear(self.basis(self.layers(images))[:, :, 0, 0])
        if self.embedding is None:
            return x[:, 0]
        one_hot = F.one_hot(labels, self.embedding.in_features).to(x.dtype)
        return (x * self.embedding(one_hot)).sum(1)


def pairs(net, params, blocks=2):
    """Each parameter of a network, and the array of a Flax tree in its layout."""
    made = {}

    def give(p, array, axes):
        made[p] = np.ascontiguousarray(np.asarray(array).transpose(axes)).reshape(p.shape)

    outside = number = 0  # convolutions outside of blocks, and blocks
    for layer in net.layers:
        if isinstance(layer, nn.Conv2d):
            give(layer.weight, params[f"Conv_{outside}"]["kernel"], (3, 2, 0, 1))
            outside += 1
        elif isinstance(layer, Block):
            stage, first = params[f"Stage_{number // blocks}"], 3 * (number % blocks)
            for i in range(3):
                give(layer.branch[2 * i].weight, stage[f"Conv_{first + i}"]["kernel"], (3, 2, 0, 1))
                if i < 2:
                    give(layer.branch[2 * i + 1].bias, stage[f"Conv_{first + i}"]["bias"], (0,))
            number += 1
    give(net.basis.weight if isinstance(net.basis, nn.Conv2d) else net.basis, params["basis"], (2, 0, 1))
    give(net.linear.weight, params["Dense_0"]["kernel"], (1, 0))
    if net.embedding is not None:
        give(net.embedding.weight, params["Embed_0"]["embedding"], (1, 0))
    assert {*made} == {*net.parameters()}
    return made


def load(net, params, blocks=2):
    """Gives a network the parameters of a Flax tree; returns them, in its layout."""
    given = pairs(net, params, blocks)
    for p, value in given.items():
        p.data = torch.from_numpy(value.copy())
    return given


def disc_loss(disc, real, fake, labels, gamma):
    """Of pairs, with gamma / 2 times the mean squared norm of D's gradient at real and at generated images."""
    points = [images.detach().requires_grad_() for images in (real, fake)]
    on_real, on_fake = (disc(images, labels) for images in points)
    loss = F.softplus(on_fake - on_real).mean()
    for logits, images in zip((on_real, on_fake), points, strict=True):
        (gradient,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
        loss = loss + gamma / 2 * gradient.square().sum((1, 2, 3)).mean()
    return loss


def gen_loss(gen, disc, real, z, labels):
    """Of pairs: generated image i against real image i."""
    return F.softplus(disc(real, labels) - disc(gen(z, labels), labels)).mean()
