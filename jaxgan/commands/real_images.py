"""Real images that samples are compared with: a split of a recipe's data, or of anybody's, or a half of it."""

import dataclasses
import functools
from collections.abc import Callable

import numpy as np

from jaxgan import data
from jaxgan.commands.pictures import Pictures
from jaxgan.evaluation.scores import choice, halves
from jaxgan.recipes.settings import Recipe

LEAST = 100  # samples, and real images on each side
WHOLE = 160 * 2**20  # bytes of real images; where all take more, some are chosen, which take half of that at most
CHOSEN = 20_000  # at most


@dataclasses.dataclass(frozen=True, eq=False)
class Real:
    """Real images that samples are compared with, without the border that a recipe puts around them.

    Attributes:
      data: their name.
      split: which of the data's images they are.
      images: as in `Dataset`.
      labels: as in `Dataset`.
      classes: as in `Dataset`.
      known_as: `jaxgan.data.identity` of the data that they are of: what the config.json of a run says of them.
    """

    data: str
    split: str
    images: np.ndarray
    labels: np.ndarray | None
    classes: tuple[str, ...]
    known_as: Callable[[], str]

    @functools.cached_property
    def sha256(self) -> str:
        """Of the images."""
        return data.Dataset(self.data, self.images).sha256()

    def half(self, which: int) -> "Real":
        """The first (0) or the second (1) of two halves, as `halves` makes them, with half of each class."""
        chosen = halves(len(self.images), self.labels)[which]
        images, labels = (None if x is None else x[chosen] for x in (self.images, self.labels))
        return dataclasses.replace(self, split=("first half", "second half")[which], images=images, labels=labels)


def load(recipe: Recipe | Pictures, split: str, data_dir: str | None) -> Real:
    """The images of a split of a recipe's data, or of pictures.

    Raises:
      DataError: they cannot be had.
    """
    found = recipe.replace(split=split).open_data(data_dir)
    dataset = found if isinstance(found, data.Dataset) else _in_memory(found)
    known_as = functools.partial(data.identity, found, bool(recipe.classes))
    images = without_border(recipe, dataset.images)
    return Real(dataset.name, split, images, dataset.labels, dataset.classes, known_as)


def _in_memory(source: data.Source) -> data.Dataset:
    """All images or, where these would take too much memory, a fixed random choice of them."""
    if source.nbytes <= WHOLE:
        return source.load()
    count = max(LEAST, min(CHOSEN, source.size, WHOLE * source.size // (2 * source.nbytes)))
    return source.part(choice(np.arange(source.size), count)).load()


def without_border(recipe: Recipe | Pictures, images: np.ndarray) -> np.ndarray:
    """Images without the black pixels that a recipe puts around its data: [N, H, W, C] -> [N, H - 2b, W - 2b, C]."""
    border = recipe.border
    if not border:
        return images  # which may be points in the plane
    return images[:, border : images.shape[1] - border, border : images.shape[2] - border]
