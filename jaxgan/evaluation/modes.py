"""How many modes a generator covers, and how evenly: of Stacked MNIST, or of points. NumPy in float64.

Of Stacked MNIST there are 1,000: an image's mode is what a classifier of MNIST sees in its red, green and blue, of 10
digits each.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from jaxgan.evaluation.features import Track, classifier, embed, untracked

DIGITS = 10
MODES = DIGITS**3
SAMPLES = 25_600  # as published numbers are of


class Modes(NamedTuple):
    """What of the modes occurs among samples.

    Attributes:
      found: how many modes occur at least once, from 1 to 1,000.
      divergence: KL(frequencies || uniform) in nats, from 0 to log(1000) = 6.91.
      floor: what the divergence of as many perfect samples is expected to be.
    """

    found: int
    divergence: float
    floor: float


class PointModes(NamedTuple):
    """What of the modes of a mixture of normal distributions occurs among points.

    Attributes:
      found: how many modes have a good point: one within three standard deviations of their centre.
      good: the share of good points among all, from 0 to 1.
      divergence: KL(frequencies || uniform) of the good points in nats; nan without any.
    """

    found: int
    good: float
    divergence: float


def modes_of_points(points: ArrayLike, centres: ArrayLike, deviation: float) -> PointModes:
    """Counts modes of points, each of which belongs to the nearest centre (Lin et al. 2018, arXiv:1712.04086, 4.1).

    Args:
      points: floats [N, D].
      centres: of the modes, floats [modes, D].
      deviation: the modes' standard deviation in each direction.

    Raises:
      ValueError: there are no points, or they have other coordinates than the centres.
    """
    points, centres = np.asarray(points, np.float64), np.asarray(centres, np.float64)
    if points.ndim != 2 or not len(points) or points.shape[1:] != centres.shape[1:]:
        raise ValueError(f"points must be [N, {centres.shape[-1]}] with N above 0, not {list(points.shape)}")
    distances = np.linalg.norm(points[:, None] - centres, axis=-1)
    counts = np.bincount(distances.argmin(1)[distances.min(1) < 3 * deviation], minlength=len(centres))
    found, good = int(np.sum(counts > 0)), counts.sum() / len(points)
    return PointModes(found, float(good), _divergence(counts) if found else float("nan"))


def modes(digits: ArrayLike) -> Modes:
    """Counts modes, and compares their frequencies with uniform ones (Lin et al. 2017, arXiv:1712.04086).

    Args:
      digits: [N, 3], integers from 0 to 9: what is seen in each channel, as from `digits_in`.

    Raises:
      ValueError: the digits are not such.
    """
    digits = np.asarray(digits)
    if digits.ndim != 2 or digits.shape[1] != 3 or not len(digits) or not np.issubdtype(digits.dtype, np.integer):
        raise ValueError(f"digits are integers [N, 3] with N above 0, not {digits.dtype} {list(digits.shape)}")
    if digits.min() < 0 or digits.max() >= DIGITS:
        raise ValueError(f"digits are from 0 to {DIGITS - 1}, not from {digits.min()} to {digits.max()}")
    counts = np.bincount(digits @ np.array([100, 10, 1]), minlength=MODES)
    return Modes(int(np.sum(counts > 0)), _divergence(counts), expected_divergence(len(digits)))


def _divergence(counts: np.ndarray) -> float:
    """KL(frequencies || uniform) of how often each mode occurs, [modes]."""
    shares = counts[counts > 0] / counts.sum()
    return float(np.sum(shares * np.log(shares * len(counts))))


def expected_divergence(count: int, of: int = MODES) -> float:
    """The mean of KL(frequencies || uniform) over draws of `count` samples, each of the modes as likely; exact.

    For many samples it is near (of - 1) / (2 count). Each mode's count n is binomial, and the divergence is
    log(of / count) + sum n log n / count.

    Args:
      count: how many samples.
      of: how many modes.
    """
    if of == 1:
        return 0.0
    n = np.arange(count + 1)
    log_factorial = np.concatenate([[0.0], np.cumsum(np.log(n[1:]))])
    log_choose = log_factorial[-1] - log_factorial - log_factorial[::-1]
    share = np.exp(log_choose - n * np.log(of) + (count - n) * np.log1p(-1 / of))
    return float(np.log(of / count) + of / count * np.sum(share[1:] * n[1:] * np.log(n[1:])))


def digits_in(images: np.ndarray, track: Track = untracked) -> np.ndarray:
    """The digit in each channel of images, int [N, 3], by the classifier of MNIST that comes with the package.

    An image's digits do not depend on how many others are looked at with it.

    Args:
      images: uint8 [N, H, W, 3]; resized to 28x28.
      track: shows progress, as in `embed`.

    Raises:
      ValueError: the images are of another kind.
    """
    if images.ndim != 4 or images.shape[-1] != 3:
        raise ValueError(f"images must be uint8 [N, H, W, 3], not {images.dtype} {list(images.shape)}")
    features = classifier("mnist")
    seen = (
        embed(features, images[..., [c]], track, f"{name} digits") for c, name in enumerate(("red", "green", "blue"))
    )
    return np.stack([np.asarray(of.probabilities).argmax(1) for of in seen], axis=1)
