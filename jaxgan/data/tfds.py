"""An image dataset of TensorFlow Datasets, read with no TensorFlow."""

import importlib.util
import io
import os
import socket
import urllib.request
from collections.abc import Iterator
from typing import Any

import numpy as np

from jaxgan.data import pixels
from jaxgan.data.dataset import DataError, Dataset
from jaxgan.data.stack import stack

PIECE = 512  # how many examples are read at once


def load(name: str, data_dir: str | None, shape: pixels.Shape | None, split: str) -> Dataset:
    """A split of a dataset, in the order in which it is stored.

    The images are the feature named `image`, or the first that is one; the labels are the feature named `label`
    where that is a class. A split in which any label is missing (-1) has no labels.

    Args:
      name: as `tfds.builder` takes it.
      data_dir: where TensorFlow Datasets keeps its data; by default its own ~/tensorflow_datasets.
      shape: as for `pixels.fit`.
      split: as TensorFlow Datasets takes it.

    Raises:
      DataError: it cannot be had, or an example cannot be used.
    """
    import tensorflow_datasets as tfds

    builder = _builder(name, data_dir)
    image = _image_feature(name, builder.info.features)
    # Not builder.is_prepared(), which takes [ and * in the path for a pattern.
    if not (builder.data_path / "dataset_info.json").exists():
        _prepare(builder, name)
    source = _source(builder, name, split)
    wanted = {image: builder.info.features[image]}
    label = dict(builder.info.features).get("label")
    if isinstance(label, tfds.features.ClassLabel) and label.num_classes:
        wanted["label"] = label
    features, labels = tfds.features.FeaturesDict(wanted), []

    def examples() -> Iterator[tuple[str, np.ndarray]]:
        for number, record in enumerate(_records(source, name)):
            try:
                # TFDS itself would decode an image in four times the time.
                example = features.deserialize_example_np(record, decoders={image: tfds.decode.SkipDecoding()})
                encoded, of_class = example[image], example.get("label", -1)
            except Exception as error:  # what a record that is none makes of it depends on its bytes
                raise DataError(f"{name}: example {number} cannot be read: {_first_line(error)}") from error
            try:
                image_pixels, _ = pixels.read(io.BytesIO(encoded), shape)
            except DataError as error:
                raise DataError(f"{name}: example {number} {error}") from error
            labels.append(of_class)
            yield f"example {number}", image_pixels

    images = stack(examples(), len(source), name)
    if min(labels) < 0:
        return Dataset(name, images)
    return Dataset(name, images, np.array(labels), tuple(label.names))


def splits(name: str, data_dir: str | None) -> tuple[str, ...]:
    """The splits of a dataset.

    Raises:
      DataError: it cannot be had.
    """
    return tuple(_builder(name, data_dir).info.splits)


def _builder(name: str, data_dir: str | None) -> Any:
    import tensorflow_datasets as tfds

    if data_dir and os.path.isdir(data_dir):
        data_dir = os.path.abspath(data_dir)  # or a folder that is named ~ would be taken for the home directory
    try:
        return tfds.builder(name, data_dir=data_dir)
    except tfds.core.DatasetNotFoundError:
        raise DataError(
            f"{name}: no such dataset; use digits, folder:PATH, a name from tensorflow.org/datasets/catalog, or one "
            "prepared in --data-dir, with its dataset_info.json and features.json"
        ) from None
    except Exception as error:  # a name, and a folder of data, can be wrong in any number of ways
        raise DataError(
            f"{name}: TensorFlow Datasets cannot open it; check its name and data: {_first_line(error)}"
        ) from error


def _image_feature(name: str, features: Any) -> str:
    """Which feature holds the images; one that does not hold pictures of 8 bits a channel is refused."""
    import tensorflow_datasets as tfds

    names = list(features) if isinstance(features, tfds.features.FeaturesDict) else []
    images = [key for key in names if type(features[key]) is tfds.features.Image]
    if not images:
        raise DataError(f"{name}: this dataset has no images; its features are {', '.join(names) or 'unknown'}")
    image = "image" if "image" in images else images[0]
    dtype = np.dtype(features[image].np_dtype)
    if dtype != np.uint8:
        raise DataError(f"{name}: its images are {dtype}, not uint8 (0 to 255); choose another dataset")
    return image


def _source(builder: Any, name: str, split: str) -> Any:
    import tensorflow_datasets as tfds

    try:
        if not builder.info.splits[split].num_examples:
            raise ValueError("it has no examples")
        return builder.as_data_source(split, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES)
    except NotImplementedError as error:
        raise DataError(
            f"{name}: {builder.data_path} is not in the array_record format; prepare it again with "
            "tfds.builder(...).download_and_prepare(file_format='array_record')"
        ) from error
    except (ValueError, KeyError) as error:
        raise DataError(f"{name}: split {split!r}: {_first_line(error)}") from error
    except Exception as error:  # files that are damaged or gone
        raise DataError(f"{name}: {builder.data_path} cannot be read: {_first_line(error)}") from error


def _records(source: Any, name: str) -> Iterator[bytes]:
    for start in range(0, len(source), PIECE):
        stop = min(start + PIECE, len(source))
        try:
            records = source.__getitems__(list(range(start, stop)))
        except Exception as error:  # files that are damaged or gone
            raise DataError(f"{name}: examples {start} to {stop - 1} cannot be read: {_first_line(error)}") from error
        yield from records


def _prepare(builder: Any, name: str) -> None:
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


def _first_line(error: BaseException) -> str:
    text = str(error.args[0] if isinstance(error, KeyError) and error.args else error).strip()
    return (text or type(error).__name__).splitlines()[0][:400]
