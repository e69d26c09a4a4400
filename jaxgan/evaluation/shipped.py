"""The small classifiers that come with the package, whose features and class probabilities score images.

weights/NAME.npz            the weights, float16
weights/classifiers.json    of each its SHA-256, classes, test accuracy, and how it was trained
"""

import hashlib
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from jaxgan.networks.layers import Context, Conv, batch_norm

FOLDER = Path(__file__).parent / "weights"
INDEX = "classifiers.json"


class Classifier(nn.Module):
    """Images [B, H, W, C], from 0 to 1 -> features [B, widths[-1]], none below 0; and logits [B, classes].

    Each stage is a convolution, max pooling by 2, and one more convolution. Convolutions are of 3x3 pixels, and batch
    normalisation and ReLU follow it. Features are the mean over the last map.
    """

    widths: tuple[int, ...]  # the channels of each stage
    classes: int

    def __call__(self, images: jax.Array, context: Context) -> tuple[jax.Array, jax.Array]:
        maps, logits = self.maps(images, context)
        return maps[-1].mean((1, 2)), logits

    @nn.compact
    def maps(self, images: jax.Array, context: Context) -> tuple[list[jax.Array], jax.Array]:
        """The last map of each stage, [B, h, w, C]; and the logits."""
        x, maps = (images - 0.5) / 0.25, []
        for width in self.widths:
            x = max_pool(Conv(width, 3, use_bias=False)(x))
            x = nn.relu(batch_norm(context, 0.9)(x))
            x = nn.relu(batch_norm(context, 0.9)(Conv(width, 3, use_bias=False)(x)))
            maps.append(x)
        return maps, nn.Dense(self.classes)(x.mean((1, 2)))


def max_pool(x: jax.Array) -> jax.Array:
    """The largest of each 2x2 pixels: [B, H, W, C] -> [B, H // 2, W // 2, C].

    `flax.linen.max_pool` does the same, but on a CPU its gradient takes many times as long.
    """
    b, h, w, c = x.shape
    return x[:, : h // 2 * 2, : w // 2 * 2].reshape(b, h // 2, 2, w // 2, 2, c).max((2, 4))


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
