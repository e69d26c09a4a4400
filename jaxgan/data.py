"""Datasets as uint8 images in memory, and the batch of a step as a pure function of key and step."""

import dataclasses
import functools
import importlib.util
import io
import logging
import os
import socket
import urllib.request
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import jax
import numpy as np

ORDER = 100  # the purpose folded into the root key for the order of the data; no `gan.Purpose` is equal to it

Shape = tuple[int, int, int]


class DataError(ValueError):
    """A dataset that cannot be had; the message says what would help."""


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """Images in memory: `images` is uint8 [N, H, W, C]."""

    name: str
    images: np.ndarray

    def batch(self, key: jax.Array, step: int, batch_size: int, part: tuple[int, int] = (0, 1)) -> np.ndarray:
        """The real images of one step: uint8 [batch_size, H, W, C], or one of equal parts of them.

        Each epoch is a fresh permutation of all images, and batches follow one another through the
        epochs without a gap: every image is used once before any is used again.

        Args:
          key: the run's root key.
          step: which step, from 0.
          batch_size: how many images.
          part: (i, n) gives the i-th of n parts, in order; n divides batch_size.
        """
        return self.images[self.batches(key, step, 1, batch_size, part)[0]]

    def batches(
        self, key: jax.Array, step: int, count: int, batch_size: int, part: tuple[int, int] = (0, 1)
    ) -> np.ndarray:
        """Which of the images make up the batches of `count` steps from `step` on: int32 [count, batch_size / n].

        The arguments are those of `batch`, and its images are those that this names.
        """
        indices = _in_order(key, step * batch_size, (step + count) * batch_size, len(self.images))
        return indices.reshape(count, part[1], -1)[:, part[0]]


def _in_order(key: jax.Array, start: int, stop: int, size: int) -> np.ndarray:
    """Which of `size` examples are those from `start` to `stop` of all epochs, one after the other: int32."""
    seed, impl = np.asarray(jax.random.key_data(key)), str(jax.random.key_impl(key))
    epochs, within = np.divmod(np.arange(start, stop), size)
    orders = ((e, _permutation(seed.tobytes(), seed.shape, impl, int(e), size)) for e in np.unique(epochs))
    return np.concatenate([order[within[epochs == e]] for e, order in orders])


@functools.lru_cache(maxsize=4)  # a pure function, and the same epoch is asked for many times over
def _permutation(seed: bytes, shape: tuple, impl: str, epoch: int, size: int) -> np.ndarray:
    high, low = np.asarray(_draw(np.frombuffer(seed, np.uint32).reshape(shape), epoch, impl=impl, size=size))
    # Sorted here: of a small dataset, whose epochs are short, NumPy takes a fraction of jax.random.permutation's time.
    return np.argsort(high.astype(np.uint64) << 32 | low, kind="stable").astype(np.int32)


@functools.partial(jax.jit, static_argnames=("impl", "size"))
def _draw(key_data: jax.Array, epoch: jax.Array, impl: str, size: int) -> jax.Array:
    key = jax.random.wrap_key_data(key_data, impl=impl)
    return jax.random.bits(jax.random.fold_in(jax.random.fold_in(key, ORDER), epoch), (2, size), np.uint32)


def load(
    name: str,
    data_dir: str | None = None,
    image_shape: Shape | None = None,
    split: str = "train",
    border: int = 0,
) -> Dataset:
    """Loads a dataset into memory.

    Args:
      name: "digits" (scikit-learn's 1,797 handwritten digits, which need no download), the name of
        an image dataset of TensorFlow Datasets, or "folder:PATH" for all image files below PATH.
      data_dir: where TensorFlow Datasets keeps its data; by default its own ~/tensorflow_datasets.
      image_shape: (H, W, C) to bring images to: cropped around the centre to the aspect ratio of
        H x W, resized, and converted to grey (C = 1) or RGB (C = 3). By default they stay as they are.
      split: the split of a TensorFlow dataset; "train+test" joins two.
      border: black pixels on each side of every image, within `image_shape`: with (32, 32, 1) and a
        border of 2, MNIST's 28x28 images are padded and not resized.

    Raises:
      DataError: with one line that says what is wrong and what would help.
    """
    if not name:
        raise DataError("--data is empty; name digits, a TensorFlow dataset, or folder:PATH")
    shape = image_shape
    if shape and border:
        shape = (shape[0] - 2 * border, shape[1] - 2 * border, shape[2])
        if min(shape) < 1:
            raise DataError(f"--border {border} leaves nothing of an image of {image_shape[0]}x{image_shape[1]}")
    kind, _, path = name.partition(":")
    if kind == "folder":
        images = _load_folder(path, shape)
    elif name == "digits":
        images = _load_digits(shape)
    else:
        images = _load_tfds(name, data_dir, shape, split)
    return Dataset(name, np.pad(images, ((0, 0), (border, border), (border, border), (0, 0))) if border else images)


def _load_digits(shape: Shape | None) -> np.ndarray:
    from sklearn.datasets import load_digits

    images = np.round(load_digits().images * (255 / 16)).astype(np.uint8)[..., None]  # 17 shades of grey
    if shape in (None, images.shape[1:]):
        return images
    from PIL import Image

    return np.stack([fit(Image.fromarray(image.squeeze(-1)), shape) for image in images])


def _load_folder(path: str, shape: Shape | None) -> np.ndarray:
    from PIL import Image

    folder = Path(os.path.expanduser(path))
    if not path or not folder.is_dir():
        raise DataError(f"folder:{path}: there is no folder {path!r}; give the path of a folder of image files")
    try:
        list(folder.iterdir())  # rglob passes over what it may not read
    except OSError as error:
        raise DataError(f"folder:{path}: cannot be read ({error.strerror}); make it readable") from error
    visible = (f for f in folder.rglob("*") if not any(p.startswith(".") for p in f.relative_to(folder).parts))
    files = sorted(f for f in visible if f.is_file())
    if not files:
        raise DataError(f"folder:{path}: the folder holds no files; put PNG or JPEG images there")

    def read(file: Path) -> tuple[np.ndarray, tuple[int, int]]:
        try:
            with Image.open(file) as image:
                return fit(image, shape), image.size
        except DataError as error:
            raise DataError(f"folder:{path}: {file}: {error}") from error
        except PermissionError as error:
            raise DataError(f"folder:{path}: {file} cannot be read; make it readable") from error
        except (OSError, SyntaxError, ValueError, TypeError, Image.DecompressionBombError) as error:
            raise DataError(f"folder:{path}: {file} is not an image that can be read; remove or mend it") from error

    images, sizes = zip(*_track(read, files, f"folder:{path}"), strict=True)
    for file, size in zip(files, sizes, strict=True):
        if size != sizes[0]:
            raise DataError(
                f"folder:{path}: images must be of one size, but {files[0].name} is {sizes[0][0]}x{sizes[0][1]} "
                f"and {file.name} is {size[0]}x{size[1]}; resize them first"
            )
    return np.stack(_same_size(images, f"folder:{path}"))


def _load_tfds(name: str, data_dir: str | None, shape: Shape | None, split: str) -> np.ndarray:
    import tensorflow_datasets as tfds
    from PIL import Image

    logging.getLogger("absl").setLevel(logging.ERROR)  # "OpenCV is not installed", once an image
    try:
        builder = tfds.builder(name, data_dir=data_dir)
    except tfds.core.DatasetNotFoundError:
        raise DataError(
            f"{name}: no such dataset; use digits, folder:PATH, or a name from tensorflow.org/datasets/catalog"
        ) from None
    except (ValueError, OSError, RuntimeError, ImportError, AssertionError) as error:
        raise DataError(f"{name}: TensorFlow Datasets cannot open it; check the name: {_first_line(error)}") from error
    features = builder.info.features or {}
    keys = [key for key, feature in features.items() if type(feature) is tfds.features.Image]
    if not keys:
        raise DataError(f"{name}: this dataset has no images; its features are {', '.join(features) or 'unknown'}")
    if not builder.is_prepared():
        _prepare(builder, name, data_dir)
    key = "image" if "image" in keys else keys[0]
    decoders = {key: tfds.decode.SkipDecoding()}  # decoded below: TFDS takes four times as long
    try:
        source = builder.as_data_source(split, decoders=decoders)
    except NotImplementedError as error:
        raise DataError(
            f"{name}: {builder.data_path} is not in the array_record format; prepare it again with "
            "tfds.builder(...).download_and_prepare(file_format='array_record')"
        ) from error
    except ValueError as error:
        raise DataError(f"{name}: split {split!r}: {_first_line(error)}") from error
    piece = 512
    pieces = [range(i, min(i + piece, len(source))) for i in range(0, len(source), piece)]

    def read(indices: range) -> np.ndarray:
        encoded = [example[key] for example in source.__getitems__(list(indices))]
        images = [fit(Image.open(io.BytesIO(e), formats=("PNG", "JPEG")), shape) for e in encoded]
        return np.stack(_same_size(images, name))

    return np.concatenate(_same_size(_track(read, pieces, name), name, axis=1))


def _prepare(builder, name: str, data_dir: str | None) -> None:
    """Downloads and prepares a TensorFlow dataset, or says in one line what is missing."""
    where = f"put prepared data (array_record) in {builder.data_path}, or name its folder with --data-dir"
    if not _online():
        raise DataError(f"{name}: not found in {builder.data_dir}, and there is no network to download it; {where}")
    print(f"{name}: downloading and preparing in {builder.data_path}", flush=True)
    try:
        builder.download_and_prepare(file_format="array_record")
    except Exception as error:
        if importlib.util.find_spec("tensorflow") is None and "tensorflow" in f"{error!r}".lower():
            raise DataError(f"{name}: preparing it needs TensorFlow; pip install tensorflow, or {where}") from error
        raise DataError(f"{name}: preparing it failed ({_first_line(error)}); {where}") from error


def _online() -> bool:
    """Whether names resolve; else TensorFlow Datasets would retry for minutes before it gives up."""
    try:
        return bool(urllib.request.getproxies()) or bool(socket.getaddrinfo("www.tensorflow.org", 443))
    except OSError:
        return False


def fit(image, shape: Shape | None) -> np.ndarray:
    """A PIL image as uint8 [H, W, C], cropped around its centre and resized to `shape` where one is given."""
    from PIL import Image, ImageOps

    if image.mode[0] in "IF":
        raise DataError(f"images must have 8 bits a channel, not mode {image.mode!r}; convert them first")
    channels = shape[2] if shape else (1 if image.mode in ("L", "1", "LA") else 3)
    image = image.convert("L" if channels == 1 else "RGB")
    if shape and image.size != (shape[1], shape[0]):
        image = ImageOps.fit(image, (shape[1], shape[0]), Image.Resampling.LANCZOS)
    pixels = np.asarray(image)
    return pixels[..., None] if pixels.ndim == 2 else pixels


def _track(read: Callable, items: list, name: str) -> list:
    """[read(item) for item in items], with a progress bar on a terminal when it takes long."""
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    quiet = len(items) < 20 or not console.is_terminal
    bar: Iterable = track(items, f"loading {name}", console=console, transient=True, disable=quiet)
    return [read(item) for item in bar]


def _same_size(images: Sequence[np.ndarray], name: str, axis: int = 0) -> Sequence[np.ndarray]:
    shapes = sorted({image.shape[axis:] for image in images})
    if len(shapes) > 1:
        raise DataError(f"{name}: images differ in shape ({shapes[0]} and {shapes[1]}); give an image_shape")
    return images


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:400]
