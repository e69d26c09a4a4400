"""Projection: the latent whose image is nearest to a given one, found by descent (arXiv:1912.04958, appendix D).

It starts at the nearest of some latents of the prior. Noise that is added to the latent, and falls to none, keeps it
from the first small valley. The latent is w where the generator has styles, one for all layers or one for each; else z.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxgan.evaluation.features import Track, untracked
from jaxgan.forward_pass import and_extra
from jaxgan.gan import GAN, GANState, as_floats, image_shape
from jaxgan.images import to_uint8
from jaxgan.networks.layers import Context
from jaxgan.randomness import draw_labels, draw_z
from jaxgan.styles import has_styles, shape_of_styles, styles, synthesize_floats

STARTS = 256  # latents, of which the nearest is begun with
RATE = 0.2  # of Adam, in deviations of a latent
WARM, COOL = 0.05, 0.25  # the shares of steps in which the rate rises and falls
NOISY, NOISE = 0.75, 1.0  # the share of steps with noise, and how much at first, in deviations of a latent

Distance = Callable[[jax.Array, jax.Array], jax.Array]


class Projected(NamedTuple):
    """What was found for N images.

    Attributes:
      latents: float32 [N, layers, w_size] where the generator has styles, else [N, z_size].
      labels: int32 [N], the class of each; None where there are none.
      images: uint8 [N, H, W, C], theirs.
      path: uint8 [frames, N, H, W, C], on the way there; the first is that of the start.
      distances: float32 [steps + 1, N], before each step, of the latents without noise, and at the end.
    """

    latents: np.ndarray
    labels: np.ndarray | None
    images: np.ndarray
    path: np.ndarray
    distances: np.ndarray


def project(
    gan: GAN,
    state: GANState,
    targets: np.ndarray,
    distance: Distance,
    key: jax.Array,
    steps: int = 500,
    frames: int = 6,
    each_layer: bool = False,
    averaged: bool = True,
    track: Track = untracked,
) -> Projected:
    """The latents whose images are nearest to some images.

    Args:
      gan: the static description.
      state: the state whose generator is used.
      targets: uint8 [N, H, W, C], of the generator's shape.
      distance: of images, floats [N, H, W, C] from 0 to 255, from others: [N]; such as `evaluation.perceptual`.
      key: decides where it starts, and the noise.
      steps: of the descent, at least `frames`.
      frames: pictures of the path.
      each_layer: whether each layer gets a w of its own: nearer to the image, and less like what the generator makes.
      averaged: whether to use the averaged generator, or its last weights.
      track: shows progress.

    Raises:
      ValueError: the images are of another shape; or each layer is to have a w, and the generator has none.
    """
    if targets.dtype != np.uint8 or targets.shape[1:] != image_shape(gan):
        shape = list(targets.shape[1:])
        raise ValueError(f"images must be uint8 {list(image_shape(gan))}, not {targets.dtype} {shape}")
    if each_layer and not has_styles(gan):
        raise ValueError("each layer has a w only where the generator has styles")
    if gan.condition or gan.image_range is None:
        raise ValueError("the GAN makes images of a condition, or no images; there is no latent of a picture")
    low, high = gan.image_range
    of_z, of_noise = jax.random.split(key)

    def weights(state: GANState) -> Any:
        return state.averaged_gen if averaged else state.gen.variables

    def in_layers(latents: jax.Array) -> jax.Array:
        """The one w of an image for all its layers."""
        return jnp.broadcast_to(latents, (len(latents), *shape_of_styles(gan, weights(state))))

    def make(state: GANState, latents: jax.Array, labels: jax.Array | None) -> jax.Array:
        if has_styles(gan):
            return synthesize_floats(gan, weights(state), in_layers(latents), state.step)
        return and_extra(gan.gen.apply(weights(state), latents, labels, Context(step=state.step)))[0]

    def in_bytes(images: jax.Array) -> jax.Array:
        return (images - low) * (255 / (high - low))

    def apart(images: jax.Array, wanted: jax.Array) -> jax.Array:
        """The distances of images as they are seen, with no value beyond the largest."""
        return distance(jnp.clip(in_bytes(images), 0, 255), wanted)

    # The state and the images are arguments of the programs: with constants, XLA would compute while it compiles.
    @jax.jit
    def begin(state: GANState, wanted: jax.Array) -> tuple[jax.Array, jax.Array | None, jax.Array]:
        """The nearest of the starts for each target, their labels, and the deviation of a latent."""
        indices = jnp.arange(STARTS)
        z, labels = draw_z(gan, of_z, indices), draw_labels(gan, of_z, indices)
        latents = z
        if has_styles(gan):
            w = styles(gan, state, z, labels, averaged=averaged)
            latents = w if each_layer else w[:, :1]

        def from_one(one: tuple[jax.Array, Any]) -> jax.Array:
            latent, label = one
            image = in_bytes(make(state, latent[None], None if label is None else label[None]))
            return distance(jnp.broadcast_to(image, wanted.shape), wanted)

        nearest = jnp.argmin(jax.lax.map(from_one, (latents, labels), batch_size=1), axis=0)
        return latents[nearest], None if labels is None else labels[nearest], jnp.std(latents, axis=0, keepdims=True)

    given = state, in_bytes(as_floats(gan, jnp.asarray(targets)))
    latents, labels, deviation = begin(*given)
    adam = optax.adam(lambda count: RATE * _share(jnp.asarray(count) / steps))

    @functools.partial(jax.jit, static_argnames="count")
    def descend(
        state: GANState, wanted: jax.Array, latents: jax.Array, adam_state: Any, first: jax.Array, count: int
    ) -> tuple[Any, jax.Array]:
        def step(carry: tuple[jax.Array, Any], i: jax.Array) -> tuple[tuple[jax.Array, Any], jax.Array]:
            latents, adam_state = carry
            fading = jnp.square(jnp.maximum(0.0, 1 - i / (NOISY * steps)))
            noise = NOISE * fading * jax.random.normal(jax.random.fold_in(of_noise, i), latents.shape)

            def loss(units: jax.Array) -> jax.Array:
                return jnp.sum(distance(in_bytes(make(state, latents + deviation * units, labels)), wanted))

            gradient = jax.grad(loss)(noise)  # in units of the deviation
            moved, adam_state = adam.update(gradient, adam_state)
            return (latents + deviation * moved, adam_state), apart(make(state, latents, labels), wanted)

        return jax.lax.scan(step, (latents, adam_state), first + jnp.arange(count))

    @jax.jit
    def look(state: GANState, wanted: jax.Array, latents: jax.Array) -> tuple[jax.Array, jax.Array]:
        images = make(state, latents, labels)
        return to_uint8(images, (low, high)), apart(images, wanted)

    parts = [len(part) for part in np.array_split(np.arange(steps), frames)]
    path, distances, adam_state, done = [look(*given, latents)[0]], [], adam.init(latents), 0
    for count in track(parts, "steps"):
        (latents, adam_state), found = descend(*given, latents, adam_state, jnp.int32(done), count)
        path.append(look(*given, latents)[0])
        distances.append(found)
        done += count
    images, last = look(*given, latents)
    return Projected(
        latents=np.asarray(in_layers(latents) if has_styles(gan) else latents),
        labels=None if labels is None else np.asarray(labels),
        images=np.asarray(images),
        path=np.stack([np.asarray(x) for x in path]),
        distances=np.concatenate([*(np.asarray(x) for x in distances), np.asarray(last)[None]]),
    )


def _share(t: jax.Array) -> jax.Array:
    """Of the rate, at a share of all steps: it rises in a line, and falls by a cosine."""
    down = jnp.minimum(1.0, (1 - t) / COOL)
    return jnp.minimum(1.0, t / WARM) * (0.5 - 0.5 * jnp.cos(jnp.pi * down))
