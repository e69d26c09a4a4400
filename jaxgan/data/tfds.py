"""An image dataset of TensorFlow Datasets, read with no TensorFlow."""

import functools
import importlib.util
import io
import json
import os
import socket
import urllib.request
from collections.abc import Iterator
from typing import Any, cast

import numpy as np

from jaxgan.data import digests, pixels
from jaxgan.data.dataset import DataError, extra, first_line
from jaxgan.data.source import Source, stacked
from jaxgan.gan import Batch


def source(name: str, data_dir: str | None, shape: pixels.Shape | None, split: str, how: pixels.Fit = "crop") -> Source:
    """A split of a dataset, in the order in which it is stored.

    The images are the feature named `image`, or the first that is one; the labels are the feature named `label`
    where that is a class. A split in which any label is missing (-1) has no labels.

    Args:
      name: as `tfds.builder` takes it.
      data_dir: where TensorFlow Datasets keeps its data; by default its own ~/tensorflow_datasets.
      shape: as for `pixels.fit`.
      split: as TensorFlow Datasets takes it.
      how: as for `pixels.fit`.

    Raises:
      DataError: it cannot be had. Reading raises one for an example that cannot be used.
    """
    tfds = extra("tensorflow_datasets", name)
    builder = _builder(name, data_dir)
    image = _image_feature(name, builder.info.features)
    # Not builder.is_prepared(), which takes [ and * in the path for a pattern.
    if not (builder.data_path / "dataset_info.json").exists():
        _prepare(builder, name)
    records = _source(builder, name, split)
    of = functools.partial(_records, records, name=name, builder=builder, split=split)
    label = cast(Any, dict(builder.info.features).get("label"))
    is_class = isinstance(label, tfds.features.ClassLabel) and bool(label.num_classes)

    def decoded(number: int, record: bytes) -> tuple[np.ndarray, int]:
        encoded, of_class = _example(record, image, is_class, f"{name}: example {number}")
        try:
            return pixels.read(io.BytesIO(encoded), shape, how), of_class
        except DataError as error:
            raise DataError(f"{name}: example {number} {error}") from error

    of_all = shape or decoded(0, of([0])[0])[0].shape

    def read(which: np.ndarray) -> Batch:
        labels = np.empty(len(which), np.int32)

        def examples() -> Iterator[tuple[str, np.ndarray]]:
            for i, (number, record) in enumerate(zip(which, of(which.tolist()), strict=True)):
                image_pixels, labels[i] = decoded(number, record)
                yield f"example {number}", image_pixels

        images = stacked(examples(), len(which), of_all, name, "example 0")
        return Batch(images, labels if is_class else None)

    def digest() -> str:
        instructions = builder.info.splits[split].file_instructions
        parts = [[os.path.basename(x.filename), x.skip, x.take] for x in instructions]
        files = {os.path.basename(x.filename): str(x.filename) for x in instructions}
        return digests.of_files(sorted(files.items()), json.dumps(parts))

    features = ", ".join(sorted(builder.info.features))
    note = "" if is_class else f"it has no feature named label that is a class, but {features}"
    return Source(name, len(records), of_all, read, digest, tuple(label.names) if is_class else (), note)


def splits(name: str, data_dir: str | None) -> tuple[str, ...]:
    """The splits of a dataset.

    Raises:
      DataError: it cannot be had.
    """
    return tuple(_builder(name, data_dir).info.splits)


def _builder(name: str, data_dir: str | None) -> Any:
    tfds = extra("tensorflow_datasets", name)
    if data_dir and os.path.isdir(data_dir):
        data_dir = os.path.abspath(data_dir)  # or a folder that is named ~ would be taken for the home directory
    if (
        not data_dir and "TFDS_DATA_DIR" not in os.environ and os.path.expanduser("~") == "~"
    ):  # it would make that folder
        raise DataError(f"{name}: there is no home directory to keep its data in; name a folder with `data_dir`")
    try:
        return tfds.builder(name, data_dir=data_dir)
    except tfds.core.DatasetNotFoundError:
        raise DataError(
            f"{name}: no such dataset; use digits, folder:PATH, a name from tensorflow.org/datasets/catalog, or one "
            "prepared in `data_dir`, with its dataset_info.json and features.json"
        ) from None
    except Exception as error:  # a name, and a folder of data, can be wrong in any number of ways
        raise DataError(
            f"{name}: TensorFlow Datasets cannot open it; check its name and data: {first_line(error)}"
        ) from error


def _image_feature(name: str, features: Any) -> str:
    """Which feature holds the images; one that does not hold pictures of 8 bits a channel is refused."""
    tfds = extra("tensorflow_datasets", name)
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
    tfds = extra("tensorflow_datasets", name)
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
        raise DataError(f"{name}: split {split!r}: {first_line(error.args[0] if error.args else error)}") from error
    except Exception as error:  # files that are damaged or gone
        raise DataError(f"{name}: {builder.data_path} cannot be read: {first_line(error)}") from error


def _records(records: Any, which: list[int], name: str, builder: Any, split: str) -> list[bytes]:
    try:
        return records.__getitems__(which)
    except Exception as error:  # files that are damaged or gone
        some = f"example {which[0]}" if len(which) == 1 else f"examples {min(which)} to {max(which)}"
        files = sorted({str(x.filename) for x in builder.info.splits[split].file_instructions})
        where = f"{files[0]} and {len(files) - 1} others" if len(files) > 1 else files[0]
        raise DataError(f"{name}: {some} cannot be read from {where}: {first_line(error)}") from error


def _example(record: bytes, image: str, is_class: bool, which: str) -> tuple[bytes, int]:
    """The encoded image of a record, and its label; TFDS's own parser takes several times as long."""
    tf_example_pb2 = extra("tensorflow_datasets.proto", which).tf_example_pb2
    try:
        features = tf_example_pb2.Example.FromString(record).features.feature
        encoded = features[image].bytes_list.value[0]
        return encoded, features["label"].int64_list.value[0] if is_class else -1
    except Exception as error:  # a broken record may make the parser raise anything
        raise DataError(f"{which} cannot be read: {first_line(error)}") from error


def _prepare(builder: Any, name: str) -> None:
    """Downloads and prepares a TensorFlow dataset, or says in one line what is missing."""
    where = f"put prepared data (array_record) in {builder.data_path}, or name its folder with `data_dir`"
    if not _online():
        raise DataError(f"{name}: not found in {builder.data_dir}, and there is no network to download it; {where}")
    print(f"{name}: downloading and preparing in {builder.data_path}", flush=True)
    try:
        builder.download_and_prepare(file_format="array_record")
    except Exception as error:
        if importlib.util.find_spec("tensorflow") is None and "tensorflow" in f"{error!r}".lower():
            raise DataError(f"{name}: preparing it needs TensorFlow; pip install tensorflow, or {where}") from error
        raise DataError(f"{name}: preparing it failed ({first_line(error)}); {where}") from error


def _online() -> bool:
    """Whether names resolve; else TensorFlow Datasets would retry for minutes before it gives up."""
    try:
        return bool(urllib.request.getproxies()) or bool(socket.getaddrinfo("www.tensorflow.org", 443))
    except OSError:
        return False
