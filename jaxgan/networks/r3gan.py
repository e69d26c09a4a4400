"""The networks of R3GAN (Huang et al. 2024, arXiv:2501.05441): residual blocks, and no normalisation anywhere.

Both have one stage for each size, from 4x4 on, or another `base`: `widths` are the channels of the stages in that
order, which the generator goes through upwards and the discriminator downwards. Images have 2^(stages - 1) times the
pixels of the base a side. As published for CIFAR-10 all four widths are 768, and for 64x64 pixels
(768, 768, 768, 768, 384).

A stage is a few residual blocks: x + conv 1x1(f(conv 3x3 in groups(f(conv 1x1(x))))), f being a bias and then a
leaky ReLU. No other convolution, and no linear map, has a bias.

Kernels start as N(0, gain^2 / fan-in). The gain of a block's first two convolutions is that of their activation,
sqrt(2 / 1.04), times L^(-1 / 4), L being the number of blocks in the network (Fixup, Zhang et al. 2019,
arXiv:1901.09321); elsewhere it is 1. A block's last convolution starts at zero, and so each block as the identity.
"""

import math
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax import Array
from jax.nn import initializers

from jaxgan.networks.layers import Context, Conv, Dense
from jaxgan.networks.resampling import downsample, upsample

SLOPE = 0.2  # of the leaky ReLU


class R3GANGen(nn.Module):
    """The generator: z [B, z_size] -> images [B, H, H, channels], without a last activation.

    A learned map of the base's size for each channel, times a linear map of z; stages with the size doubled between
    them, after a 1x1 convolution where the width changes; a 1x1 convolution to the image.

    Attributes:
      widths: the channels of each stage.
      group_width: the channels of a group of a block's 3x3 convolution.
      classes: where not 0, a linear embedding of the label, as long as z, stands beside it.
      channels: of the images.
      expansion: how many times more channels a block has inside.
      blocks: in each stage.
      base: height and width of the first stage.
    """

    widths: tuple[int, ...] = (768, 768, 768, 768)
    group_width: int = 16
    classes: int = 0
    channels: int = 3
    expansion: int = 2
    blocks: int = 2
    base: tuple[int, int] = (4, 4)

    @nn.compact
    def __call__(self, z: Array, labels: Array | None, context: Context) -> Array:
        if self.classes:
            of_class = nn.Embed(self.classes, z.shape[1], embedding_init=normal())(labels)
            z = jnp.concatenate([z, of_class.astype(z.dtype)], axis=-1)
        basis = self.param("basis", initializers.normal(1.0), (*self.base, self.widths[0]), jnp.float32)
        x = basis.astype(z.dtype)[None] * linear(z, self.widths[0])[:, None, None]
        for stage, width in enumerate(self.widths):
            if stage:
                x = upsample(to_width(x, width))
            x = Stage(self.blocks, self.blocks * len(self.widths), self.expansion, self.group_width)(x)
        return to_channels(x, self.channels)


class R3GANDisc(nn.Module):
    """The discriminator: images [B, H, H, C] -> logits [B].

    A 1x1 convolution; stages with the size halved between them, before a 1x1 convolution where the width changes; a
    weighted sum over the last pixels of each channel, and a linear map to the logit. Attributes are the generator's.
    With classes the linear map is to widths[0] values, of whose product with an embedding of the label the sum is the
    logit (projection, Miyato and Koyama 2018, arXiv:1802.05637).
    """

    widths: tuple[int, ...] = (768, 768, 768, 768)
    group_width: int = 16
    classes: int = 0
    expansion: int = 2
    blocks: int = 2

    @nn.compact
    def __call__(self, images: Array, labels: Array | None, context: Context) -> Array:
        x = to_channels(images, self.widths[-1])
        for stage, width in enumerate(reversed(self.widths)):
            if stage:
                x = to_width(downsample(x), width)
            x = Stage(self.blocks, self.blocks * len(self.widths), self.expansion, self.group_width)(x)
        pixels = math.prod(x.shape[1:3])  # the fan-in
        basis = self.param("basis", initializers.normal(1 / math.sqrt(pixels)), x.shape[1:], jnp.float32)
        x = jnp.sum(x * basis.astype(x.dtype)[None], axis=(1, 2))
        if not self.classes:
            return linear(x, 1)[:, 0]
        features = self.widths[0]
        of_class = nn.Embed(self.classes, features, embedding_init=normal(1 / math.sqrt(features)))(labels)
        return jnp.sum(linear(x, features) * of_class.astype(x.dtype), axis=-1)


class Stage(nn.Module):
    """Residual blocks: [B, H, W, C] -> the same.

    Attributes:
      blocks: how many.
      of: how many there are in the whole network.
      expansion: how many times more channels they have inside.
      group_width: the channels of a group of their 3x3 convolution.
    """

    blocks: int
    of: int
    expansion: int
    group_width: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        width, inside = x.shape[3], self.expansion * x.shape[3]
        if inside % self.group_width:
            raise ValueError(f"{inside} channels inside of a block are not groups of group_width = {self.group_width}")
        start = normal(self.of ** (-1 / 4) * math.sqrt(2 / (1 + SLOPE**2)))
        for _ in range(self.blocks):
            y = nn.leaky_relu(Conv(inside, 1, kernel_init=start)(x), SLOPE)
            y = nn.leaky_relu(Conv(inside, 3, groups=inside // self.group_width, kernel_init=start)(y), SLOPE)
            x = x + Conv(width, 1, use_bias=False, kernel_init=initializers.zeros)(y)
        return x


def normal(gain: float = 1.0) -> initializers.Initializer:
    """N(0, gain^2 / fan-in): the fan-in is what all axes but the last multiply to."""

    def start(key: Array, shape: Sequence[Any], dtype: Any = jnp.float32, out_sharding: Any = None) -> Array:
        return initializers.normal(gain / math.sqrt(math.prod(shape[:-1])))(key, shape, dtype)

    return start


def linear(x: Array, features: int) -> Array:
    """A linear map: [B, values] -> [B, features]."""
    return Dense(features, use_bias=False, kernel_init=normal())(x)


def to_channels(x: Array, channels: int) -> Array:
    """A 1x1 convolution: [B, H, W, C] -> [B, H, W, channels]."""
    return Conv(channels, 1, use_bias=False, kernel_init=normal())(x)


def to_width(x: Array, width: int) -> Array:
    """A 1x1 convolution where the width changes."""
    return x if x.shape[3] == width else to_channels(x, width)
