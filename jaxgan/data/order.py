"""The order in which a run uses its data, as a pure function of key and step."""

import dataclasses
import functools
import zlib

import jax
import numpy as np

from jaxgan.randomness import Purpose


@dataclasses.dataclass(frozen=True, eq=False)
class Classes:
    """The labels of a dataset, int [N], whose classes take turns."""

    labels: np.ndarray

    @functools.cached_property
    def sizes(self) -> np.ndarray:
        """How many examples each class has, of those that have any."""
        return np.unique(self.labels, return_counts=True)[1]


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
    epochs, within = np.divmod(np.arange(start, stop), size)
    orders = ((e, permutation(*_parts(key), int(e), size)) for e in np.unique(epochs))
    return np.concatenate([order[within[epochs == e]] for e, order in orders])


def in_turn(key: jax.Array, start: int, stop: int, classes: Classes) -> np.ndarray:
    """The same where classes take turns: each round has an example of every class, in an order drawn for it.

    An epoch has as many rounds as the largest class has examples. In it those of each class come in a fresh
    permutation, which is repeated where the class is smaller.
    """
    sizes, of_turns = classes.sizes, _parts(key_of(key, "classes"))
    count, together = len(sizes), max(1, 4096 // len(sizes))  # as many rounds are drawn at once
    rounds, turns = np.divmod(np.arange(start, stop), count)
    pieces, rows = np.divmod(rounds, together)
    orders = ((pieces == n, _class_orders(*of_turns, int(n), together, count)) for n in np.unique(pieces))
    chosen = np.concatenate([order[rows[here], turns[here]] for here, order in orders])
    epochs, within = np.divmod(rounds, sizes.max())
    places = np.cumsum(sizes)[chosen] - sizes[chosen] + within % sizes[chosen]
    return np.concatenate([_by_class(classes, *_parts(key), int(e))[places[epochs == e]] for e in np.unique(epochs)])


def batches(
    key: jax.Array,
    step: int,
    count: int,
    batch_size: int,
    size: int,
    part: tuple[int, int] = (0, 1),
    classes: Classes | None = None,
) -> np.ndarray:
    """Which of `size` examples make up the batches of `count` steps from `step` on: int32 [count, batch_size / n].

    Args:
      key: the run's root key.
      step: the first step, from 0.
      count: how many steps.
      batch_size: how many examples a step takes.
      size: how many the dataset has.
      part: (i, n) gives the i-th of n parts of each batch, in order; n divides batch_size.
      classes: those that take turns; by default the order has nothing to do with labels.

    Raises:
      ValueError: a number is out of range.
    """
    check(step, batch_size, part)
    start, stop = step * batch_size, (step + count) * batch_size
    indices = in_turn(key, start, stop, classes) if classes else in_order(key, start, stop, size)
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
    # NumPy sorts a small dataset in a fraction of the time that jax.random.permutation takes.
    order = np.argsort(_bits(seed, shape, impl, epoch, size), kind="stable").astype(np.int32)
    order.flags.writeable = False  # the cache gives it to every caller
    return order


@functools.lru_cache(maxsize=4)
def _by_class(classes: Classes, seed: bytes, shape: tuple[int, ...], impl: str, epoch: int) -> np.ndarray:
    """The order of one epoch, sorted by label."""
    order = permutation(seed, shape, impl, epoch, len(classes.labels))
    return order[np.argsort(classes.labels[order], kind="stable")]


@functools.lru_cache(maxsize=4)
def _class_orders(seed: bytes, shape: tuple[int, ...], impl: str, number: int, rounds: int, count: int) -> np.ndarray:
    """Permutations of `count` classes, int [rounds, count]."""
    return np.argsort(_bits(seed, shape, impl, number, rounds * count).reshape(rounds, count), axis=1, kind="stable")


def _parts(key: jax.Array) -> tuple[bytes, tuple[int, ...], str]:
    """A key as a cache takes it."""
    seed = np.asarray(jax.random.key_data(key))
    return seed.tobytes(), seed.shape, str(jax.random.key_impl(key))


def _bits(seed: bytes, shape: tuple[int, ...], impl: str, number: int, size: int) -> np.ndarray:
    high, low = np.asarray(_draw(np.frombuffer(seed, np.uint32).reshape(shape), number, impl=impl, size=size))
    return high.astype(np.uint64) << 32 | low


@functools.partial(jax.jit, static_argnames=("impl", "size"))
def _draw(key_data: jax.Array, epoch: jax.Array, impl: str, size: int) -> jax.Array:
    key = jax.random.wrap_key_data(key_data, impl=impl)
    return jax.random.bits(jax.random.fold_in(jax.random.fold_in(key, Purpose.ORDER), epoch), (2, size), np.uint32)
