"""Anybody's pictures, as `evaluate --samples A --against B` takes them: an .npz, or what else names data."""

import dataclasses
import os

import numpy as np

from jaxgan import data
from jaxgan.data import DataError, Dataset, Source
from jaxgan.data.arrays import npz
from jaxgan.data.folder import look
from jaxgan.data.pixels import Shape
from jaxgan.evaluation.scores import choice

LOOKED_AT = 100_000  # files, at most, for their sizes
KINDS = ("folder:", "prepared:")  # whose paths may end as they like


@dataclasses.dataclass(frozen=True)
class Pictures:
    """Real pictures that samples are compared with, with what a recipe says of its data.

    Attributes:
      data: an .npz file, or as `data` of a recipe.
      split: which of them a generator is taken to have been trained on.
      classes: how many classes the samples were asked for; 0 where that is not known.
      border: pictures have none.
    """

    data: str
    split: str = "train"
    classes: int = 0
    border: int = 0

    def replace(self, split: str) -> "Pictures":
        """The same pictures, with another split."""
        return dataclasses.replace(self, split=split)

    def open_data(self, data_dir: str | None = None) -> Source | Dataset:
        """The pictures of the split, of the size that they have, as `opened`."""
        return opened(self.data, data_dir, self.split)

    def keeps_apart(self, data_dir: str | None = None) -> bool:
        """Whether they have a split named test."""
        return "test" in splits(self.data, data_dir)


def opened(name: str, data_dir: str | None = None, split: str = "train") -> Source | Dataset:
    """Pictures by name, of the size that they have.

    Raises:
      DataError: they cannot be had.
    """
    if is_npz(name):
        return npz(name)
    if os.path.isfile(name):
        raise DataError(f"{name} is a file; name folder:PATH for a folder of pictures, or an .npz with an array images")
    if os.path.isdir(name):
        raise DataError(f"{name} is a folder; give folder:{name}")
    return data.open_source(name, data_dir, _in_one_kind(name), split)


def _in_one_kind(name: str) -> Shape | None:
    """(H, W, C) of the pictures of a folder, where those in grey are among those in colour; else None.

    Of other data, or of pictures of several sizes, nothing is changed.
    """
    if not name.startswith("folder:"):
        return None
    sizes, grey = look(name, LOOKED_AT)
    mixed = len(np.unique(sizes, axis=0)) == 1 and grey.any() and not grey.all()
    return (int(sizes[0, 0]), int(sizes[0, 1]), 3) if mixed else None


def splits(name: str, data_dir: str | None = None) -> tuple[str, ...]:
    """The splits of pictures by name; none where they are in one piece.

    Raises:
      DataError: they cannot be had.
    """
    return () if is_npz(name) or os.path.exists(name) else data.splits(name, data_dir)


def is_npz(name: str) -> bool:
    """Whether a name is that of an .npz file."""
    return name.endswith(".npz") and not name.startswith(KINDS)


def check_alike(samples: Source | Dataset, real: Source | Dataset) -> None:
    """Refuses samples of another size, or of other colours, than the real pictures.

    Raises:
      DataError: they are.
    """
    if samples.shape != real.shape:
        of = [f"{'x'.join(map(str, x.shape[:2]))} {KIND.get(x.shape[-1], 'of another kind')}" for x in (samples, real)]
        raise DataError(
            f"the pictures of {samples.name} are {of[0]}, and those of {real.name} {of[1]}; bring both to one size and "
            "kind before they are compared (experiments.prepare --size)"
        )


KIND = {1: "in grey", 3: "in colour", 4: "in colour with alpha"}


def chosen(found: Source | Dataset, count: int) -> Dataset:
    """`count` of some pictures in memory: a fixed choice of them, of which no others are read.

    Raises:
      DataError: one cannot be read.
    """
    which = choice(np.arange(found.size), count)
    if isinstance(found, Source):
        return found.part(which).load()
    images, labels, *_ = found.read(which)
    return Dataset(found.name, np.asarray(images), None if labels is None else np.asarray(labels), found.classes)
