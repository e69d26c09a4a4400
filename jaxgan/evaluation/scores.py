"""All scores of a set of images, against real ones."""

import numpy as np

from jaxgan.evaluation.classes import classes_covered, inception_score, label_agreement
from jaxgan.evaluation.distances import frechet_distance, kernel_distance
from jaxgan.evaluation.features import Embedded, Track, untracked
from jaxgan.evaluation.neighbours import memorized, nearest, neighbour_scores

CLOSE = 2_000  # images whose nearest training images are looked for

# What is better, by the score's name; of the others it depends.
LOWER = ("frechet_distance", "kernel_distance", "memorized")
HIGHER = ("inception_score", "classes_covered", "label_agreement", "precision", "recall", "density", "coverage")


def score(
    images: Embedded, reference: Embedded, labels: np.ndarray | None = None, track: Track = untracked, what: str = ""
) -> dict[str, float]:
    """The scores of images against a reference of real ones.

    Nearest neighbours depend on how many there are, so precision, recall, density and coverage are of as many of the
    one as of the other: a fixed choice of the larger set.

    Args:
      images: as from `embed`.
      reference: as from `embed`, with the same features.
      labels: int [N], the classes that the images were asked for; None where there are none.
      track: shows progress, as in `embed`.
      what: what the images are.

    Returns:
      By name: frechet_distance, kernel_distance and kernel_distance_error; precision, recall, density and coverage;
      and where the features have classes inception_score, classes_covered and, with `labels`, label_agreement.

    Raises:
      ValueError: there are too few images, or the features do not fit or are not finite.
    """

    def kernel() -> dict[str, float]:
        distance = kernel_distance(images.features, reference.features)
        return {"kernel_distance": distance.mean, "kernel_distance_error": distance.standard_error}

    def neighbours() -> dict[str, float]:
        count = min(len(images.features), len(reference.features))
        return neighbour_scores(choice(reference.features, count), choice(images.features, count))._asdict()

    def classes() -> dict[str, float]:
        if images.probabilities is None:
            return {}
        found = {"inception_score": inception_score(images.probabilities).mean}
        found["classes_covered"] = classes_covered(images.probabilities)
        return found if labels is None else found | {"label_agreement": label_agreement(images.probabilities, labels)}

    found = {}
    for part in track((lambda: {"frechet_distance": _frechet(images, reference)}, kernel, neighbours, classes), what):
        found |= part()
    return {name: float(value) for name, value in found.items()}


def _frechet(images: Embedded, reference: Embedded) -> float:
    return frechet_distance(images.features, reference.features)


def memorizing(images: Embedded, train: Embedded, unseen: np.ndarray) -> dict[str, float]:
    """How near images are to the training images, beside unseen real ones; of a fixed choice of `CLOSE` images.

    Args:
      images: as from `embed`.
      train: the training images, with the same features.
      unseen: [M], the closeness of unseen real images, as `nearest` gives.

    Returns:
      nearest_train: the median distance of an image to the nearest training image.
      memorized: as `jaxgan.evaluation.memorized` gives.

    Raises:
      ValueError: as in `score`.
    """
    found = nearest(choice(images.features, CLOSE), train.features)
    return {"nearest_train": float(np.median(found.distances)), "memorized": memorized(found.closeness, unseen)}


def halves(count: int, labels: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Which of `count` items make up two halves: always the same, by no order that the items have.

    Args:
      count: how many items.
      labels: int [count]; of each label's items either half then has half.

    Returns:
      int [count - count // 2] and [count // 2], both ascending.
    """
    order = np.random.RandomState(0).permutation(count)  # whose numbers NumPy keeps
    if labels is not None:
        order = order[np.argsort(labels[order], kind="stable")]
    return np.sort(order[::2]), np.sort(order[1::2])


def choice(array: np.ndarray, count: int) -> np.ndarray:
    """`count` rows of an array, in their order: always the same ones."""
    if count >= len(array):
        return array
    return array[np.sort(np.random.default_rng(0).permutation(len(array))[:count])]
