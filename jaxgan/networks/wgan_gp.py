"""The networks of WGAN-GP for MNIST (Gulrajani et al. 2017, arXiv:1704.00028, in the form of the authors' script)."""

import flax.linen as nn
from jax import Array

from jaxgan.networks.layers import Context, Conv, ConvTranspose, Dense, flat_logits


class WGANGPGen(nn.Module):
    """The generator: z [B, 128] -> images [B, 28, 28, 1] in [0, 1]; without batch normalisation.

    Attributes:
      width: channels of the last map but one; 64 in the script.
    """

    width: int = 64

    @nn.compact
    def __call__(self, z: Array, labels: Array | None, context: Context) -> Array:
        x = nn.relu(Dense(4 * 4 * 4 * self.width)(z)).reshape(-1, 4, 4, 4 * self.width)
        x = nn.relu(ConvTranspose(2 * self.width, 5, 2)(x))[:, :7, :7]
        x = nn.relu(ConvTranspose(self.width, 5, 2)(x))
        return nn.sigmoid(ConvTranspose(1, 5, 2)(x))


class WGANGPDisc(nn.Module):
    """The critic: images [B, 28, 28, 1] -> scores [B], of any size; without batch normalisation.

    Attributes:
      width: channels of the first map; 64 in the script.
    """

    width: int = 64

    @nn.compact
    def __call__(self, images: Array, labels: Array | None, context: Context) -> Array:
        x = images
        for factor in (1, 2, 4):
            x = nn.leaky_relu(Conv(factor * self.width, 5, 2)(x), 0.2)
        return flat_logits(x)
