"""What scores images: against which real ones, by which features, beside which floor."""

import dataclasses
import functools
import json
from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from jaxgan import evaluation
from jaxgan.commands.held_out import HeldOut
from jaxgan.commands.pictures import Pictures
from jaxgan.commands.real_images import LEAST, Real, load
from jaxgan.data import DataError
from jaxgan.evaluation import cache
from jaxgan.evaluation.features import Embedded, Features, Track, untracked
from jaxgan.evaluation.scores import CLOSE, HIGHER, LOWER, OTHERS, choice, halves, memorizing
from jaxgan.recipes.settings import Recipe

COUNT = 10_000  # samples of a score, where there are as many real images
VERSION = 2  # of how scores are computed, and of what is kept on disk of real images

Split = Literal["test", "train"]


@dataclasses.dataclass(frozen=True, eq=False)
class Scorer:
    """Scores the samples of a recipe's runs, or pictures. What it needs of the data is read when it is asked for.

    Data with a split named test have it as their held-out images. Of other data one half counts as held out, though a
    run was trained on it.

    Attributes:
      recipe: of the runs; or the real pictures that samples are compared with.
      features: what samples and real images are seen with.
      reference: which real images samples are compared with; the floor is that of the others.
      data_dir: where TensorFlow Datasets keeps its data.
      track: shows progress, as in `evaluation.embed`.
      whole: whether samples are compared with all images of the split that runs are trained on; there is no floor then.
    """

    recipe: Recipe | Pictures
    features: Features
    reference: Split = "test"
    data_dir: str | None = None
    track: Track = untracked
    whole: bool = False
    _memory: dict[str, cache.Arrays] = dataclasses.field(default_factory=dict[str, cache.Arrays])

    @functools.cached_property
    def trained(self) -> Real:
        """All images that a run is trained on."""
        return load(self.recipe, self.recipe.split, self.data_dir)

    @functools.cached_property
    def train(self) -> Real:
        """Images that runs are trained on, none of which is in `test`."""
        if not self._has_test:
            return self.trained.half(0)
        return load(self.recipe, "train", self.data_dir) if "test" in self.recipe.split else self.trained

    @property
    def test(self) -> Real:
        """Images that are held out."""
        test = self._test
        if len(test.images) < LEAST:
            raise DataError(
                f"{test.data}: {len(test.images)} images ({test.split}) are too few to compare samples with; "
                f"{LEAST} are needed"
            )
        return test

    @functools.cached_property
    def _test(self) -> Real:
        """The same, be they too few or not."""
        return load(self.recipe, "test", self.data_dir) if self._has_test else self.trained.half(1)

    @property
    def _has_test(self) -> bool:
        return self.recipe.keeps_apart(self.data_dir)

    @property
    def real(self) -> Real:
        """The real images that samples are compared with; without features, those whose conditions they are made of."""
        if self.whole:
            return self._all
        if self.not_by_features:
            return self._test
        return self.test if self.reference == "test" else self.train

    @functools.cached_property
    def _all(self) -> Real:
        return dataclasses.replace(self.trained, split="all of them")

    @property
    def others(self) -> Real:
        """The real images that the floor is of."""
        return self.train if self.reference == "test" else self.test

    @functools.cached_property
    def conditions(self) -> HeldOut:
        """The held-out conditions that samples are made of, where the recipe has a condition."""
        return HeldOut(self.recipe, self.data_dir)

    @functools.cached_property
    def not_by_features(self) -> str:
        """Why features do not compare samples: paired images may be too few, or of four channels; "" where they do."""
        try:
            if self.conditions.pairs:
                self.embed(self.test)
        except ValueError as error:
            if self.features.kept or isinstance(error, DataError):
                return str(error)
            raise  # by features of one's own
        return ""

    def embed(self, real: Real) -> Embedded:
        """The features of real images, computed once."""

        def make() -> cache.Arrays:
            what = f"features of {len(real.images):,} real images"
            embedded = evaluation.embed(self.features, real.images, self.track, what)
            return {name: x for name, x in embedded._asdict().items() if x is not None}

        return Embedded(**self._kept(["features", real.sha256], make))

    def _unseen(self) -> evaluation.Nearest:
        """How near held-out images are to training images; of a fixed choice of twice `CLOSE` held-out images."""
        seen = not self._has_test or "test" in self.recipe.split  # then without those held-out images among them
        train, test = self.train if seen else self.trained, self.test

        def make() -> cache.Arrays:
            chosen = choice(self.embed(test).features, 2 * CLOSE)
            return evaluation.nearest(chosen, self.embed(train).features)._asdict()

        return evaluation.Nearest(**self._kept(["nearest", train.sha256, test.sha256], make))

    def _unseen_closeness(self) -> tuple[np.ndarray, np.ndarray]:
        """That of two halves of the unseen images: the first says what is close, the second is measured by it."""
        closeness = self._unseen().closeness
        first, second = halves(len(closeness))
        return closeness[first], closeness[second]

    def _kept(self, decided_by: list[Any], make: Callable[[], cache.Arrays]) -> cache.Arrays:
        """Arrays that real images and features decide: kept here, and on disk where a digest says all of the latter."""
        key = json.dumps(decided_by)
        if key not in self._memory:
            decided_by = [*decided_by, self.features.sha256, VERSION]
            self._memory[key] = cache.cached(decided_by, make) if self.features.kept else make()
        return self._memory[key]

    def default_count(self) -> int:
        """How many samples are drawn: as many as there are images for the floor, or `COUNT`."""
        if self.whole:
            return COUNT
        return min(COUNT, len((self.real if self.not_by_features else self.others).images))

    def floor(self, count: int) -> dict[str, float]:
        """The scores of the other real images, as many as `count` or as there are.

        With their number, `count`, and the share of held-out images that are copies of training images, `duplicates`.
        There is none of distances to targets, and none where all images are compared with.
        """
        if self.not_by_features or self.whole:
            return {"count": 0}
        others, chosen = self.others, choice(np.arange(len(self.others.images)), count)
        labels = others.labels if self.recipe.classes and others.classes == self.features.classes else None
        labels = None if labels is None else labels[chosen]

        def make() -> cache.Arrays:
            features, probabilities = self.embed(others)
            held_out = Embedded(features[chosen], None if probabilities is None else probabilities[chosen])
            what = f"scores of {len(chosen):,} real images"
            found = evaluation.score(held_out, self.embed(self.real), labels, self.track, what)
            unseen, (calibration, unseen_closeness) = self._unseen(), self._unseen_closeness()
            found["nearest_train"] = float(np.median(unseen.distances))
            found["memorized"] = evaluation.memorized(unseen_closeness, calibration)
            found["authpct"] = evaluation.authpct(unseen.closeness)
            found["duplicates"] = float(np.mean(unseen.closeness == 0))
            return {name: np.asarray(value) for name, value in found.items()} | {"count": np.asarray(len(chosen))}

        names = sorted((*LOWER, *HIGHER, *OTHERS))  # a floor of fewer scores, by an older program, is another file
        decided_by = ["floor", names, self.real.sha256, others.sha256, self.trained.sha256, len(chosen)]
        decided_by += [None if labels is None else labels.tolist()]
        found = {name: float(value) for name, value in self._kept(decided_by, make).items()}
        return found | {"count": int(found["count"])}

    def see(self, images: np.ndarray) -> Embedded:
        """The features of samples, uint8 [N, H, W, C].

        Raises:
          ValueError: they are of another kind.
        """
        return evaluation.embed(self.features, images, self.track, f"features of {len(images):,} samples")

    def score(
        self, images: np.ndarray, labels: np.ndarray | None = None, seen: Embedded | None = None
    ) -> dict[str, float]:
        """The scores of samples, by name.

        Args:
          images: uint8 [N, H, W, C], as from `draw`; those of a recipe with a condition made of `conditions.given(N)`.
          labels: int [N], the classes that they were asked for; left out where the features know other classes.
          seen: as from `see`, where that has been called.

        Raises:
          ValueError: there are too few images.
          DataError: the real images cannot be had.
        """
        if self.not_by_features:
            return self.conditions.distances(images)
        embedded = seen or self.see(images)
        labels = labels if self.real.classes == self.features.classes else None
        what = f"scores of {len(images):,} samples"
        found = evaluation.score(embedded, self.embed(self.real), labels, self.track, what)
        unseen = None if self.whole else self._unseen_closeness()[0]
        found |= memorizing(embedded, self.embed(self.trained), unseen)
        return found | self.conditions.distances(images)
