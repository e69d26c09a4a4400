"""Small networks for Stacked MNIST, 28x28 in colour, in which all methods are compared.

Neither has batch normalisation: penalties on the gradient of each image allow none in the discriminator, and with it in
the generator the losses hardly differ in the modes that they lose.
"""

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from jaxgan.networks.layers import Context, Conv, ConvTranspose, Dense, flat_logits


class StackedMNISTGen(nn.Module):
    """The generator: z [B, z_size] -> images [B, 28, 28, 3] in [-1, 1]."""

    @nn.compact
    def __call__(self, z: Array, labels: Array | None, context: Context) -> Array:
        """Generates one image for each latent."""
        x = nn.relu(Dense(7 * 7 * 48)(z)).reshape(-1, 7, 7, 48)
        x = nn.relu(ConvTranspose(24, 4, 2)(x))
        return jnp.tanh(ConvTranspose(3, 4, 2)(x))


class StackedMNISTDisc(nn.Module):
    """The discriminator: images [B, 28, 28, 3] -> logits [B]."""

    @nn.compact
    def __call__(self, images: Array, labels: Array | None, context: Context) -> Array:
        """Judges each image."""
        x = images
        for features in (24, 48, 96):
            x = nn.leaky_relu(Conv(features, 3, 2)(x), 0.2)
        return flat_logits(x)
