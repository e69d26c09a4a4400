"""Small plain networks for 28x28 images, in which methods are compared.

Neither has batch normalisation: penalties on the gradient of each image allow none in the discriminator, and with it in
the generator the losses hardly differ in the modes of Stacked MNIST that they lose.
"""

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from jaxgan.networks.conditional import append_embedding, projection
from jaxgan.networks.layers import Context, Conv, ConvTranspose, Dense, flat
from jaxgan.networks.spectral import SpectralNorm


class PlainGen(nn.Module):
    """The generator: z [B, z_size] -> images [B, 28, 28, channels] in [-1, 1].

    Attributes:
      channels: of the images.
      classes: where not 0, labels are embedded beside z.
    """

    channels: int = 3
    classes: int = 0

    @nn.compact
    def __call__(self, z: Array, labels: Array | None, context: Context) -> Array:
        if self.classes:
            z = append_embedding(z, labels, self.classes)
        x = nn.relu(Dense(7 * 7 * 48)(z)).reshape(-1, 7, 7, 48)
        x = nn.relu(ConvTranspose(24, 4, 2)(x))
        return jnp.tanh(ConvTranspose(self.channels, 4, 2)(x))


class PlainDisc(nn.Module):
    """The discriminator: images [B, 28, 28, C] -> logits [B].

    Attributes:
      classes: where not 0, the logit has the label's projection on the last features added.
      spectral_norm: whether all weights but the embedding's are divided by their largest singular value.
    """

    classes: int = 0
    spectral_norm: bool = False

    @nn.compact
    def __call__(self, images: Array, labels: Array | None, context: Context) -> Array:
        norm = SpectralNorm if self.spectral_norm else lambda layer: layer
        x = images
        for features in (24, 48, 96):
            x = nn.leaky_relu(norm(Conv(features, 3, 2))(x), 0.2)
        logits = norm(Dense(1))(flat(x))[:, 0]
        return logits + projection(flat(x), labels, self.classes) if self.classes else logits
