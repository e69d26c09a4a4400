"""The arrays of a state: their digest, their names and their shapes."""

import hashlib
import re
from collections.abc import Iterable
from typing import Any

import jax
import numpy as np

from jaxgan.randomness import key_data

Arrays = dict[tuple[str, ...], tuple[list[int], str]]  # the names on the way to an array -> its shape and type


def state_sha256(state: Any) -> str:
    """SHA-256 over the name, type, shape and bytes of every array of a tree, in the tree's order."""
    leaves = jax.tree_util.tree_leaves_with_path(key_data(state))
    return _sha256((jax.tree_util.keystr(path), array) for path, array in leaves)


def names_of(state: Any) -> list[str]:
    """The names of the arrays that `state_sha256` goes over, in its order."""
    return [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(key_data(state))]


def sha256_of_dicts(arrays: Any, names: list[str]) -> str:
    """The `state_sha256` of a tree of which Orbax has kept nested dictionaries, by `names_of` the tree.

    Raises:
      KeyError: an array is missing.
    """
    there = by_name(arrays)
    parts = [re.findall(r"\.(\w+)|\[(\d+)\]|\['([^']*)'\]", name) for name in names]
    return _sha256((name, there[tuple(map("".join, of))]) for name, of in zip(names, parts, strict=True))


def _sha256(arrays: Iterable[tuple[str, Any]]) -> str:
    digest = hashlib.sha256()
    for name, array in arrays:
        array = np.asarray(array)
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def shapes(tree: Any) -> Arrays:
    """The shape and the type of each array, by the names on the way to it, which are all that Orbax keeps of a tree."""
    return {names: (list(x.shape), str(x.dtype)) for names, x in by_name(tree).items()}


def by_name(tree: Any) -> dict[tuple[str, ...], Any]:
    """The arrays of a tree, by the names on the way to them."""
    return {tuple(map(_name, path)): x for path, x in jax.tree_util.tree_leaves_with_path(tree)}


def _name(key: Any) -> str:
    return str(getattr(key, "key", getattr(key, "name", getattr(key, "idx", None))))


def arranged(arrays: Any, like: Any) -> Any:
    """A tree like `like`, of the arrays of the same names that Orbax has kept as nested dictionaries."""
    there = by_name(arrays)
    return jax.tree_util.tree_map_with_path(lambda path, _: np.asarray(there[tuple(map(_name, path))]), like)


def difference(path: tuple[str, ...], there: Arrays, here: Arrays) -> str:
    """How an array of a checkpoint differs from the one that is wanted, in words."""
    name = ".".join(path[:2]) + "".join(f"[{part!r}]" for part in path[2:])
    if path not in there or path not in here:
        return f"{name} is only {'there' if path in there else 'here'}"
    which = 0 if there[path][0] != here[path][0] else 1
    return f"{name} is {there[path][which]} there, {here[path][which]} here"
