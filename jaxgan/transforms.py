"""Transforms: what every image, real or generated, passes on its way to the discriminator.

A transform is a function (images, keys, step) -> images of the same shape, through which gradients flow. Image i may
depend on keys[i] alone for its random draws, so that they do not depend on the device.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
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
        noise = jax.vmap(lambda key: jax.random.normal(key, images.shape[1:]))(keys)
        return images + optax.exponential_decay(self.deviation, 1, self.decay)(step) * noise


@dataclasses.dataclass(frozen=True)
class Color:
    """DiffAugment's "color": brightness, saturation and contrast, drawn for each image (arXiv:2006.10738).

    In this order: U(-0.5, 0.5) is added to the image, its distance from the mean over its channels is scaled by
    U(0, 2), and its distance from its mean over all pixels and channels by U(0.5, 1.5). For images in [-1, 1].
    """

    def __call__(self, images: jax.Array, keys: jax.Array, step: jax.Array) -> jax.Array:
        brightness, saturation, contrast = _uniform(keys, (3,)).T[..., None, None, None]
        images = images + (brightness - 0.5)
        mean = jnp.mean(images, axis=3, keepdims=True)
        images = mean + (images - mean) * (2 * saturation)
        mean = jnp.mean(images, axis=(1, 2, 3), keepdims=True)
        return mean + (images - mean) * (0.5 + contrast)


@dataclasses.dataclass(frozen=True)
class Translation:
    """DiffAugment's "translation": each image moved by whole pixels, with zeros behind it (arXiv:2006.10738).

    Attributes:
      share: of the height and of the width: how far at most, either way.
    """

    share: float = 1 / 8

    def __call__(self, images: jax.Array, keys: jax.Array, step: jax.Array) -> jax.Array:
        most = [int(size * self.share + 0.5) for size in images.shape[1:3]]
        starts = [_whole_numbers(keys, axis, 2 * by + 1) for axis, by in enumerate(most)]
        padded = jnp.pad(images, [(0, 0), *((by, by) for by in most), (0, 0)])
        cut = lambda image, row, column: jax.lax.dynamic_slice(image, (row, column, 0), images.shape[1:])  # noqa: E731
        return jax.vmap(cut)(padded, *starts)


@dataclasses.dataclass(frozen=True)
class Cutout:
    """DiffAugment's "cutout": a rectangle of each image set to zero (arXiv:2006.10738).

    Its centre is any pixel; what lies outside of the image is cut off.

    Attributes:
      share: of the height and of the width: the rectangle's.
    """

    share: float = 1 / 2

    def __call__(self, images: jax.Array, keys: jax.Array, step: jax.Array) -> jax.Array:
        """Images [B, H, W, C], each with a hole."""

        def hit(axis: int) -> jax.Array:
            size = images.shape[1 + axis]
            length = int(size * self.share + 0.5)
            centres = _whole_numbers(keys, axis, size + 1 - length % 2)  # an even length has its centre between pixels
            from_start = jnp.arange(size)[None] - (centres[:, None] - length // 2)
            return (from_start >= 0) & (from_start < length)

        hole = hit(0)[:, :, None, None] & hit(1)[:, None, :, None]
        return jnp.where(hole, 0, images)


DIFF_AUGMENT = (Color(), Translation(), Cutout())  # all of it, as in the paper


@dataclasses.dataclass(frozen=True)
class RandomFlip:
    """Each image flipped left to right, or not, at random: for real images alone, as `GAN.augmentations`."""

    def __call__(self, images: jax.Array, keys: jax.Array, step: jax.Array) -> jax.Array:
        return jnp.where((_uniform(keys, ()) < 0.5)[:, None, None, None], images[:, :, ::-1], images)


def _uniform(keys: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Values from U(0, 1) for each example: [B, *shape] from keys [B]."""
    return jax.vmap(lambda key: jax.random.uniform(key, shape))(keys)


def _whole_numbers(keys: jax.Array, number: int, count: int) -> jax.Array:
    """For each example one of 0 to count - 1, each as likely: int32 [B]; `number` tells several draws apart."""
    return jax.vmap(lambda key: jax.random.randint(jax.random.fold_in(key, number), (), 0, count))(keys)
