"""Distances between two sets of features: Fréchet's (FID, with Inception's features), and kernels' (KID, and CMMD's).

NumPy in float64: JAX has no float64 in a run, and all are small differences of large sums.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from jaxgan.evaluation import pairs
from jaxgan.evaluation.pairs import checked

ROWS = 4096  # that are centred at once


class Moments(NamedTuple):
    """What the Fréchet distance needs to know of a set of features.

    Attributes:
      mean: [D], float64.
      covariance: [D, D], float64, unbiased: the sum of squares is divided by count - 1.
      count: how many samples there were.
    """

    mean: np.ndarray
    covariance: np.ndarray
    count: int  # pyright: ignore[reportIncompatibleMethodOverride] a tuple counts by that name


class KernelDistance(NamedTuple):
    """The kernel distance, and how far off it may be.

    Attributes:
      mean: the estimate of MMD^2. Below 0 by chance where the distributions are nearly the same.
      standard_error: that of `mean`, from 0 up.
    """

    mean: float
    standard_error: float


def moments(features: ArrayLike) -> Moments:
    """Mean and covariance of features [N, D].

    Raises:
      ValueError: the features are not [N, D], are not finite, or are fewer than two.
    """
    (x,) = checked(features=(features, 2))
    mean = x.mean(0, dtype=np.float64)
    covariance = np.zeros((x.shape[1], x.shape[1]))
    for start in range(0, len(x), ROWS):
        centred = x[start : start + ROWS] - mean
        covariance += centred.T @ centred
    return Moments(mean, covariance / (len(x) - 1), len(x))


def frechet_distance(a: Moments | ArrayLike, b: Moments | ArrayLike) -> float:
    """The Fréchet distance between the Gaussians of two sets of features (Heusel et al. 2017, arXiv:1706.08500).

    |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)). The trace of that root is the sum of the singular values of
    S1^(1/2) S2^(1/2), which is right for singular covariances too: with fewer samples than features, for example.
    It grows as samples get fewer: compare only distances from as many samples.

    Eigenvalues that cannot be told from 0, at most D times the rounding of the largest, count as 0. Without that, the
    rounding of a singular covariance would show in the distance with its square root, about 1e-8 of the traces.

    Args:
      a: features [N, D], or their moments.
      b: features [M, D], or their moments.

    Returns:
      The squared distance, from 0 up. That of a set to itself is 0 but for rounding, about 1e-14 of the traces.

    Raises:
      ValueError: the two have different numbers of features, or a value is not finite.
    """
    a, b = (x if isinstance(x, Moments) else moments(x) for x in (a, b))
    _check(a, b)
    # S = V W V^T has the root V W^(1/2) V^T. The outer V of both roots change no singular value, and are left out.
    (wa, va), (wb, vb) = _eigen(a.covariance), _eigen(b.covariance)
    product = np.sqrt(wa)[:, None] * (va.T @ vb) * np.sqrt(wb)
    overlap = np.linalg.svd(product, compute_uv=False).sum()
    shift = np.asarray(a.mean, np.float64) - b.mean
    return max(0.0, float(shift @ shift + wa.sum() + wb.sum() - 2 * overlap))


def _check(a: Moments, b: Moments) -> None:
    for name, x in (("the first moments", a), ("the second moments", b)):
        if np.ndim(x.mean) != 1 or np.shape(x.covariance) != 2 * np.shape(x.mean):
            raise ValueError(f"{name}: mean {list(np.shape(x.mean))} and covariance {list(np.shape(x.covariance))}")
        if not (np.isfinite(x.mean).all() and np.isfinite(x.covariance).all()):
            raise ValueError(f"{name}: some values are not finite")
    if len(a.mean) != len(b.mean):
        raise ValueError(f"the first moments are of {len(a.mean)} features, the second of {len(b.mean)}")


def frechet_infinity(a: ArrayLike, b: Moments | ArrayLike, points: int = 15, seed: int = 0) -> float:
    """The Fréchet distance of infinitely many samples (Chong and Forsyth 2020, arXiv:1911.07023): FID_inf.

    The distance of N samples is about that of infinitely many and a multiple of 1 / N. It is measured of random parts
    of the samples, of so many sizes, evenly spaced from half of them to all (of 10,000 samples these are the paper's
    sizes); the least-squares line through it over 1 / N gives the distance where 1 / N is 0. What `b` lacks of
    infinitely many is not taken away.

    A half that has no more samples than features has a singular covariance, whose distances are on no line.

    Args:
      a: features [N, D], N above 2 D + 1.
      b: features [M, D], or their moments.
      points: how many sizes, from 2 up.
      seed: of the parts; no version of NumPy changes them.

    Returns:
      The squared distance. Below 0 by chance where the distributions are nearly the same.

    Raises:
      ValueError: features are not such or not finite, or points is out of range.
    """
    (x,) = checked(a=(a, 2))
    if len(x) // 2 <= x.shape[1]:
        raise ValueError(f"a: of {x.shape[1]} features {2 * x.shape[1] + 2} samples are needed, not {len(x)}")
    if points < 2:
        raise ValueError(f"points is {points} and must be 2 or more")
    reference = b if isinstance(b, Moments) else moments(b)
    _check(moments(x), reference)
    values, vectors = _eigen(reference.covariance)
    root = np.sqrt(values)[:, None] * vectors.T
    draws, sizes = np.random.RandomState(seed), np.linspace(len(x) // 2, len(x), points).astype(int)
    found: list[float] = []
    for size in sizes:
        part = moments(x[draws.permutation(len(x))[:size]])
        # The eigenvalues of S1 S2. Their roots are off by 1e-8 of the traces, which the line's own error is far above.
        both = np.linalg.eigvalsh(root @ part.covariance @ root.T)
        shift = part.mean - reference.mean
        overlap = np.sqrt(both.clip(0)).sum()
        found.append(float(shift @ shift + np.trace(part.covariance) + values.sum() - 2 * overlap))
    over = 1 / sizes - np.mean(1 / sizes)
    return float(np.mean(found) - over @ found / (over @ over) * np.mean(1 / sizes))


def _eigen(covariance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    values, vectors = np.linalg.eigh(np.asarray(covariance, np.float64))
    least = len(values) * np.finfo(np.float64).eps * values.max()
    return np.where(values > least, values, 0), vectors


def kernel_distance(a: ArrayLike, b: ArrayLike, subsets: int = 100, size: int = 1000, seed: int = 0) -> KernelDistance:
    """The unbiased MMD^2 with the kernel (x.y / D + 1)^3 (Bińkowski et al. 2018, arXiv:1801.01401): KID.

    The mean over `subsets` pairs of subsets, each of `size` samples of a set drawn without replacement, or of as many
    as the smaller set has. The draws are torch-fidelity's with the same seed, and no version of NumPy changes them.

    The standard error is that of the mean as an estimate for the two distributions. Its variance has two parts. The
    first comes from the draw of the subsets: their variance / subsets. That alone is too small, because subsets share
    samples: it is 0 where each subset is the whole set. The second comes from the draw of the sets themselves: the
    influence of a sample on MMD^2 is 2 (its mean kernel to the others of its set - to the other set), averaged over the
    subsets it is in, and the variance of the influences / N is added for each set. That is the jackknife but for terms
    of order 1 / N; it is right where the distributions differ, and about half too large where they are the same.

    Args:
      a: features [N, D].
      b: features [M, D].
      subsets: how many pairs of subsets, from 1 up.
      size: samples in a subset, from 2 up.
      seed: of the draws.

    Raises:
      ValueError: features are not [N, D] with one D, are not finite, or are fewer than two; or subsets or size is
        out of range.
    """
    a, b = (x.astype(np.float64) for x in checked(a=(a, 2), b=(b, 2)))
    if subsets < 1 or size < 2:
        raise ValueError(f"subsets is {subsets} and must be 1 or more; size is {size} and must be 2 or more")
    size = min(size, len(a), len(b))
    draws = np.random.RandomState(seed)
    values = np.empty(subsets)
    influences = [(np.zeros(len(x)), np.zeros(len(x))) for x in (a, b)]  # sums, and of how many
    for n in range(subsets):
        chosen = [draws.choice(len(x), size, replace=False) for x in (a, b)]
        x, y = a[chosen[0]], b[chosen[1]]
        across = _kernel(x, y)
        within = [_others(_kernel(x, x)), _others(_kernel(y, y))]
        values[n] = within[0].mean() + within[1].mean() - 2 * across.mean()
        for (total, times), rows, own, other in zip(
            influences, chosen, within, (across.mean(1), across.mean(0)), strict=True
        ):
            influence = 2 * (own - other)
            total[rows] += influence - influence.mean()
            times[rows] += 1
    variance = values.var(ddof=1) / subsets if subsets > 1 else 0.0
    for total, times in influences:
        seen = times > 0
        variance += (total[seen] / times[seen]).var(ddof=1) / len(total)
    return KernelDistance(float(values.mean()), float(np.sqrt(variance)))


def _kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    inner = x @ y.T / x.shape[1] + 1
    return inner * inner * inner


def _others(kernel: np.ndarray) -> np.ndarray:
    """The mean of each row of a square matrix without its diagonal."""
    return (kernel.sum(1) - kernel.diagonal()) / (len(kernel) - 1)


def gaussian_mmd(a: ArrayLike, b: ArrayLike, sigma: float = 10, scale: float = 1000) -> float:
    """The unbiased MMD^2 with the kernel exp(-|x - y|^2 / (2 sigma^2)), times `scale`, of features of length 1.

    It is the form of CMMD (Jayasumana et al. 2024, arXiv:2401.09603), which takes CLIP's features, and the mean with
    the diagonals, which grows as samples get fewer. As there, features are first divided by their lengths; those that
    are all 0 stay so. No two are then further apart than 2, and with the wide kernel of CMMD it hardly differs from
    scale / sigma^2 times the squared distance of the two means, so that it sees no difference of spread alone.

    Args:
      a: features [N, D], N above 1.
      b: features [M, D], M above 1.
      sigma: above 0.
      scale: above 0.

    Returns:
      From about 0 up; below 0 by chance where the distributions are nearly the same.

    Raises:
      ValueError: features are not of these shapes or not finite, or sigma or scale is out of range.
    """
    if not (sigma > 0 and scale > 0):
        raise ValueError(f"sigma is {sigma} and scale is {scale}; both must be above 0")
    x, y = (_unit(z.astype(np.float64)) for z in checked(a=(a, 2), b=(b, 2)))

    def off(first: np.ndarray, second: np.ndarray) -> float:
        """The sum of kernel - 1 over all pairs: near 0, where sums of kernels near 1 would round the difference."""
        return sum(float(np.expm1(block / (-2 * sigma**2)).sum()) for _, block in pairs.squares(first, second))

    n, m = len(x), len(y)
    within = off(x, x) / (n * (n - 1)) + off(y, y) / (m * (m - 1))  # of an image with itself it is 0
    return scale * (within - 2 * off(x, y) / (n * m))


def _unit(x: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(x, axis=1, keepdims=True)
    return x / np.where(lengths > 0, lengths, 1)
