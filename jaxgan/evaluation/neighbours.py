"""Scores from distances to nearest neighbours: precision, recall, density, coverage, and copies of training images.

NumPy in float64, in pieces of rows. Distances come from |x|^2 + |y|^2 - 2 x.y, by a matrix product, after a shift of
all features towards 0. That rounds: squared distances are off by about 1e-15 (|x|^2 + |y|^2), which is nothing for
typical pairs but all there is for copies. So the product only finds the neighbours. Each distance that is kept, and
each comparison too close to call, is computed anew from x - y: a copy is at distance 0, and no piece size matters.
What rounding remains: among neighbours whose distances differ by less than about 1e-7 |x|, the wrong one may be taken.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from jaxgan.evaluation.checks import checked_pair

PIECE = 2**21  # distances that are held at once


class PrecisionRecall(NamedTuple):
    """Precision: the share of fakes that look real. Recall: the share of real images that could be fakes. 0 to 1."""

    precision: float
    recall: float


class DensityCoverage(NamedTuple):
    """Density: from 0 up, near 1 for fakes as real ones. Coverage: the share of real images near a fake, 0 to 1."""

    density: float
    coverage: float


class NeighbourScores(NamedTuple):
    """Those of `precision_recall` and of `density_coverage`."""

    precision: float
    recall: float
    density: float
    coverage: float


class _Hits(NamedTuple):
    """Which of the pairs (row, column) are no further apart than a radius: of each row and column if any, how many."""

    rows: np.ndarray
    columns: np.ndarray
    pairs: int


def precision_recall(real: ArrayLike, fake: ArrayLike, k: int = 3) -> PrecisionRecall:
    """Kynkäänniemi et al. 2019 (arXiv:1904.06991).

    A ball around each image of a set reaches to its k-th nearest neighbour in the set, which is inside. Precision is
    the share of fakes inside a ball of a real image, recall that of real images inside a ball of a fake.

    Args:
      real: features [N, D], N above k.
      fake: features [M, D], M above k.
      k: from 1 up.

    Raises:
      ValueError: features are not of these shapes or not finite, or k is out of range.
    """
    real, fake = _shifted(("real", "fake"), real, fake, (_above(k), k + 1))
    of_real, of_fake = _hits(real, fake, _radii(real, [k]), _radii(fake, [k]))
    return PrecisionRecall(float(of_real.columns.mean()), float(of_fake.rows.mean()))


def density_coverage(real: ArrayLike, fake: ArrayLike, k: int = 5) -> DensityCoverage:
    """Naeem et al. 2020 (arXiv:2002.09797), with the balls of `precision_recall`.

    Density is in how many balls of real images a fake is, on average, divided by k. Coverage is the share of real
    images with a fake in their ball. A point on the surface is inside, as in `precision_recall`; the authors' code
    leaves it out, which differs where a fake is a copy of a real image: density is then up to (k + 1) / k.

    Args:
      real: features [N, D], N above k.
      fake: features [M, D].
      k: from 1 up.

    Raises:
      ValueError: features are not of these shapes or not finite, or k is out of range.
    """
    real, fake = _shifted(("real", "fake"), real, fake, (_above(k), 1))
    (hits,) = _hits(real, fake, _radii(real, [k]), [])
    return DensityCoverage(hits.pairs / (k * len(fake)), float(hits.rows.mean()))


def neighbour_scores(real: ArrayLike, fake: ArrayLike, precision_k: int = 3, density_k: int = 5) -> NeighbourScores:
    """`precision_recall` and `density_coverage` for three passes over pairs instead of five. Errors are theirs."""
    least = max(_above(precision_k), _above(density_k))
    real, fake = _shifted(("real", "fake"), real, fake, (least, precision_k + 1))
    of_real, wide, of_fake = _hits(real, fake, _radii(real, [precision_k, density_k]), _radii(fake, [precision_k]))
    density, coverage = wide.pairs / (density_k * len(fake)), float(wide.rows.mean())
    return NeighbourScores(float(of_real.columns.mean()), float(of_fake.rows.mean()), density, coverage)


def nearest(a: ArrayLike, b: ArrayLike) -> np.ndarray:
    """The distance of each of the features `a`, [N, D], to its nearest of `b`, [M, D]: float64 [N], from 0 up.

    Of a copy it is 0, or, where `b` holds several that are within about 1e-7 |x| of it, the distance to one of them.

    Raises:
      ValueError: features are not of these shapes, or not finite.
    """
    a, b = _shifted(("b", "a"), b, a, (1, 1))[::-1]
    found = np.empty(len(a))
    for rows, squares in _squares(a, b):
        found[rows] = _apart(a[rows], b[squares.argmin(1)])
    return np.sqrt(found)


def memorized(samples_to_train: ArrayLike, held_out_to_train: ArrayLike) -> float:
    """The share of samples that are nearer to a training image than 99 of 100 held-out real images are.

    Nearer than the 1st percentile of the held-out images' distances. It is about 0.01 for a generator that memorises
    nothing and makes images as the real ones are, and 1 for one that copies. It needs a few hundred held-out images.
    Where more than 1 in 100 of them are copies of training images, the percentile is 0, and so is the share.

    Args:
      samples_to_train: [N], of each generated image the distance to its nearest training image, by `nearest`.
      held_out_to_train: [M], the same of each real image that was not trained on.

    Returns:
      From 0 to 1.

    Raises:
      ValueError: a list of distances is empty, is no list, or has one that is negative or not finite.
    """
    samples, held_out = (np.asarray(x, np.float64) for x in (samples_to_train, held_out_to_train))
    for name, x in (("samples_to_train", samples), ("held_out_to_train", held_out)):
        if x.ndim != 1 or not len(x) or not np.isfinite(x).all() or x.min() < 0:
            raise ValueError(f"{name}: distances are [N] with N above 0, finite and not negative")
    return float(np.mean(samples < np.percentile(held_out, 1)))


def _above(k: int) -> int:
    if k < 1:
        raise ValueError(f"k is {k} and must be 1 or more")
    return k + 1


def _shifted(names: tuple[str, str], a: ArrayLike, b: ArrayLike, least: tuple[int, int]) -> tuple[np.ndarray, ...]:
    """Both sets as float64, less the mean of the first. It is rounded, so that float32 features lose no bit by it."""
    a, b = checked_pair(names, a, b, least)
    shift = a.mean(0, dtype=np.float64).astype(np.float32).astype(np.float64)
    return a - shift, b - shift


def _norms(x: np.ndarray) -> np.ndarray:
    return np.einsum("nd,nd->n", x, x)


def _apart(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Squared distances from the differences: of a copy 0, and the same for (x, y) as for (y, x)."""
    return np.sum(np.square(x - y), axis=-1)


def _squares(a: np.ndarray, b: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Rounded squared distances of some rows of `a` to all of `b`, [n, len(b)], and which rows."""
    squares_a, squares_b = _norms(a), _norms(b)
    count = max(1, PIECE // len(b))
    for start in range(0, len(a), count):
        rows = slice(start, min(start + count, len(a)))
        squares = (-2 * a[rows]) @ b.T
        squares += squares_a[rows, None]
        squares += squares_b
        yield rows, squares


def _radii(x: np.ndarray, ks: Sequence[int]) -> list[np.ndarray]:
    """For each k the squared distance of each point to its k-th nearest other point, [N]."""
    most = max(ks)
    found = np.empty((len(ks), len(x)))
    for rows, squares in _squares(x, x):
        np.fill_diagonal(squares[:, rows], np.inf)
        near = np.argpartition(squares, most - 1, axis=1)[:, :most]
        found[:, rows] = np.sort(_apart(x[rows, None], x[near]), axis=1).T[[k - 1 for k in ks]]
    return list(found)


def _hits(a: np.ndarray, b: np.ndarray, radii_a: Sequence[np.ndarray], radii_b: Sequence[np.ndarray]) -> list[_Hits]:
    """One pass over all pairs, for squared radii around the points of `a`, [len(a)], and of `b`, [len(b)]."""
    hits = [[np.zeros(len(a), bool), np.zeros(len(b), bool), 0] for _ in (*radii_a, *radii_b)]
    norms_a, norms_b = _norms(a)[:, None], _norms(b)
    for rows, squares in _squares(a, b):
        balls = [(r[rows, None], norms_a[rows]) for r in radii_a] + [(r, norms_b) for r in radii_b]
        for found, (radii, norms) in zip(hits, balls, strict=True):
            inside = _inside(squares, a[rows], b, radii, norms)
            found[0][rows] = inside.any(1)
            found[1] |= inside.any(0)
            found[2] += int(np.count_nonzero(inside))
    return [_Hits(*found) for found in hits]


def _inside(squares: np.ndarray, a: np.ndarray, b: np.ndarray, radii: np.ndarray, norms: np.ndarray) -> np.ndarray:
    """Which of `squares` are at most the squared radii around points of the squared `norms`, both by row or column.

    A point near the surface of a ball is no further from 0 than centre and radius together, which bounds rounding.
    """
    slack = 4 * (a.shape[1] + 4) * np.finfo(np.float64).eps * (3 * norms + 2 * radii)
    inside = squares <= radii + slack
    unsure = np.flatnonzero(inside & (squares >= radii - slack))
    radii = np.broadcast_to(radii, squares.shape)
    count = max(1, PIECE // a.shape[1])
    for start in range(0, len(unsure), count):
        i, j = np.divmod(unsure[start : start + count], len(b))
        inside[i, j] = _apart(a[i], b[j]) <= radii[i, j]
    return inside
