"""What scores are measured with: functions from images to features and, where there are classes, probabilities."""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxgan.evaluation import shipped
from jaxgan.evaluation.classifier import Classifier
from jaxgan.networks import Context

# Images go through a network in pieces of one size, the last one padded, so that an image's features do not depend on
# how many others are scored with it.
PIECE = 250
INCEPTION_PIECE = 25  # more at once take gigabytes, and are slower
GREY = (0.299, 0.587, 0.114)  # of red, green and blue: ITU-R BT.601
OTHER = "cifar10"  # scores images of all kinds that have no classifier of their own


class Embedded(NamedTuple):
    """Images as a network sees them.

    Attributes:
      features: float32 [N, D].
      probabilities: float32 [N, K], of each class; None where the network has no classes.
    """

    features: np.ndarray
    probabilities: np.ndarray | None = None


Track = Callable[[Iterable, str], Iterable]


@dataclasses.dataclass(frozen=True)
class Features:
    """A function from images to features, and what it is known by.

    Attributes:
      name: what outputs call it.
      sha256: of all that decides its numbers. Two scores can be compared only where it is the same.
      apply: uint8 [PIECE, H, W, C] -> features [PIECE, D], or features and logits [PIECE, K].
      classes: the names of the classes, in the order of the logits.
    """

    name: str
    sha256: str
    apply: Callable[[np.ndarray], Any]
    classes: tuple[str, ...] = ()


def embed(features: Features, images: np.ndarray, track: Track = lambda items, what: items, what: str = "") -> Embedded:
    """The features of images, and the probabilities of classes where there are any.

    Args:
      features: with what.
      images: uint8 [N, H, W, C].
      track: shows progress: it is given the pieces and `what`, and gives the pieces back, one by one.
      what: what the images are.

    Raises:
      ValueError: the images are of another kind, or what `features` gives is no array of numbers for each image.
    """
    if images.dtype != np.uint8 or images.ndim != 4 or not images.size:
        raise ValueError(f"images must be uint8 [N, H, W, C], not {images.dtype} {list(images.shape)}")
    found = []
    for start in track(range(0, len(images), PIECE), what):
        piece = images[start : start + PIECE]
        padded = np.pad(piece, ((0, PIECE - len(piece)), *[(0, 0)] * 3))
        result = features.apply(padded)
        parts = result if isinstance(result, tuple) else (result,)
        parts = [np.asarray(part, np.float32) for part in parts]
        if len(parts) > 2 or any(part.ndim != 2 or len(part) != PIECE for part in parts):
            shapes = " and ".join(str(list(part.shape)) for part in parts)
            raise ValueError(
                f"{features.name} must give features [{PIECE}, D], or features and logits, for {PIECE} images, "
                f"not {shapes}"
            )
        found.append([part[: len(piece)] for part in parts])
    values, *logits = (np.concatenate(part) for part in zip(*found, strict=True))
    return Embedded(values, _softmax(logits[0]) if logits else None)


def classifier(name: str, border: int = 0) -> Features:
    """The features of a classifier that comes with the package.

    Images of another size are resized to the classifier's (bilinear, with antialiasing); of other colours converted.

    Args:
      name: one of `shipped.index()`.
      border: pixels that are cut off on each side first.

    Raises:
      ValueError: there is none of that name, or its weights are not those that were shipped.
    """
    about, variables = shipped.load(name)
    net = Classifier(tuple(about["training"]["widths"]), len(about["classes"]))
    shape = tuple(about["training"]["image_shape"])
    apply = functools.partial(_apply, net, shape, border, variables)
    return Features(name, _digest(about["sha256"], shape, border), apply, tuple(about["classes"]))


def inception(weights: str | None = None) -> Features:
    """The features of InceptionV3 as FID uses it: pool3, 2048 of them, and the logits of ImageNet's classes.

    Args:
      weights: the file of its weights, as in `inception_weights.find`.

    Raises:
      WeightsError: they cannot be had.
    """
    from jaxgan.evaluation import inception_weights
    from jaxgan.evaluation.inception import InceptionV3

    path = inception_weights.find(weights)
    variables, net = inception_weights.read(path), InceptionV3()

    @jax.jit
    def apply(variables: Mapping[str, Any], images: jax.Array) -> tuple[jax.Array, jax.Array]:
        few = images.reshape(-1, INCEPTION_PIECE, *images.shape[1:])
        found = jax.lax.map(lambda x: net.apply(variables, brought_to(x, (*x.shape[1:3], 3))), few)
        return jax.tree.map(lambda x: x.reshape(len(images), -1), found)

    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return Features("inception", digest, functools.partial(apply, variables))


def for_data(name: str) -> str:
    """The classifier that scores a dataset by default: its own, or else that of CIFAR-10."""
    return name if name in shipped.index() else OTHER


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _apply(
    net: Classifier, shape: tuple[int, int, int], border: int, variables: Mapping[str, Any], images: jax.Array
) -> tuple[jax.Array, jax.Array]:
    return net.apply(variables, brought_to(images, shape, border) / 255, Context())


def brought_to(images: jax.Array, shape: tuple[int, int, int], border: int = 0) -> jax.Array:
    """Images, uint8 [B, H, W, C], without their border, in the size and colours of `shape`: float32, 0 to 255."""
    height, width, channels = shape
    x = images[:, border : images.shape[1] - border, border : images.shape[2] - border].astype(jnp.float32)
    if x.shape[-1] == 3 and channels == 1:
        x = (x * jnp.array(GREY).reshape(1, 1, 1, 3)).sum(-1, keepdims=True)
    elif x.shape[-1] == 1 and channels == 3:
        x = jnp.repeat(x, 3, -1)
    return jax.image.resize(x, (len(x), height, width, channels), "bilinear")


def _softmax(logits: np.ndarray) -> np.ndarray:
    exponentials = np.exp(logits.astype(np.float64) - logits.max(1, keepdims=True))
    return (exponentials / exponentials.sum(1, keepdims=True)).astype(np.float32)


def _digest(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
