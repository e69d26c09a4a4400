"""R3GAN in PyTorch, written from its description: its networks, losses, and an update as its users write it for speed.

It shares nothing with the package; the tests hold the package's networks to it. Maps are [B, C, H, W] here.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jaxgan.benchmark.timing import Facts, Prepared, peak_of_process


def conv(c_in: int, c_out: int, k: int = 1, groups: int = 1) -> nn.Conv2d:
    """A SAME convolution without a bias."""
    return nn.Conv2d(c_in, c_out, k, padding=k // 2, groups=groups, bias=False)


class Bias(nn.Module):
    """A bias for each channel, and a leaky ReLU."""

    def __init__(self, channels: int):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu(x + self.bias[None, :, None, None], 0.2)


class Block(nn.Module):
    """A residual block."""

    def __init__(self, width: int, expansion: int, group_width: int):
        super().__init__()
        inside = expansion * width
        self.branch = nn.Sequential(
            conv(width, inside),
            Bias(inside),
            conv(inside, inside, 3, inside // group_width),
            Bias(inside),
            conv(inside, width),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.branch(x)


def smooth() -> Tensor:
    """[1, 2, 1] convolved with [1, 1], of both axes, as the kernel of a convolution that sums to 1."""
    one = F.conv1d(torch.tensor([[[1.0, 2.0, 1.0]]]), torch.ones(1, 1, 2), padding=1)[0, 0]
    return (torch.outer(one, one) / one.sum() ** 2)[None, None]


class Upsample(nn.Module):
    """[B, C, H, W] -> [B, C, 2 H, 2 W], smoothly."""

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        spread = x.new_zeros(b, c, h, 2, w, 2)
        spread[:, :, :, 0, :, 0] = x
        padded = F.pad(spread.reshape(b, c, 2 * h, 2 * w), (2, 1, 2, 1))
        return F.conv2d(padded, 4 * smooth().to(x).repeat(c, 1, 1, 1), groups=c)


class Downsample(nn.Module):
    """[B, C, 2 H, 2 W] -> [B, C, H, W], smoothly."""

    def forward(self, x: Tensor) -> Tensor:
        c = x.shape[1]
        return F.conv2d(F.pad(x, (1, 1, 1, 1)), smooth().to(x).repeat(c, 1, 1, 1), stride=2, groups=c)


class Generator(nn.Module):
    """z [B, z_size], labels [B] -> images [B, C, H, W]."""

    def __init__(
        self,
        widths: Sequence[int],
        group_width: int,
        classes: int = 0,
        channels: int = 3,
        expansion: int = 2,
        blocks: int = 2,
        z_size: int = 64,
    ):
        super().__init__()
        self.embedding = nn.Linear(classes, z_size, bias=False) if classes else None
        self.basis = nn.Parameter(torch.zeros(widths[0], 4, 4))
        self.linear = nn.Linear(2 * z_size if classes else z_size, widths[0], bias=False)
        layers: list[nn.Module] = []
        for before, width in zip((widths[0], *widths), widths, strict=False):
            if layers:
                layers += [conv(before, width)] if before != width else []
                layers.append(Upsample())
            layers += [Block(width, expansion, group_width) for _ in range(blocks)]
        self.layers = nn.Sequential(*layers, conv(widths[-1], channels))

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        if self.embedding is not None and labels is not None:
            one_hot = F.one_hot(labels, self.embedding.in_features).to(z.dtype)
            z = torch.cat([z, self.embedding(one_hot)], 1)
        return self.layers(self.basis[None] * self.linear(z)[:, :, None, None])


class Discriminator(nn.Module):
    """Images [B, C, H, W], labels [B] -> logits [B]."""

    def __init__(
        self,
        widths: Sequence[int],
        group_width: int,
        classes: int = 0,
        channels: int = 3,
        expansion: int = 2,
        blocks: int = 2,
    ):
        super().__init__()
        downwards = widths[::-1]
        layers: list[nn.Module] = [conv(channels, downwards[0])]
        for i, width in enumerate(downwards):
            layers += [Block(width, expansion, group_width) for _ in range(blocks)]
            if i + 1 < len(downwards):
                layers.append(Downsample())
                layers += [conv(width, downwards[i + 1])] if downwards[i + 1] != width else []
        self.layers = nn.Sequential(*layers)
        self.basis = nn.Conv2d(widths[0], widths[0], 4, groups=widths[0], bias=False)
        self.linear = nn.Linear(widths[0], widths[0] if classes else 1, bias=False)
        self.embedding = nn.Linear(classes, widths[0], bias=False) if classes else None

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        x = self.linear(self.basis(self.layers(images))[:, :, 0, 0])
        if self.embedding is None or labels is None:
            return x[:, 0]
        one_hot = F.one_hot(labels, self.embedding.in_features).to(x.dtype)
        return (x * self.embedding(one_hot)).sum(1)


def disc_loss(disc: Callable[..., Tensor], real: Tensor, fake: Tensor, labels: Tensor | None, gamma: float) -> Tensor:
    """Of pairs, with gamma / 2 times the mean squared norm of D's gradient at real and at generated images."""
    points = [images.detach().requires_grad_() for images in (real, fake)]
    on_real, on_fake = (disc(images, labels) for images in points)
    loss = F.softplus(on_fake - on_real).mean()
    for logits, images in zip((on_real, on_fake), points, strict=True):
        (gradient,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
        loss = loss + gamma / 2 * gradient.square().sum((1, 2, 3)).mean()
    return loss


def gen_loss(disc: Callable[..., Tensor], real: Tensor, fake: Tensor, labels: Tensor | None) -> Tensor:
    """Of pairs: generated image i against real image i."""
    return F.softplus(disc(real, labels) - disc(fake, labels)).mean()


def time_update(
    widths: Sequence[int], blocks: int, batch_size: int, gamma: float, classes: int, compiled: bool
) -> Prepared:
    """An update of both networks on random images, prepared to be timed on a CPU: D and then G, of relativistic pairs.

    G runs once, and D's update sees its images detached. Optimisers are fused, and maps channels_last. Real images
    stand ready as floats, and the generator is not averaged, to PyTorch's favour.
    """
    begin, base = time.perf_counter(), peak_of_process()
    kinds: tuple[Any, Any] = Generator, Discriminator
    gen, disc = (kind(widths, 16, classes, blocks=blocks).to(memory_format=torch.channels_last) for kind in kinds)
    run_gen, run_disc = (torch.compile(gen), torch.compile(disc)) if compiled else (gen, disc)
    optimizers = {net: torch.optim.Adam(net.parameters(), 1e-3, (0.0, 0.99), fused=True) for net in (gen, disc)}
    size = 4 * 2 ** (len(widths) - 1)
    real = torch.rand(batch_size, 3, size, size).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(classes, (batch_size,)) if classes else None

    def descend(net: nn.Module, loss: Tensor) -> None:
        optimizers[net].zero_grad(set_to_none=True)
        loss.backward()
        optimizers[net].step()

    def dispatch(count: int) -> None:
        for _ in range(count):
            fake = run_gen(torch.randn(batch_size, 64), labels)
            descend(disc, disc_loss(run_disc, real, fake, labels, gamma))
            disc.requires_grad_(False)  # G's loss needs no gradient of D's weights
            descend(gen, gen_loss(run_disc, real, fake, labels))
            disc.requires_grad_(True)

    facts: Facts = {"base_bytes": base, "torch": torch.__version__}
    if compiled:
        dispatch(1)
        facts["compile_seconds"] = time.perf_counter() - begin
    return dispatch, facts, lambda: {"peak_bytes": peak_of_process()}
