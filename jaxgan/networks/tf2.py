"""The networks of "GAN and DCGAN in Tensorflow": a dense pair, and a DCGAN."""

from functools import partial

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from jaxgan.networks.layers import Context, Conv, ConvTranspose, Dense, batch_norm, flat, flat_logits


class TF2GANGen(nn.Module):
    """The dense generator of "GAN and DCGAN in Tensorflow": z [B, 100] -> images [B, 28, 28, 1] in [-1, 1]."""

    @nn.compact
    def __call__(self, z: Array, labels: Array | None, context: Context) -> Array:
        x = nn.leaky_relu(Dense(128)(z), 0.01)
        return jnp.tanh(Dense(28 * 28)(x)).reshape(-1, 28, 28, 1)


class TF2GANDisc(nn.Module):
    """The dense discriminator of "GAN and DCGAN in Tensorflow": images [B, 28, 28, 1] -> logits [B]."""

    @nn.compact
    def __call__(self, images: Array, labels: Array | None, context: Context) -> Array:
        x = nn.leaky_relu(Dense(128)(flat(images)), 0.01)
        return flat_logits(x)


class TF2DCGANGen(nn.Module):
    """The DCGAN generator of "GAN and DCGAN in Tensorflow": z [B, 100] -> images [B, 28, 28, 1] in [-1, 1]."""

    @nn.compact
    def __call__(self, z: Array, labels: Array | None, context: Context) -> Array:
        norm = partial(batch_norm, context)
        x = Dense(7 * 7 * 256, use_bias=False)(z)
        x = nn.leaky_relu(norm()(x), 0.3).reshape(-1, 7, 7, 256)
        x = ConvTranspose(128, 5, 1, use_bias=False)(x)
        x = nn.leaky_relu(norm()(x), 0.3)
        x = ConvTranspose(64, 5, 2, use_bias=False)(x)
        x = nn.leaky_relu(norm()(x), 0.3)
        return jnp.tanh(ConvTranspose(1, 5, 2, use_bias=False)(x))


class TF2DCGANDisc(nn.Module):
    """The DCGAN discriminator of "GAN and DCGAN in Tensorflow": images [B, 28, 28, 1] -> logits [B]."""

    @nn.compact
    def __call__(self, images: Array, labels: Array | None, context: Context) -> Array:
        norm = partial(batch_norm, context)
        x = nn.leaky_relu(Conv(32, 3, 2)(images), 0.01)
        x = nn.leaky_relu(norm()(Conv(64, 3, 2)(x)), 0.01)
        x = nn.leaky_relu(norm()(Conv(128, 3, 2)(x)), 0.01)
        return flat_logits(x)
