"""StyleGAN2 in PyTorch, written from its papers: the oracle of the tests, and a peer to be as fast as.

It shares nothing with the package. A kernel is made for each image, modulated and demodulated, and all images are one
convolution in groups, as the authors do it. Maps are [B, C, H, W] here.
"""

import itertools
import math
import time
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jaxgan.benchmark.timing import Facts, Prepared, peak_of_process


class Dense(nn.Module):
    """Equalised: the kernel is N(0, 1 / rate^2), and used times rate / sqrt(fan-in)."""

    def __init__(self, inputs: int, outputs: int, bias: float = 0.0, rate: float = 1.0):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / rate)
        self.bias = nn.Parameter(torch.full((outputs,), bias))
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight * (self.rate / math.sqrt(x.shape[1])), self.bias * self.rate)


class Conv(nn.Module):
    """Equalised, SAME or down; with a bias or without."""

    def __init__(self, inputs: int, outputs: int, k: int, bias: bool = True, down: bool = False):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, k, k))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None
        self.down = down

    def forward(self, x: Tensor) -> Tensor:
        k = self.weight.shape[2]
        weight = self.weight / math.sqrt(self.weight[0].numel())
        if self.down and k == 1:
            return F.conv2d(filtered(x, 1)[:, :, ::2, ::2], weight, self.bias)
        if self.down:
            return F.conv2d(filtered(x, 2), weight, self.bias, stride=2)
        return F.conv2d(x, weight, self.bias, padding=k // 2)


def filtered(x: Tensor, pad: int) -> Tensor:
    """Each channel by [1, 3, 3, 1] / 8 along both axes, after zeros on all sides."""
    line = x.new_tensor([1.0, 3.0, 3.0, 1.0])
    kernel = torch.outer(line, line)
    kernel = (kernel / kernel.sum()).repeat(x.shape[1], 1, 1, 1)
    return F.conv2d(F.pad(x, (pad,) * 4), kernel, groups=x.shape[1])


def enlarged(x: Tensor) -> Tensor:
    """Twice the size: zeros between the pixels, then the filter times 4."""
    b, c, h, w = x.shape
    spread = x.new_zeros(b, c, 2 * h, 2 * w)
    spread[:, :, ::2, ::2] = x
    return 4 * filtered(F.pad(spread, (1, 0, 1, 0)), 1)


def active(x: Tensor) -> Tensor:
    """Leaky ReLU times sqrt(2)."""
    return F.leaky_relu(x, 0.2) * math.sqrt(2)


def unit(x: Tensor) -> Tensor:
    """Of mean square 1."""
    return x / (x.square().mean(1, keepdim=True) + 1e-8).sqrt()


class Mapping(nn.Module):
    """z [B, z_size], or labels, or both -> w [B, w_size]."""

    def __init__(self, z_size: int, w_size: int, layers: int, classes: int = 0):
        super().__init__()
        self.classes = classes
        self.embed = Dense(classes, w_size) if classes else None
        inputs = z_size + (w_size if classes else 0)
        sizes = [inputs, *[w_size] * layers]
        self.layers = nn.ModuleList(Dense(a, b, rate=0.01) for a, b in itertools.pairwise(sizes))

    def forward(self, z: Tensor | None, labels: Tensor | None) -> Tensor:
        parts = [] if z is None else [unit(z)]
        if self.embed is not None and labels is not None:
            parts.append(unit(self.embed(F.one_hot(labels, self.classes).to(self.embed.weight))))
        x = torch.cat(parts, 1)
        for layer in self.layers:
            x = active(layer(x))
        return x


class Modulated(nn.Module):
    """A convolution with a kernel for each image."""

    def __init__(self, inputs: int, outputs: int, k: int, w_size: int, up: bool = False, demodulate: bool = True):
        super().__init__()
        self.style = Dense(w_size, inputs, bias=1.0)
        self.weight = nn.Parameter(torch.randn(outputs, inputs, k, k))
        self.up, self.demodulate = up, demodulate

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        b, c, h, width = x.shape
        f, _, k, _ = self.weight.shape
        kernel = self.weight / math.sqrt(self.weight[0].numel())
        kernel = kernel[None] * self.style(w)[:, None, :, None, None]
        if self.demodulate:
            kernel = kernel / (kernel.square().sum((2, 3, 4), keepdim=True) + 1e-8).sqrt()
        x = x.reshape(1, b * c, h, width)
        if self.up:
            kernel = kernel.transpose(1, 2).reshape(b * c, f, k, k)
            y = F.conv_transpose2d(x, kernel, stride=2, groups=b)
            return 4 * filtered(y.reshape(b, f, 2 * h + 1, 2 * width + 1), 1)
        y = F.conv2d(x, kernel.reshape(b * f, c, k, k), padding=k // 2, groups=b)
        return y.reshape(b, f, h, width)


class Generator(nn.Module):
    """`mapping`, and `synthesis`: w [B, 2 * stages, w_size] -> images."""

    def __init__(self, widths: Sequence[int], z_size: int, w_size: int, layers: int, classes: int = 0):
        super().__init__()
        self.mapping = Mapping(z_size, w_size, layers, classes)
        self.constant = nn.Parameter(torch.randn(widths[0], 4, 4))
        self.convs, self.to_rgb = nn.ModuleList(), nn.ModuleList()
        self.biases, self.rgb_biases, self.strengths = nn.ParameterList(), nn.ParameterList(), nn.ParameterList()
        for stage, width in enumerate(widths):
            before = widths[max(0, stage - 1)]
            for up in (True, False) if stage else (False,):
                self.convs.append(Modulated(before if up else width, width, 3, w_size, up))
                self.biases.append(nn.Parameter(torch.zeros(width)))
                self.strengths.append(nn.Parameter(torch.zeros(())))
            self.to_rgb.append(Modulated(width, 3, 1, w_size, demodulate=False))
            self.rgb_biases.append(nn.Parameter(torch.zeros(3)))

    def synthesis(self, w: Tensor, noise: Sequence[Tensor]) -> Tensor:
        """`noise`: for each convolution [B, 1, H, W]."""
        x = self.constant[None].expand(len(w), -1, -1, -1)
        image, layer = torch.zeros(()), 0
        for stage in range(len(self.to_rgb)):
            for _ in range(2 if stage else 1):
                x = self.convs[layer](x, w[:, layer]) + self.strengths[layer] * noise[layer]
                x = active(x + self.biases[layer][None, :, None, None])
                layer += 1
            rgb = self.to_rgb[stage](x, w[:, layer]) + self.rgb_biases[stage][None, :, None, None]
            image = enlarged(image) + rgb if stage else rgb
        return image


class Discriminator(nn.Module):
    """Images [B, 3, H, W] -> logits [B]; groups are of consecutive images."""

    def __init__(self, widths: Sequence[int], w_size: int, layers: int, classes: int = 0, group: int = 4):
        super().__init__()
        down = widths[::-1]
        self.from_rgb = Conv(3, down[0], 1)
        sizes = [*itertools.pairwise(down)]
        self.skips = nn.ModuleList(Conv(a, b, 1, bias=False, down=True) for a, b in sizes)
        self.firsts = nn.ModuleList(Conv(a, a, 3) for a, _ in sizes)
        self.seconds = nn.ModuleList(Conv(a, b, 3, down=True) for a, b in sizes)
        self.conv = Conv(down[-1] + 1, down[-1], 3)
        self.dense = Dense(16 * down[-1], down[-1])
        self.logit = Dense(down[-1], w_size if classes else 1)
        self.mapping = Mapping(0, w_size, layers, classes) if classes else None
        self.group = group

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        x = active(self.from_rgb(images))
        for skip, first, second in zip(self.skips, self.firsts, self.seconds, strict=True):
            x = (skip(x) + active(second(active(first(x))))) / math.sqrt(2)
        groups = x.reshape(-1, self.group, *x.shape[1:])
        deviation = (groups.var(1, unbiased=False) + 1e-8).sqrt().mean((1, 2, 3))
        channel = deviation.repeat_interleave(self.group)[:, None, None, None].expand(-1, 1, *x.shape[2:])
        x = active(self.conv(torch.cat([x, channel], 1)))
        x = self.logit(active(self.dense(x.flatten(1))))
        if self.mapping is None:
            return x[:, 0]
        return (x * self.mapping(None, labels)).sum(1) / math.sqrt(x.shape[1])


def r1(logits: Tensor, images: Tensor, gamma: float) -> Tensor:
    """Gamma / 2 times the mean squared norm of the logits' gradient."""
    (gradient,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
    return gamma / 2 * gradient.square().sum((1, 2, 3)).mean()


def path_lengths(images: Tensor, w: Tensor, directions: Tensor) -> Tensor:
    """|J^T y| of each image, [B], y being `directions`, N(0, 1), divided by the root of the number of pixels."""
    y = directions / math.sqrt(images.shape[2] * images.shape[3])
    (gradient,) = torch.autograd.grad((images * y).sum(), w, create_graph=True)
    return gradient.square().sum(2).mean(1).sqrt()


def time_update(
    widths: Sequence[int], w_size: int, layers: int, batch_size: int, gamma: float, compiled: bool
) -> Prepared:
    """16 updates on random images, prepared to be timed on a CPU: one with R1, four with the lengths of paths.

    G runs once for both networks, and D's update sees its images detached; both regularisers are in the same backward
    pass as the loss. Without augmentation and averages. Optimisers are fused, and real images stand ready as floats.
    """
    begin, base = time.perf_counter(), peak_of_process()
    gen, disc = Generator(widths, w_size, w_size, layers), Discriminator(widths, w_size, layers)
    synthesis, run_disc = (torch.compile(gen.synthesis), torch.compile(disc)) if compiled else (gen.synthesis, disc)
    optimizers: dict[nn.Module, torch.optim.Optimizer] = {
        net: torch.optim.Adam(net.parameters(), 2.5e-3, (0.0, 0.99), fused=True) for net in (gen, disc)
    }
    sizes = [4, *(4 << stage for stage in range(1, len(widths)) for _ in range(2))]
    real = torch.rand(batch_size, 3, sizes[-1], sizes[-1])
    count, mean_length = 2 * len(widths), torch.zeros(())

    def descend(net: nn.Module, loss: Tensor) -> None:
        optimizers[net].zero_grad(set_to_none=True)
        loss.backward()
        optimizers[net].step()

    def styles(images: int) -> Tensor:
        one, other = (gen.mapping(torch.randn(images, w_size), None)[:, None].expand(-1, count, -1) for _ in range(2))
        first = torch.where(torch.rand(images, 1) < 0.9, torch.randint(1, count, (images, 1)), count)
        return torch.where((torch.arange(count)[None] < first)[..., None], one, other)

    def noise(images: int) -> list[Tensor]:
        return [torch.randn(images, 1, size, size) for size in sizes]

    def update(step: int) -> None:
        nonlocal mean_length
        fake = synthesis(styles(batch_size), noise(batch_size))
        there = real.detach().requires_grad_(step % 16 == 0)
        on_real = run_disc(there)
        loss = F.softplus(-on_real).mean() + F.softplus(run_disc(fake.detach())).mean()
        descend(disc, loss if step % 16 else loss + 16 * r1(on_real, there, gamma))
        disc.requires_grad_(False)  # G's loss needs no gradient of D's weights
        loss = F.softplus(-run_disc(fake)).mean()
        if step % 4 == 0:
            half = batch_size // 2
            w = styles(half)
            images = synthesis(w, noise(half))
            lengths = path_lengths(images, w, torch.randn_like(images))
            loss = loss + 8 * (lengths - mean_length).square().mean()
            mean_length = mean_length.lerp(lengths.mean().detach(), 0.01)
        descend(gen, loss)
        disc.requires_grad_(True)

    def dispatch(count: int) -> None:
        for step in range(16 * count):
            update(step)

    facts: Facts = {"base_bytes": base, "torch": torch.__version__}
    if compiled:
        dispatch(1)
        facts["compile_seconds"] = time.perf_counter() - begin
    return dispatch, facts, lambda: {"peak_bytes": peak_of_process()}
