"""Images from a state: the generator in inference mode, with its running batch statistics and no dropout."""

import functools
from collections.abc import Iterable

import jax
import jax.numpy as jnp
import numpy as np

from jaxgan.gan import GAN, GANState, draw_z, generated_shape, to_uint8

# Samples are drawn in pieces of one size, so that the first ten of a hundred are the same as ten.
PIECE = 64


def sample(
    gan: GAN,
    state: GANState,
    key: jax.Array,
    count: int,
    averaged: bool = True,
    latent_grid: tuple[int, int] | None = None,
) -> np.ndarray:
    """Draws `count` images.

    Args:
      gan: the static description.
      state: the state whose generator is used.
      key: decides the latents; image i depends on `key` and i alone.
      count: how many.
      averaged: whether to use the averaged generator, or its last weights.
      latent_grid: (h, w) makes each image from a grid of as many latents, which a fully convolutional
        generator turns into one large patch.

    Returns:
      uint8 [count, H, W, C]; H and W grow with `latent_grid`.

    Raises:
      ValueError: a `latent_grid`, for a generator that is not fully convolutional.
    """
    grid = latent_grid or ()
    if grid and generated_shape(gan, grid)[0] != 1:
        raise ValueError(
            "the generator has a dense layer, and makes one image of each latent; a grid needs one without"
        )
    piece = max(1, PIECE // int(np.prod(grid)))
    pieces = (_draw(gan, key, start + jnp.arange(piece), grid) for start in range(0, count, piece))
    return _generate(gan, state, averaged, pieces)[:count]


def interpolate(gan: GAN, state: GANState, key: jax.Array, count: int, steps: int, averaged: bool = True) -> np.ndarray:
    """Draws `count` paths of images: path i leads from image i of `sample` to image i + 1.

    Between latents a and b of a normal prior a path is cos(u) a + sin(u) b, u from 0 to pi / 2, which is
    again normal for every u; a straight line would pass through the middle, where the prior puts
    nothing. In a uniform prior's cube it is the straight line.

    Args:
      gan: the static description.
      state: the state whose generator is used.
      key: decides the latents.
      count: how many paths.
      steps: images on each, both ends included; at least 2.
      averaged: whether to use the averaged generator, or its last weights.

    Returns:
      uint8 [count, steps, H, W, C].
    """
    z = draw_z(gan, key, jnp.arange(count + 1))
    t = jnp.linspace(0, 1, steps)
    weights = (jnp.cos(t * jnp.pi / 2), jnp.sin(t * jnp.pi / 2)) if gan.prior == "normal" else (1 - t, t)
    path = weights[0][None, :, None] * z[:-1, None] + weights[1][None, :, None] * z[1:, None]
    path = path.reshape(-1, gan.z_size)
    path = jnp.pad(path, ((0, -len(path) % PIECE), (0, 0)))
    images = _generate(gan, state, averaged, path.reshape(-1, PIECE, gan.z_size))[: count * steps]
    return images.reshape(count, steps, *images.shape[1:])


def _generate(gan: GAN, state: GANState, averaged: bool, pieces: Iterable[jax.Array]) -> np.ndarray:
    """The images of several batches of latents, of one size."""
    variables = state.averaged_gen if averaged else state.gen.variables
    return np.concatenate([np.asarray(_apply(gan, variables, z)) for z in pieces])


_draw = jax.jit(draw_z, static_argnums=(0, 3))


@functools.partial(jax.jit, static_argnums=0)
def _apply(gan: GAN, variables: dict, z: jax.Array) -> jax.Array:
    return to_uint8(gan.gen.apply(variables, z, train=False), gan.image_range)
