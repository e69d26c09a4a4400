"""What is done with the w of a trained StyleGAN2: truncation, mixing, and directions found without labels.

A generator has styles where it has the methods `styles`, z -> w for each layer, and `synthesize`, w -> images. The mean
of w is in the state's memory.
"""

import functools
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np

from jaxgan.forward_pass import and_extra
from jaxgan.gan import GAN, GANState
from jaxgan.images import to_uint8
from jaxgan.networks.layers import Context
from jaxgan.randomness import draw_labels, draw_z

AT_ONCE = 64  # images


def has_styles(gan: GAN) -> bool:
    """Whether the generator makes images of a w, and not of z alone."""
    return hasattr(gan.gen, "styles") and hasattr(gan.gen, "synthesize")


def styles(
    gan: GAN,
    state: GANState,
    z: jax.Array,
    labels: jax.Array | None = None,
    truncation: float = 1.0,
    averaged: bool = True,
) -> jax.Array:
    """The w of latents, brought nearer to the mean of all: w' = mean + truncation (w - mean).

    Below 1 images are more alike, and better (Karras et al. 2019, arXiv:1812.04948, appendix B).

    Args:
      gan: the static description.
      state: the state whose generator is used, and the memory's mean of w.
      z: float [N, z_size].
      labels: int [N], where the GAN has classes.
      truncation: psi in the paper; 0 gives the mean alone.
      averaged: whether to use the averaged generator, or its last weights.

    Returns:
      float [N, layers, w_size].

    Raises:
      ValueError: the generator has no styles.
    """
    _check(gan)
    if truncation != 1 and not (isinstance(state.memory, dict) and "w_mean" in state.memory):
        raise ValueError("truncation needs the mean of w, which the GAN's memory does not keep as w_mean")
    w = _styles(gan, _variables(state, averaged), z, labels, state.step)
    if truncation == 1:
        return w
    mean = state.memory["w_mean"][None, None]
    return mean + truncation * (w - mean)


def synthesize(gan: GAN, state: GANState, w: jax.Array, averaged: bool = True) -> jax.Array:
    """The images of styles, [N, layers, w_size]: uint8 [N, H, W, C].

    Raises:
      ValueError: the generator has no styles, or those are of another shape.
    """
    variables, w = _variables(state, averaged), jnp.asarray(w)
    _check_shape(gan, variables, w)
    pieces = [w[start : start + AT_ONCE] for start in range(0, len(w), AT_ONCE)]
    pieces[-1] = jnp.pad(pieces[-1], ((0, AT_ONCE - len(pieces[-1])), *[(0, 0)] * (w.ndim - 1)))
    return jnp.concatenate([_images(gan, variables, piece, state.step) for piece in pieces])[: len(w)]


@functools.partial(jax.jit, static_argnums=0)
def _images(gan: GAN, variables: Any, w: jax.Array, step: jax.Array) -> jax.Array:
    made = synthesize_floats(gan, variables, w, step)
    return made if gan.image_range is None else to_uint8(made, gan.image_range)


def synthesize_floats(gan: GAN, variables: Any, w: jax.Array, step: jax.Array) -> jax.Array:
    """The same as floats, in the GAN's `image_range`."""
    _check_shape(gan, variables, w)
    return and_extra(gan.gen.apply(variables, w, Context(step=step), method="synthesize"))[0]


def shape_of_styles(gan: GAN, variables: Any) -> tuple[int, ...]:
    """How many layers have a w of their own, and its length."""
    return jax.eval_shape(lambda: _some_styles(gan, variables)).shape[1:]


def mixed(coarse: jax.Array, fine: jax.Array, layers: int) -> jax.Array:
    """The styles of one image in the first `layers` of another's: all pairs, [N, M, all layers, w_size].

    Args:
      coarse: [N, layers, w_size], of which the first `layers` are taken.
      fine: [M, layers, w_size], of which the others are.
      layers: how many, from the smallest maps on.
    """
    first = (jnp.arange(coarse.shape[1]) < layers)[None, None, :, None]
    return jnp.where(first, coarse[:, None], fine[None])


def directions(gan: GAN, state: GANState, key: jax.Array, count: int = 10_000) -> tuple[np.ndarray, np.ndarray]:
    """The principal directions of w (GANSpace, Härkönen et al. 2020, arXiv:2004.02546).

    Args:
      gan: the static description.
      state: the state whose averaged generator is used.
      key: decides the latents.
      count: how many of them.

    Returns:
      Unit vectors, float32 [w_size, w_size], that of the largest variance first; and the standard deviation along each,
      [w_size]. The largest value of a vector is above 0.
    """
    _check(gan)

    @jax.jit
    def draw(indices: jax.Array) -> jax.Array:
        labels = draw_labels(gan, jax.random.fold_in(key, 1), indices)
        return styles(gan, state, draw_z(gan, key, indices), labels)[:, 0]

    w = np.concatenate([np.asarray(draw(start + jnp.arange(AT_ONCE))) for start in range(0, count, AT_ONCE)])[:count]
    values, vectors = np.linalg.eigh(np.cov(w.astype(np.float64).T))
    vectors = vectors.T[::-1]
    largest = np.take_along_axis(vectors, np.argmax(np.abs(vectors), 1)[:, None], 1)
    return (vectors * np.sign(largest)).astype(np.float32), np.sqrt(np.maximum(values[::-1], 0)).astype(np.float32)


def _check_shape(gan: GAN, variables: Any, w: jax.Array) -> None:
    _check(gan)
    layers, size = shape_of_styles(gan, variables)
    if w.shape[1:] != (layers, size):
        raise ValueError(f"styles must be [N, {layers}, {size}], not {list(w.shape)}")


def _check(gan: GAN) -> None:
    if not has_styles(gan):
        raise ValueError(f"the generator, a {type(gan.gen).__name__}, has no styles: it makes images of z alone")


def _variables(state: GANState, averaged: bool) -> Any:
    return state.averaged_gen if averaged else state.gen.variables


def _styles(gan: GAN, variables: Any, z: jax.Array, labels: jax.Array | None, step: Any = 0) -> jax.Array:
    return cast(jax.Array, gan.gen.apply(variables, z, labels, Context(step=step), method="styles"))


def _some_styles(gan: GAN, variables: Any) -> jax.Array:
    return _styles(gan, variables, jnp.zeros((1, gan.z_size)), jnp.zeros((1,), jnp.int32) if gan.classes else None)
