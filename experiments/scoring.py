"""How runs are scored: against which real images, with which features, and what is written of it.

A score is a dict that says all it depends on, so that two can be compared, or are refused to be:

    step, weights          which generator it is of
    count, seed            how many samples, and what decides their latents
    features               the name and the SHA-256
    reference              the real images: data, split, count, SHA-256
    scores, floor          by name, as in `jaxgan.evaluation`; the floor is that of as many held-out real images
"""

import dataclasses
import functools
from typing import Any, Literal

import jax
import numpy as np

import jaxgan
from experiments.settings import Recipe
from jaxgan import GAN, GANState, data, evaluation
from jaxgan.data import DataError
from jaxgan.evaluation import cache
from jaxgan.evaluation.features import Embedded, Features, Track
from jaxgan.evaluation.scores import HIGHER, LOWER, choice
from jaxgan.sampling import sample_labels

COUNT = 10_000  # samples of a score, where there are as many real images

Split = Literal["train", "test"]


@dataclasses.dataclass(frozen=True, eq=False)
class Real:
    """Real images that samples are compared with.

    Attributes:
      data: their name.
      split: which of the data's images they are.
      images: as in `Dataset`.
      labels: as in `Dataset`.
      classes: as in `Dataset`.
      run_sha256: what the config.json of a run on this data says of it; None where a run is on other images.
    """

    data: str
    split: str
    images: np.ndarray
    labels: np.ndarray | None
    classes: tuple[str, ...]
    run_sha256: str | None = None

    @functools.cached_property
    def sha256(self) -> str:
        """Of the images."""
        return data.Dataset(self.data, self.images).sha256()

    def known_by(self) -> dict[str, Any]:
        """What a score says of them."""
        return {"data": self.data, "split": self.split, "count": len(self.images), "sha256": self.sha256}


@dataclasses.dataclass(frozen=True, eq=False)
class Yardstick:
    """What the samples of a recipe's runs are measured with. What it needs of the data is read when it is asked for.

    Attributes:
      recipe: of the runs.
      features: what samples and real images are seen with.
      reference: which real images samples are compared with; the floor is that of the others.
      data_dir: where TensorFlow Datasets keeps its data.
      track: shows progress, as in `evaluation.embed`.
    """

    recipe: Recipe
    features: Features
    reference: Split = "test"
    data_dir: str | None = None
    track: Track = lambda items, what: items

    @functools.cached_property
    def train(self) -> Real:
        """Images that runs are trained on."""
        return real_images(self.recipe, "train", self.data_dir)

    @functools.cached_property
    def test(self) -> Real:
        """Images that are held out."""
        return real_images(self.recipe, "test", self.data_dir)

    def real(self, split: Split) -> tuple[Real, Embedded]:
        """The images of a split, and their features, which are kept on disk."""
        return (self.train, self._train_features) if split == "train" else (self.test, self._test_features)

    @functools.cached_property
    def _train_features(self) -> Embedded:
        return self._embed(self.train)

    @functools.cached_property
    def _test_features(self) -> Embedded:
        return self._embed(self.test)

    @functools.cached_property
    def unseen(self) -> np.ndarray:
        """The distance of each held-out image to its nearest training image: float64 [N]."""
        return evaluation.nearest(self._test_features.features, self._train_features.features)

    def _embed(self, real: Real) -> Embedded:
        what = f"features of {len(real.images):,} real images"
        embed = functools.partial(evaluation.embed, self.features, real.images, self.track, what)
        return cache.cached(real.sha256, self.features, embed)

    def default_count(self) -> int:
        """How many samples are drawn: as many as there are held-out images for the floor, or `COUNT`."""
        others = self.test if self.reference == "train" else self.train
        return min(COUNT, len(others.images))


def yardstick(
    recipe: Recipe,
    data_dir: str | None = None,
    reference: Split = "test",
    features: Features | None = None,
    track: Track = Yardstick.track,
) -> Yardstick:
    """What a recipe's runs are measured with; the features are by default those of the data's own classifier."""
    if features is None:
        name = evaluation.for_data(recipe.data) if isinstance(recipe.data, str) else evaluation.features.OTHER
        features = evaluation.classifier(name, recipe.border)
    return Yardstick(recipe, features, reference, data_dir, track)


def real_images(recipe: Recipe, which: Split, data_dir: str | None = None) -> Real:
    """The images of a recipe's data to compare with: those that it is trained on, or the others.

    Data with a split named test have it as the others. Of other data every second image counts as held out, though a
    run was trained on it.

    Raises:
      DataError: the data cannot be had, or are too few.
    """
    has_test = isinstance(recipe.data, str) and "test" in data.splits(recipe.data, data_dir)
    split = recipe.split
    if has_test:
        split = "test" if which == "test" else "train" if "test" in recipe.split else recipe.split
    dataset = recipe.replace(split=split).load_data(data_dir)
    digest = dataset.sha256(labels=bool(recipe.classes)) if split == recipe.split else None
    if has_test:
        return Real(dataset.name, split, dataset.images, dataset.labels, dataset.classes, digest)
    if len(dataset.images) < 20:
        raise DataError(f"{dataset.name}: {len(dataset.images)} images are too few to compare samples with")
    split, half = ("odd", slice(1, None, 2)) if which == "test" else ("even", slice(0, None, 2))
    labels = None if dataset.labels is None else dataset.labels[half]
    return Real(dataset.name, split, dataset.images[half], labels, dataset.classes, digest)


def draw(gan: GAN, state: GANState, key: jax.Array, count: int, averaged: bool) -> tuple[np.ndarray, np.ndarray | None]:
    """Samples, uint8 [count, H, W, C], and the labels that they were asked for."""
    labels = sample_labels(gan, key, count)
    images = np.asarray(jaxgan.sample(gan, state, key, count, averaged, labels=labels))
    return images, None if labels is None else np.asarray(labels)


def score_samples(by: Yardstick, images: np.ndarray, labels: np.ndarray | None = None) -> dict[str, float]:
    """The scores of samples, by name.

    Args:
      by: what they are measured with.
      images: uint8 [N, H, W, C].
      labels: int [N], the classes that they were asked for; left out where the features know other classes.

    Raises:
      ValueError: there are too few images.
      DataError: the real images cannot be had.
    """
    fake = evaluation.embed(by.features, images, by.track, f"features of {len(images):,} samples")
    reference, embedded = by.real(by.reference)
    found = evaluation.score(fake, embedded, labels if reference.classes == by.features.classes else None)
    near = evaluation.memorizing(fake, by.real("train")[1], by.unseen)
    return found | {"nearest_train": near.nearest_train, "memorized": near.memorized}


def floor(by: Yardstick, count: int) -> dict[str, float]:
    """The scores of held-out real images, as many as `count` or as there are; with their number, `count`."""
    others, embedded = by.real("train" if by.reference == "test" else "test")
    chosen = choice(np.arange(len(others.images)), count)
    held_out = Embedded(*(None if x is None else x[chosen] for x in embedded))
    labels = others.labels if by.recipe.classes and others.classes == by.features.classes else None
    found = evaluation.score(held_out, by.real(by.reference)[1], None if labels is None else labels[chosen])
    near = {"nearest_train": float(np.median(by.unseen)), "memorized": evaluation.memorized(by.unseen, by.unseen)}
    return found | near | {"count": len(chosen)}


def described(
    by: Yardstick,
    step: int,
    weights: str,
    seed: int,
    count: int,
    scores: dict[str, float],
    least: dict[str, float],
) -> dict[str, Any]:
    """A score with all that it depends on, and its floor."""
    of = {"step": step, "weights": weights, "count": count, "seed": seed}
    return of | kind(by, count) | {"scores": scores, "floor": least}


def kind(by: Yardstick, count: int) -> dict[str, Any]:
    """What two scores must have in common to be compared: `differences` looks at it."""
    reference = by.test if by.reference == "test" else by.train
    return {
        "count": count,
        "features": {"name": by.features.name, "sha256": by.features.sha256},
        "reference": reference.known_by(),
    }


def differences(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """Why two scores must not be compared, as text; nothing where they may be."""
    fields = {
        "samples": lambda score: score["count"],
        "features": lambda score: (score["features"]["name"], score["features"]["sha256"][:8]),
        "reference": lambda score: tuple(str(value)[:12] for value in score["reference"].values()),
    }
    return [f"{name}: {get(one)} and {get(other)}" for name, get in fields.items() if get(one) != get(other)]


def table(score: dict[str, Any]) -> str:
    """A score as lines of text, beside its floor."""
    reference, scores, least = score["reference"], score["scores"], score["floor"]
    against = f"{reference['count']:,} real images ({reference['data']}, {reference['split']})"
    lines = [
        f"step {score['step']:,}, {score['weights']} weights: {score['count']:,} samples against "
        f"{against}, features {score['features']['name']}",
        f"{'':<24}{'samples':>10}{'floor':>10}   the floor is of {least['count']:,} other real images",
    ]
    better = dict.fromkeys(LOWER, "lower is better") | dict.fromkeys(HIGHER, "higher is better")
    for name, value in scores.items():
        beside = f"{least[name]:>10.4g}" if name in least else f"{'':>10}"
        lines.append(f"{name:<24}{value:>10.4g}{beside}   {better.get(name, '')}".rstrip())
    return "\n".join(lines)
