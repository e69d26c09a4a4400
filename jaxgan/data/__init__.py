"""Datasets: uint8 images, their labels, and which of them make up the batch of a step.

`load` reads one into memory by its name, `open_source` opens one whose images are read when they are asked for.
`Dataset("mine", images, labels)` makes one of a user's own arrays.
"""

from jaxgan.data.dataset import DataError, Dataset
from jaxgan.data.digests import identity
from jaxgan.data.pixels import Fit, Shape
from jaxgan.data.source import Source, of_items
from jaxgan.data.sources import load, open_source, splits
from jaxgan.data.streaming import stream

__all__ = [
    "DataError",
    "Dataset",
    "Fit",
    "Shape",
    "Source",
    "identity",
    "load",
    "of_items",
    "open_source",
    "splits",
    "stream",
]
