"""The classifiers that come with the package: their weights, and what is known of them.

weights/NAME.npz            the weights, float16
weights/classifiers.json    of each its SHA-256, classes, test accuracy, and how it was trained
"""

import functools
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict

from jaxgan.evaluation.classifier import Classifier
from jaxgan.networks import Context

FOLDER = Path(__file__).parent / "weights"
INDEX = "classifiers.json"
# Images go through a network in pieces of one size, the last one padded, so that an image's features do not depend on
# how many others are scored with it.
PIECE = 250


def index(folder: Path = FOLDER) -> dict[str, dict[str, Any]]:
    """What is known of each classifier, by its name."""
    path = folder / INDEX
    return dict(json.loads(path.read_text())) if path.exists() else {}


def save(folder: Path, name: str, variables: Mapping[str, Any], about: Mapping[str, Any]) -> None:
    """Writes a classifier's weights, and adds it to the index."""
    path = folder / f"{name}.npz"
    np.savez(path, **flatten_dict(variables, sep="/"))
    about = {"sha256": hashlib.sha256(path.read_bytes()).hexdigest(), **about}
    text = json.dumps(dict(sorted({**index(folder), name: about}.items())), indent=1)
    (folder / INDEX).write_text(text + "\n")


def features_and_logits(
    net: Classifier, variables: Mapping[str, Any], images: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Of images, uint8 [N, H, W, C], their features [N, D] and logits [N, classes], float32."""
    found = []
    for start in range(0, len(images), PIECE):
        piece = images[start : start + PIECE]
        padding = ((0, PIECE - len(piece)), *[(0, 0)] * 3)
        found.append([np.asarray(x)[: len(piece)] for x in _apply(net, variables, np.pad(piece, padding))])
    return tuple(np.concatenate(parts) for parts in zip(*found, strict=True))


@functools.partial(jax.jit, static_argnums=0)
def _apply(net: Classifier, variables: Mapping[str, Any], images: jax.Array) -> tuple[jax.Array, jax.Array]:
    variables = jax.tree.map(lambda x: x.astype(jnp.float32), variables)
    return net.apply(variables, images.astype(jnp.float32) / 255, Context())
