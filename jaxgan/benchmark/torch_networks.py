"""The reference systems and the digits recipe in PyTorch, written from their descriptions.

`torch_baseline` measures how fast they are, and the tests hold the package's networks to them. They share nothing with
those: convolutions are PyTorch's, with TensorFlow's SAME padding. Maps are [B, C, H, W] here; dense layers see them in
Keras's order, [B, H, W, C], which is how they lie in memory where they are channels_last.
"""

import functools
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Layers = tuple[list[nn.Module], list[nn.Module]]  # of the generator, and of the discriminator


class Apply(nn.Module):
    """A function as a layer."""

    def __init__(self, function: Callable[[Tensor], Tensor]):
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


class Conv(nn.Conv2d):
    """A SAME convolution of square maps, which pads one pixel more behind than before where the padding is odd.

    With a stride, odd padding is symmetric, which is faster, unless the layer is `exact`. `flipped` is a transposed
    convolution of stride 1, written as one with a flipped kernel: it pads more before than behind.
    """

    exact: bool = False

    def __init__(self, c_in: int, c_out: int, size: int, stride: int = 1, bias: bool = True, flipped: bool = False):
        super().__init__(c_in, c_out, size, stride, bias=bias)
        self.flipped = flipped

    def forward(self, input: Tensor) -> Tensor:
        """[B, C, H, H] -> [B, C', H / stride, H / stride], rounded up."""
        x = input
        size, stride = self.kernel_size[0], self.stride[0]
        total = max((-(-x.shape[2] // stride) - 1) * stride + size - x.shape[2], 0)
        less, more = total // 2, total - total // 2
        if less < more and (self.exact or stride == 1):
            x, more = F.pad(x, ((more, less) if self.flipped else (less, more)) * 2), 0
        return F.conv2d(x, self.weight, self.bias, stride, more)


class ConvTranspose(nn.ConvTranspose2d):
    """A SAME transposed convolution, the gradient of a SAME convolution with a stride; `exact` as there."""

    exact: bool = False

    def __init__(self, c_in: int, c_out: int, size: int, stride: int, bias: bool = True):
        cut = size - stride
        super().__init__(c_in, c_out, size, stride, -(-cut // 2), output_padding=cut % 2, bias=bias)

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        """[B, C, H, H] -> [B, C', stride * H, stride * H]."""
        if not self.exact:
            return super().forward(input, output_size)
        size, stride = input.shape[2] * self.stride[0], self.stride[0]
        cut = (self.kernel_size[0] - stride) // 2
        return F.conv_transpose2d(input, self.weight, self.bias, stride, cut)[:, :, :size, :size]


def networks(name: str, z_size: int, exact: bool = False) -> tuple[nn.Sequential, nn.Sequential]:
    """The (generator, discriminator) of a recipe.

    The generator maps latents [B, z_size] to images [B, C, H, W], the discriminator images to logits [B].

    Args:
      name: of the recipe, one of `NETWORKS`.
      z_size: of the latents.
      exact: whether all padding is TensorFlow's; else some of it is on the other side, where that is faster.
    """
    gen, disc = NETWORKS[name](z_size)
    for layer in (*gen, *disc):
        if isinstance(layer, Conv | ConvTranspose):
            layer.exact = exact
    return nn.Sequential(*gen), nn.Sequential(*disc, Apply(lambda x: x.flatten()))


def batch_norm(channels: int, momentum: float = 0.99, kind: type[nn.Module] = nn.BatchNorm2d) -> nn.Module:
    """With Keras's epsilon, and a momentum as Keras has it."""
    return kind(channels, eps=1e-3, momentum=1 - momentum)


def _to_map(size: int, channels: int) -> nn.Module:
    """[B, size * size * channels] -> [B, channels, size, size], as it lies: channels_last."""
    return Apply(lambda x: x.reshape(-1, size, size, channels).permute(0, 3, 1, 2))


def _flat() -> nn.Module:
    """[B, C, H, W] -> [B, H * W * C], as it lies."""
    return Apply(lambda x: x.permute(0, 2, 3, 1).flatten(1))


def _upsample(factor: int = 2) -> nn.Module:
    return nn.Upsample(scale_factor=factor, mode="nearest")


def _append_diff() -> nn.Module:
    return Apply(lambda x: torch.cat([x, (x - x.mean(0)).abs().mean(1, keepdim=True)], 1))


def _append_similarity() -> nn.Module:
    def append(x: Tensor) -> Tensor:
        pairs = (x[:, None] - x).abs().neg().exp()  # [i, j, C, H, W]
        return torch.cat([x, pairs.mean((1, 2)).unsqueeze(1)], 1)

    return Apply(append)


def _digits(z_size: int) -> Layers:
    norm = functools.partial(batch_norm, momentum=0.9)
    gen = [nn.Linear(z_size, 4 * 4 * 64, bias=False), _to_map(4, 64), norm(64), nn.ReLU()]
    gen += [Conv(64, 64, 3, bias=False), norm(64), nn.ReLU()]
    gen += [Conv(64, 4 * 32, 3, bias=False), nn.PixelShuffle(2), norm(32), nn.ReLU()]
    gen += [Conv(32, 1, 3), nn.Tanh()]
    disc = [Conv(1, 32, 3), nn.LeakyReLU(0.2)]
    for c_in, c_out in ((32, 64), (64, 128)):
        disc += [Conv(c_in, c_out, 3, 2, bias=False), norm(c_out), nn.LeakyReLU(0.2)]
    return gen, [*disc, _flat(), nn.Linear(2 * 2 * 128, 1)]


def _keras_dcgan(z_size: int) -> Layers:
    gen = [_to_map(1, z_size), nn.ConvTranspose2d(z_size, 192, 4), batch_norm(192), nn.LeakyReLU(0.2)]
    for c_in, c_out in ((192, 96), (96, 48), (48, 24)):
        gen += [ConvTranspose(c_in, c_out, 4, 2), batch_norm(c_out), nn.LeakyReLU(0.2)]
    gen += [Conv(24, 3, 4, flipped=True), nn.Tanh()]
    disc = [Conv(3, 24, 4, 2), nn.LeakyReLU(0.2), _append_diff()]
    for c_in, c_out in ((24, 48), (48, 96), (96, 192)):
        disc += [Conv(c_in + 1, c_out, 4, 2), batch_norm(c_out), nn.LeakyReLU(0.2), _append_diff()]
    return gen, [*disc, nn.Conv2d(192 + 1, 1, 2)]


def _keras_mnist(z_size: int) -> Layers:
    norm = functools.partial(batch_norm, momentum=0.9)
    units = 7 * 7 * 256
    gen = [nn.Linear(z_size, units), norm(units, kind=nn.BatchNorm1d), nn.ReLU(), _to_map(7, 256), nn.Dropout(0.4)]
    for c_in, c_out in ((256, 128), (128, 64)):
        gen += [_upsample(), Conv(c_in, c_out, 5), norm(c_out), nn.ReLU()]
    gen += [Conv(64, 32, 5), norm(32), nn.ReLU(), Conv(32, 1, 5), nn.Sigmoid()]
    disc = []
    for c_in, c_out, stride in ((1, 64, 2), (64, 128, 2), (128, 256, 2), (256, 512, 1)):
        disc += [Conv(c_in, c_out, 5, stride), nn.LeakyReLU(0.2), nn.Dropout(0.4)]
    return gen, [*disc, _flat(), nn.Linear(4 * 4 * 512, 1)]


def _canton_lsgan(z_size: int) -> Layers:
    gen = [_to_map(1, z_size)]
    for c_in, c_out, factor in ((z_size, 256, 4), (256, 128, 2), (128, 64, 2), (64, 32, 2)):
        gen += [_upsample(factor), Conv(c_in, c_out, 4, bias=False), batch_norm(c_out), nn.ReLU()]
    gen += [Conv(32, 3, 4), nn.Tanh()]
    disc = [Conv(3, 32, 4, 2, bias=False), nn.LeakyReLU(0.2), _append_similarity()]
    for c_in, c_out in ((32, 64), (64, 128), (128, 256)):
        disc += [Conv(c_in + 1, c_out, 4, 2, bias=False), batch_norm(c_out), nn.LeakyReLU(0.2), _append_similarity()]
    return gen, [*disc, nn.Conv2d(256 + 1, 1, 2)]


def _tf2_gan(z_size: int) -> Layers:
    gen = [nn.Linear(z_size, 128), nn.LeakyReLU(0.01), nn.Linear(128, 28 * 28), nn.Tanh(), _to_map(28, 1)]
    return gen, [_flat(), nn.Linear(28 * 28, 128), nn.LeakyReLU(0.01), nn.Linear(128, 1)]


def _tf2_dcgan(z_size: int) -> Layers:
    units = 7 * 7 * 256
    gen = [nn.Linear(z_size, units, bias=False), batch_norm(units, kind=nn.BatchNorm1d), nn.LeakyReLU(0.3)]
    gen += [_to_map(7, 256)]
    gen += [Conv(256, 128, 5, bias=False, flipped=True), batch_norm(128), nn.LeakyReLU(0.3)]
    gen += [ConvTranspose(128, 64, 5, 2, bias=False), batch_norm(64), nn.LeakyReLU(0.3)]
    gen += [ConvTranspose(64, 1, 5, 2, bias=False), nn.Tanh()]
    disc = [Conv(1, 32, 3, 2), nn.LeakyReLU(0.01)]
    for c_in, c_out in ((32, 64), (64, 128)):
        disc += [Conv(c_in, c_out, 3, 2), batch_norm(c_out), nn.LeakyReLU(0.01)]
    return gen, [*disc, _flat(), nn.Linear(4 * 4 * 128, 1)]


def _gan_elements(z_size: int) -> Layers:
    gen = [nn.Linear(z_size, 8 * 8 * 256), nn.LeakyReLU(0.2), _to_map(8, 256)]
    for c_in, c_out in ((256, 128), (128, 64)):
        gen += [_upsample(), Conv(c_in, c_out, 3), batch_norm(c_out, 0.8), nn.LeakyReLU(0.2)]
    gen += [Conv(64, 1, 3), nn.Tanh()]
    disc = []
    for c_in, c_out, stride in ((1, 64, 1), (64, 128, 2), (128, 256, 2)):
        disc += [Conv(c_in, c_out, 3, stride), nn.LeakyReLU(0.2)]
    return gen, [*disc, _flat(), nn.Linear(8 * 8 * 256, 1)]


SYSTEMS = _digits, _keras_dcgan, _keras_mnist, _canton_lsgan, _tf2_gan, _tf2_dcgan, _gan_elements
NETWORKS = {system.__name__[1:]: system for system in SYSTEMS}
