"""The batches of a run, read ahead of the device that takes them."""

import contextlib
import dataclasses
import functools
import itertools
import math
from collections.abc import Generator

import jax
import numpy as np

from jaxgan.data.dataset import DataError
from jaxgan.data.order import check, key_of
from jaxgan.data.source import READ_AT_ONCE, Source, ahead, threads
from jaxgan.gan import Batch

BUFFER = 64 * 2**20  # bytes of images that are read, or wait to be taken


def stream(
    source: Source, key: jax.Array, start: int, batch_size: int, part: tuple[int, int] = (0, 1), labels: bool = False
) -> Generator[Batch, None, None]:
    """The real images of each step from `start` on, without end: those of `Dataset.batch`, whose order it shares.

    Threads read a few steps at once, ahead of their use, as long as what they have read takes less than `BUFFER`.
    Closing the generator ends them.

    Args:
      source: what is read.
      key: the run's root key.
      start: the first step.
      batch_size: how many images a step takes.
      part: (i, n) gives the i-th of n parts of each batch, and reads no others; n divides batch_size.
      labels: whether each image must have one.

    Yields:
      NumPy arrays, as in `Batch`.

    Raises:
      DataError: an example cannot be read, or has no label.
      ValueError: a number is out of range.
    """
    check(start, batch_size, part)
    if source.unpaired:
        yield from _with_unpaired(source, key, start, batch_size, part, labels)
        return
    share = batch_size // part[1]
    size = share * sum(math.prod(shape) for shape in (source.shape, *source.others.values()))  # of a step, in bytes
    together = max(1, min(READ_AT_ONCE // share, BUFFER // (8 * size)))  # steps that are read at once
    waiting = max(1, BUFFER // (together * size) - threads())
    read = functools.partial(_read, source, labels)
    firsts = itertools.count(start, together)
    pieces = (source.batches(key, first, together, batch_size, part) for first in firsts)
    found = ahead(read, pieces, threads(), waiting)
    try:
        for steps in found:
            yield from steps
    finally:
        found.close()


def _with_unpaired(
    source: Source, key: jax.Array, start: int, batch_size: int, part: tuple[int, int], labels: bool
) -> Generator[Batch, None, None]:
    """The batches of a source, and of each that is not paired with it, side by side."""
    with contextlib.ExitStack() as stack:
        own = stack.enter_context(
            contextlib.closing(stream(dataclasses.replace(source, unpaired={}), key, start, batch_size, part, labels))
        )
        others = {
            name: stack.enter_context(contextlib.closing(stream(found, key_of(key, name), start, batch_size, part)))
            for name, found in source.unpaired.items()
        }
        for batch in own:
            yield batch._replace(others={**(batch.others or {}), **{n: next(x).images for n, x in others.items()}})


def _read(source: Source, labels: bool, which: np.ndarray) -> list[Batch]:
    """The batches of several steps: those of `which`, int [steps, B]."""
    batch = source.read(which.reshape(-1))
    missing = np.arange(which.size) if batch.labels is None else np.flatnonzero(batch.labels < 0)
    if labels and missing.size:
        raise DataError(f"{source.name}: example {which.reshape(-1)[missing[0]]} has no label, and the recipe classes")
    steps = jax.tree.map(
        lambda x: x.reshape(*which.shape, *x.shape[1:]), batch if labels else batch._replace(labels=None)
    )
    return [jax.tree.map(lambda x, i=i: x[i], steps) for i in range(len(which))]
