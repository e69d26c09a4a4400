"""All scores of a set of images, against real ones."""

from typing import NamedTuple

import numpy as np

from jaxgan.evaluation.classes import classes_covered, inception_score, label_agreement
from jaxgan.evaluation.distances import frechet_distance, kernel_distance, moments
from jaxgan.evaluation.features import Embedded
from jaxgan.evaluation.neighbours import memorized, nearest, neighbour_scores

# What is better, by the score's name; of the others it depends.
LOWER = ("frechet_distance", "kernel_distance", "memorized")
HIGHER = ("inception_score", "classes_covered", "label_agreement", "precision", "recall", "density", "coverage")


def score(images: Embedded, reference: Embedded, labels: np.ndarray | None = None) -> dict[str, float]:
    """The scores of images against a reference of real ones.

    Nearest neighbours depend on how many there are, so precision, recall, density and coverage are of as many of the
    one as of the other: a fixed choice of the larger set.

    Args:
      images: as from `embed`.
      reference: as from `embed`, with the same features.
      labels: int [N], the classes that the images were asked for; None where there are none.

    Returns:
      By name: frechet_distance, kernel_distance and kernel_distance_error; precision, recall, density and coverage;
      and where the features have classes inception_score, classes_covered and, with `labels`, label_agreement.

    Raises:
      ValueError: there are too few images, or the features do not fit or are not finite.
    """
    found = {"frechet_distance": frechet_distance(moments(images.features), moments(reference.features))}
    kernel = kernel_distance(images.features, reference.features)
    found |= {"kernel_distance": kernel.mean, "kernel_distance_error": kernel.standard_error}
    count = min(len(images.features), len(reference.features))
    found |= neighbour_scores(choice(reference.features, count), choice(images.features, count))._asdict()
    if images.probabilities is not None:
        found["inception_score"] = inception_score(images.probabilities)[0]
        found["classes_covered"] = classes_covered(images.probabilities)
        if labels is not None:
            found["label_agreement"] = label_agreement(images.probabilities, labels)
    return {name: float(value) for name, value in found.items()}


class Memorizing(NamedTuple):
    """How near images are to the training images.

    Attributes:
      nearest_train: the median distance of an image to the nearest training image.
      nearest_train_real: the same of real images that were not trained on.
      memorized: the share of images that are nearer than 99 in 100 of those real ones.
    """

    nearest_train: float
    nearest_train_real: float
    memorized: float


def memorizing(images: Embedded, train: Embedded, unseen: np.ndarray) -> Memorizing:
    """Compares the distances of images to their nearest training images with those of unseen real ones.

    Args:
      images: as from `embed`.
      train: the training images, with the same features.
      unseen: [M], the distance of each unseen real image to its nearest of `train`, by `nearest`.

    Raises:
      ValueError: as in `score`.
    """
    found = nearest(images.features, train.features)
    return Memorizing(float(np.median(found)), float(np.median(unseen)), memorized(found, unseen))


def choice(array: np.ndarray, count: int) -> np.ndarray:
    """`count` rows of an array, in their order: always the same ones."""
    if count >= len(array):
        return array
    return array[np.sort(np.random.default_rng(0).permutation(len(array))[:count])]
