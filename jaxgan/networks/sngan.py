"""The residual networks of SNGAN for 32x32 images (Miyato et al. 2018, arXiv:1802.05957, table 4)."""

from functools import partial

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from jaxgan.networks.layers import Context, Conv, Dense, UpsampleConv, batch_norm
from jaxgan.networks.spectral import SpectralNorm


class SNGANGen(nn.Module):
    """The generator: z [B, z_size] -> images [B, 32, 32, 3] in [-1, 1].

    Attributes:
      width: channels of all maps; 256 in the paper.
    """

    width: int = 256

    @nn.compact
    def __call__(self, z: Array, labels: Array | None, context: Context) -> Array:
        norm = partial(batch_norm, context, momentum=0.9)
        x = Dense(4 * 4 * self.width)(z).reshape(-1, 4, 4, self.width)
        for _ in range(3):
            inner = UpsampleConv(self.width, 3)(nn.relu(norm()(x)))
            inner = Conv(self.width, 3)(nn.relu(norm()(inner)))
            # Each pixel for itself: the same before the enlargement as after it, at a quarter of the work.
            x = inner + _enlarged(Conv(self.width, 1)(x))
        return jnp.tanh(Conv(3, 3)(nn.relu(norm()(x))))


class SNGANDisc(nn.Module):
    """The discriminator: images [B, 32, 32, 3] -> logits [B]; spectral normalisation on all weights.

    Attributes:
      width: channels of all maps; 128 in the paper.
    """

    width: int = 128

    @nn.compact
    def __call__(self, images: Array, labels: Array | None, context: Context) -> Array:
        conv = lambda kernel_size: SpectralNorm(Conv(self.width, kernel_size))  # noqa: E731
        x = _pooled(conv(3)(nn.relu(conv(3)(images)))) + conv(1)(_pooled(images))
        x = _pooled(conv(3)(nn.relu(conv(3)(nn.relu(x))))) + conv(1)(_pooled(x))
        for _ in range(2):
            x = conv(3)(nn.relu(conv(3)(nn.relu(x)))) + x
        return SpectralNorm(Dense(1))(jnp.sum(nn.relu(x), axis=(1, 2)))[:, 0]


def _enlarged(x: Array) -> Array:
    """Nearest-neighbour enlargement by 2: [B, H, W, C] -> [B, 2 * H, 2 * W, C]."""
    return jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2)


def _pooled(x: Array) -> Array:
    """The mean of each 2x2 pixels: [B, H, W, C] -> [B, H / 2, W / 2, C]."""
    b, h, w, c = x.shape
    return jnp.mean(x.reshape(b, h // 2, 2, w // 2, 2, c), axis=(2, 4))
