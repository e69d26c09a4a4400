"""Parameters between the package's R3GAN and that of PyTorch; and StyleGAN2-ADA's augmentation in PyTorch.

It shares nothing with the package. Maps are [B, C, H, W] here.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from jaxgan.benchmark.torch_r3gan import Block


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


SYM6 = [
    0.015404109327027373, 0.0034907120842174702, -0.11799011114819057, -0.048311742585633, 0.4910559419267466,
    0.787641141030194, 0.3379294217276218, -0.07263752278646252, -0.021060292512300564, 0.04472490177066578,
    0.0017677118642428036, -0.007800708325034148,
]  # fmt: skip


def augmented(images, draws):
    """StyleGAN2-ADA's augmentation of square RGB images, given for each image what was drawn, by name."""
    return torch.stack([_augmented(image, draw) for image, draw in zip(images, draws, strict=True)])


def _augmented(image, d):
    size = image.shape[-1]
    m = lambda *rows: torch.tensor(rows, dtype=torch.float64)  # noqa: E731
    scaling = lambda x, y: m([x, 0, 0], [0, y, 0], [0, 0, 1])  # noqa: E731
    moving = lambda x, y: m([1, 0, x], [0, 1, y], [0, 0, 1])  # noqa: E731

    def turning(by):
        c, s = np.cos(by), np.sin(by)
        return m([c, s, 0], [-s, c, 0], [0, 0, 1])

    across, down = np.round(size * d["shift"]).astype(int)
    if any(np.any(d[name] != 0) for name in ("scale", "turn_before", "stretch", "turn_after", "move")):
        forward = turning(np.pi / 2 * d["turns"]) @ scaling(1 - 2 * d["flip"], 1)
        forward = scaling(2 ** d["scale"], 2 ** d["scale"]) @ moving(across, down) @ forward
        forward = scaling(2 ** d["stretch"], 2 ** -d["stretch"]) @ turning(d["turn_before"]) @ forward
        forward = moving(*(size * d["move"])) @ turning(d["turn_after"]) @ forward
        image = _moved(image, torch.linalg.inv(forward))
    else:  # by whole pixels
        image = torch.rot90(image.flip(2) if d["flip"] else image, int(d["turns"]), (1, 2))
        extended = F.pad(image[None], (size - 1,) * 4, mode="reflect")[0]
        image = extended.roll((down, across), (1, 2))[:, size - 1 : 2 * size - 1, size - 1 : 2 * size - 1]

    v = torch.ones(3, dtype=torch.float64) / 3**0.5
    onto, unit = torch.outer(v, v), torch.eye(3, dtype=torch.float64)
    cross = torch.linalg.cross(unit, v.expand(3, 3))
    hue = torch.linalg.matrix_exp(-d["hue"] * cross.T)
    colors = (
        (onto + 2 ** d["saturation"] * (unit - onto)) @ hue @ (unit - 2 * d["luma_flip"] * onto) * 2 ** d["contrast"]
    )
    image = torch.einsum("kc,chw->khw", colors, image + d["brightness"])
    places = (torch.arange(size) + 0.5) / size
    x, y = ((places - centre).abs() < 0.25 for centre in d["centre"])
    return image * (1 - d["hole"] * (y[:, None] & x[None]).double())


def _moved(image, inverse):
    """Enlarged twice, sampled and reduced again."""
    size, filter = image.shape[-1], torch.tensor(SYM6, dtype=torch.float64)
    filter = torch.outer(filter, filter) / filter.sum() ** 2
    pad = 3 * size
    reflected = torch.from_numpy(np.pad(np.arange(size), pad, mode="reflect"))
    image = image[:, reflected][:, :, reflected]
    spread = torch.zeros(*image.shape[:2], 2, image.shape[2], 2, dtype=image.dtype)
    spread[:, :, 0, :, 0] = image
    large = image.shape[-1] * 2
    enlarged = F.conv2d(F.pad(spread.reshape(-1, 1, large, large), (6, 5, 6, 5)), 4 * filter.flip(0, 1)[None, None])
    grid = (torch.arange(2 * size + 12, dtype=torch.float64) - 6) / 2 - (size - 1) / 2
    y, x = torch.meshgrid(grid, grid, indexing="ij")
    x, y, _ = torch.einsum("ij,jhw->ihw", inverse, torch.stack([x, y, torch.ones_like(x)]))
    places = (torch.stack([x, y], -1) + (size - 1) / 2 + pad) * 2 / (large - 1) * 2 - 1
    assert places.abs().max() < 1, "a place beyond what is extended here"
    sampled = F.grid_sample(enlarged.transpose(0, 1), places[None], align_corners=True).transpose(0, 1)
    return F.conv2d(sampled[:, :, 1:-1, 1:-1], filter[None, None], stride=2)[:, 0]
