"""The weights of `jaxgan.evaluation.inception`: where they are, and how they are read.

They are TensorFlow's of 5 December 2015, which pytorch-fid and torch-fidelity converted for PyTorch. Both publish the
same bytes under names of their own, and PyTorch keeps either in its cache.
"""

import hashlib
import http.client
import io
import os
import shutil
import tempfile
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict

from jaxgan.evaluation.inception import InceptionV3

NAMES = (
    "pt_inception-2015-12-05-6726825d.pth",  # pytorch-fid's
    "weights-inception-2015-12-05-6726825d.pth",  # torch-fidelity's
)
URL = f"https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/{NAMES[0]}"
SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
# PyTorch's names of what Flax calls otherwise.
LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}
CHUNK = 2**20


class WeightsError(ValueError):
    """Weights that cannot be had. The message is one line: which file, what is wrong, what would be right."""

    def __init__(self, message: str) -> None:
        super().__init__("".join(c if c.isprintable() else ascii(c)[1:-1] for c in message))


def find(path: str | None = None) -> Path:
    """The file of the weights.

    It is the one that `path` names; else either of `NAMES` in PyTorch's cache, which is below TORCH_HOME,
    XDG_CACHE_HOME/torch or ~/.cache/torch; else it is downloaded to there (91 MiB).

    Args:
      path: a file, or None to look for one.

    Raises:
      WeightsError: where there is no such file, or no place to look for one, or the download fails.
    """
    if path is not None:
        if not os.path.isfile(path):
            raise WeightsError(f"{path}: no such file; InceptionV3's weights are at {URL}")
        return Path(path)
    cache = _cache()
    for name in NAMES:
        if os.path.isfile(cache / name):
            return cache / name
    return _download(cache / NAMES[0])


def read(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The variables of `InceptionV3` from a PyTorch state dict.

    Batch counters (num_batches_tracked) and the auxiliary classifier (AuxLogits) are left out: scores need neither.
    A file that has one of `NAMES` must have the published bytes. Names end with the first 8 digits of their SHA-256.

    Args:
      path: the file. PyTorch reads it, with no code in it being run.

    Returns:
      {"params", "batch_stats"}, in float32.

    Raises:
      WeightsError: where PyTorch is missing, or the file is not of these weights.
    """
    path = Path(path)
    state = _load(path)
    variables = jax.eval_shape(InceptionV3(biased=True).init, jax.random.key(0), jnp.zeros((1, 1, 1, 3)))
    like: dict[Any, Any] = flatten_dict(variables)
    names = {keys: ".".join([*keys[1:-1], LEAVES[keys[-1]]]) for keys in like}
    for keys, name in names.items():
        if name not in state:
            raise WeightsError(f"{path}: it has no {name}, so it is not of FID's InceptionV3; that is at {URL}")
        shape, expected = tuple(getattr(state[name], "shape", ())), _torch_shape(like[keys].shape)
        if shape != expected:
            raise WeightsError(f"{path}: {name} is {shape}, not {expected} as in FID's InceptionV3; that is at {URL}")
    for name in state:
        if name not in names.values():
            raise WeightsError(f"{path}: FID's InceptionV3 has no {name}; its weights are at {URL}")
    return unflatten_dict({keys: _as_flax(state[name]) for keys, name in names.items()})


def _cache() -> Path:
    """The folder in which PyTorch keeps what it downloads."""
    torch_home = os.environ.get("TORCH_HOME")
    caches = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    try:
        return (Path(torch_home) if torch_home else Path(caches, "torch")).expanduser() / "hub/checkpoints"
    except RuntimeError as error:  # there is no home directory
        raise WeightsError(
            f"there is no home directory to look for InceptionV3's weights in; get {URL}, and name that file"
        ) from error


def _download(target: Path) -> Path:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as own:  # several processes may download it at once
            partial = Path(own, target.name)
            with urllib.request.urlopen(URL, timeout=60) as response, partial.open("wb") as file:
                shutil.copyfileobj(response, file, CHUNK)
            if (digest := hashlib.sha256(partial.read_bytes()).hexdigest()) != SHA256:
                raise WeightsError(f"{URL}: the SHA-256 of what came is {digest}, not {SHA256}; try again")
            return partial.replace(target)
    except (OSError, http.client.HTTPException) as error:
        raise WeightsError(
            f"{target}: it could not be downloaded ({error}); where there is a network, get {URL}, and put it there"
        ) from error


def _load(path: Path) -> dict[str, Any]:
    """The tensors of a file by name, but for those that scores do not need."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise WeightsError(
            f"{path}: it cannot be read ({error.strerror or error}); the weights are at {URL}"
        ) from error
    if path.name in NAMES and (digest := hashlib.sha256(content).hexdigest()) != SHA256:
        raise WeightsError(f"{path}: its SHA-256 is {digest}, not {SHA256}; delete it, and get {URL}")
    try:
        import torch
    except ImportError as error:
        raise WeightsError(
            f"{path}: only PyTorch reads this file; install it for that alone: pip install torch"
        ) from error
    try:
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # of many kinds, by where a file is cut off; their messages take many lines
        kind = type(error).__name__
        raise WeightsError(f"{path}: PyTorch cannot read it ({kind}); it should be what is at {URL}") from error
    if not isinstance(state, Mapping) or not all(isinstance(name, str) for name in state):
        raise WeightsError(f"{path}: it holds a {type(state).__name__}, not tensors by name as what is at {URL}")
    return {
        name: value
        for name, value in state.items()
        if not (name.startswith("AuxLogits.") or name.endswith(".num_batches_tracked"))
    }


def _as_flax(tensor: Any) -> jax.Array:
    """A tensor in Flax's layout: of a convolution from [O, I, H, W] to [H, W, I, O], of a dense layer transposed."""
    array = tensor.float().numpy()
    return jnp.array(array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T)


def _torch_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape in PyTorch of what has this shape in Flax."""
    return (shape[3], shape[2], *shape[:2]) if len(shape) == 4 else shape[::-1]
