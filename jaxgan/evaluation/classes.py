"""Scores from the class probabilities that a classifier gives to generated images. NumPy in float64."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from jaxgan.labels import checked_labels


class InceptionScore(NamedTuple):
    """The Inception score.

    Attributes:
      mean: over the splits, from 1 to K, the number of classes.
      std: over the splits. It is not the error of the mean.
    """

    mean: float
    std: float


def inception_score(probabilities: ArrayLike, splits: int | None = None) -> InceptionScore:
    """exp(E KL(p(y|x) || p(y))), with p(y) the mean over a split (Salimans et al. 2016, arXiv:1606.03498).

    The samples are shuffled, always in the same way, and then split: were they in the order of their labels, each
    split would hold few classes, and the score would be far too low. Shuffle and splits are torch-fidelity's. With
    few samples in a split the score is too low; the usual number is 50,000 samples in 10 splits.

    Args:
      probabilities: [N, K], each row from 0 up with the sum 1. With any other classifier than Inception the score is
        on a scale of that classifier.
      splits: from 1 to N; by default 10, or as many as have 500 samples each.

    Raises:
      ValueError: the probabilities are not such, or there are more splits than samples.
    """
    p = _checked(probabilities)
    splits = max(1, min(10, len(p) // 500)) if splits is None else splits
    if not 1 <= splits <= len(p):
        raise ValueError(f"splits is {splits} and must be from 1 to the {len(p)} samples")
    p = p[np.random.RandomState(2020).permutation(len(p))]
    scores = []
    for n in range(splits):
        part = p[n * len(p) // splits : (n + 1) * len(p) // splits]
        share = np.broadcast_to(part.mean(0), part.shape)
        some = part > 0  # p log p is 0 where p is
        divergence = np.sum(part[some] * np.log(part[some] / share[some])) / len(part)
        scores.append(np.exp(divergence))
    return InceptionScore(float(np.mean(scores)), float(np.std(scores)))


def classes_covered(probabilities: ArrayLike) -> int:
    """How many classes have at least a tenth of an even share of the samples, N / (10 K), by likeliest class.

    Args:
      probabilities: [N, K], each row from 0 up with the sum 1.

    Returns:
      From 1 to K.

    Raises:
      ValueError: the probabilities are not such.
    """
    p = _checked(probabilities)
    counts = np.bincount(p.argmax(1), minlength=p.shape[1])
    return int(np.sum(10 * p.shape[1] * counts >= len(p)))


def label_agreement(probabilities: ArrayLike, labels: ArrayLike) -> float:
    """The share of samples whose likeliest class is the label that was asked for.

    Args:
      probabilities: [N, K], each row from 0 up with the sum 1.
      labels: [N], integers from 0 to K - 1.

    Returns:
      From 0 to 1.

    Raises:
      ValueError: the probabilities or labels are not such.
    """
    p = _checked(probabilities)
    return float(np.mean(p.argmax(1) == np.asarray(checked_labels(labels, *p.shape))))


def _checked(probabilities: ArrayLike) -> np.ndarray:
    p = np.asarray(probabilities, np.float64)
    if p.ndim != 2 or 0 in p.shape:
        raise ValueError(f"probabilities are [N, K] with N and K above 0, not {list(p.shape)}")
    if not np.isfinite(p).all():
        raise ValueError("some probabilities are not finite")
    if p.min() < 0 or np.abs(p.sum(1) - 1).max() > 1e-3:
        raise ValueError("probabilities are from 0 up, and each row has the sum 1; are these logits?")
    return p
