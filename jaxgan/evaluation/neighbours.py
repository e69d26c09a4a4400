"""Scores from distances to nearest neighbours: precision, recall, density, coverage, realism, and copies of images.

NumPy in float64. `pairs` says how distances are computed, and what rounding remains: none for copies.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from jaxgan.evaluation import pairs

SAME = 1e-5  # of the points' root mean square: features of one image that are rounded in two ways are nearer


class PrecisionRecall(NamedTuple):
    """How much of the fakes looks real, and how much of the real images the fakes make up.

    Attributes:
      precision: the share of fakes inside a ball of a real image, 0 to 1.
      recall: the share of real images inside a ball of a fake, 0 to 1.
    """

    precision: float
    recall: float


class DensityCoverage(NamedTuple):
    """The same two questions, with balls of real images alone, so that no outlier among the fakes has a large ball.

    Attributes:
      density: in how many balls of real images a fake is, on average, divided by k: 0 up, near 1 for real images.
      coverage: the share of real images with a fake in their ball, 0 to 1.
    """

    density: float
    coverage: float


class NeighbourScores(NamedTuple):
    """The fields of `PrecisionRecall` and of `DensityCoverage`."""

    precision: float
    recall: float
    density: float
    coverage: float


def precision_recall(real: ArrayLike, fake: ArrayLike, k: int = 3) -> PrecisionRecall:
    """Kynkäänniemi et al. 2019 (arXiv:1904.06991).

    The ball around an image reaches to its k-th nearest neighbour in its own set, which is inside.

    Args:
      real: features [N, D], N above k.
      fake: features [M, D], M above k.
      k: from 1 up.

    Raises:
      ValueError: features are not of these shapes or not finite, or k is out of range.
    """
    real, fake = pairs.shifted(real=(real, _above(k)), fake=(fake, k + 1))
    of_real, of_fake = pairs.hits(real, fake, pairs.radii(real, [k]), pairs.radii(fake, [k]))
    return PrecisionRecall(float(of_real.columns.mean()), float(of_fake.rows.mean()))


def density_coverage(real: ArrayLike, fake: ArrayLike, k: int = 5) -> DensityCoverage:
    """Naeem et al. 2020 (arXiv:2002.09797), with the balls of `precision_recall`.

    A point on the surface of a ball is inside, as in `precision_recall`. The authors' code leaves it out, which
    differs where a fake is a copy of a real image: copies of all of them have density (k + 1) / k here, and 1 there.

    Args:
      real: features [N, D], N above k.
      fake: features [M, D].
      k: from 1 up.

    Raises:
      ValueError: features are not of these shapes or not finite, or k is out of range.
    """
    real, fake = pairs.shifted(real=(real, _above(k)), fake=(fake, 1))
    (of_real,) = pairs.hits(real, fake, pairs.radii(real, [k]))
    return DensityCoverage(of_real.pairs / (k * len(fake)), float(of_real.rows.mean()))


def neighbour_scores(real: ArrayLike, fake: ArrayLike, precision_k: int = 3, density_k: int = 5) -> NeighbourScores:
    """`precision_recall` and `density_coverage`, of the same arguments, in three passes over pairs instead of five."""
    least = max(_above(precision_k), _above(density_k))
    real, fake = pairs.shifted(real=(real, least), fake=(fake, precision_k + 1))
    of_real, wide, of_fake = pairs.hits(
        real, fake, pairs.radii(real, [precision_k, density_k]), pairs.radii(fake, [precision_k])
    )
    return NeighbourScores(
        precision=float(of_real.columns.mean()),
        recall=float(of_fake.rows.mean()),
        density=wide.pairs / (density_k * len(fake)),
        coverage=float(wide.rows.mean()),
    )


def realism(real: ArrayLike, fake: ArrayLike, k: int = 3) -> np.ndarray:
    """How realistic each fake is by itself (Kynkäänniemi et al. 2019, arXiv:1904.06991, equation 3).

    The largest, over real images, of the radius of the image's ball, as in `precision_recall`, divided by the distance
    to it: 1 or more is inside a ball. Of the balls those that are wider than the median are left out, so that one
    around an outlier makes nothing realistic.

    Args:
      real: features [N, D], N above k.
      fake: features [M, D], M above 0.
      k: from 1 up.

    Returns:
      float64 [M], from 0 up; infinite for copies of real images whose balls are there and wider than 0.

    Raises:
      ValueError: features are not of these shapes or not finite, or k is out of range.
    """
    real, fake = pairs.shifted(real=(real, _above(k)), fake=(fake, 1))
    (radii,) = pairs.radii(real, [k])
    small = radii <= np.median(radii)
    real, radii, found = real[small], radii[small], np.empty(len(fake))
    for rows, block in pairs.squares(fake, real):
        with np.errstate(over="ignore"):  # of a copy
            which = np.argmax(radii / np.maximum(block, np.finfo(np.float64).tiny), axis=1)
        squares, of = pairs.apart(fake[rows], real[which]), radii[which]
        found[rows] = np.sqrt(np.divide(of, squares, out=np.full(len(of), np.inf), where=squares > 0))
    return found


class Nearest(NamedTuple):
    """How near points are to the nearest of a set.

    Attributes:
      distances: float64 [N], from 0 up; that of a copy is 0.
      closeness: float64 [N], the distance divided by that of the nearest point to its own nearest other one in the
        set, copies of it left out. It is near 1 where the set is dense and where it is not. It is 0 for a copy, also
        where rounding has made its features a little different.
    """

    distances: np.ndarray
    closeness: np.ndarray


def nearest(a: ArrayLike, b: ArrayLike) -> Nearest:
    """How near each of the features `a`, [N, D], is to its nearest of `b`, [M, D].

    Where the distances of several of `b` differ by less than about 1e-7 |x|, x being the point less the mean of `b`,
    any of these may be taken.

    Raises:
      ValueError: features are not of these shapes, not finite, or `b` has less than two.
    """
    b, a = pairs.shifted(b=(b, 2), a=(a, 1))
    squares, index = pairs.nearest(a, b)
    which, back = np.unique(index, return_inverse=True)
    same = SAME**2 * np.mean(np.sum(b * b, axis=1))
    spacing = pairs.nearest(b[which], b, beyond=same)[0][back]
    spacing = np.where(spacing <= same, 0.0, spacing)  # all of the set are copies of one
    with np.errstate(divide="ignore", invalid="ignore"):
        closeness = np.where(squares <= same, 0.0, np.sqrt(squares / spacing))
    return Nearest(np.sqrt(squares), closeness)


def memorized(samples: ArrayLike, unseen: ArrayLike) -> float:
    """The share of samples that are copies of a training image, or closer to one than 99 of 100 unseen real images are.

    It is about 0.01 for real images that were not trained on, and 1 for copies. One sample many times over is no copy:
    it is not closer than others, only more frequent. It needs a few hundred unseen images. Those that are copies
    themselves, because the data have duplicates, do not count for the threshold.

    Args:
      samples: [N], of each generated image the closeness to its nearest training image, as `nearest` gives.
      unseen: [M], the same of real images that were not trained on.

    Returns:
      From 0 to 1.

    Raises:
      ValueError: a list is empty, is no list, or has a value that is negative or no number.
    """
    samples, unseen = _closeness(samples=samples, unseen=unseen)
    others = unseen[unseen > 0]
    close = np.quantile(others, 0.01, method="lower") if len(others) else 0.0
    return float(np.mean((samples == 0) | (samples < close)))


def authpct(closeness: ArrayLike) -> float:
    """The percentage of samples that are authentic: AuthPct (Stein et al. 2023, arXiv:2306.04675), of Alaa et al. 2022.

    A sample is authentic (arXiv:2102.08921, section 3.3) where it is further from its nearest training image than that
    one is from its own nearest other: of closeness above 1. Unlike the authors', ours does not count a copy of that
    training image as another one: where data have duplicates, it would make everything near them authentic.

    Args:
      closeness: [N], of each sample to its nearest training image, as `nearest` gives.

    Returns:
      From 0 to 100: of copies 0. Of real images that were not trained on it is no fixed number (58 of MNIST's), and of
      blurred and noisy ones it is higher: it is to be read beside theirs, and beside other scores.

    Raises:
      ValueError: it is empty, is no list, or has a value that is negative or no number.
    """
    return float(100 * np.mean(_closeness(samples=closeness)[0] > 1))


def _closeness(**lists: ArrayLike) -> list[np.ndarray]:
    found = [np.asarray(x, np.float64) for x in lists.values()]
    for name, x in zip(lists, found, strict=True):
        if x.ndim != 1 or not len(x) or np.isnan(x).any() or x.min() < 0:
            raise ValueError(f"{name}: must be [N] with N above 0, of numbers from 0 up")
    return found


def _above(k: int) -> int:
    if k < 1:
        raise ValueError(f"k is {k} and must be 1 or more")
    return k + 1
