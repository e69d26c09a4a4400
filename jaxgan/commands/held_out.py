"""Held-out conditions: what a GAN with a condition is scored on, and the targets that its images are compared with."""

import dataclasses
import functools

import numpy as np

from jaxgan import Batch, evaluation
from jaxgan.commands.pictures import Pictures
from jaxgan.commands.real_images import without_border
from jaxgan.recipes.settings import Recipe


@dataclasses.dataclass(frozen=True, eq=False)
class HeldOut:
    """The held-out conditions of a recipe's data in `data_dir`, read when they are asked for; pictures have none."""

    recipe: Recipe | Pictures
    data_dir: str | None
    _given: dict[int, Batch] = dataclasses.field(default_factory=dict[int, Batch])

    @functools.cached_property
    def pairs(self) -> int:
        """How many have targets of their own; 0 also where the recipe has no condition."""
        if isinstance(self.recipe, Pictures) or not self.recipe.condition:
            return 0
        found = self.recipe.open_held_out(self.data_dir)
        return found.size if self.recipe.condition in found.others else 0

    def given(self, count: int) -> Batch | None:
        """What `count` samples are made of, as `Recipe.held_out` has it, read once; None without a condition."""
        if not isinstance(self.recipe, Pictures) and self.recipe.condition and count not in self._given:
            self._given.clear()
            self._given[count] = self.recipe.held_out(count, self.data_dir)
        return self._given.get(count)

    def distances(self, images: np.ndarray) -> dict[str, float]:
        """As `evaluation.paired`, of images made of `given(N)`, each target once; {} where there are no targets."""
        once, given = min(len(images), self.pairs), self.given(len(images))
        if given is None or given.images is None:
            return {}
        return evaluation.paired(images[:once], without_border(self.recipe, given.images[:once]))
