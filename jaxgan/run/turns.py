"""A turn: several updates in one program, on images that are on the devices or that are read ahead for it."""

import contextlib
import functools
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np

from jaxgan import parallel
from jaxgan.data import Dataset, Source, stream
from jaxgan.data.order import key_of
from jaxgan.forward_pass import Metrics
from jaxgan.gan import Batch, GANState
from jaxgan.run import processes
from jaxgan.run.errors import RunError
from jaxgan.run.finite import check_update
from jaxgan.run.prepare import Prepared
from jaxgan.train_step import train_steps

MOST = 100  # updates in a turn
TURN_BYTES = 16 * 2**20  # of streamed images in a turn, at most

Turn = Callable[[GANState, int, int], tuple[GANState, Metrics]]


def longest_streamed_turn(nbytes: int) -> int:
    """How many updates a turn of a streamed run has at most, where the images of one take so many bytes."""
    return max(1, min(MOST, TURN_BYTES // nbytes))


def open_turns(prepared: Prepared, stack: contextlib.ExitStack) -> tuple[Turn, int]:
    """(state on the devices, updates done, count) -> (state, metrics) after `count` more; and how many at most.

    The devices may be at work still when a turn returns. Images are read ahead for it until the stack ends.
    """
    p, streamed, most = prepared, isinstance(prepared.dataset, Source), MOST
    if isinstance(p.dataset, Source):
        most = longest_streamed_turn(p.images_per_step * math.prod(p.dataset.shape))
        images = stack.enter_context(_streamed(p, p.dataset, most))
    else:
        images = _resident(p, p.dataset)
    take = parallel.steps_on(p.gan, p.devices, p.options.parallel, streamed)

    def turn(state: GANState, done: int, count: int) -> tuple[GANState, Metrics]:
        with processes.synchronized():
            dataset, batches = images(done, count)
        before = jax.tree.map(jnp.copy, parallel.own_copy(state)) if p.options.debug_nans else None
        with _in_memory(p):
            after = take(state, dataset, batches, np.int32(count))
            if before:
                check_update(p.gan, before, dataset, batches, *after)
        return after

    return turn, 1 if p.options.debug_nans else most


def wait(p: Prepared, metrics: Mapping[str, jax.Array]) -> None:
    """Waits until the turn is over that these are of."""
    with _in_memory(p):
        jax.block_until_ready(metrics)


@contextlib.contextmanager
def _in_memory(p: Prepared) -> Iterator[None]:
    """Around code that starts a turn or waits for one: says what to do where that does not fit in memory."""
    try:
        yield
    except (MemoryError, jax.errors.JaxRuntimeError) as error:
        if isinstance(error, jax.errors.JaxRuntimeError) and "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise RunError(
            f"`batch_size` {p.recipe.batch_size}: an update does not fit in memory; choose a smaller one, more "
            "`devices`, or `accumulate`"
        ) from error


def together(runs: Sequence[Prepared]) -> Callable[[Sequence[tuple[Prepared, GANState]], int, int], list[Any]]:
    """(some of the runs with their states, updates done, count) -> (state, metrics) of each, by one program.

    The runs have one GAN, the same data in memory, and one device.
    """
    first = runs[0]
    dataset = _on_devices(first, cast(Dataset, first.dataset))
    update = jax.vmap(functools.partial(train_steps, first.gan), in_axes=(0, None, 0, None))

    @functools.partial(jax.jit, donate_argnums=0)
    def take(states: list[GANState], dataset: Batch, batches: Any, count: jax.Array) -> list[Any]:
        found = update(jax.tree.map(lambda *x: jnp.stack(x), *states), dataset, batches, count)
        return [jax.tree.map(lambda x, i=i: x[i], found) for i in range(len(states))]

    def turn(some: Sequence[tuple[Prepared, GANState]], done: int, count: int) -> list[Any]:
        batches = [_batches(p, cast(Dataset, p.dataset), done, count) for p, _ in some]
        with _in_memory(first):
            stacked = jax.tree.map(lambda *x: np.stack(x), *batches)
            return take([state for _, state in some], dataset, stacked, np.int32(count))

    return turn


def _resident(p: Prepared, dataset: Dataset) -> Callable[[int, int], tuple[Batch, np.ndarray | Batch]]:
    """All images, on each device, and the batches as indices of them."""
    on_devices = _on_devices(p, dataset)
    return lambda done, count: (on_devices, _batches(p, dataset, done, count))


def _on_devices(p: Prepared, dataset: Dataset) -> Batch:
    """All images, and what else the GAN takes of the data, on each device."""
    try:
        unpaired = {name: found.images for name, found in dataset.unpaired.items()}
        wanted = {name: {**dataset.others, **unpaired}[name] for name, _ in p.gan.others}
        labels = dataset.labels if p.gan.classes else None
        return parallel.replicate(Batch(dataset.images, labels, wanted or None), p.devices)
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        size = dataset.images.nbytes / 2**30
        raise RunError(
            f"`data` {dataset.name}: its {size:.1f} GiB of images do not fit on each device; use `stream`"
        ) from error


def _batches(p: Prepared, dataset: Dataset, done: int, count: int) -> np.ndarray | Batch:
    """The batches of a turn, as indices of the images, int32 [MOST, B]; of data with others of its own, for each."""
    key, part = p.state.key, (jax.process_index(), jax.process_count())

    def rows(found: Dataset, key: jax.Array) -> np.ndarray:
        batches = np.zeros((MOST, p.images_per_step // part[1]), np.int32)
        batches[:count] = found.batches(key, done, count, p.images_per_step, part)
        return batches

    own = rows(dataset, key)
    if not dataset.unpaired:
        return own
    others = {name: rows(found, key_of(key, name)) for name, found in dataset.unpaired.items()}
    return Batch(own, own if p.gan.classes else None, {name: others.get(name, own) for name, _ in p.gan.others})


@contextlib.contextmanager
def _streamed(
    p: Prepared, source: Source, most: int
) -> Iterator[Callable[[int, int], tuple[Batch, np.ndarray | Batch]]]:
    """Each turn's images, read ahead; every process reads those of its own devices alone."""
    count, part = jax.process_count(), (jax.process_index(), jax.process_count())
    found = stream(source, p.state.key, p.start, p.images_per_step, part, bool(p.gan.classes))
    with contextlib.closing(found):
        yield lambda _, steps: parallel.shard_images(
            list(itertools.islice(found, steps)), most, len(p.devices) // count
        )
