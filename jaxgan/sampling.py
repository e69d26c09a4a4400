"""Images from a state: the generator in inference mode, with its running batch statistics and no dropout.

These are functions of JAX, which compose with `jax.jit`, `jax.vmap` and `jax.export`.
"""

import functools
import itertools
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np

from jaxgan import convolutions
from jaxgan.forward_pass import and_extra
from jaxgan.gan import GAN, GANState, as_floats, generated_shape
from jaxgan.images import to_uint8
from jaxgan.labels import checked_labels
from jaxgan.networks.layers import Context
from jaxgan.randomness import Purpose, draw_labels, draw_z

AT_ONCE = 64  # samples: always as many, so that the first ten of a hundred are the same as ten
ROWS = 16  # of a run's sample grids, at most, where there are classes


def sample(
    gan: GAN,
    state: GANState,
    key: jax.Array,
    count: int,
    averaged: bool = True,
    latent_grid: tuple[int, int] | None = None,
    labels: jax.Array | None = None,
) -> jax.Array:
    """Draws `count` images.

    Args:
      gan: the static description.
      state: the state whose generator is used.
      key: decides the latents; image i depends on `key` and i alone.
      count: how many.
      averaged: whether to use the averaged generator, or its last weights.
      latent_grid: (h, w) makes each image from a grid of as many latents, which a fully convolutional
        generator turns into one large patch.
      labels: int [count], the classes of the images, for a GAN that has classes; by default `sample_labels`. Where
        their values are not known, as this is being traced, a label that is no class gives a black image. For a GAN
        with a condition: the conditions, [count, ...].

    Returns:
      uint8 [count, H, W, C]; H and W grow with `latent_grid`. Floats for a GAN whose `image_range` is None.

    Raises:
      ValueError: a `latent_grid`, for a generator that is not fully convolutional; labels that are none of its
        classes, of another length, or for a GAN without classes; or a count below 1.
    """
    grid = latent_grid or ()
    _check_least(1, count=count, **dict(zip(("latent_grid h", "latent_grid w"), grid, strict=False)))
    if grid and generated_shape(gan, grid)[0] != 1:
        raise ValueError(
            "the generator has a dense layer, and makes one image of each latent; a grid needs one without"
        )
    piece = max(1, AT_ONCE // (grid[0] * grid[1])) if grid else AT_ONCE
    pieces = (_draw(gan, key, start + jnp.arange(piece), grid) for start in range(0, count, piece))
    return _generate(gan, state, averaged, pieces, _labels(gan, key, count, labels), piece)[:count]


def generate(
    gan: GAN, state: GANState, z: jax.Array, labels: jax.Array | None = None, averaged: bool = True
) -> jax.Array:
    """The images of latents of one's own.

    Args:
      gan: the static description.
      state: the state whose generator is used.
      z: float [N, z_size].
      labels: int [N], the classes of the images, for a GAN that has classes; or the conditions, [N, ...].
      averaged: whether to use the averaged generator, or its last weights.

    Returns:
      uint8 [N, H, W, C]; floats for a GAN whose `image_range` is None.

    Raises:
      ValueError: latents of another size; labels as for `sample`, or none for a GAN that needs them.
    """
    if z.ndim != 2 or z.shape[1] != gan.z_size or not len(z):
        raise ValueError(f"latents must be [N, {gan.z_size}], not {list(z.shape)}")
    if labels is None and gan.classes:
        raise ValueError(f"the GAN has {gan.classes} classes; give the labels of the images")
    pieces, key = _in_pieces(z, AT_ONCE), jax.random.key(0)
    return _generate(gan, state, averaged, pieces, _labels(gan, key, len(z), labels), AT_ONCE)[: len(z)]


def sample_labels(gan: GAN, key: jax.Array, count: int) -> jax.Array | None:
    """The classes that `sample` asks for by default: int32 [count], each as likely; None without classes."""
    return draw_labels(gan, jax.random.fold_in(key, Purpose.LABELS), jnp.arange(count))


def grid_labels(gan: GAN, columns: int = 8, rows: int = ROWS) -> jax.Array | None:
    """The classes of a grid that has one in each row, of the first `rows` at most: int32 [rows * columns], or None."""
    return jnp.repeat(jnp.arange(min(gan.classes, rows)), columns) if gan.classes else None


def interpolate(
    gan: GAN,
    state: GANState,
    key: jax.Array,
    count: int,
    steps: int,
    averaged: bool = True,
    labels: jax.Array | None = None,
) -> jax.Array:
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
      labels: int [count], the class of each path, as for `sample`.

    Returns:
      uint8 [count, steps, H, W, C].

    Raises:
      ValueError: labels as for `sample`; a count below 1, or fewer than two steps.
    """
    _check_least(1, count=count)
    _check_least(2, steps=steps)
    z = draw_z(gan, key, jnp.arange(count + 1))
    path = on_path(z[:-1], z[1:], jnp.linspace(0, 1, steps), gan.prior)
    labels = _labels(gan, key, count, labels)
    labels = None if labels is None else jnp.repeat(labels, steps, axis=0)
    pieces = _in_pieces(path.reshape(-1, gan.z_size), AT_ONCE)
    images = _generate(gan, state, averaged, pieces, labels, AT_ONCE)[: count * steps]
    return images.reshape(count, steps, *images.shape[1:])


def between(latents: jax.Array | np.ndarray, steps: int, prior: str) -> jax.Array:
    """A closed path through latents [N, ...], `steps` from each to the next, and from the last to the first.

    Returns:
      [N, steps, ...]; each path begins at a latent, and ends before the next.
    """
    latents = jnp.asarray(latents)
    return on_path(latents, jnp.roll(latents, -1, axis=0), jnp.linspace(0, 1, steps, endpoint=False), prior)


def on_path(start: jax.Array, end: jax.Array, t: jax.Array, prior: str) -> jax.Array:
    """The latents between `start` and `end`, [N, ...], at the places t [steps], as `interpolate` has them.

    Returns:
      [N, steps, ...]: on an arc for the prior "normal", else on a straight line.
    """
    weights = (jnp.cos(t * jnp.pi / 2), jnp.sin(t * jnp.pi / 2)) if prior == "normal" else (1 - t, t)
    of_step = [weight.reshape(1, -1, *[1] * (start.ndim - 1)) for weight in weights]
    return of_step[0] * start[:, None] + of_step[1] * end[:, None]


def export_generator(gan: GAN, state: GANState, averaged: bool = True) -> bytes:
    """The generator as a program for CPUs, GPUs (CUDA) and TPUs, to be used without this package.

    `jax.export.deserialize(data).call` is a function of latents, float32 [b, z_size], of any number b; and where the
    GAN has classes of labels, int32 [b]. It gives images, uint8 [b, H, W, C]; a black one for a label that is not from
    0 to classes - 1, since a program cannot raise an error. JAX writes programs with the package `flatbuffers`.

    Args:
      gan: the static description.
      state: the state whose generator is exported, with its weights.
      averaged: whether to export the averaged generator, or its last weights.
    """
    generate, args = _to_export(gan, state, averaged)
    (b,) = jax.export.symbolic_shape("b")
    args = [jax.ShapeDtypeStruct((b, *shape), dtype) for _, shape, dtype in args]
    return bytes(jax.export.export(jax.jit(generate), platforms=["cpu", "cuda", "tpu"])(*args).serialize())


def export_onnx(gan: GAN, state: GANState, averaged: bool = True) -> bytes:
    """The generator as an ONNX model, for programs without JAX, such as those with ONNX Runtime.

    Its inputs and its output are those of `export_generator`, by the names `z`, `labels` and `images`. It is made with
    the package `jax2onnx`.

    Args:
      gan: the static description.
      state: the state whose generator is exported, with its weights.
      averaged: whether to export the averaged generator, or its last weights.
    """
    from jax2onnx import to_onnx

    generate, args = _to_export(gan, state, averaged)
    with convolutions.native():  # ONNX has an operation for a convolution, and none for the forms of this package
        model = to_onnx(
            generate,
            [jax.ShapeDtypeStruct(("b", *shape), dtype) for _, shape, dtype in args],
            model_name="generator",
            input_names=[name for name, _, _ in args],
            output_names=["images"],
        )
    return bytes(model.SerializeToString())


Argument = tuple[str, tuple[int, ...], Any]  # its name, its shape but for the number of images, and its dtype


def _to_export(gan: GAN, state: GANState, averaged: bool) -> tuple[Callable[..., jax.Array], list[Argument]]:
    """A generator as a function of arrays alone, and what these are."""
    if gan.condition:
        raise ValueError(f"a generator of images of a {gan.condition} cannot be exported yet")
    variables = state.averaged_gen if averaged else state.gen.variables
    args: list[Argument] = [("z", (gan.z_size,), jnp.float32)]
    args += [("labels", (), jnp.int32)] if gan.classes else []
    return lambda z, labels=None: _apply(gan, variables, z, labels, state.step), args


def _generate(
    gan: GAN, state: GANState, averaged: bool, pieces: Iterable[jax.Array], labels: jax.Array | None, piece: int
) -> jax.Array:
    """The images of several batches of latents, of one size, and of the labels of them all."""
    variables = state.averaged_gen if averaged else state.gen.variables
    of_pieces = itertools.repeat(None) if labels is None else _in_pieces(labels, piece)
    return jnp.concatenate(
        [_apply(gan, variables, z, of, state.step) for z, of in zip(pieces, of_pieces, strict=False)]
    )


def _in_pieces(x: jax.Array, piece: int) -> jax.Array:
    """[n, piece, ...] of [N, ...], the last one filled up with zeros."""
    return jnp.pad(x, ((0, -len(x) % piece), *[(0, 0)] * (x.ndim - 1))).reshape(-1, piece, *x.shape[1:])


def _labels(gan: GAN, key: jax.Array, count: int, labels: jax.Array | None) -> jax.Array | None:
    """The labels that are asked for, checked, or those of `sample_labels`."""
    if gan.condition:
        return _conditions(gan, count, labels)
    if labels is None:
        return sample_labels(gan, key, count)
    if not gan.classes:
        raise ValueError("the GAN has no classes, so that no labels can be asked for")
    return jnp.asarray(checked_labels(labels, count, gan.classes), jnp.int32)


def _conditions(gan: GAN, count: int, given: jax.Array | None) -> jax.Array:
    """The conditions that are given for so many images, as the networks take them."""
    shape = [count, *dict(gan.others)[gan.condition]]
    if given is None or list(given.shape) != shape:
        got = "none" if given is None else list(given.shape)
        raise ValueError(f"the GAN makes images of a {gan.condition}; give some as labels, {shape}, not {got}")
    return as_floats(gan, given)


def _check_least(least: int, **counts: int) -> None:
    for name, value in counts.items():
        if value < least:
            raise ValueError(f"{name} must be at least {least}, not {value}")


_draw = jax.jit(draw_z, static_argnums=(0, 3))


@functools.partial(jax.jit, static_argnums=0)
def _apply(
    gan: GAN, variables: Mapping[str, Any], z: jax.Array, labels: jax.Array | None, step: jax.Array
) -> jax.Array:
    made, _ = and_extra(gan.gen.apply(variables, z, labels, Context(step=step)))
    images = made if gan.image_range is None else to_uint8(made, gan.image_range)
    if labels is None or not gan.classes:
        return images
    is_class = (labels >= 0) & (labels < gan.classes)  # of what else there is, networks make what they like
    return jnp.where(is_class.reshape(-1, *[1] * (images.ndim - 1)), images, 0).astype(jnp.uint8)
