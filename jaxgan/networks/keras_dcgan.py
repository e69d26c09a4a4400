"""The networks of "Fast DCGAN in Keras"."""

from functools import partial

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from jaxgan.networks.layers import Context, Conv, ConvTranspose, append_diff, as_map, batch_norm


class KerasDCGANGen(nn.Module):
    """The generator of "Fast DCGAN in Keras": z [B, 100] -> images [B, 32, 32, 3] in [-1, 1].

    Fully convolutional: z [B, h, w, 100] -> [B, 8 * (h + 3), 8 * (w + 3), 3].
    """

    @nn.compact
    def __call__(self, z: Array, labels: Array | None, context: Context) -> Array:
        """Generates one image for each latent, or for each grid of them."""
        norm = partial(batch_norm, context)
        x = ConvTranspose(192, 4, padding="VALID")(as_map(z))
        x = nn.leaky_relu(norm()(x), 0.2)
        for features in (96, 48, 24):
            x = nn.leaky_relu(norm()(ConvTranspose(features, 4, 2)(x)), 0.2)
        return jnp.tanh(ConvTranspose(3, 4)(x))


class KerasDCGANDisc(nn.Module):
    """The discriminator of "Fast DCGAN in Keras": images [B, 32, 32, 3] -> logits [B]."""

    @nn.compact
    def __call__(self, images: Array, labels: Array | None, context: Context) -> Array:
        """Judges each image, beside the others of its batch."""
        norm = partial(batch_norm, context)
        x = append_diff(nn.leaky_relu(Conv(24, 4, 2)(images), 0.2), context.axis_name)
        for features in (48, 96, 192):
            x = append_diff(nn.leaky_relu(norm()(Conv(features, 4, 2)(x)), 0.2), context.axis_name)
        return Conv(1, 2, padding="VALID")(x).reshape(-1)
