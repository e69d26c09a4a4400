"""Datasets: uint8 images in memory, their labels, and which of them make up the batch of a step.

`load` reads one by name. `Dataset("mine", images, labels)` makes one of a user's own arrays.
"""

from jaxgan.data.dataset import DataError, Dataset
from jaxgan.data.pixels import Shape
from jaxgan.data.sources import load, splits

__all__ = ["DataError", "Dataset", "Shape", "load", "splits"]
