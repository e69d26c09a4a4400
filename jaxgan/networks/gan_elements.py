"""The networks of "The Elements of GANs, Part 1"."""

from functools import partial

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from jaxgan.networks.layers import Context, Conv, Dense, UpsampleConv, batch_norm, flat_logits


class GANElementsGen(nn.Module):
    """The generator of "The Elements of GANs, Part 1": z [B, 64] -> images [B, 32, 32, 1] in [-1, 1]."""

    @nn.compact
    def __call__(self, z: Array, labels: Array | None, context: Context) -> Array:
        norm = partial(batch_norm, context, momentum=0.8)
        x = nn.leaky_relu(Dense(8 * 8 * 256)(z), 0.2).reshape(-1, 8, 8, 256)
        for features in (128, 64):
            x = nn.leaky_relu(norm()(UpsampleConv(features, 3)(x)), 0.2)
        return jnp.tanh(Conv(1, 3)(x))


class GANElementsDisc(nn.Module):
    """The discriminator of "The Elements of GANs, Part 1": images [B, 32, 32, 1] -> logits [B]."""

    @nn.compact
    def __call__(self, images: Array, labels: Array | None, context: Context) -> Array:
        x = images
        for features, stride in ((64, 1), (128, 2), (256, 2)):
            x = nn.leaky_relu(Conv(features, 3, stride)(x), 0.2)
        return flat_logits(x)
