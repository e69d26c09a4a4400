"""Transforms: what every image, real or generated, passes on its way to the discriminator.

A transform is a function (images, keys, step) -> images of the same shape, through which gradients flow. Image i may
depend on keys[i] alone for its random draws, so that they do not depend on the device.
"""

import dataclasses
from collections.abc import Callable

import jax
import optax

Transform = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]


@dataclasses.dataclass(frozen=True)
class InstanceNoise:
    """Gaussian noise of standard deviation `deviation` * `decay`^step, for each pixel of its own.

    As in "Fast LSGAN in Canton"; see Sønderby et al. 2016 (arXiv:1610.04490).
    """

    deviation: float
    decay: float = 1.0

    def __call__(self, images: jax.Array, keys: jax.Array, step: jax.Array) -> jax.Array:
        """Adds it to images [B, H, W, C], drawn from keys [B]."""
        noise = jax.vmap(lambda key: jax.random.normal(key, images.shape[1:]))(keys)
        return images + optax.exponential_decay(self.deviation, 1, self.decay)(step) * noise
