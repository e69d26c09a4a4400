"""The sliced Wasserstein distance: how far the features of two sets have to be moved, seen along many directions."""

import numpy as np
from numpy.typing import ArrayLike

from jaxgan.evaluation.pairs import checked

AT_ONCE = 32  # directions


def sliced_wasserstein(a: ArrayLike, b: ArrayLike, directions: int = 256, seed: int = 0) -> float:
    """The sliced Wasserstein distance of order 2 (Bonneel et al. 2015, doi:10.1007/s10851-014-0506-3).

    The root of the mean, over random directions, of the squared Wasserstein distance between what the two sets project
    to. On a line that is exact: the sorted values of the one are moved to those of the other, also where one set is
    larger. A shift by s alone is |s| / sqrt(D) far. It grows as samples get fewer.

    Args:
      a: features [N, D], N above 0.
      b: features [M, D], M above 0.
      directions: how many, from 1 up; even over the sphere.
      seed: of the directions; no version of NumPy changes them.

    Returns:
      From 0 up, in the features' units; 0 for the same set in any order.

    Raises:
      ValueError: features are not of these shapes or not finite, or directions is out of range.
    """
    x, y = (z.astype(np.float64) for z in checked(a=(a, 1), b=(b, 1)))
    if directions < 1:
        raise ValueError(f"directions is {directions} and must be 1 or more")
    towards = np.random.RandomState(seed).normal(size=(directions, x.shape[1]))
    towards /= np.linalg.norm(towards, axis=1, keepdims=True)
    # Both quantile functions are steps. Between two ends of a step of either, in whole numbers of 1 / (N M), both stay.
    ends = np.union1d(np.arange(len(x) + 1) * len(y), np.arange(len(y) + 1) * len(x))
    of_x, of_y, share = ends[:-1] // len(y), ends[:-1] // len(x), np.diff(ends) / ends[-1]
    squares = 0.0
    for start in range(0, directions, AT_ONCE):
        some = towards[start : start + AT_ONCE]
        moved = np.sort(some @ x.T)[:, of_x] - np.sort(some @ y.T)[:, of_y]
        squares += float(np.sum(np.square(moved) @ share))
    return float(np.sqrt(squares / directions))
