"""Images moved by an affine map each: linear maps whose transposes are given.

An image is resampled as in StyleGAN2-ADA (Karras et al. 2020, arXiv:2006.06676, appendix B): it is extended by
reflection, enlarged twice by the low-pass filter of the wavelet sym6, sampled bilinearly on a grid of twice the size,
and reduced by the same filter. Extended by reflection, a line of n pixels repeats after 2 (n - 1). One such period is
enlarged, and places are taken modulo its length, so that an image may be moved by any distance, and depends on no
other of its batch. (The published code extends all by as much as one of the batch needs, at most by n - 1, and has
zeros beyond.) Where a map takes whole pixels to whole pixels, an image need not be resampled, and no value changes.
"""

import functools
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core
from jax.interpreters import ad, batching

from jaxgan.convolutions.linear import Map, primitive
from jaxgan.convolutions.platforms import is_native

SYM6 = (
    0.015404109327027373, 0.0034907120842174702, -0.11799011114819057, -0.048311742585633, 0.4910559419267466,
    0.787641141030194, 0.3379294217276218, -0.07263752278646252, -0.021060292512300564, 0.04472490177066578,
    0.0017677118642428036, -0.007800708325034148,
)  # fmt: skip
_FILTER = np.array(SYM6) / np.sum(SYM6)
_MARGIN = 3  # pixels that the filter reaches beyond the image


_matmul = functools.partial(jnp.matmul, precision="highest")  # an accelerator would round what it multiplies

# Maps [B, 2, 3] from a place in the result to the place in the image that it is taken from: x' = a x + b y + c,
# y' = d x + e y + f, all from the centre, in pixels.


def _mapped(map: jax.Array, x: np.ndarray, y: np.ndarray) -> tuple[jax.Array, jax.Array]:
    """Where one map takes the places of a grid: x and y, [len(y), len(x)]."""
    across, down = jnp.asarray(x, map.dtype)[None], jnp.asarray(y, map.dtype)[:, None]
    of_x, of_y = (row[0] * across + row[1] * down + row[2] for row in map)
    return of_x, of_y


def product(*maps: jax.Array) -> jax.Array:
    """The map that is all of these, the last one first."""
    whole = maps[0]
    for map in maps[1:]:
        whole = jnp.concatenate([_times(whole, map[..., :2]), _times(whole, map[..., 2:]) + whole[..., 2:]], axis=2)
    return whole


def _times(map: jax.Array, matrix: jax.Array) -> jax.Array:
    return jnp.sum(map[:, :, :2, None] * matrix[:, None], axis=2)  # in full precision on every device


def scaling(x: Any, y: Any) -> jax.Array:
    """Maps [B, 2, 3] that multiply x and y by factors [B]."""
    zero = jnp.zeros_like(x)
    return _rows(x, zero, zero, zero, y + zero, zero)


def rotation(cos: jax.Array, sin: jax.Array) -> jax.Array:
    """Maps [B, 2, 3] by angles [B]."""
    zero = jnp.zeros_like(cos)
    return _rows(cos, -sin, zero, sin, cos, zero)


def translation(by: jax.Array) -> jax.Array:
    """Maps [B, 2, 3] that add [B, 2] to x and y."""
    zero = jnp.zeros_like(by[:, 0])
    return _rows(zero + 1, zero, by[:, 0], zero, zero + 1, by[:, 1])


def _rows(*entries: jax.Array) -> jax.Array:
    return jnp.stack(entries, axis=1).reshape(-1, 2, 3)


def _blitted(image: jax.Array, places: jax.Array) -> jax.Array:
    """Each pixel one of the image's, where the map says: it maps whole pixels to such."""
    height, width, channels = image.shape
    x, y = _mapped(places, np.arange(width) - (width - 1) / 2, np.arange(height) - (height - 1) / 2)
    x, y = (_reflected(jnp.round(v + (n - 1) / 2).astype(int), n) for v, n in ((x, width), (y, height)))
    return image.reshape(-1, channels).at[y * width + x].get(mode="promise_in_bounds")


def _blitted_back(image: jax.Array, places: jax.Array) -> jax.Array:
    return jax.linear_transpose(lambda x: _blitted(x, places), image)(image)[0]


def _resampled(image: jax.Array, places: jax.Array) -> jax.Array:
    """The image, resampled where the map says."""
    height, width, channels = image.shape
    enlarged = _enlarged(jnp.moveaxis(image, 2, 0)).reshape(channels, -1)
    sampled = _sum(
        enlarged.at[:, i].get(mode="promise_in_bounds") * share[None] for i, share in _corners(image, places)
    )
    reduce_rows, reduce_columns = (_reducing(n, image.dtype) for n in (height, width))
    sampled = sampled.reshape(channels, reduce_rows.shape[1], -1)
    return jnp.moveaxis(_matmul(_matmul(reduce_rows, sampled), reduce_columns.T), 0, 2)


def _resampled_back(image: jax.Array, places: jax.Array) -> jax.Array:
    height, width, channels = image.shape
    reduce_rows, reduce_columns = (_reducing(n, image.dtype) for n in (height, width))
    spread = _matmul(_matmul(reduce_rows.T, jnp.moveaxis(image, 2, 0)), reduce_columns)
    sampled = spread.reshape(channels, -1)
    enlarged = jnp.zeros((channels, _lines(height) * _lines(width)), image.dtype)
    for i, share in _corners(image, places):  # one after the other into one array, which is fastest on a CPU
        enlarged = enlarged.at[:, i].add(sampled * share[None], mode="promise_in_bounds")
    return jnp.moveaxis(_enlarged_back(enlarged.reshape(channels, _lines(height), -1), height, width), 0, 2)


def _corners(image: jax.Array, places: jax.Array) -> list[tuple[jax.Array, jax.Array]]:
    """Of each place of the grid the four nearest of the enlarged image, as indices, and the share of each."""
    height, width, _ = image.shape
    # Place v of the image is 2v of the enlarged one; place m of the grid is (m - 5) / 2 of the result.
    grids = [(np.arange(2 * n + 4 * _MARGIN - 2) - 2 * _MARGIN + 1 - (n - 1)) / 2 for n in (width, height)]
    x, y = (2 * v + (n - 1) for v, n in zip(_mapped(places, *grids), (width, height), strict=True))
    left, top = jnp.floor(x), jnp.floor(y)
    columns, rows = _both(left, width), [_lines(width) * row for row in _both(top, height)]
    columns, rows, right, lower = jax.lax.optimization_barrier((columns, rows, x - left, y - top))  # computed once
    shares = [lower_share * right_share for lower_share in (1 - lower, lower) for right_share in (1 - right, right)]
    corners = zip([row + column for row in rows for column in columns], shares, strict=True)
    return [(i.ravel(), share.ravel()) for i, share in corners]


def _both(places: jax.Array, size: int) -> list[jax.Array]:
    """Where `_enlarged` has these whole places of an enlarged line, and the next: all even places, then all odd."""
    period = _lines(size)
    first = (places - period * jnp.floor((places + 0.5) / period)).astype(int)
    second = jnp.where(first == period - 1, 0, first + 1)
    return [(place & 1) * (period // 2) + (place >> 1) for place in (first, second)]


def _reflected(places: Any, size: int) -> Any:
    """Places of a line that is extended by reflection, all within it; arrays of NumPy or of JAX."""
    return abs((places + size - 1) % max(2 * (size - 1), 1) - (size - 1))


def _lines(size: int) -> int:
    """How many values a period of a reflected line of that many has, twice enlarged."""
    return 2 * max(2 * (size - 1), 1)


def _enlarged(images: jax.Array) -> jax.Array:
    """One period of reflected planes [C, H, W], twice enlarged: columns by a matrix, rows by sums of shifted ones.

    Rows are sums of vectors, which a CPU adds up much faster than it multiplies by a matrix that is nearly all zeros.
    """
    images = _matmul(images, jnp.asarray(_enlarging(images.shape[2]).T, images.dtype))
    size = images.shape[1]
    half = _lines(size) // 2
    extended = images[:, _reflected(np.arange(-_MARGIN, half + _MARGIN), size)]
    shifted = lambda by: extended[:, _MARGIN + by : _MARGIN + by + half]  # noqa: E731
    return jnp.concatenate([_sum(_tap(j) * shifted(by) for j, by in _taps(phase)) for phase in (0, 1)], axis=1)


def _enlarged_back(enlarged: jax.Array, height: int, width: int) -> jax.Array:
    """The transpose of that: a period's rows are added up as a circle, and what was reflected is folded back."""
    half = _lines(height) // 2
    phases = [enlarged[:, phase * half + np.arange(-_MARGIN, half + _MARGIN) % half] for phase in (0, 1)]
    shifted = lambda phase, by: phases[phase][:, _MARGIN - by : _MARGIN - by + half]  # noqa: E731
    rows = _sum(_tap(j) * shifted(phase, by) for phase in (0, 1) for j, by in _taps(phase))
    reflected = jnp.pad(rows[:, : height - 1 : -1], ((0, 0), (1, 1), (0, 0))) if height > 1 else 0
    return _matmul(rows[:, :height] + reflected, jnp.asarray(_enlarging(width), enlarged.dtype))


def _taps(phase: int) -> list[tuple[int, int]]:
    """Which values of the filter meet which pixels: (j, how far from the pixel), for the even and the odd places."""
    return [(j, (phase + 5 - j) // 2) for j in range(len(SYM6)) if (phase + 5 - j) % 2 == 0]


def _tap(j: int) -> float:
    return float(2 * _FILTER[j])


def _enlarging(size: int) -> np.ndarray:
    """The same as a matrix, [places of one period, size]."""
    half = _lines(size) // 2
    matrix = np.zeros((2 * half, size))
    for phase in (0, 1):
        for place in range(half):
            for j, by in _taps(phase):
                matrix[phase * half + place, _reflected(place + by, size)] += _tap(j)
    return matrix


def _sum(terms: Iterable[jax.Array]) -> jax.Array:
    return functools.reduce(jnp.add, terms)


def _reducing(size: int, dtype: Any) -> jax.Array:
    """The matrix that reduces a line of the grid, [size, 2 size + 10]."""
    matrix = np.zeros((size, 2 * size + 4 * _MARGIN - 2))
    for i in range(size):
        matrix[i, 2 * i : 2 * i + len(SYM6)] = _FILTER
    return jnp.asarray(matrix, dtype)


def moved(images: jax.Array, places: jax.Array, resampled: jax.Array) -> jax.Array:
    """Images, each by its map: linear in them, and differentiable in any mode and to any order.

    Args:
      images: [B, H, W, C].
      places: [B, 2, 3], from a place in the result to the one in the image; of these no derivatives are taken.
      resampled: bool [B]; else the map must take whole pixels to whole pixels.
    """
    if is_native():
        return _at_once(_resampled, _blitted)(images, places, resampled)
    return _MOVED.bind(images, places, resampled)


def _by_platform(resampled: Map, blitted: Map) -> Map:
    """Of a batch: on a CPU image by image, with arrays that stay in its cache, and nothing that is not needed."""

    def one(image: jax.Array, places: jax.Array, which: jax.Array) -> jax.Array:
        return jax.lax.cond(which, resampled, blitted, image, places)

    return lambda *arrays: jax.lax.platform_dependent(
        *arrays, cpu=lambda *arrays: jax.lax.map(lambda x: one(*x), arrays), default=_at_once(resampled, blitted)
    )


def _at_once(resampled: Map, blitted: Map) -> Map:
    def one(image: jax.Array, places: jax.Array, which: jax.Array) -> jax.Array:
        return jnp.where(which, resampled(image, places), blitted(image, places))

    return jax.vmap(one)


def _with_transpose(own: core.Primitive, other: core.Primitive) -> None:
    def derivative(primals: Any, tangents: Any) -> tuple[jax.Array, Any]:
        tangent = tangents[0]  # places have none
        return own.bind(*primals), tangent if type(tangent) is ad.Zero else own.bind(tangent, *primals[1:])

    def transpose(cotangent: Any, images: Any, places: jax.Array, resampled: jax.Array) -> tuple[Any, None, None]:
        zero = type(cotangent) is ad.Zero
        return ad.Zero(images.aval) if zero else other.bind(cotangent, places, resampled), None, None

    def batched(arrays: Any, axes: Any) -> tuple[jax.Array, int]:
        count = next(x.shape[axis] for x, axis in zip(arrays, axes, strict=True) if axis is not None)
        arrays = [
            jnp.broadcast_to(x, (count, *x.shape)) if axis is None else jnp.moveaxis(x, axis, 0)
            for x, axis in zip(arrays, axes, strict=True)
        ]
        out = own.bind(*(x.reshape(-1, *x.shape[2:]) for x in arrays))  # as one larger batch
        return out.reshape(count, -1, *out.shape[1:]), 0

    ad.primitive_jvps[own] = derivative
    ad.primitive_transposes[own] = transpose
    batching.primitive_batchers[own] = batched


_MOVED = primitive("moved", _by_platform(_resampled, _blitted))
_MOVED_BACK = primitive("moved_back", _by_platform(_resampled_back, _blitted_back))
_with_transpose(_MOVED, _MOVED_BACK)
_with_transpose(_MOVED_BACK, _MOVED)
