"""A dataset by its name."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from jaxgan.data import derived, folder, pairs, pixels, points, prepared, tfds
from jaxgan.data.dataset import DataError, Dataset
from jaxgan.data.source import Source, with_border

DIGITS = Path(__file__).with_name("digits.npz")  # digits.md says where it is from
STACKED = "stacked_mnist"
FOLDERS = {"folder": folder.source, "prepared": prepared.source}


def load(
    name: str,
    data_dir: str | None = None,
    image_shape: pixels.Shape | None = None,
    split: str = "train",
    border: int = 0,
    fit: pixels.Fit = "crop",
    others: Mapping[str, pixels.Shape] | None = None,
) -> Dataset:
    """Loads a dataset into memory, with labels where it has them: `open_source(…)`, all of it."""
    found = open_source(name, data_dir, image_shape, split, border, fit, others)
    return found if isinstance(found, Dataset) else found.load()


def open_source(
    name: str,
    data_dir: str | None = None,
    image_shape: pixels.Shape | None = None,
    split: str = "train",
    border: int = 0,
    fit: pixels.Fit = "crop",
    others: Mapping[str, pixels.Shape] | None = None,
) -> Source | Dataset:
    """A dataset whose images are read when they are asked for; one that is small or embedded is in memory.

    Images become upright, sRGB or grey, and opaque (on white), as `jaxgan.data.pixels` says.

    Args:
      name: "digits" (1,797 handwritten digits of the UCI repository, which come with the package), the name of
        an image dataset of TensorFlow Datasets, "stacked_mnist" (made of its MNIST, three digits in each image),
        "folder:PATH" for all image files below PATH, "prepared:PATH" for what `experiments.prepare` has written (of
        both, PATH may hold train and test, which are its splits),
        "points:NAME" for points in the plane (`jaxgan.data.points`),
        "pairs:PATH" for images with conditions, or "domains:PATH" for two sets of images (`jaxgan.data.pairs`);
        "grey:NAME" and "inverse:NAME" make pairs and domains of any of the others (`jaxgan.data.derived`).
      data_dir: where TensorFlow Datasets keeps its data; by default its own ~/tensorflow_datasets.
      image_shape: (H, W, C) to bring images to: see `fit`; resized, and converted to grey (C = 1) or RGB (C = 3). By
        default they stay as they are.
      split: the split of a TensorFlow dataset; "train+test" joins two. Of pairs and domains, "test" is held out.
      border: black pixels on each side of every image, within `image_shape`: with (32, 32, 1) and a
        border of 2, MNIST's 28x28 images are padded and not resized.
      fit: an image of another aspect ratio than `image_shape` is cropped around its centre, or has black beside it.
      others: as `image_shape` for what else each example has, by name.

    Raises:
      DataError: with one line that says what is wrong and what would help.
    """
    if not name:
        raise DataError("`data` is empty; name digits, a TensorFlow dataset, or folder:PATH")
    kind, _, path = name.partition(":")
    if kind in derived.MADE:
        return derived.MADE[kind](open_source(path, data_dir, image_shape, split, border, fit))
    if kind == "points":
        return points.points(path)
    shape = _within(image_shape, border)
    if kind in FOLDERS:
        found = _folder(name, FOLDERS[kind], shape, split, fit)
    elif kind in ("pairs", "domains"):
        of_kind = pairs.pairs if kind == "pairs" else pairs.domains
        found = of_kind(path, image_shape, others or {}, fit, split == "test")
    elif name == "digits":
        found = _digits(shape, fit)
    elif name == STACKED:
        found = _stacked_mnist(data_dir, shape, split, fit)
    else:
        _check_no_folder(name)
        found = tfds.source(name, data_dir, shape, split, fit)
    return with_border(found, border) if border else found


def splits(name: str, data_dir: str | None = None) -> tuple[str, ...]:
    """The splits of a dataset by its name, such as ("train", "test"); none where it comes in one piece.

    Raises:
      DataError: with one line that says what is wrong and what would help.
    """
    kind, _, of = name.partition(":")
    if kind in derived.MADE:
        return splits(of, data_dir)
    if kind in FOLDERS:
        at = of if os.path.isdir(of) else os.path.expanduser(of)
        apart = bool(of) and all(os.path.isdir(os.path.join(at, split)) for split in ("train", "test"))
        return ("train", "test") if apart else ()
    if name == "digits" or kind == "points":
        return ()
    _check_no_folder(name)
    if name.startswith(("pairs:", "domains:")):
        return ("train", "test")
    return tfds.splits("mnist" if name == STACKED else name, data_dir)


def _check_no_folder(name: str) -> None:
    if os.path.sep in name and os.path.isdir(name):
        raise DataError(f"{name} is a folder; give folder:{name}")


def _folder(
    name: str, source: Callable[..., Source], shape: pixels.Shape | None, split: str, fit: pixels.Fit
) -> Source:
    """All images of a folder, or, where it holds the folders train and test, those of a split."""
    path, apart = name.partition(":")[2], splits(name)
    if not apart:
        return source(path, shape, fit)
    if split not in apart:
        raise DataError(f"`split` {split}: {name} holds the folders train and test; name one of them")
    both = {part: source(os.path.join(path, part), shape, fit) for part in apart}
    if both["train"].classes != both["test"].classes:
        raise DataError(f"{name}: train and test hold folders of different names; the same classes lie in both")
    return both[split]


def _within(shape: pixels.Shape | None, border: int) -> pixels.Shape | None:
    """The shape of an image without its border."""
    if border < 0:
        raise DataError(f"`border` must be at least 0, not {border}")
    if shape is None:
        return None
    if len(shape) != 3:
        raise DataError(f"the generator makes no images, but floats of shape {list(shape)}; such data are points:NAME")
    height, width, channels = shape
    if min(height, width) < 1 or channels not in (1, 3, 4):
        raise DataError(
            f"image_shape {height}x{width}x{channels}: it must be (H, W, C), at least 1x1, C being 1, 3 or 4"
        )
    if min(height, width) <= 2 * border:
        raise DataError(f"`border` {border} leaves nothing of an image of {height}x{width}")
    return height - 2 * border, width - 2 * border, channels


def _digits(shape: pixels.Shape | None, fit: pixels.Fit) -> Dataset:
    with np.load(DIGITS) as found:
        images, labels = found["images"], found["labels"]
    images = np.round(images * (255 / 16)).astype(np.uint8)[..., None]  # 17 shades of grey
    return Dataset("digits", pixels.fit_all(images, shape, fit), labels, tuple("0123456789"))


def _stacked_mnist(data_dir: str | None, shape: pixels.Shape | None, split: str, fit: pixels.Fit) -> Dataset:
    """Three handwritten digits as the red, green and blue of one image, so 1,000 modes to be counted.

    There are as many images, [28, 28, 3], as the split of MNIST has, and each digit is once in each channel: those of
    image i are at place i of three permutations of the split, which are `np.random.RandomState(0)`'s, `(1)`'s and
    `(2)`'s, since NumPy keeps their numbers. They do not depend on a run's seed. The label of the digits a, b and c is
    100 a + 10 b + c.
    """
    mnist = tfds.source("mnist", data_dir, None, split).load()
    if mnist.labels is None:
        raise DataError(f"{STACKED}: MNIST has no labels here: {mnist.labels_note}")
    orders = [np.random.RandomState(channel).permutation(len(mnist.images)) for channel in range(3)]
    images = np.concatenate([mnist.images[order] for order in orders], axis=-1)
    hundreds, tens, ones = (mnist.labels[order] for order in orders)
    names = tuple(f"{number:03d}" for number in range(1_000))
    return Dataset(STACKED, pixels.fit_all(images, shape, fit), 100 * hundreds + 10 * tens + ones, names)
