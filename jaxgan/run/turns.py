"""A turn: several updates in one program, on images that are on the devices or that are read ahead for it."""

import contextlib
import itertools
import math
from collections.abc import Callable, Iterator, Mapping

import jax
import numpy as np

from jaxgan import parallel
from jaxgan.data import Dataset, Source, stream
from jaxgan.data.order import key_of
from jaxgan.forward_pass import Metrics
from jaxgan.gan import Batch, GANState
from jaxgan.run import processes
from jaxgan.run.errors import RunError
from jaxgan.run.prepare import Prepared

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
        with _in_memory(p):
            return take(state, dataset, batches, np.int32(count))

    return turn, most


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


def _resident(p: Prepared, dataset: Dataset) -> Callable[[int, int], tuple[Batch, np.ndarray | Batch]]:
    """All images, on each device, and the batches as indices of them."""
    key, part = p.state.key, (jax.process_index(), jax.process_count())
    try:
        unpaired = {name: found.images for name, found in dataset.unpaired.items()}
        wanted = {name: {**dataset.others, **unpaired}[name] for name, _ in p.gan.others}
        labels = dataset.labels if p.gan.classes else None
        on_devices = parallel.replicate(Batch(dataset.images, labels, wanted or None), p.devices)
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        size = dataset.images.nbytes / 2**30
        raise RunError(
            f"`data` {dataset.name}: its {size:.1f} GiB of images do not fit on each device; use `stream`"
        ) from error

    def rows(found: Dataset, key: jax.Array, done: int, count: int) -> np.ndarray:
        batches = np.zeros((MOST, p.images_per_step // part[1]), np.int32)
        batches[:count] = found.batches(key, done, count, p.images_per_step, part)
        return batches

    def images(done: int, count: int) -> tuple[Batch, np.ndarray | Batch]:
        own = rows(dataset, key, done, count)
        if not dataset.unpaired:
            return on_devices, own
        others = {name: rows(found, key_of(key, name), done, count) for name, found in dataset.unpaired.items()}
        of_all = {name: others.get(name, own) for name, _ in p.gan.others}
        return on_devices, Batch(own, own if p.gan.classes else None, of_all)

    return images


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
