"""The order in which a run uses its data, as a pure function of key and step."""

import functools
import zlib

import jax
import numpy as np

from jaxgan.randomness import Purpose


def in_order(key: jax.Array, start: int, stop: int, size: int) -> np.ndarray:
    """Which of `size` examples are those from `start` to `stop`, counted through all epochs.

    Each epoch is a fresh permutation of all examples, and the epochs follow one another without a gap.

    Args:
      key: the run's root key.
      start: the first, from 0.
      stop: one past the last.
      size: how many examples the dataset has, at least 1.

    Returns:
      int32 [stop - start], each from 0 to size - 1.
    """
    seed, impl = np.asarray(jax.random.key_data(key)), str(jax.random.key_impl(key))
    epochs, within = np.divmod(np.arange(start, stop), size)
    orders = ((e, permutation(seed.tobytes(), seed.shape, impl, int(e), size)) for e in np.unique(epochs))
    return np.concatenate([order[within[epochs == e]] for e, order in orders])


def batches(
    key: jax.Array, step: int, count: int, batch_size: int, size: int, part: tuple[int, int] = (0, 1)
) -> np.ndarray:
    """Which of `size` examples make up the batches of `count` steps from `step` on: int32 [count, batch_size / n].

    Args:
      key: the run's root key.
      step: the first step, from 0.
      count: how many steps.
      batch_size: how many examples a step takes.
      size: how many the dataset has.
      part: (i, n) gives the i-th of n parts of each batch, in order; n divides batch_size.

    Raises:
      ValueError: a number is out of range.
    """
    check(step, batch_size, part)
    indices = in_order(key, step * batch_size, (step + count) * batch_size, size)
    return indices.reshape(count, part[1], -1)[:, part[0]]


def key_of(key: jax.Array, name: str) -> jax.Array:
    """The key of the order of other data, which is not paired with the images."""
    return jax.random.fold_in(key, zlib.crc32(name.encode()))


def check(step: int, batch_size: int, part: tuple[int, int]) -> None:
    """Raises a ValueError for what `batches` makes no sense of."""
    if step < 0:
        raise ValueError(f"step must be at least 0, not {step}")
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, not {batch_size}")
    if not (0 <= part[0] < part[1] and batch_size % part[1] == 0):
        raise ValueError(f"part must be (i, n) with i from 0 to n - 1, where n divides {batch_size}, not {part}")


@functools.lru_cache(maxsize=4)  # a pure function, and the same epoch is asked for many times over
def permutation(seed: bytes, shape: tuple[int, ...], impl: str, epoch: int, size: int) -> np.ndarray:
    """The order of one epoch, int32 [size]: the examples sorted by 64 random bits each.

    The key is given by its data (bytes of uint32, and their shape) and the name of its implementation.
    """
    high, low = np.asarray(_draw(np.frombuffer(seed, np.uint32).reshape(shape), epoch, impl=impl, size=size))
    # NumPy sorts a small dataset in a fraction of the time that jax.random.permutation takes.
    order = np.argsort(high.astype(np.uint64) << 32 | low, kind="stable").astype(np.int32)
    order.flags.writeable = False  # the cache gives it to every caller
    return order


@functools.partial(jax.jit, static_argnames=("impl", "size"))
def _draw(key_data: jax.Array, epoch: jax.Array, impl: str, size: int) -> jax.Array:
    key = jax.random.wrap_key_data(key_data, impl=impl)
    return jax.random.bits(jax.random.fold_in(jax.random.fold_in(key, Purpose.ORDER), epoch), (2, size), np.uint32)
