"""Networks that make images of images, and judge patches of them: those of pix2pix and CycleGAN, for small images.

Where pix2pix has batch normalisation, with the moments of the batch at hand in sampling too and batches of one image,
that is what instance normalisation does for batches of any size.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from jaxgan.networks.layers import Context, Conv, ConvTranspose, dropout


def instance_norm(x: Array) -> Array:
    """Maps [B, H, W, C], in which each channel of each example gets mean 0 and variance 1 (arXiv:1607.08022)."""
    return (x - x.mean((1, 2), keepdims=True)) * jax.lax.rsqrt(x.var((1, 2), keepdims=True) + 1e-5)


class UNet(nn.Module):
    """The generator of pix2pix: [B, H, W, any] -> [B, H, W, channels] in [-1, 1], H and W multiples of 16.

    Isola et al. 2017 (arXiv:1611.07004), appendix 6.1.1, with four halvings. Its noise is dropout.

    Attributes:
      channels: of the images.
      width: the features at half of the size; twice, four and eight times as many follow.
    """

    channels: int = 3
    width: int = 32

    @nn.compact
    def __call__(self, x: Array, context: Context) -> Array:
        skips: list[Array] = []
        for i in range(4):
            x = Conv(self.width * 2**i, 4, 2)(x)
            x = nn.leaky_relu(instance_norm(x) if i in (1, 2) else x, 0.2)
            skips.append(x)
        for i in (2, 1, 0):
            x = instance_norm(ConvTranspose(self.width * 2**i, 4, 2)(x))
            x = dropout(x, 0.5, context.keys, i) if i else x
            x = jnp.concatenate([nn.relu(x), skips[i]], axis=3)
        return jnp.tanh(ConvTranspose(self.channels, 4, 2)(x))


class ResNet(nn.Module):
    """The generator of CycleGAN: [B, H, W, any] -> [B, H, W, channels] in [-1, 1], H and W multiples of 4.

    Zhu et al. 2017 (arXiv:1703.10593), appendix 7.2: two halvings, residual blocks, two enlargements. Padding is by
    zeros.

    Attributes:
      channels: of the images.
      width: the features at full size.
      blocks: how many residual blocks; nine for 256 pixels in the paper, six for 128.
    """

    channels: int = 3
    width: int = 16
    blocks: int = 3

    @nn.compact
    def __call__(self, x: Array) -> Array:
        for factor, size, stride in ((1, 7, 1), (2, 3, 2), (4, 3, 2)):
            x = nn.relu(instance_norm(Conv(factor * self.width, size, stride)(x)))
        for _ in range(self.blocks):
            y = nn.relu(instance_norm(Conv(4 * self.width, 3)(x)))
            x = x + instance_norm(Conv(4 * self.width, 3)(y))
        for factor in (2, 1):
            x = nn.relu(instance_norm(ConvTranspose(factor * self.width, 3, 2)(x)))
        return jnp.tanh(Conv(self.channels, 7)(x))


class PatchDisc(nn.Module):
    """The discriminator of both: images [B, H, W, any] -> a logit for each patch, [B, H / 2, W / 2] for strides 2, 1.

    Attributes:
      width: the features of the first layer; the second has twice as many.
      strides: of both; (2, 1) judges patches of 16 pixels, (2, 2) of 22.
    """

    width: int = 64
    strides: tuple[int, int] = (2, 1)

    @nn.compact
    def __call__(self, x: Array) -> Array:
        x = nn.leaky_relu(Conv(self.width, 4, self.strides[0])(x), 0.2)
        x = nn.leaky_relu(instance_norm(Conv(2 * self.width, 4, self.strides[1])(x)), 0.2)
        return Conv(1, 4)(x)[..., 0]
