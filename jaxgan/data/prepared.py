"""A folder of raw pixels, which `experiments.prepare` has written: images that are read without decoding them.

It holds prepared.json (`About`), the labels as labels.npy where there are any, and the shards images-00000.array_record
and so on. Each record of a shard is one image, its uint8 pixels [H, W, C] as they are.
"""

import dataclasses
import json
import math
import os
from collections.abc import Iterable
from typing import Any

import numpy as np

from jaxgan.data import digests, pixels
from jaxgan.data.dataset import DataError, extra, first_line
from jaxgan.data.source import Source
from jaxgan.gan import Batch
from jaxgan.labels import checked_labels

ABOUT, LABELS = "prepared.json", "labels.npy"
UNFINISHED = "unfinished.jsonl"  # what `experiments.prepare` knows of a folder that it has not finished
FORMAT = 1
RECORDS = "array_record.python.array_record_module"
WRITING = "group_size:1,uncompressed"  # so that an image is read without those beside it
READING = "readahead_buffer_size:0,max_parallelism:0"  # in random order, what is read ahead is thrown away
BUFFER = 2**15  # bytes that a reader keeps; there are as many readers as shards


@dataclasses.dataclass(frozen=True)
class About:
    """What prepared.json says.

    Attributes:
      format: the version of this format.
      size: (H, W, C) of the images.
      fit: what was done with images of another aspect ratio, as `pixels.Fit`.
      files: how many files there were.
      listing: the digest of their names, sizes and times.
      images: how many of them are here.
      classes: the names of their classes; () where there are no labels.
      shards: by the name of its file, the number of images in a shard and its bytes, in their order.
      skipped: the files that are not here, each with the reason.
      labels_note: as that of `folder.labels_note`; "" where it was prepared before that was noted.
      names: as `folder.digest_of_names` of the files that are here; likewise.
    """

    format: int
    size: tuple[int, int, int]
    fit: str
    files: int
    listing: str
    images: int
    classes: tuple[str, ...]
    shards: dict[str, dict[str, int]]
    skipped: tuple[tuple[str, str], ...]
    labels_note: str = ""
    names: str = ""


def source(path: str, shape: pixels.Shape | None, how: pixels.Fit = "crop") -> Source:
    """What `experiments.prepare` has written in a folder.

    Args:
      path: the folder. One that begins with ~ and is no folder as it stands is looked for in the home directory.
      shape: as for `pixels.fit`, by which images are brought to another than that in which they are stored.
      how: as for `pixels.fit`.

    Raises:
      DataError: it is no such folder, is unfinished, or is damaged. Reading raises one for damage that shows then.
    """
    name = f"prepared:{path}"
    folder = path if os.path.isdir(path) else os.path.expanduser(path)
    about = _about(name, path, folder)
    files, shards = [os.path.join(folder, shard) for shard in about.shards], list(about.shards.values())
    for file, shard in zip(files, shards, strict=True):
        if not os.path.exists(file):
            raise _damaged(name, file, "it is gone")
        if os.path.getsize(file) != shard["bytes"]:
            raise _damaged(name, file, f"it has {os.path.getsize(file):,} bytes, not {shard['bytes']:,}")
    labels = _labels(name, folder, about) if about.classes else None
    starts = np.cumsum([0, *(shard["images"] for shard in shards)])
    nbytes = math.prod(about.size)
    readers: list[Any] = [None] * len(files)

    def read(which: np.ndarray) -> Batch:
        which = np.asarray(which)
        images = np.empty((len(which), nbytes), np.uint8)
        of_shard = np.searchsorted(starts, which, side="right") - 1
        for i in np.unique(of_shard):
            places = np.flatnonzero(of_shard == i)
            try:
                reader = readers[i] = readers[i] or _reader(files[i])  # if two threads open one, either will do
                records = reader.read((which[places] - starts[i]).tolist())
            except Exception as error:  # what a damaged file raises is not said anywhere
                raise _damaged(name, files[i], error) from error
            if any(len(record) != nbytes for record in records):
                raise _damaged(name, files[i], "its images are of another size")
            for place, record in zip(places, records, strict=True):
                images[place] = np.frombuffer(record, np.uint8)
        images = pixels.fit_all(images.reshape(-1, *about.size), shape, how)
        return Batch(images, None if labels is None else labels[which])

    def digest() -> str:
        covered = [*files, os.path.join(folder, LABELS)] if about.classes else files
        meaning = json.dumps([about.format, about.size, about.classes, shards])
        return digests.of_files([(os.path.basename(file), file) for file in covered], meaning)

    note = about.labels_note or ("" if about.classes else "not all of its images lay in folders of classes")
    note = f"when it was prepared: {note}" if note else ""
    return Source(name, about.images, shape or about.size, read, digest, about.classes, note, labels=labels)


def write(path: str, images: Iterable[np.ndarray]) -> None:
    """Writes a shard of images, uint8 [H, W, C] each.

    Raises:
      DataError: it cannot be written, for example because the disk is full.
    """
    writer, count = extra(RECORDS, path).ArrayRecordWriter(path, WRITING), 0
    try:
        for count, image in enumerate(images, 1):  # noqa: B007
            writer.write(image.tobytes())
        writer.close()
        if _reader(path).num_records() != count:
            raise RuntimeError("not all of it is there")
    except (OSError, RuntimeError) as error:
        raise DataError(f"{path} cannot be written: {first_line(error)}") from error


def read_about(folder: str) -> About:
    """What a folder's prepared.json says.

    Raises:
      OSError: there is none.
      ValueError: it is not whole, or of another format.
    """
    with open(os.path.join(folder, ABOUT)) as file:
        try:
            about = About(**json.load(file))
        except (TypeError, RecursionError) as error:
            raise ValueError("it is not what experiments.prepare writes") from error
    if about.format != FORMAT:
        raise ValueError(f"its format is {about.format}, not {FORMAT}")
    if not _is_sound(about):
        raise ValueError("it is not what experiments.prepare writes")
    as_tuples = {name: tuple(getattr(about, name)) for name in ("size", "classes")}
    return dataclasses.replace(about, **as_tuples, skipped=tuple(map(tuple, about.skipped)))


def _is_sound(about: About) -> bool:
    """Whether all has the types that `About` names, before any of it is believed; a shard holds what is said of it."""

    def texts(of: Any, count: int | None = None) -> bool:
        return isinstance(of, list) and all(isinstance(x, str) for x in of) and count in (None, len(of))

    def whole(*of: Any) -> bool:
        return all(type(x) is int and x >= 0 for x in of)

    if not (isinstance(about.size, list) and len(about.size) == 3 and whole(*about.size) and all(about.size)):
        return False
    if not (isinstance(about.shards, dict) and isinstance(about.skipped, list) and whole(about.files, about.images)):
        return False
    shards, of_one = [*about.shards.values()], math.prod(about.size)
    return (
        texts(about.classes)
        and texts([about.fit, about.listing, about.labels_note, about.names])
        and all(texts(pair, 2) for pair in about.skipped)
        and all(os.path.basename(name) == name for name in about.shards)
        and all(isinstance(of, dict) and {"images", "bytes"} == of.keys() and whole(*of.values()) for of in shards)
        and all(of["images"] * of_one <= of["bytes"] for of in shards)
        and sum(of["images"] for of in shards) == about.images
    )


def is_one(folder: str) -> bool:
    """Whether a folder is a prepared one, be it finished or not."""
    return any(os.path.exists(os.path.join(folder, file)) for file in (ABOUT, UNFINISHED))


def check_finished(name: str, folder: str) -> None:
    """Refuses what `experiments.prepare` has begun in a folder and not finished.

    Raises:
      DataError: it names the command that goes on with it.
    """
    try:
        with open(os.path.join(folder, UNFINISHED)) as file:
            command = json.loads(file.readline())["command"]
    except (OSError, ValueError, KeyError, TypeError):
        return
    raise DataError(f"{name}: it is unfinished; {command} goes on with it")


def _about(name: str, path: str, folder: str) -> About:
    if not path or not os.path.isdir(folder):
        raise DataError(
            f"{name}: there is no folder {path!r}; python -m experiments.prepare makes one of a folder of images"
        )
    try:
        return read_about(folder)
    except FileNotFoundError:
        check_finished(name, folder)
        raise DataError(
            f"{name}: {path} was not written by experiments.prepare (it holds no {ABOUT}); use folder:{path} if it "
            "holds image files"
        ) from None
    except (OSError, ValueError) as error:
        raise _damaged(name, os.path.join(folder, ABOUT), error) from error


def _labels(name: str, folder: str, about: About) -> np.ndarray:
    file = os.path.join(folder, LABELS)
    try:
        return np.asarray(checked_labels(np.load(file), about.images, len(about.classes)), np.int32)
    except (OSError, ValueError, EOFError) as error:
        raise _damaged(name, file, error) from error


def _reader(file: str) -> Any:
    return extra(RECORDS, file).ArrayRecordReader(file, READING, file_reader_buffer_size=BUFFER)


def _damaged(name: str, file: str, reason: object) -> DataError:
    remove = "remove it and " if os.path.exists(file) else ""
    return DataError(f"{name}: {file} cannot be read ({first_line(reason)}); {remove}prepare it again")
