"""Features of real images on disk, so that a dataset goes through the network once.

A file is named by the digests of the images and of the features, so that none outlives a change of either.
"""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from jaxgan.evaluation.features import Embedded, Features


def folder() -> Path:
    """Where the files are: `features` in the package's part of the user's cache folder."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(cache) / "jaxgan" / "features"


def cached(images_sha256: str, features: Features, make: Callable[[], Embedded]) -> Embedded:
    """What `make` gives for these images; read where it has been made before.

    A file that cannot be read is made again, and where none can be written all goes on without.
    """
    path = folder() / f"{images_sha256[:32]}-{features.sha256[:32]}.npz"
    try:
        with np.load(path) as file:
            return Embedded(file["features"], file["probabilities"] if "probabilities" in file.files else None)
    except Exception:  # none, or a damaged one, of which NumPy raises many kinds
        embedded = make()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".partial", delete=False) as file:
            np.savez(file, **{name: x for name, x in embedded._asdict().items() if x is not None})
        os.replace(file.name, path)
    except OSError:
        pass
    return embedded
