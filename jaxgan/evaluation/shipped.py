"""The classifiers that come with the package: their weights, and what is known of them.

weights/NAME.npz            the weights, float16
weights/classifiers.json    of each its SHA-256, classes, test accuracy, and how it was trained
"""

import hashlib
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

FOLDER = Path(__file__).parent / "weights"
INDEX = "classifiers.json"


def index(folder: Path = FOLDER) -> dict[str, dict[str, Any]]:
    """What is known of each classifier, by its name."""
    path = folder / INDEX
    return dict(json.loads(path.read_text())) if path.exists() else {}


def load(name: str, folder: Path = FOLDER) -> tuple[dict[str, Any], dict[str, Any]]:
    """What is known of a classifier, and its variables as float32.

    Raises:
      ValueError: there is none of that name, or its file has been changed.
    """
    known = index(folder)
    if name not in known:
        raise ValueError(f"no classifier is named {name!r}; there are {', '.join(known)}")
    data = (folder / f"{name}.npz").read_bytes()
    if hashlib.sha256(data).hexdigest() != known[name]["sha256"]:
        raise ValueError(f"{folder / name}.npz is not the file that came with the package; install it again")
    with np.load(io.BytesIO(data)) as file:
        arrays = {key: file[key].astype(np.float32) for key in file.files}
    return known[name], unflatten_dict(arrays, sep="/")


def save(folder: Path, name: str, variables: Mapping[str, Any], about: Mapping[str, Any]) -> None:
    """Writes a classifier's weights as float16, and adds it to the index."""
    path = folder / f"{name}.npz"
    arrays: Any = {key: np.asarray(x, np.float16) for key, x in flatten_dict(variables, sep="/").items()}
    np.savez(path, **arrays)
    about = {"sha256": hashlib.sha256(path.read_bytes()).hexdigest(), **about}
    text = json.dumps(dict(sorted({**index(folder), name: about}.items())), indent=1)
    (folder / INDEX).write_text(text + "\n")
