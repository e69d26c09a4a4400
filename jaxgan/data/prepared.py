"""A folder of raw pixels, which `experiments.prepare` has written: images that are read without decoding them."""

from jaxgan.data import pixels
from jaxgan.data.dataset import DataError
from jaxgan.data.source import Source


def source(path: str, shape: pixels.Shape | None, how: pixels.Fit = "crop") -> Source:
    """What `experiments.prepare` has written in a folder."""
    raise DataError(f"prepared:{path}: not yet")
