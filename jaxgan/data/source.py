"""A source: images that are read when they are asked for, in any order, and all of them into memory where they fit."""

import concurrent.futures
import contextlib
import dataclasses
import functools
import hashlib
import math
import operator
import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from typing import Any

import jax
import numpy as np

from jaxgan.data.dataset import DataError, Dataset, check_balance
from jaxgan.data.order import Classes, batches
from jaxgan.data.pixels import Shape
from jaxgan.data.progress import progress
from jaxgan.gan import Batch
from jaxgan.labels import checked_labels

READ_AT_ONCE = 1_024  # examples: record by record, ArrayRecord takes many times as long


@dataclasses.dataclass(frozen=True, eq=False)
class Source:
    """Images, and their labels where there are any, that are read when they are asked for.

    Attributes:
      name: what messages call it.
      size: how many examples, at least 1.
      shape: (H, W, C) of each image.
      read: given the numbers of some examples, int [n], their images, uint8 [n, H, W, C], and their labels, int32 [n],
        -1 where one has none; or None instead of labels; and the `others`, uint8. Several threads may call it at once.
        It may raise DataError, and what it gives is checked: for another kind, shape or range a call raises DataError,
        too.
      digest: of what is read (files or records, not their pixels), as text. It does not depend on where they are. An
        OSError of a file becomes a DataError.
      classes: the names of the classes, in the order of their labels; () where there are no labels.
      labels_note: why there are no labels and what would give some, or what else is to be known of them; "" if nothing.
      others: of what else belongs to each image, by name, the shape.
      unpaired: as that of a `Dataset`.
      labels: those of all examples, int [size], where they are known before they are read.
      balance: as that of a `Dataset`. Where labels are not known, all examples are read for them at first.
    """

    name: str
    size: int
    shape: Shape
    read: Callable[[np.ndarray], Batch]
    digest: Callable[[], str]
    classes: tuple[str, ...] = ()
    labels_note: str = ""
    others: Mapping[str, Shape] = dataclasses.field(default_factory=dict)
    unpaired: Mapping[str, "Source"] = dataclasses.field(default_factory=dict)
    labels: np.ndarray | None = None
    balance: bool = False

    def __post_init__(self) -> None:
        check_balance(self)
        object.__setattr__(self, "read", functools.partial(_checked, self, self.read))
        object.__setattr__(self, "digest", functools.partial(_digest, self, self.digest))

    @property
    def nbytes(self) -> int:
        """What all images take in memory, and all else."""
        of_each = sum(math.prod(shape) for shape in (self.shape, *self.others.values()))
        return self.size * of_each + sum(found.nbytes for found in self.unpaired.values())

    @property
    def other_shapes(self) -> dict[str, tuple[int, ...]]:
        """As those of a `Dataset`."""
        return {**self.others, **{name: found.shape for name, found in self.unpaired.items()}}

    def part(self, which: np.ndarray) -> "Source":
        """Some of the examples, in the order of `which`, int [n]."""
        labels = None if self.labels is None else self.labels[which]
        return dataclasses.replace(self, size=len(which), read=lambda chosen: self.read(which[chosen]), labels=labels)

    def batches(
        self, key: jax.Array, step: int, count: int, batch_size: int, part: tuple[int, int] = (0, 1)
    ) -> np.ndarray:
        """As those of a `Dataset`."""
        return batches(key, step, count, batch_size, self.size, part, self._taking_turns)

    @functools.cached_property
    def _taking_turns(self) -> Classes | None:
        if not self.balance:
            return None
        labels = self.labels
        if labels is None:
            labels = np.full(self.size, -1, np.int32)
            for piece, batch in self._pieces():
                labels[piece] = -1 if batch.labels is None else batch.labels
        if (labels < 0).any():
            raise DataError(f"{self.name}: example {np.argmin(labels)} has no label, and `balance` is of classes")
        return Classes(labels)

    def _pieces(self) -> Generator[tuple[np.ndarray, Batch], None, None]:
        """All examples, in pieces: their numbers, and what there is of them."""
        length = max(16, min(READ_AT_ONCE, self.size // 50))
        pieces = [np.arange(start, min(start + length, self.size)) for start in range(0, self.size, length)]
        with contextlib.closing(ahead(lambda piece: (piece, self.read(piece)), pieces, threads())) as found:
            yield from progress(found, len(pieces), self.name)

    def load(self) -> Dataset:
        """All of them in memory. Where any label is missing, there are none.

        Raises:
          DataError: an example cannot be used, or there is not enough memory.
        """
        try:
            images = np.empty((self.size, *self.shape), np.uint8)
            others = {name: np.empty((self.size, *shape), np.uint8) for name, shape in self.others.items()}
        except MemoryError as error:
            size = self.nbytes / 2**30
            raise DataError(
                f"{self.name}: {self.size:,} images take {size:.1f} GiB, more than there is memory; use `stream`"
            ) from error
        labels = np.full(self.size, -1, np.int32)
        with contextlib.closing(self._pieces()) as found:
            for piece, batch in found:
                images[piece] = batch.images
                for name, x in others.items():
                    x[piece] = (batch.others or {})[name]
                if batch.labels is not None:
                    labels[piece] = batch.labels
        note, missing = self.labels_note, np.flatnonzero(labels < 0)
        if self.classes and missing.size:
            note = f"{missing.size:,} of {self.size:,} examples have none, the first of them example {missing[0]}"
        known = (labels, self.classes) if self.classes and not missing.size else (None, ())
        unpaired = {name: found.load() for name, found in self.unpaired.items()}
        return Dataset(self.name, images, *known, self.digest(), note, others, unpaired, self.balance)


def _digest(source: Source, digest: Callable[[], str]) -> str:
    try:
        return digest()
    except OSError as error:
        raise DataError(f"{source.name}: {error.filename} cannot be read ({error.strerror}); mend it") from error


def _checked(source: Source, read: Callable[[np.ndarray], Batch], which: np.ndarray) -> Batch:
    """What `read` gives, where it is what a source promises."""
    batch, size = read(which), len(which)
    labels, found = batch.labels, {"images": np.asarray(batch.images), **(batch.others or {})}
    for name, shape in {"images": source.shape, **source.others}.items():
        if found[name].dtype != np.uint8 or found[name].shape != (size, *shape):
            raise DataError(
                f"{source.name}: {name} must be uint8 (0 to 255) of shape {[size, *shape]}, not {found[name].dtype} of "
                f"shape {list(found[name].shape)}"
            )
    if labels is not None:
        try:
            labels = np.asarray(checked_labels(labels, size, len(source.classes), least=-1))
        except ValueError as error:
            raise DataError(f"{source.name}: {error}") from error
    return Batch(found.pop("images"), labels, found or None)


def ahead(
    function: Callable[[Any], Any], items: Iterable[Any], count: int, waiting: int | None = None
) -> Generator[Any, None, None]:
    """function(item) of each item, in their order, worked out in threads before it is asked for.

    Args:
      function: what is done; an error that it raises is raised where its result is due.
      items: to what; as many as `waiting` are taken before they are due.
      count: how many threads.
      waiting: how many results may wait, by default twice as many as there are threads.
    """
    waiting, due = waiting or 2 * count, deque()
    pool = concurrent.futures.ThreadPoolExecutor(count, "reading")
    try:
        for item in items:
            due.append(pool.submit(function, item))
            if len(due) > waiting:
                yield due.popleft().result()
        while due:
            yield due.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def threads() -> int:
    """How many threads read: one for each core that this process may use, and a few at most."""
    return min(16, len(os.sched_getaffinity(0)))


def stacked(examples: Iterator[tuple[str, np.ndarray]], count: int, shape: Shape, name: str, first: str) -> np.ndarray:
    """The images of a source, each with what messages call it, as one array, uint8 [count, H, W, C].

    Raises:
      DataError: one is not of the shape, which is that of the image that is called `first`.
    """
    images = np.empty((count, *shape), np.uint8)
    for i, (which, pixels) in enumerate(examples):
        if pixels.shape != shape:
            one, other = ("x".join(map(str, x)) for x in (shape, pixels.shape))
            raise DataError(
                f"{name}: images must be of one shape, but {first} is {one} and {which} is {other}; give an "
                "image_shape, or resize them first"
            )
        images[i] = pixels
    return images


def of_items(name: str, items: Any) -> Source:
    """A source of one's own: an object with `__len__`, and `__getitem__`, which several threads may call at once.

    Args:
      name: what messages call it.
      items: items[i] is image i, uint8 [H, W, C], or a pair of it and its label, a whole number. All are of one shape.
        With labels, it has the names of its `classes`, too.

    Raises:
      DataError: its first item is something else; reading raises one where another is.
    """
    classes = tuple(getattr(items, "classes", ()))

    def item(number: int) -> tuple[np.ndarray, int]:
        try:
            found = items[number]
        except Exception as error:
            raise DataError(f"{name}: item {number} cannot be read ({type(error).__name__}: {error})") from error
        image, label = found if isinstance(found, tuple) and len(found) == 2 else (found, -1)
        image = np.asarray(image)
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] not in (1, 3):
            raise DataError(
                f"{name}: item {number} must be an image, uint8 [H, W, C] with C 1 or 3, or one and its label, "
                f"not {image.dtype} {list(image.shape)}"
            )
        try:
            whole = operator.index(label)
        except TypeError:
            raise DataError(f"{name}: item {number} has label {label!r}, which is no whole number") from None
        if not -1 <= whole < max(1, len(classes)):
            raise DataError(f"{name}: item {number} has label {label}, and there are {len(classes)} classes")
        return image, whole

    if not len(items):
        raise DataError(f"{name}: it has no items")
    shape = item(0)[0].shape

    def read(which: np.ndarray) -> Batch:
        found = [(int(number), *item(int(number))) for number in which]
        images = ((f"item {number}", image) for number, image, _ in found)
        labels = np.array([label for _, _, label in found], np.int32)
        return Batch(stacked(images, len(which), shape, name, "item 0"), labels if classes else None)

    def digest() -> str:
        """Of the number of items, and 64 of them: what they are read from is not known here."""
        chosen = np.unique(np.linspace(0, len(items) - 1, 64).astype(int))
        batch, found = read(chosen), hashlib.sha256(f"{len(items)} {classes}".encode())
        found.update(batch.images)
        found.update(b"" if batch.labels is None else batch.labels.astype("<i4"))
        return found.hexdigest()

    return Source(name, len(items), shape, read, digest, classes)


def with_border(found: Source | Dataset, border: int) -> Source | Dataset:
    """The same with so many black pixels on each side of every image."""

    def bordered(images: np.ndarray) -> np.ndarray:
        return np.pad(images, ((0, 0), (border, border), (border, border), (0, 0)))

    if isinstance(found, Dataset):
        return dataclasses.replace(found, images=bordered(found.images))

    def read(which: np.ndarray) -> Batch:
        batch = found.read(which)
        return batch._replace(images=bordered(batch.images))

    height, width, channels = found.shape
    return dataclasses.replace(found, shape=(height + 2 * border, width + 2 * border, channels), read=read)
