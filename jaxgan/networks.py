"""Generators and discriminators, as Flax modules.

A generator maps latents `z` [B, z_size] to images [B, H, W, C] in the range that its last
activation gives; a discriminator maps images to logits [B]. Both take `train`: batch normalisation
then uses the batch's own moments and updates the running ones, which it uses otherwise.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxgan.layers import BatchNorm, Conv, ConvTranspose, Dense, depth_to_space


class DigitsGen(nn.Module):
    """The generator for scikit-learn's 8x8 digits: z [B, z_size] -> images [B, 8, 8, 1] in [-1, 1]."""

    @nn.compact
    def __call__(self, z: jax.Array, train: bool) -> jax.Array:
        """Generates one image for each latent."""
        x = Dense(4 * 4 * 64, use_bias=False)(z).reshape(-1, 4, 4, 64)
        x = nn.relu(BatchNorm(not train, momentum=0.9)(x))
        x = Conv(64, 3, use_bias=False)(x)
        x = nn.relu(BatchNorm(not train, momentum=0.9)(x))
        x = depth_to_space(Conv(4 * 32, 3, use_bias=False)(x), 2)
        x = nn.relu(BatchNorm(not train, momentum=0.9)(x))
        return jnp.tanh(Conv(1, 3)(x))


class DigitsDisc(nn.Module):
    """The discriminator for scikit-learn's 8x8 digits: images [B, 8, 8, 1] -> logits [B]."""

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        """Judges each image."""
        x = nn.leaky_relu(Conv(32, 3)(images), 0.2)
        x = nn.leaky_relu(BatchNorm(not train, momentum=0.9)(Conv(64, 3, 2, use_bias=False)(x)), 0.2)
        x = nn.leaky_relu(BatchNorm(not train, momentum=0.9)(Conv(128, 3, 2, use_bias=False)(x)), 0.2)
        return Dense(1)(x.reshape(x.shape[0], -1))[:, 0]


class TF2DCGANGen(nn.Module):
    """The DCGAN generator of "GAN and DCGAN in Tensorflow": z [B, 100] -> images [B, 28, 28, 1] in [-1, 1]."""

    @nn.compact
    def __call__(self, z: jax.Array, train: bool) -> jax.Array:
        """Generates one image for each latent."""
        x = Dense(7 * 7 * 256, use_bias=False)(z)
        x = nn.leaky_relu(BatchNorm(not train)(x), 0.3).reshape(-1, 7, 7, 256)
        x = ConvTranspose(128, 5, 1, use_bias=False)(x)
        x = nn.leaky_relu(BatchNorm(not train)(x), 0.3)
        x = ConvTranspose(64, 5, 2, use_bias=False)(x)
        x = nn.leaky_relu(BatchNorm(not train)(x), 0.3)
        return jnp.tanh(ConvTranspose(1, 5, 2, use_bias=False)(x))


class TF2DCGANDisc(nn.Module):
    """The DCGAN discriminator of "GAN and DCGAN in Tensorflow": images [B, 28, 28, 1] -> logits [B]."""

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        """Judges each image."""
        x = nn.leaky_relu(Conv(32, 3, 2)(images), 0.01)
        x = nn.leaky_relu(BatchNorm(not train)(Conv(64, 3, 2)(x)), 0.01)
        x = nn.leaky_relu(BatchNorm(not train)(Conv(128, 3, 2)(x)), 0.01)
        return Dense(1)(x.reshape(x.shape[0], -1))[:, 0]
