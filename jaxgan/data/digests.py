"""Which data a run is of: a digest of the files that they are read from, or of images in memory."""

import hashlib
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from jaxgan.data.dataset import Dataset
    from jaxgan.data.source import Source

FILES = "files:"

WHOLE = 64 * 2**20  # bytes of files that are read through
PLACES, LENGTH = 1_024, 4_096  # of larger ones, as many places, evenly spaced, and the bytes at each


def of_files(files: Sequence[tuple[str, str]], about: str = "") -> str:
    """The digest of files, which does not depend on where they are.

    It covers their names, their sizes and their bytes; of more than 64 MiB the bytes at 1,024 places, so that a run on
    a large dataset starts at once. There, what is changed without changing a size may go unnoticed.

    Args:
      files: of each the name that it is known by, and its path, in an order that is always the same.
      about: what else decides what is read from them.

    Raises:
      OSError: a file cannot be read.
    """
    digest = hashlib.sha256(about.encode())
    sizes = [os.path.getsize(path) for _, path in files]
    for (name, _), size in zip(files, sizes, strict=True):
        digest.update(os.fsencode(name) + b"\0%d\n" % size)
    total, start = sum(sizes), 0
    step = 1 if total <= WHOLE else total / PLACES
    for (_, path), size in zip(files, sizes, strict=True):
        if total <= WHOLE:
            with open(path, "rb") as file:
                digest.update(file.read())
        else:
            places = range(-int(-start // step), -int(-(start + size) // step))  # those k with k * step in this file
            if places:
                with open(path, "rb") as file:
                    for k in places:
                        file.seek(int(k * step) - start)
                        digest.update(file.read(LENGTH))
        start += size
    return digest.hexdigest()


def identity(data: "Source | Dataset", labels: bool) -> str:
    """What the config.json of a run says of its data, the same however they are read; a DataError where they cannot be.

    It is "files:" and the digest of the files or records that they are read from; or, of arrays, their SHA-256, where
    `labels` says whether theirs count, as they do where classes take turns.
    """
    digest = data.digest()
    return cast("Dataset", data).sha256(labels or data.balance) if digest is None else FILES + digest
