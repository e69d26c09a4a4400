"""Arrays that were computed from real images, on disk, so that a dataset goes through a network once.

A file is named by the digest of all that decides what is in it: where any of that changes, it is another file.
"""

import hashlib
import itertools
import json
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np

Arrays = Mapping[str, np.ndarray]

MOST = 2 * 2**30  # bytes in all; the oldest files are removed where there are more


def folder() -> Path | None:
    """The package's part of the user's cache folder, which need not exist; None where the user has none.

    That is XDG_CACHE_HOME, or else .cache in the home directory; of both, no relative path is one, as the XDG Base
    Directory Specification has it. A user without HOME and without an entry in passwd has no home directory.
    """
    given = Path(os.environ.get("XDG_CACHE_HOME", ""))
    found = given if given.is_absolute() else Path(os.path.expanduser("~"), ".cache")
    return found / "jaxgan" if found.is_absolute() else None


def cached(decided_by: Any, make: Callable[[], Arrays]) -> Arrays:
    """What `make` gives; read where it has been made before.

    The files are in `scores` in the package's part of the user's cache folder. One that cannot be read is made again.
    Where none can be written, nothing is kept.

    Args:
      decided_by: all that it depends on, as JSON can hold it.
      make: gives arrays by name.
    """
    caches = folder()
    if caches is None:
        return make()
    path = caches / "scores" / f"{hashlib.sha256(json.dumps(decided_by).encode()).hexdigest()[:40]}.npz"
    try:
        with path.open("rb") as opened, np.load(opened) as file:  # NumPy would leave a damaged one open
            return {name: file[name] for name in file.files}
    except Exception:  # none, or a damaged one, of which NumPy raises many kinds
        arrays = make()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        files = sorted(path.parent.glob("*.npz"), key=lambda file: file.stat().st_mtime, reverse=True)
        for file, size in zip(files, itertools.accumulate(file.stat().st_size for file in files), strict=True):
            if size > MOST:
                file.unlink(missing_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as partial:  # several processes may write the same file
            np.savez(Path(partial) / path.name, **cast(Any, arrays))
            os.replace(Path(partial) / path.name, path)
    except OSError:
        pass
    return arrays
