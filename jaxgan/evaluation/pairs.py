"""Distances between all pairs of two sets of features, in blocks of rows, and what is kept of them.

They come from |x|^2 + |y|^2 - 2 x.y, by a matrix product, after the mean is subtracted from all points. That rounds:
squared distances are off by about 1e-15 (|x|^2 + |y|^2), which is nothing for typical pairs, but is all that is left of
the distance of a copy. So the product only finds the neighbours. Each distance that is kept, and each comparison that
rounding could decide, is computed again from x - y: a copy is at distance 0, and the size of the blocks does not
matter. What remains: of neighbours whose distances differ by less than about 1e-7 |x|, the wrong one may be taken.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

BLOCK = 2**22  # distances that are held at once


class Hits(NamedTuple):
    """Which pairs (row, column) are no further apart than a radius."""

    rows: np.ndarray  # [N], whether any pair of the row is
    columns: np.ndarray  # [M], the same of the column
    pairs: int  # how many are


def checked(**features: tuple[ArrayLike, int]) -> list[np.ndarray]:
    """Sets of features as arrays, of the types they have.

    Args:
      **features: by the name that a message calls them: features [N, D], and how many samples there must be at least.

    Raises:
      ValueError: they are not of that shape with one D, are too few, or hold a NaN or an infinity.
    """
    arrays: list[np.ndarray] = []
    for name, (given, least) in features.items():
        x = np.asarray(given)
        if x.ndim != 2 or x.shape[1] == 0:
            raise ValueError(f"{name}: features are [N, D] with D above 0, not {list(x.shape)}")
        if len(x) < least:
            raise ValueError(f"{name}: there are {len(x)} samples, and {least} are needed")
        if not np.isfinite(x).all():
            raise ValueError(f"{name}: some features are not finite")
        arrays.append(x)
    if len({x.shape[1] for x in arrays}) > 1:
        named = zip(features, arrays, strict=True)
        raise ValueError(" and ".join(f"{name} has {x.shape[1]} features" for name, x in named))
    return arrays


def shifted(**features: tuple[ArrayLike, int]) -> list[np.ndarray]:
    """What `checked` takes and gives, as float64, less the mean of the first set.

    The mean is rounded to float32, so that float32 features lose no bit by the shift.
    """
    arrays = checked(**features)
    shift = arrays[0].mean(0, dtype=np.float64).astype(np.float32).astype(np.float64)
    return [x - shift for x in arrays]


def apart(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Squared distances [...] of points [..., D], from x - y: 0 for a copy, and the same from y - x."""
    return np.sum(np.square(x - y), axis=-1)


def squares(a: np.ndarray, b: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Rounded squared distances of some rows of `a` to all of `b`, [n, M], and which rows."""
    norms_a, norms_b = _norms(a), _norms(b)
    count = max(1, BLOCK // len(b))
    for start in range(0, len(a), count):
        rows = slice(start, min(start + count, len(a)))
        block = (-2 * a[rows]) @ b.T
        block += norms_a[rows, None]
        block += norms_b
        yield rows, block


def nearest(a: np.ndarray, b: np.ndarray, beyond: float = -np.inf) -> tuple[np.ndarray, np.ndarray]:
    """The nearest of `b` to each point of `a`: its squared distance, float64 [N], and which it is, [N].

    Points of `b` at the squared distance `beyond` or nearer do not count, where there are others.
    """
    index = np.empty(len(a), np.int64)
    for rows, block in squares(a, b):
        block[block <= beyond] = np.inf
        index[rows] = block.argmin(1)
    return np.concatenate([apart(a[i : i + 1000], b[index[i : i + 1000]]) for i in range(0, len(a), 1000)]), index


def nearest_few(a: np.ndarray, b: np.ndarray, k: int) -> np.ndarray:
    """Which of `b` are the k nearest to each point of `a`, the nearest first, [N, k]; k from 1 to M."""
    found = np.empty((len(a), k), np.int64)
    for rows, block in squares(a, b):
        near = np.argpartition(block, k - 1, axis=1)[:, :k]
        order = np.argsort(apart(a[rows, None], b[near]), axis=1, kind="stable")
        found[rows] = np.take_along_axis(near, order, axis=1)
    return found


def radii(x: np.ndarray, ks: Sequence[int]) -> list[np.ndarray]:
    """For each k, from 1 to N - 1, the squared distance of each point to its k-th nearest other point, [N]."""
    most = max(ks)
    found = np.empty((len(ks), len(x)))
    for rows, block in squares(x, x):
        np.fill_diagonal(block[:, rows], np.inf)
        near = np.argpartition(block, most - 1, axis=1)[:, :most]
        found[:, rows] = np.sort(apart(x[rows, None], x[near]), axis=1).T[[k - 1 for k in ks]]
    return list(found)


def hits(a: np.ndarray, b: np.ndarray, radii_a: Sequence[np.ndarray], radii_b: Sequence[np.ndarray] = ()) -> list[Hits]:
    """One pass over all pairs, for each squared radius around the points of `a`, [N], then of those around `b`, [M]."""
    found: list[list[Any]] = [[np.zeros(len(a), bool), np.zeros(len(b), bool), 0] for _ in (*radii_a, *radii_b)]
    norms_a, norms_b = _norms(a)[:, None], _norms(b)
    for rows, block in squares(a, b):
        balls = [(r[rows, None], norms_a[rows]) for r in radii_a] + [(r, norms_b) for r in radii_b]
        for hit, (radius, norms) in zip(found, balls, strict=True):
            inside = _inside(block, a[rows], b, radius, norms)
            hit[0][rows] = inside.any(1)
            hit[1] |= inside.any(0)
            hit[2] += int(np.count_nonzero(inside))
    return [Hits(*hit) for hit in found]


def _inside(block: np.ndarray, a: np.ndarray, b: np.ndarray, radius: np.ndarray, norms: np.ndarray) -> np.ndarray:
    """Which pairs are no further apart than the squared radius around a point of the squared norm.

    Both are of rows, [n, 1], or of columns, [M]. A point near the surface of a ball is no further from 0 than the
    ball's centre and radius together: this bounds the rounding of its distance, and so which pairs need a second look.
    """
    slack = 4 * (a.shape[1] + 4) * np.finfo(np.float64).eps * (3 * norms + 2 * radius)
    inside = block <= radius + slack
    unsure = np.flatnonzero(inside & (block >= radius - slack))
    radius = np.broadcast_to(radius, block.shape)
    count = max(1, BLOCK // 4 // a.shape[1])
    for start in range(0, len(unsure), count):
        i, j = np.divmod(unsure[start : start + count], len(b))
        inside[i, j] = apart(a[i], b[j]) <= radius[i, j]
    return inside


def _norms(x: np.ndarray) -> np.ndarray:
    return np.einsum("nd,nd->n", x, x)
