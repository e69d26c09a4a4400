"""The host's loop: `run(recipe, workdir)` trains, reports, samples and saves, and resumes where it stopped.

A run is a function of (recipe, seed): how often it reports or saves, and where it was interrupted,
leave no trace in its final state; the number of devices none but rounding.

Where a run has several processes, each of them calls `run`: the leader alone reports, samples and writes, and all
of them save.
"""

import contextlib
import dataclasses
import math
import os
import signal
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from jaxgan import checkpoint, data, parallel, processes
from jaxgan.gan import GAN, GANState, Purpose, image_shape, init, judges_alone
from jaxgan.report import Report, draw, read_metrics
from jaxgan.sampling import sample
from jaxgan.workdir import check, claim, read_summary, write_json

GRID = 64  # images in a sample grid
TURN = 1.0  # seconds at most, about, between two times that Python is met: the bar moves, and signals are heard
MOST = 100  # updates in between, at most
MINUTE = 60  # seconds
AFTER_NAN = "the newest checkpoint is from before. Try smaller learning rates"


class Recipe(Protocol):
    """What a run needs of a recipe; `experiments.recipes.Recipe` is one."""

    data: str
    split: str
    border: int
    batch_size: int
    accumulate: int
    steps: int

    def build(self) -> GAN:
        """The static description of the GAN."""

    def config(self) -> dict[str, Any]:
        """All that decides a run's numbers but its seed and its length, as values that JSON can hold."""


class RunError(ValueError):
    """A run that cannot start; the message says why, and what would help."""


class Stopped(Exception):
    """A run that was asked to stop, and has saved its state."""


@dataclasses.dataclass(frozen=True)
class Options:
    """What a run may choose without its state at any step changing, or by no more than rounding."""

    data_dir: str | None = None
    """Where TensorFlow Datasets keeps its data (by default ~/tensorflow_datasets)."""
    devices: int | None = None
    """Over how many devices each batch is split, those of each process; None takes all there are."""
    parallel: Literal["pmap", "shard_map"] = "pmap"
    """What runs the step on them."""
    log_every: int = 50
    """Steps between lines of metrics."""
    sample_every: int = 250
    """Steps between sample grids."""
    checkpoint_every: int | None = None
    """Steps between checkpoints; by default about as many as take a minute."""
    keep: int = 3
    """How many of the newest checkpoints are kept."""


def run(recipe: Recipe, workdir: str | os.PathLike, seed: int = 0, options: Options = Options()) -> dict[str, Any]:
    """Trains to the last step, from the newest checkpoint in `workdir` where there is one.

    SIGINT and SIGTERM end a run early, once it has finished its turn, of about a second or one step, and saved its
    state.

    Args:
      recipe: what to train, and on what.
      workdir: where everything is written: `config.json`, `checkpoints/`, what `report` lists, and
        at the end `summary.json`.
      seed: of the root key, from which all randomness comes.
      options: what does not change the numbers.

    Returns:
      The summary, as in `summary.json`.

    Raises:
      RunError: an option does not fit.
      workdir.WorkdirError: the workdir is another run's, or cannot be written to.
      data.DataError: the data cannot be had.
      checkpoint.CheckpointError: the newest checkpoint is damaged, or one cannot be written.
      processes.ProcessError: the processes are not of one run, or one of them has met any of these.
      processes.ProcessLost: one of them has ended.
      FloatingPointError: a loss or a weight is no longer finite.
      Stopped: the run was asked to stop.
    """
    begin, workdir, steps = time.perf_counter(), Path(workdir), recipe.steps
    with processes.in_step(Stopped, FloatingPointError), contextlib.ExitStack() as stack:
        gan, config = recipe.build(), {**recipe.config(), "seed": seed}
        with processes.together() as same:
            devices = _check_options(recipe, seed, options)
            check(workdir, config)
            same |= config | dataclasses.asdict(options) | {"steps": steps, "devices": len(devices), "data_dir": None}
        parallel.meet(devices)
        with processes.together() as same:
            dataset = data.load(recipe.data, options.data_dir, image_shape(gan), recipe.split, recipe.border)
            config["data_sha256"] = dataset.sha256()
            check(workdir, config)
            state = init(gan, jax.random.key(seed))
            if recipe.accumulate > 1 and not judges_alone(gan, state):
                raise RunError(
                    f"--accumulate {recipe.accumulate}: the discriminator compares the images of a batch with one "
                    "another, and would see a part of them at a time; leave it at 1, and use more devices"
                )
            same["data_sha256"] = config["data_sha256"]
        leader = processes.is_leader()
        with processes.together():
            if leader:
                stack.enter_context(claim(workdir, config))
        with processes.together():
            if not (workdir / "config.json").exists():
                raise RunError(f"--workdir {workdir} must be a folder that all processes share; process 0 has another")
        with processes.together() as same:
            manager = checkpoint.open_manager(workdir / "checkpoints", options.keep)
            stack.enter_context(contextlib.closing(manager))
            if manager.latest_step() is not None:
                state = checkpoint.restore(manager, state)
            start = int(state.step)
            if start > steps:
                raise RunError(
                    f"--steps {steps}: {workdir} is at step {start} already; ask for more, or name another --workdir"
                )
            same["newest checkpoint of --workdir"] = start

        images = recipe.batch_size * gan.training_ratio  # real ones, in each step
        report = None
        if leader:
            print(_introduction(recipe, state, dataset, workdir, devices), flush=True)
            report = stack.enter_context(Report(workdir, start, steps, images))
        state = _train(gan, state, dataset, images, steps, options, devices, manager, report)
        checkpoint.finish(manager)
        if int(state.step) < steps:
            raise Stopped(f"stopped at step {int(state.step)} of {steps}; the same command goes on from there")
        with processes.together():
            # A run that was finished before knows how long it took.
            if leader and not (start == steps and read_summary(workdir).get("step") == steps):
                draw(workdir)
                summary = _summarise(config, state, read_metrics(workdir)) | {
                    "seconds": round(time.perf_counter() - begin, 3),
                    "steps_resumed_from": start,
                    "devices": [device.device_kind for device in devices],
                    "jax_version": jax.__version__,
                }
                write_json(workdir / "summary.json", summary)
        return read_summary(workdir)


def _summarise(config: dict[str, Any], state: GANState, metrics: list[dict[str, Any]]) -> dict[str, Any]:
    """What a run came to: its final state, and the last and the middle of its metrics."""
    metrics = metrics or [{}]  # where the file was taken away
    return {
        "recipe": config["recipe"],
        "seed": config["seed"],
        "step": int(state.step),
        "state_sha256": checkpoint.state_sha256(state),
        **{name: metrics[-1].get(name) for name in ("loss_gen", "loss_disc")},
        # The first line's rate has the compiling in it.
        "images_per_second": statistics.median(m.get("images_per_second", 0) for m in metrics[1:] or metrics),
    }


def _train(
    gan: GAN,
    state: GANState,
    dataset: data.Dataset,
    images: int,
    steps: int,
    options: Options,
    devices: list[jax.Device],
    manager: Any,
    report: Report | None,
) -> GANState:
    """Takes `state` to step `steps`, or to where the run is asked to stop, and saves it there.

    Without a report nothing is sampled either.
    """
    key, start = state.key, int(state.step)
    samples_key = jax.random.fold_in(key, Purpose.SAMPLES)
    take = parallel.STEPS[options.parallel](gan, devices)
    part = (jax.process_index(), jax.process_count())
    intervals = [i for i in (options.log_every, options.sample_every, options.checkpoint_every) if i]
    if report and start == 0:
        report.samples(0, sample(gan, state, samples_key, GRID))
    state = parallel.place(state, devices)
    try:
        on_devices = parallel.copies(dataset.images, devices)
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        size = dataset.images.nbytes / 2**30
        raise RunError(f"--data {dataset.name}: its {size:.1f} GiB of images do not fit on each device") from error
    done, turn, pace, last, saved = start, 0, 1, start == steps, math.inf
    with _stop_signals() as asked_to_stop:
        while not last:
            count = min(pace, *(every - done % every for every in intervals), steps - done)
            batches = np.zeros((MOST, images // part[1]), np.int32)
            batches[:count] = dataset.batches(key, done, count, images, part)
            begin = time.perf_counter()
            state, metrics = jax.block_until_ready(take(state, on_devices, batches, count))
            now = time.perf_counter()
            pace, due = processes.of_leader(max(1, min(MOST, int(TURN * count / (now - begin)))), now - saved > MINUTE)
            done, turn, saved = done + count, turn + 1, min(saved, now)  # the first turn has compiled
            last = asked_to_stop(turn) or done == steps
            if options.checkpoint_every:
                due = done % options.checkpoint_every == 0
            if report:
                report.tick(done)
            log = done == 1 or done % options.log_every == 0 or last
            if log or due:
                _check_metrics(done, metrics)
            if report and log:
                report.log(done, metrics)
            if report and (done % options.sample_every == 0 or done == steps):
                report.samples(done, sample(gan, parallel.own_copy(state), samples_key, GRID))
            if due or last:
                own = parallel.own_copy(state)
                if not _is_finite(own):
                    raise FloatingPointError(f"step {done}: a weight is no longer finite; {AFTER_NAN}")
                checkpoint.save(manager, done, own)
                saved = now
    return parallel.own_copy(state)


def _check_metrics(step: int, metrics: dict[str, jax.Array]) -> None:
    bad = [f"{name} is {float(value)}" for name, value in metrics.items() if not math.isfinite(value)]
    if bad:
        raise FloatingPointError(f"step {step}: {' and '.join(bad)}; {AFTER_NAN}")


@jax.jit
def _is_finite(state: GANState) -> jax.Array:
    """Whether every float is: the metrics of a step speak of the weights before it."""
    floats = [x for x in jax.tree.leaves(state) if jnp.issubdtype(x.dtype, jnp.floating)]
    return jnp.all(jnp.array([jnp.all(jnp.isfinite(x)) for x in floats]))


@contextlib.contextmanager
def _stop_signals() -> Iterator[Callable[[int], bool]]:
    """Whether to stop after a turn, which the first SIGINT or SIGTERM asks for; a second one acts as usual.

    Several processes must stop at one step: JAX's preemption service sees to that, and has SIGTERM for itself.
    """
    several = jax.process_count() > 1
    if threading.current_thread() is not threading.main_thread():
        yield lambda turn: False  # signals are the main thread's
        return
    stop, signals = threading.Event(), (signal.SIGINT,) if several else (signal.SIGINT, signal.SIGTERM)
    usual = {number: signal.getsignal(number) for number in signals}

    def restore() -> None:
        for number, handler in usual.items():
            signal.signal(number, handler)

    def request(*_: Any) -> None:
        restore()
        stop.set()
        if several:
            os.kill(os.getpid(), signal.SIGTERM)

    for number in signals:
        signal.signal(number, request)
    try:
        yield processes.all_asked_to_stop if several else lambda turn: stop.is_set()
    finally:
        restore()


def _check_options(recipe: Recipe, seed: int, options: Options) -> list[jax.Device]:
    """The devices of the run; refuses what does not fit."""
    counts = {k: v for k, v in dataclasses.asdict(options).items() if type(v) is int}
    counts = {"steps": recipe.steps, "batch_size": recipe.batch_size, "accumulate": recipe.accumulate, **counts}
    for name, value in counts.items():
        if value < 1:
            raise RunError(f"--{name.replace('_', '-')} must be at least 1, not {value}")
    if not 0 <= seed < 2**32:
        raise RunError(f"--seed must be from 0 to {2**32 - 1}, not {seed}")
    try:
        devices = parallel.choose_devices(options.devices)
    except ValueError as error:
        raise RunError(f"--devices: {error}") from error
    if recipe.batch_size % (len(devices) * recipe.accumulate):
        local = len(devices) // jax.process_count()
        of = f" in each of {jax.process_count()} processes" if local < len(devices) else ""
        micro = f" and --accumulate {recipe.accumulate} microbatches" if recipe.accumulate > 1 else ""
        raise RunError(
            f"--batch-size {recipe.batch_size} cannot be split evenly over {local} devices{of}{micro}; "
            f"choose a multiple of {len(devices) * recipe.accumulate}, or fewer --devices"
        )
    return devices


def _introduction(
    recipe: Recipe, state: GANState, dataset: data.Dataset, workdir: Path, devices: list[jax.Device]
) -> str:
    n, h, w, c = dataset.images.shape
    gen, disc = (sum(x.size for x in jax.tree.leaves(net.params)) for net in (state.gen, state.disc))
    what = f"{dataset.name}: {n:,} images of {h}x{w}x{c}; generator {gen:,} parameters, discriminator {disc:,}"
    on = f"{len(devices)} x {devices[0].device_kind}"
    if jax.process_count() > 1:
        on += f" of {jax.process_count()} processes"
    how = f"steps {int(state.step)} to {recipe.steps} of {recipe.batch_size} images on {on}, in {workdir}"
    return f"{what}\n{how}"
