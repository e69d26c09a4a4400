"""All scores of a set of images, against real ones."""

from typing import Literal

import numpy as np

from jaxgan.evaluation.classes import classes_covered, inception_score, label_agreement
from jaxgan.evaluation.distances import frechet_distance, frechet_infinity, gaussian_mmd, kernel_distance
from jaxgan.evaluation.features import Embedded, Track, untracked
from jaxgan.evaluation.neighbours import authpct, memorized, nearest, neighbour_scores, realism
from jaxgan.evaluation.sliced import sliced_wasserstein

CLOSE = 2_000  # images whose nearest training images are looked for
MOST_REALISTIC = 1_000.0  # what a copy's realism, which is infinite, counts as

# What is better, by the score's name; of `OTHERS` it depends.
LOWER = (
    "frechet_distance",
    "frechet_infinity",
    "kernel_distance",
    "gaussian_mmd",
    "sliced_wasserstein",
    "memorized",
    "l1",
)
HIGHER = (
    "inception_score",
    "classes_covered",
    "label_agreement",
    "precision",
    "recall",
    "density",
    "coverage",
    "realism",
    "psnr",
)
OTHERS = ("kernel_distance_error", "nearest_train", "authpct")
BEST_BY: tuple[str, Literal["min", "max"]] = (
    "frechet_distance",
    "min",
)  # of checkpoints, where a recipe says nothing else
TITLES = {
    "frechet_distance": "Fréchet distance",
    "frechet_infinity": "Fréchet distance, infinitely many",
    "gaussian_mmd": "Gaussian MMD",
    "sliced_wasserstein": "sliced Wasserstein",
    "authpct": "AuthPct",
    "l1": "L1",
    "psnr": "PSNR (dB)",
}  # of the others it is the name


def score(
    images: Embedded, reference: Embedded, labels: np.ndarray | None = None, track: Track = untracked, what: str = ""
) -> dict[str, float]:
    """The scores of images against a reference of real ones.

    Nearest neighbours depend on how many there are, so precision, recall, density, coverage and realism are of as many
    of the one as of the other: a fixed choice of the larger set.

    Args:
      images: as from `embed`.
      reference: as from `embed`, with the same features.
      labels: int [N], the classes that the images were asked for; None where there are none.
      track: shows progress, as in `embed`.
      what: what the images are.

    Returns:
      By name: frechet_distance, and where there are more than twice as many images as features frechet_infinity;
      kernel_distance, kernel_distance_error, gaussian_mmd and sliced_wasserstein; precision, recall, density, coverage
      and realism, which is the median of the images', each `MOST_REALISTIC` at most; and where the features have
      classes inception_score, classes_covered and, with `labels`, label_agreement.

    Raises:
      ValueError: there are too few images, or the features do not fit or are not finite.
    """
    fake, real, probabilities = images.features, reference.features, images.probabilities
    found: dict[str, float] = {}
    for part in track(("frechet", "kernel", "sliced", "neighbours", "classes"), what):
        if part == "frechet":
            found["frechet_distance"] = frechet_distance(fake, real)
            if len(fake) // 2 > fake.shape[1]:
                found["frechet_infinity"] = frechet_infinity(fake, real)
        elif part == "kernel":
            found["kernel_distance"], found["kernel_distance_error"] = kernel_distance(fake, real)
            found["gaussian_mmd"] = gaussian_mmd(fake, real)
        elif part == "sliced":
            found["sliced_wasserstein"] = sliced_wasserstein(fake, real)
        elif part == "neighbours":
            count = min(len(fake), len(real))
            sets = choice(real, count), choice(fake, count)
            found |= neighbour_scores(*sets)._asdict()
            found["realism"] = float(np.median(np.minimum(realism(*sets), MOST_REALISTIC)))
        elif probabilities is not None:
            found["inception_score"] = inception_score(probabilities).mean
            found["classes_covered"] = float(classes_covered(probabilities))
            if labels is not None:
                found["label_agreement"] = label_agreement(probabilities, labels)
    return found


def memorizing(images: Embedded, train: Embedded, unseen: np.ndarray | None) -> dict[str, float]:
    """How near images are to the training images, beside unseen real ones; of a fixed choice of `CLOSE` images.

    Args:
      images: as from `embed`.
      train: the training images, with the same features.
      unseen: [M], the closeness of unseen real images, as `nearest` gives; None where there are none.

    Returns:
      nearest_train: the median distance of an image to the nearest training image.
      memorized: as `jaxgan.evaluation.memorized` gives; without unseen images it is left out.
      authpct: as `jaxgan.evaluation.authpct` gives.

    Raises:
      ValueError: as in `score`.
    """
    found = nearest(choice(images.features, CLOSE), train.features)
    copies = {} if unseen is None else {"memorized": memorized(found.closeness, unseen)}
    return {"nearest_train": float(np.median(found.distances)), **copies, "authpct": authpct(found.closeness)}


def title(name: str) -> str:
    """A score's name as text."""
    return TITLES.get(name) or name.replace("_", " ")


def halves(count: int, labels: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Which of `count` items make up two halves: always the same, in a pseudo-random order.

    Args:
      count: how many items.
      labels: int [count]; each half then has half of the items of each label.

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
