"""The host's loop: turns of several updates on the devices, and what is due after each: pictures, lines, a checkpoint.

What is due after a turn is done while the devices take the next one, which has been handed to them before: they never
wait for the host. It is all done before anything of that next turn is, so that files are written in the order of their
steps. The final state depends on no event and on no period. Where a run has several processes, the leader alone
reports, samples and calls the user's events, and all of them save.
"""

import contextlib
import functools
import itertools
import math
import time
from collections.abc import Callable, Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxgan import parallel
from jaxgan.data import DataError, Source, stream
from jaxgan.gan import GAN, Batch, GANState
from jaxgan.randomness import Purpose
from jaxgan.run import checkpoint, processes
from jaxgan.run.checkpoint import Score
from jaxgan.run.errors import RunError
from jaxgan.run.events import Event, Moment, call_all, check_metrics
from jaxgan.run.metrics import UNIT
from jaxgan.run.prepare import Prepared
from jaxgan.run.report import Report
from jaxgan.run.screen import say
from jaxgan.run.signals import stop_signals
from jaxgan.sampling import ROWS, grid_labels, sample
from jaxgan.whole_batch import Metrics

COLUMNS = 8  # of a sample grid; as many rows, or one for each class
TURN = 0.5  # seconds at most, about, of a turn; a signal is heard once the two that are under way are over
MOST = 100  # updates in between, at most
TURN_BYTES = 16 * 2**20  # of streamed images in a turn, at most
MINUTE = 60  # seconds
BEST = "frechet_distance"  # among what events find; of the checkpoints, the one where this is lowest is kept

Turn = Callable[[GANState, int, int], tuple[GANState, Metrics]]


def train(prepared: Prepared, report: Report | None) -> GANState:
    """Takes the prepared state to the last step, or to where the run is asked to stop, and saves it there.

    Args:
      prepared: the run.
      report: the leader's; None in the other processes.

    Raises:
      Exception: those of `run`.
    """
    p, options = prepared, prepared.options
    if p.start == p.recipe.steps:
        return p.state
    names = p.config.get("class_names", ())[:ROWS]
    draw = Event("samples", options.sample_every, functools.partial(_draw, report, names))
    events = (draw, *p.events)
    periods = [every for every in (options.log_every, options.checkpoint_every) if every]
    periods += [event.every for event in events]
    several = jax.process_count() > 1  # they agree by programs of their own, for which the devices must be free
    done, count, number, save, last, moment = p.start, 0, 1, False, False, None
    pace, now, saved = 1, time.perf_counter(), math.inf
    best = {}  # of each unit the lowest score so far; the newest unit last
    for score in p.checkpoints.scores().values():
        best[score.unit] = min(score.value, best.pop(score.unit, math.inf))

    def first() -> None:
        if report and p.start == 0:
            on_device = parallel.own_copy(parallel.place(p.state, p.devices[:1]))  # as later: one program for all grids
            draw.call(Moment(0, p.gan, p.workdir, False, p.state, {}, _grid(p.gan, on_device)))

    def nothing() -> None:
        pass

    left = first  # what is to be done of the steps before a turn
    if several:
        left()
        left = nothing
    state = parallel.place(p.state, p.devices)
    with contextlib.ExitStack() as stack, stop_signals() as asked_to_stop:
        turn, most = _turns(p, stack)
        while not last:
            before, then = count, now
            count = min(pace, most, *(every - done % every for every in periods), p.recipe.steps - done)
            try:
                state, metrics = turn(state, done, count)
            except (DataError, processes.ProcessError):
                left()
                if moment and p.checkpoints.latest_step() != done:
                    _save(p, moment, None)
                    with processes.together():
                        checkpoint.finish(p.checkpoints, moment.state)
                raise
            left()
            now = time.perf_counter()  # the turn before is over
            saved = now if save else min(saved, now)  # the first turn has compiled
            if several:
                _wait(p, metrics)
            pace, save = processes.of_leader(max(1, min(MOST, int(TURN * before / (now - then)))), now - saved > MINUTE)
            done, number = done + count, number + 1
            end = done == p.recipe.steps
            last = asked_to_stop(number) or end
            if options.checkpoint_every:
                save = done % options.checkpoint_every == 0
            due = [event for event in events if event.is_due(done, end)]
            samples = _grid(p.gan, parallel.own_copy(state)) if report and draw in due else None
            moment = Moment(done, p.gan, p.workdir, end, state, metrics, samples)
            if save or due:
                _ = moment.state  # copied, before the next turn overwrites it
            log = done == 1 or done % options.log_every == 0 or last
            left = functools.partial(_after, p, report, moment, due, log, save or last, best)
            if several or last:
                left()
                left = nothing
    return moment.state


def longest_streamed_turn(nbytes: int) -> int:
    """How many updates a turn of a streamed run has at most, where the images of one take so many bytes."""
    return max(1, min(MOST, TURN_BYTES // nbytes))


def _turns(prepared: Prepared, stack: contextlib.ExitStack) -> tuple[Turn, int]:
    """(state on the devices, updates done, count) -> (state, metrics) after `count` more; and how many at most.

    The devices may be at work still when a turn returns. Images are read ahead for it until the stack ends.
    """
    p = prepared
    if isinstance(p.dataset, Source):
        most = longest_streamed_turn(p.images_per_step * math.prod(p.dataset.shape))
        return _taking(p, stack.enter_context(_streamed(p, most)), True), most
    return _taking(p, _resident(p), False), MOST


def _taking(p: Prepared, images: Callable[[int, int], tuple[Batch, np.ndarray]], streamed: bool) -> Turn:
    """A turn on images from (updates done, count) -> the images, and which of them each update takes."""
    take = parallel.steps_on(p.gan, p.devices, p.options.parallel, streamed)

    def turn(state: GANState, done: int, count: int) -> tuple[GANState, Metrics]:
        with processes.together():
            dataset, batches = images(done, count)
        with _in_memory(p):
            return take(state, dataset, batches, np.int32(count))

    return turn


def _wait(p: Prepared, metrics: Metrics) -> None:
    """Waits until the turn is over that these are of."""
    with _in_memory(p):
        jax.block_until_ready(metrics)


@contextlib.contextmanager
def _in_memory(p: Prepared) -> Iterator[None]:
    """A passage that starts a turn, or waits for one: says what to do where it does not fit in memory."""
    try:
        yield
    except (MemoryError, jax.errors.JaxRuntimeError) as error:
        if isinstance(error, jax.errors.JaxRuntimeError) and "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise RunError(
            f"--batch-size {p.recipe.batch_size}: an update does not fit in memory; choose a smaller one, more "
            "--devices, or --accumulate"
        ) from error


def _resident(p: Prepared) -> Callable[[int, int], tuple[Batch, np.ndarray]]:
    """All images, on each device, and the batches as indices of them."""
    key, part = p.state.key, (jax.process_index(), jax.process_count())
    try:
        on_devices = parallel.copies(Batch(p.dataset.images, p.dataset.labels if p.gan.classes else None), p.devices)
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        size = p.dataset.images.nbytes / 2**30
        raise RunError(
            f"--data {p.dataset.name}: its {size:.1f} GiB of images do not fit on each device; use --stream"
        ) from error

    def images(done: int, count: int) -> tuple[Batch, np.ndarray]:
        batches = np.zeros((MOST, p.images_per_step // part[1]), np.int32)
        batches[:count] = p.dataset.batches(key, done, count, p.images_per_step, part)
        return on_devices, batches

    return images


@contextlib.contextmanager
def _streamed(p: Prepared, most: int) -> Iterator[Callable[[int, int], tuple[Batch, np.ndarray]]]:
    """Each turn's images, read ahead; every process reads those of its own devices alone."""
    count, part = jax.process_count(), (jax.process_index(), jax.process_count())
    found = stream(p.dataset, p.state.key, p.start, p.images_per_step, part, bool(p.gan.classes))
    with contextlib.closing(found):
        yield lambda _, steps: parallel.own_images(list(itertools.islice(found, steps)), most, len(p.devices) // count)


def _after(
    prepared: Prepared,
    report: Report | None,
    moment: Moment,
    due: list[Event],
    log: bool,
    save: bool,
    best: dict[str | None, float],
) -> None:
    """Waits for the end of a turn. Then what is due: first the events, then their line of metrics, then the checkpoint.

    In this order all that belongs to the steps of a checkpoint is written before it. Where an event raises, the line
    and the checkpoint are written before its error ends the run. A state whose `BEST` is lower than what `best` has of
    its unit is saved, too, and `best` is kept up to date, in the leader.
    """
    _wait(prepared, moment.device_metrics)
    if due or log or save:
        check_metrics(moment.step, moment.device_metrics, _after_nan(prepared))
    scalars, error, score, failed, better = {}, None, None, False, False
    if report:
        try:
            scalars = call_all(due, moment)
        except Exception as raised:
            error = raised
        unit = scalars.pop(UNIT, None)
        if log or scalars:
            report.log(moment.step, {**moment.metrics, **scalars}, unit)
        report.tick(moment.step)
        if math.isfinite(scalars.get(BEST, math.nan)):
            score = Score(scalars[BEST], unit)
            better = _is_better(score, best, moment.step)
    if due:
        failed, better = processes.of_leader(error is not None, better)
    if save or failed or better:
        _save(prepared, moment, score)
    if failed:
        with processes.together():
            checkpoint.finish(prepared.checkpoints, moment.state)
            if error:
                raise error


def _is_better(score: Score, best: dict[str | None, float], step: int) -> bool:
    """Whether a score is the lowest of its unit so far, which is noted; a line says where that is not the last unit."""
    if best and score.unit != (before := [*best][-1]):
        here, there = (unit or "unknown" for unit in (score.unit, before))
        say(
            f"note: from step {step:,} on this run is scored by: {here}; earlier scores, by: {there}, are not compared "
            "with these, and the best is chosen among these alone",
            "stderr",
        )
    lowest = best.pop(score.unit, math.inf)
    best[score.unit] = min(score.value, lowest)
    return score.value < lowest


def _grid(gan: GAN, state: GANState) -> jax.Array:
    """The images of a sample grid: the same latents each time, and where there are classes a row for each."""
    labels = grid_labels(gan, COLUMNS)
    count, key = COLUMNS**2 if labels is None else len(labels), jax.random.fold_in(state.key, Purpose.SAMPLES)
    return sample(gan, state, key, count, labels=labels)


def _draw(report: Report, names: Sequence[str], moment: Moment) -> None:
    """The event of the sample grids."""
    report.samples(moment.step, np.asarray(moment.device_samples), COLUMNS, names)


def _save(prepared: Prepared, moment: Moment, score: Score | None) -> None:
    if not _is_finite(moment.state):
        raise FloatingPointError(f"step {moment.step}: a weight is no longer finite; {_after_nan(prepared)}")
    with processes.together():
        checkpoint.save(prepared.checkpoints, moment.step, moment.state, score)


def _after_nan(prepared: Prepared) -> str:
    newest = prepared.checkpoints.latest_step()
    left = "no checkpoint was saved" if newest is None else f"the newest checkpoint, of step {newest}, is from before"
    return f"{left}. Try smaller learning rates"


@jax.jit
def _is_finite(state: GANState) -> jax.Array:
    """Whether every float is: the metrics of a step speak of the weights before it."""
    floats = [x for x in jax.tree.leaves(state) if jnp.issubdtype(x.dtype, jnp.floating)]
    return jnp.all(jnp.array([jnp.all(jnp.isfinite(x)) for x in floats]))
