"""Resampling by two with a smooth filter, both ways: twice each other's transposes.

The filter is [1, 2, 1] convolved with [1, 1], [1, 3, 3, 1] / 8, along each axis; outside of the map there are zeros.
Written as sums of slices, which compile to a pass over the map, and not as a convolution of each channel by itself.
"""

import jax
import jax.numpy as jnp


def upsample(x: jax.Array) -> jax.Array:
    """[B, H, W, C] -> [B, 2 H, 2 W, C]: zeros are put between the pixels, and the filter taken times 4.

    Along an axis, pixels 2 i and 2 i + 1 are 3 / 4 of pixel i and 1 / 4 of the pixel before it, or after it.
    """
    b, h, w, c = x.shape
    for axis in (1, 2):
        before, after = _neighbours(x, axis)
        x = jnp.stack([0.75 * x + 0.25 * before, 0.75 * x + 0.25 * after], axis + 1)
        x = x.reshape(b, 2 * h, w if axis == 1 else 2 * w, c)
    return x


def downsample(x: jax.Array) -> jax.Array:
    """[B, 2 H, 2 W, C] -> [B, H, W, C]: the filter at every second pixel.

    Along an axis, pixel i is 3 / 8 of each of the pixels 2 i and 2 i + 1, and 1 / 8 of those beside the two.
    """
    b, h, w, c = x.shape
    for axis in (1, 2):
        pairs = (h // 2, 2, w) if axis == 1 else (h // 2, w // 2, 2)
        even, odd = jnp.moveaxis(x.reshape(b, *pairs, c), axis + 1, 0)
        x = 0.375 * (even + odd) + 0.125 * (_neighbours(odd, axis)[0] + _neighbours(even, axis)[1])
    return x


def smooth(x: jax.Array, pad: int) -> jax.Array:
    """[B, H, W, C] -> [B, H + 2 pad - 3, W + 2 pad - 3, C]: the filter at every pixel, after zeros on all sides."""
    for axis in (1, 2):
        n = x.shape[axis] + 2 * pad - 3
        x = jnp.pad(x, [(pad, pad) if a == axis else (0, 0) for a in range(x.ndim)])
        of = [jax.lax.slice_in_dim(x, k, k + n, axis=axis) for k in range(4)]
        x = 0.125 * (of[0] + of[3]) + 0.375 * (of[1] + of[2])
    return x


def _neighbours(x: jax.Array, axis: int) -> tuple[jax.Array, jax.Array]:
    """For each pixel, the one before it and the one after it along an axis, zero where there is none."""
    n = x.shape[axis]
    pads = [(1, 1) if a == axis else (0, 0) for a in range(x.ndim)]
    padded = jnp.pad(x, pads)
    return jax.lax.slice_in_dim(padded, 0, n, axis=axis), jax.lax.slice_in_dim(padded, 2, n + 2, axis=axis)
