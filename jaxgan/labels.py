"""The check of a GAN's labels, which all functions that take some share."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer


def checked_labels(labels: Any, count: int, classes: int, least: int = 0) -> jax.Array | np.ndarray:
    """Labels that are `count` integers from `least` to `classes` - 1: JAX's as they are, others as NumPy's array.

    While a program is being traced their values are not known, and are not checked.

    Args:
      labels: [count].
      count: how many there must be.
      classes: how many classes there are.
      least: the smallest label there may be; -1 where that stands for none.

    Raises:
      ValueError: they are something else.
    """
    labels = labels if isinstance(labels, jax.Array) else np.asarray(labels)
    if not jnp.issubdtype(labels.dtype, jnp.integer) or labels.shape != (count,):
        raise ValueError(
            f"labels must be {count} integers, one for each image, not {labels.dtype} of shape {list(labels.shape)}"
        )
    if count and not isinstance(labels, Tracer):
        values = np.asarray(labels)
        low, high = int(values.min()), int(values.max())
        if low < least or high >= classes:
            raise ValueError(
                f"labels must be from 0 to {classes - 1}, one less than the number of classes, not from {low} to {high}"
            )
    return labels
