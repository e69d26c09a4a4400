"""The arrays of a state: their digest, their names and their shapes."""

import hashlib
from typing import Any

import jax
import numpy as np

from jaxgan.randomness import key_data

Arrays = dict[tuple[str, ...], tuple[list[int], str]]  # the names on the way to an array -> its shape and type


def state_sha256(state: Any) -> str:
    """SHA-256 over the name, type, shape and bytes of every array of a tree, in the tree's order."""
    digest = hashlib.sha256()
    for path, array in jax.tree_util.tree_leaves_with_path(key_data(state)):
        array = np.asarray(array)
        digest.update(f"{jax.tree_util.keystr(path)} {array.dtype.str} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def shapes(tree: Any) -> Arrays:
    """The shape and the type of each array, by the names on the way to it, which are all that Orbax keeps of a tree."""

    def name(key: Any) -> str:
        return str(getattr(key, "key", getattr(key, "name", getattr(key, "idx", None))))

    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {tuple(map(name, path)): (list(x.shape), str(x.dtype)) for path, x in leaves}


def difference(path: tuple[str, ...], there: Arrays, here: Arrays) -> str:
    """How an array of a checkpoint differs from the one that is wanted, in words."""
    name = ".".join(path[:2]) + "".join(f"[{part!r}]" for part in path[2:])
    if path not in there or path not in here:
        return f"{name} is only {'there' if path in there else 'here'}"
    which = 0 if there[path][0] != here[path][0] else 1
    return f"{name} is {there[path][which]} there, {here[path][which]} here"
