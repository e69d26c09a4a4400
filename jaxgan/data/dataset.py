"""A dataset in memory, and the error that says what is wrong with one."""

import dataclasses
import functools
import hashlib
import importlib
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import jax
import numpy as np

from jaxgan.data.order import Classes, batches, key_of
from jaxgan.gan import Batch
from jaxgan.labels import checked_labels

MOST_CLASSES = 2**16  # labels without names beyond this are surely not class numbers


class DataError(ValueError):
    """A dataset that cannot be had. The message is one line that says what is wrong and what would help."""

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


def extra(module: str, needed_for: str) -> ModuleType:
    """A module that comes with the package's extra `tfds`.

    Raises:
      DataError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise DataError(f'{needed_for}: there is no {error.name} here; pip install "jaxgan[tfds]"') from error


def one_line(text: str) -> str:
    r"""`text` with what cannot be printed on one line (line breaks, control characters, bytes of no text) as \x.."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def first_line(error: object) -> str:
    """The first line of what an error says; its kind, where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]


def check_balance(found: Any) -> None:
    """Refuses a Dataset or a Source whose classes are to come equally often where it has none."""
    if found.balance and not found.classes:
        note = f" ({found.labels_note})" if found.labels_note else ""
        raise DataError(f"{found.name} has no labels{note}, and `balance` is of classes; leave it away")


def _checked_images(name: str, what: str, given: np.ndarray) -> np.ndarray:
    """Images, or what else is to be one array of examples."""
    images = np.asarray(given)
    if np.issubdtype(images.dtype, np.floating) and images.ndim >= 2 and images.size:
        return images.astype(np.float32)
    if images.dtype != np.uint8 or images.ndim != 4:
        raise DataError(
            f"{name}: {what} must be uint8 (0 to 255) of shape [N, H, W, C], or floats [N, ...], not {images.dtype} of "
            f"shape {list(images.shape)}"
        )
    if not images.size:
        raise DataError(
            f"{name}: {what} of shape {list(images.shape)}; there must be at least one, of at least one pixel"
        )
    return images


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """Images in memory, with their labels where there are any.

    Attributes:
      name: what messages call it.
      images: uint8 [N, H, W, C]; C is 1 (grey), 3 (RGB), 4 (RGBA) or any other number of channels. Or floats [N, ...],
        which are taken as they are: points in the plane, say.
      labels: int32 [N], from 0 to len(classes) - 1; None where the data has none. Any integers are taken.
      classes: the names of the classes, in the order of their labels. Where there are labels and no names are
        given, the names are 0, 1, ... up to the greatest label.
      read_from: the digest of the files or records that the images were read from, as `Source.digest` gives; None where
        there are only these arrays.
      labels_note: as that of a `Source`.
      others: by name what else belongs to each image, as a condition or a mask does: arrays [N, ...] like images.
      unpaired: by name other data, whose examples do not belong to these: each epoch permutes them on their own.
      balance: whether each class comes equally often in batches, as `data.order.in_turn` says.

    Raises:
      DataError: an array is not of that kind, shape or range.
    """

    name: str
    images: np.ndarray
    labels: np.ndarray | None = None
    classes: tuple[str, ...] = ()
    read_from: str | None = None
    labels_note: str = ""
    others: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    unpaired: Mapping[str, "Dataset"] = dataclasses.field(default_factory=dict)
    balance: bool = False

    def __post_init__(self) -> None:
        images = _checked_images(self.name, "images", self.images)
        others = {name: _checked_images(self.name, name, x) for name, x in self.others.items()}
        for name, x in others.items():
            if len(x) != len(images):
                raise DataError(f"{self.name}: there are {len(images):,} images, and {len(x):,} of {name!r}")
        if twice := others.keys() & self.unpaired.keys():
            raise DataError(f"{self.name}: {sorted(twice)[0]!r} is the name of two of its arrays")
        object.__setattr__(self, "images", images)
        object.__setattr__(self, "others", others)
        if self.labels is None and self.classes:
            raise DataError(f"{self.name}: classes are named, but there are no labels; give both or neither")
        if self.labels is not None:
            try:
                labels = np.asarray(checked_labels(self.labels, len(images), len(self.classes) or MOST_CLASSES))
            except ValueError as error:
                raise DataError(f"{self.name}: {error}") from error
            object.__setattr__(self, "labels", labels.astype(np.int32))
            object.__setattr__(self, "classes", tuple(self.classes or map(str, range(int(labels.max()) + 1))))
        check_balance(self)

    @property
    def size(self) -> int:
        """How many images there are."""
        return len(self.images)

    @property
    def shape(self) -> tuple[int, ...]:
        """(H, W, C) of each image."""
        return self.images.shape[1:]

    @property
    def other_shapes(self) -> dict[str, tuple[int, ...]]:
        """Of all that a batch has beside images and labels, the shape of each example, by name."""
        unpaired = {name: found.shape for name, found in self.unpaired.items()}
        return {name: x.shape[1:] for name, x in self.others.items()} | unpaired

    def batch(self, key: jax.Array, step: int, batch_size: int, part: tuple[int, int] = (0, 1)) -> Batch:
        """The real images of one step and what belongs to them, or one of equal parts of it; NumPy arrays, copied.

        Each epoch is a fresh permutation of all images, and batches follow one another through the
        epochs without a gap: every image is used once before any is used again. With `balance`, classes take turns.

        Args:
          key: the run's root key.
          step: which step, from 0.
          batch_size: how many images.
          part: (i, n) gives the i-th of n parts, in order; n divides batch_size.

        Raises:
          ValueError: a number is out of range.
        """
        batch = self.read(self.batches(key, step, 1, batch_size, part)[0])
        unpaired = {
            name: found.batch(key_of(key, name), step, batch_size, part).images for name, found in self.unpaired.items()
        }
        return batch._replace(others={**(batch.others or {}), **unpaired} or None)

    def read(self, which: np.ndarray) -> Batch:
        """Some of the examples, int [n], as `Source.read` gives them: without what is not paired with the images."""
        others = {name: x[which] for name, x in self.others.items()}
        return Batch(self.images[which], None if self.labels is None else self.labels[which], others or None)

    def batches(
        self, key: jax.Array, step: int, count: int, batch_size: int, part: tuple[int, int] = (0, 1)
    ) -> np.ndarray:
        """Which of the images make up the batches of `count` steps from `step` on, as `data.order.batches`."""
        return batches(key, step, count, batch_size, self.size, part, self._taking_turns)

    @functools.cached_property
    def _taking_turns(self) -> Classes | None:
        return Classes(self.labels) if self.balance and self.labels is not None else None

    def sha256(self, labels: bool = False) -> str:
        """The SHA-256 of the images' bytes, in hexadecimal; with `labels`, of the labels' after them as well.

        The labels count as little-endian int32. No name matters.
        """
        digest = hashlib.sha256(np.ascontiguousarray(self.images).data)
        if labels and self.labels is not None:
            digest.update(self.labels.astype("<i4").data)
        for name in sorted(self.others):
            digest.update(name.encode() + np.ascontiguousarray(self.others[name]).data)
        for name in sorted(self.unpaired):
            digest.update(f"{name} {self.unpaired[name].sha256()}".encode())
        return digest.hexdigest()

    def digest(self) -> str | None:
        """As `read_from`, by the name that it has in a `Source`."""
        return self.read_from
