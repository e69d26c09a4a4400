"""What scores are measured with: functions from images to features and, where there are classes, probabilities."""

import dataclasses
import functools
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
import scipy.special

from jaxgan.evaluation import shipped
from jaxgan.networks import Context

# Images go through a network in batches of one size, the last one padded, so that an image's features do not depend on
# how many others are scored with it.
BATCH = 250
INCEPTION_BATCH = 25  # more at once take gigabytes, and are slower
EFFICIENTNET_BATCH = 10
GREY = (0.299, 0.587, 0.114)  # of red, green and blue: ITU-R BT.601
VERSION = 1  # of what is done to images before a network sees them
OTHER = "cifar10"  # the classifier of all data that have none of their own


class Embedded(NamedTuple):
    """Images as a network sees them.

    Attributes:
      features: float32 [N, D].
      probabilities: float32 [N, K], of each class; None where the network has no classes.
    """

    features: np.ndarray
    probabilities: np.ndarray | None = None


Track = Callable[[Iterable[Any], str], Iterable[Any]]


def untracked(items: Iterable[Any], what: str) -> Iterable[Any]:
    """The items, with no progress shown."""
    return items


@dataclasses.dataclass(frozen=True)
class Features:
    """A function from images to features, and what it is known by.

    Attributes:
      name: what outputs call it.
      sha256: of what decides its numbers. Two scores can be compared only where it is the same.
      apply: uint8 [BATCH, H, W, C] -> features [BATCH, D], or features and logits [BATCH, K].
      classes: the names of the classes, in the order of the logits.
      kept: whether the features of real images are kept on disk. Only where the digest is of all that decides them.
    """

    name: str
    sha256: str
    apply: Callable[[np.ndarray], Any]
    classes: tuple[str, ...] = ()
    kept: bool = True


def embed(
    features: Features | Callable[[np.ndarray], Any], images: np.ndarray, track: Track = untracked, what: str = ""
) -> Embedded:
    """The features of images, and the probabilities of classes where there are any.

    Args:
      features: with what; a function is taken as `Features.apply`.
      images: uint8 [N, H, W, C].
      track: shows progress: it is given the batches and `what`, and yields the batches.
      what: what the images are.

    Raises:
      ValueError: the images are of another kind, or what `features` gives is no array of numbers for each image.
    """
    if images.dtype != np.uint8 or images.ndim != 4 or not images.size:
        raise ValueError(f"images must be uint8 [N, H, W, C], not {images.dtype} {list(images.shape)}")
    if not isinstance(features, Features):
        features = Features(getattr(features, "__name__", "features"), "", features, kept=False)
    found = []
    for start in track(range(0, len(images), BATCH), what):
        batch = images[start : start + BATCH]
        padded = np.pad(batch, ((0, BATCH - len(batch)), *[(0, 0)] * 3))
        result = features.apply(padded)
        parts = result if isinstance(result, tuple) else (result,)
        parts = [np.asarray(part, np.float32) for part in parts]
        if len(parts) > 2 or any(part.ndim != 2 or len(part) != BATCH for part in parts):
            shapes = " and ".join(str(list(part.shape)) for part in parts)
            raise ValueError(
                f"{features.name} must give features [{BATCH}, D], or features and logits, for {BATCH} images, "
                f"not {shapes}"
            )
        if not all(np.isfinite(part[: len(batch)]).all() for part in parts):
            raise ValueError(f"{features.name} gives features that are not finite")
        found.append([part[: len(batch)] for part in parts])
    values, *logits = (np.concatenate(part) for part in zip(*found, strict=True))
    probabilities = [scipy.special.softmax(x.astype(np.float64), 1).astype(np.float32) for x in logits]
    return Embedded(values, *probabilities)


def classifier(name: str) -> Features:
    """The features of a classifier that comes with the package.

    Images of another size are resized to the classifier's (bilinear, with antialiasing); of other colours converted.

    Args:
      name: one of `shipped.index()`.

    Raises:
      ValueError: there is none of that name, or its weights are not those that were shipped.
    """
    about, variables = shipped.load(name)
    net = shipped.Classifier(tuple(about["training"]["widths"]), len(about["classes"]))
    shape = tuple(about["training"]["image_shape"])
    apply = functools.partial(_apply, net, shape, variables)
    return Features(name, _digest(about["sha256"], shape, VERSION), apply, tuple(about["classes"]))


def perceptual(name: str) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """A distance of images as a classifier of the package sees them, which can be differentiated.

    It is LPIPS without its learned weights (Zhang et al. 2018, arXiv:1801.03924): of each stage's maps, with the
    channels of each pixel scaled to length 1, the mean over pixels of the squared difference; and the mean squared
    difference of the images themselves, from -1 to 1. Images are not resized, so that it sees those of any size.

    Args:
      name: as for `classifier`.

    Returns:
      A function of two batches of images, floats [B, H, W, C] from 0 to 255, C being 1 or 3: [B].
    """
    about, variables = shipped.load(name)
    net = shipped.Classifier(tuple(about["training"]["widths"]), len(about["classes"]))
    channels = about["training"]["image_shape"][2]

    def maps(images: jax.Array) -> list[jax.Array]:
        x = brought_to(images, (images.shape[1], images.shape[2], channels)) / 255
        found, _ = cast(Any, net.apply(variables, x, Context(), method="maps"))
        return [x * jax.lax.rsqrt(jnp.sum(jnp.square(x), axis=3, keepdims=True) + 1e-8) for x in found]

    def distance(a: jax.Array, b: jax.Array) -> jax.Array:
        of_stages = [jnp.mean(jnp.sum(jnp.square(x - y), 3), (1, 2)) for x, y in zip(maps(a), maps(b), strict=True)]
        return sum(of_stages, jnp.mean(jnp.square((a - b) / 127.5), (1, 2, 3)))

    return distance


def inception_v3(weights: str | None = None) -> Features:
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
        few = images.reshape(-1, INCEPTION_BATCH, *images.shape[1:])
        found = jax.lax.map(lambda x: net.apply(variables, brought_to(x, (*x.shape[1:3], 3))), few)
        return jax.tree.map(lambda x: x.reshape(len(images), -1), found)

    digest = _digest(hashlib.sha256(path.read_bytes()).hexdigest(), VERSION)
    return Features("inception", digest, functools.partial(apply, variables))


def efficientnet_lite0() -> Features:
    """The features of EfficientNet-Lite0, 1,280 of them, and the logits of ImageNet's classes: for larger pictures.

    Images of another size are resized to 224 pixels (bilinear, with antialiasing).

    Raises:
      WeightsError: the package that has the weights is not installed, or damaged.
    """
    from jaxgan.evaluation import efficientnet as net

    weights = net.read(net.find())

    @jax.jit
    def apply(weights: Mapping[str, Any], images: jax.Array) -> tuple[jax.Array, jax.Array]:
        few = images.reshape(-1, EFFICIENTNET_BATCH, *images.shape[1:])
        with jax.default_matmul_precision("highest"):
            found = jax.lax.map(lambda x: net.apply(weights, brought_to(x, (net.SIZE, net.SIZE, 3))), few)
        return jax.tree.map(lambda x: x.reshape(len(images), -1), found)

    return Features("efficientnet", _digest(net.SHA256, VERSION), functools.partial(apply, weights))


def for_data(name: str) -> str:
    """The classifier that scores a dataset by default: its own, or else that of CIFAR-10.

    Args:
      name: of the dataset; that of a TensorFlow dataset may have a configuration and a version.
    """
    plain = re.split("[:/]", name.removeprefix("grey:").removeprefix("inverse:"))[0]
    return plain if plain in shipped.index() else OTHER


@functools.partial(jax.jit, static_argnums=(0, 1))
def _apply(
    net: shipped.Classifier, shape: tuple[int, int, int], variables: Mapping[str, Any], images: jax.Array
) -> tuple[jax.Array, jax.Array]:
    with jax.default_matmul_precision("highest"):  # else scores would depend on the device
        return cast(Any, net.apply(variables, brought_to(images, shape) / 255, Context()))


def brought_to(images: jax.Array, shape: tuple[int, int, int]) -> jax.Array:
    """Images, uint8 [B, H, W, C], in the size and colours of `shape`: float32, 0 to 255.

    Raises:
      ValueError: they are neither grey nor RGB.
    """
    x = images.astype(jnp.float32)
    if x.shape[-1] not in (1, 3):
        raise ValueError(f"images must be grey (C = 1) or RGB (C = 3), not of {x.shape[-1]} channels")
    if x.shape[-1] == 3 and shape[2] == 1:
        x = (x * jnp.array(GREY).reshape(1, 1, 1, 3)).sum(-1, keepdims=True)
    elif x.shape[-1] == 1 and shape[2] == 3:
        x = jnp.repeat(x, 3, -1)
    return jax.image.resize(x, (len(x), *shape), "bilinear")


def _digest(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
