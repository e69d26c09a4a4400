"""What features must be before a metric is computed from them."""

import numpy as np
from numpy.typing import ArrayLike


def checked(name: str, features: ArrayLike, least: int = 1) -> np.ndarray:
    """The features as an array, of the type they have.

    Args:
      name: what a message calls them.
      features: [N, D].
      least: how many samples the metric needs.

    Raises:
      ValueError: they are not of that shape, are too few, or hold a NaN or an infinity.
    """
    array = np.asarray(features)
    if array.ndim != 2 or array.shape[1] == 0:
        raise ValueError(f"{name}: features are [N, D] with D above 0, not {list(array.shape)}")
    if len(array) < least:
        raise ValueError(f"{name}: there are {len(array)} samples, and {least} are needed")
    if not np.isfinite(array).all():
        raise ValueError(f"{name}: some features are not finite")
    return array


def checked_pair(
    names: tuple[str, str], a: ArrayLike, b: ArrayLike, least: tuple[int, int] = (1, 1)
) -> tuple[np.ndarray, np.ndarray]:
    """Two sets of features, [N, D] and [M, D], each as an array.

    Raises:
      ValueError: as `checked`; or the two differ in D.
    """
    a, b = checked(names[0], a, least[0]), checked(names[1], b, least[1])
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"{names[0]} has {a.shape[1]} features and {names[1]} has {b.shape[1]}")
    return a, b
