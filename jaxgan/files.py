"""Files that are there as a whole or not at all."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Gives a path to write to, which becomes `path` where all has been written, and else is removed."""
    partial = Path(f"{path}.partial")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def save_npz(path: str | os.PathLike[str], arrays: dict[str, Any]) -> None:
    """Writes arrays by name, compressed, under exactly this path."""
    with atomic_write(path) as partial, partial.open("wb") as file:  # by a name of another end NumPy takes another
        np.savez_compressed(file, **arrays)
