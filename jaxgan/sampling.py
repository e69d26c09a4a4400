"""Images from a state: the generator in inference mode, with its running batch statistics."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxgan.gan import GAN, GANState, draw_z, to_uint8

# Samples are drawn in pieces of one size, so that the first ten of a hundred are the same as ten.
PIECE = 64


def sample(gan: GAN, state: GANState, key: jax.Array, count: int, averaged: bool = True) -> np.ndarray:
    """Draws `count` images.

    Args:
      gan: the static description.
      state: the state whose generator is used.
      key: decides the latents; image i depends on `key` and i alone.
      count: how many.
      averaged: whether to use the averaged generator, or its last weights.

    Returns:
      uint8 [count, H, W, C].
    """
    variables = state.averaged_gen if averaged else state.gen.variables
    pieces = [np.asarray(_generate(gan, variables, key, start + jnp.arange(PIECE))) for start in range(0, count, PIECE)]
    return np.concatenate(pieces)[:count]


@functools.partial(jax.jit, static_argnums=0)
def _generate(gan: GAN, variables: dict, key: jax.Array, indices: jax.Array) -> jax.Array:
    images = gan.gen.apply(variables, draw_z(gan, key, indices), train=False)
    return to_uint8(images, gan.image_range)
