"""Pairs and domains that are made of other data, so that games of images need no files of their own.

`grey:NAME` has the images of NAME, each with itself in grey as its "condition": they are to be coloured. `inverse:NAME`
has every second image of NAME, and as the "other" domain, which is not paired with them, the rest as blue ink on yellow
paper.
"""

import dataclasses
from collections.abc import Callable
from typing import cast

import numpy as np

from jaxgan.data.dataset import DataError, Dataset
from jaxgan.data.pairs import CONDITION, OTHER
from jaxgan.data.pixels import Shape
from jaxgan.data.source import Source
from jaxgan.gan import Batch

PAPER, INK = np.array([255, 220, 110]), np.array([30, 40, 150])  # what becomes of 0 and of 255


def grey(found: Source | Dataset) -> Source:
    """Images, uint8 [N, H, W, 1 or 3], each with itself in grey, [N, H, W, 1], as its condition."""

    def read(which: np.ndarray) -> Batch:
        batch = found.read(which)
        return batch._replace(others={CONDITION: in_grey(batch.images)})

    height, width, channels = cast(Shape, found.shape)
    return Source(
        f"grey:{found.name}",
        found.size,
        (height, width, channels),
        read,
        _digest(found),
        found.classes,
        found.labels_note,
        others={CONDITION: (height, width, 1)},
        labels=found.labels,
    )


def inverse(found: Source | Dataset) -> Source:
    """Of images, uint8 [N, H, W, 3], every second one; and as the other domain the rest, in ink on paper.

    Raises:
      DataError: there is one image alone, or they are not in RGB.
    """
    name, shape = f"inverse:{found.name}", cast(Shape, found.shape)
    if found.size < 2 or shape[-1] != 3:
        raise DataError(f"{name} is made of images in RGB, two or more, not of {found.size} of shape {list(shape)}")

    def half(start: int, drawn: Callable[[np.ndarray], np.ndarray]) -> Source:
        read = lambda which: Batch(drawn(found.read(start + 2 * which).images))  # noqa: E731
        return Source(name, (found.size + 1 - start) // 2, shape, read, _digest(found))

    return dataclasses.replace(half(0, lambda images: images), unpaired={OTHER: half(1, in_ink)})


def in_grey(images: np.ndarray) -> np.ndarray:
    """Images, uint8 [..., 1 or 3] -> uint8 [..., 1], by the luma of ITU-R 601-2, as Pillow does it."""
    if images.shape[-1] == 1:
        return images
    return ((images @ np.array([19595, 38470, 7471]) + 2**15) >> 16).astype(np.uint8)[..., None]


def in_ink(images: np.ndarray) -> np.ndarray:
    """Images, uint8 [..., 3]: 0 becomes the colour of paper, 255 that of ink."""
    return np.round(PAPER + (INK - PAPER) * (images / 255)).astype(np.uint8)


MADE = {"grey": grey, "inverse": inverse}  # by the kind that a name begins with


def _digest(found: Source | Dataset) -> Callable[[], str]:
    return found.digest if isinstance(found, Source) else found.sha256
