"""Networks for points: small ones for the plane, and the two of the Dirac-GAN."""

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from jaxgan.networks.layers import Context, Dense


class PointsGen(nn.Module):
    """The generator: z [B, z_size] -> points [B, 2].

    Attributes:
      width: of each hidden layer.
      layers: how many there are.
    """

    width: int = 128
    layers: int = 2

    @nn.compact
    def __call__(self, z: Array, labels: Array | None, context: Context) -> Array:
        for _ in range(self.layers):
            z = nn.leaky_relu(Dense(self.width)(z), 0.2)
        return Dense(2)(z)


class PointsDisc(nn.Module):
    """The discriminator: points [B, 2] -> logits [B]; attributes as the generator's."""

    width: int = 128
    layers: int = 2

    @nn.compact
    def __call__(self, images: Array, labels: Array | None, context: Context) -> Array:
        x = images
        for _ in range(self.layers):
            x = nn.leaky_relu(Dense(self.width)(x), 0.2)
        return Dense(1)(x)[:, 0]


class DiracGen(nn.Module):
    """The generator of one point, its only parameter, 1 at first: [B, 1] (Mescheder et al. 2018, arXiv:1801.04406)."""

    @nn.compact
    def __call__(self, z: Array, labels: Array | None, context: Context) -> Array:
        theta = self.param("theta", nn.initializers.ones, (), jnp.float32)
        return jnp.broadcast_to(theta, (len(z), 1))


class DiracDisc(nn.Module):
    """The discriminator psi x, psi being its only parameter, 1 at first: x [B, 1] -> logits [B]."""

    @nn.compact
    def __call__(self, images: Array, labels: Array | None, context: Context) -> Array:
        psi = self.param("psi", nn.initializers.ones, (), jnp.float32)
        return psi * images[:, 0]
