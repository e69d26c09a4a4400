"""Stacked MNIST: three handwritten digits as the red, green and blue of one image, so 1,000 modes to be counted."""

import numpy as np

from jaxgan.data import pixels, tfds
from jaxgan.data.dataset import DataError, Dataset

NAME = "stacked_mnist"
CLASSES = tuple(f"{number:03d}" for number in range(1_000))


def load(data_dir: str | None, shape: pixels.Shape | None, split: str, fit: pixels.Fit = "crop") -> Dataset:
    """As many images, uint8 [N, 28, 28, 3], as the split of MNIST has; each digit is once in each channel.

    Red, green and blue of image i are the digits at place i of three permutations of the split: those of
    `np.random.RandomState(0)`, `(1)` and `(2)`, whose numbers NumPy keeps. They do not depend on a run's seed. The
    label of the digits a, b and c is 100 a + 10 b + c.

    Args:
      data_dir: where TensorFlow Datasets keeps MNIST.
      shape: as for `pixels.fit`.
      split: of MNIST.
      fit: as for `pixels.fit`.

    Raises:
      DataError: MNIST cannot be had.
    """
    mnist = tfds.source("mnist", data_dir, None, split).load()
    if mnist.labels is None:
        raise DataError(f"{NAME}: MNIST has no labels here: {mnist.labels_note}")
    orders = [np.random.RandomState(channel).permutation(len(mnist.images)) for channel in range(3)]
    images = np.concatenate([mnist.images[order] for order in orders], axis=-1)
    hundreds, tens, ones = (mnist.labels[order] for order in orders)
    if shape not in (None, images.shape[1:]):
        from PIL import Image

        images = np.stack([pixels.fit(Image.fromarray(image), shape, fit) for image in images])
    return Dataset(NAME, images, 100 * hundreds + 10 * tens + ones, CLASSES)


def splits(data_dir: str | None) -> tuple[str, ...]:
    """The splits of MNIST.

    Raises:
      DataError: it cannot be had.
    """
    return tfds.splits("mnist", data_dir)
