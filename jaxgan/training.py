"""The host's loop: `run(recipe, workdir)` trains, reports, samples and saves, and resumes where it stopped.

A run is a function of (recipe, seed): how often it reports or saves, and where it was interrupted,
leave no trace in its final state.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import signal
import statistics
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import jax
import jax.numpy as jnp

from jaxgan import checkpoint, data, parallel
from jaxgan.gan import GAN, GANState, Purpose, image_shape, init
from jaxgan.report import Report, draw, read_metrics
from jaxgan.sampling import sample
from jaxgan.train_step import train_step

GRID = 64  # images in a sample grid


class Recipe(Protocol):
    """What a run needs of a recipe; `experiments.recipes.Recipe` is one."""

    data: str
    split: str
    border: int
    batch_size: int
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
    """What a run may choose without its state at any step changing."""

    data_dir: str | None = None
    """Where TensorFlow Datasets keeps its data (by default ~/tensorflow_datasets)."""
    devices: int = 1
    """Over how many devices each batch is split."""
    log_every: int = 50
    """Steps between lines of metrics."""
    sample_every: int = 250
    """Steps between sample grids."""
    checkpoint_every: int = 500
    """Steps between checkpoints."""
    keep: int = 3
    """How many of the newest checkpoints are kept."""


def run(recipe: Recipe, workdir: str | os.PathLike, seed: int = 0, options: Options = Options()) -> dict[str, Any]:
    """Trains to the last step, from the newest checkpoint in `workdir` where there is one.

    SIGINT and SIGTERM end a run early, once it has finished its step and saved its state.

    Args:
      recipe: what to train, and on what.
      workdir: where everything is written: `config.json`, `checkpoints/`, what `report` lists, and
        at the end `summary.json`.
      seed: of the root key, from which all randomness comes.
      options: what does not change the numbers.

    Returns:
      The summary, as in `summary.json`.

    Raises:
      RunError: an option does not fit, or the workdir is another run's or cannot be written to.
      data.DataError: the data cannot be had.
      checkpoint.CheckpointError: the newest checkpoint is damaged, or one cannot be written.
      FloatingPointError: a loss or a weight is no longer finite.
      Stopped: the run was asked to stop.
    """
    begin, workdir, steps = time.perf_counter(), Path(workdir), recipe.steps
    config = {**recipe.config(), "seed": seed}
    _check_options(recipe, options)
    if not 0 <= seed < 2**32:
        raise RunError(f"--seed must be from 0 to {2**32 - 1}, not {seed}")
    _check_workdir(workdir, config)

    gan = recipe.build()
    dataset = data.load(recipe.data, options.data_dir, image_shape(gan), recipe.split, recipe.border)
    config["data_sha256"] = hashlib.sha256(dataset.images).hexdigest()
    _check_workdir(workdir, config)

    try:
        workdir.mkdir(parents=True, exist_ok=True)
        write_json(workdir / "config.json", config)
    except OSError as error:
        raise RunError(f"--workdir {workdir} cannot be written ({error.strerror}); name another") from error
    with _lock(workdir):
        state = init(gan, jax.random.key(seed))
        manager = checkpoint.open_manager(workdir / "checkpoints", options.keep)
        if manager.latest_step() is not None:
            state = checkpoint.restore(manager, state)
        start = int(state.step)
        if start > steps:
            raise RunError(
                f"--steps {steps}: {workdir} is at step {start} already; ask for more, or name another --workdir"
            )
        print(_introduction(recipe, state, dataset, workdir, options.devices), flush=True)

        images = recipe.batch_size * gan.training_ratio  # real ones, in each step
        with Report(workdir, start, steps, images) as report, contextlib.closing(manager):
            state = _train(gan, state, dataset, images, steps, options, manager, report)
            checkpoint.finish(manager)
        if int(state.step) < steps:
            raise Stopped(f"stopped at step {int(state.step)} of {steps}; the same command goes on from there")
        if start == steps and (finished := _read_summary(workdir)).get("step") == steps:
            return finished  # it knows how long that took
        draw(workdir)
        summary = _summarise(config, state, read_metrics(workdir)) | {
            "seconds": round(time.perf_counter() - begin, 3),
            "steps_resumed_from": start,
            "devices": [device.device_kind for device in jax.local_devices()[: options.devices]],
            "jax_version": jax.__version__,
        }
        write_json(workdir / "summary.json", summary)
    return summary


def _read_summary(workdir: Path) -> dict[str, Any]:
    """The summary of a finished run, or an empty one where there is none, or not a whole one."""
    try:
        return dict(json.loads((workdir / "summary.json").read_text()))
    except (OSError, ValueError, TypeError):
        return {}


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
    manager: Any,
    report: Report,
) -> GANState:
    """Takes `state` to step `steps`, or to where the run is asked to stop, and saves it there."""
    copied, split = parallel.shardings(options.devices)
    key, start = jax.random.clone(state.key), int(state.step)  # the state's own is donated
    samples_key = jax.random.fold_in(key, Purpose.SAMPLES)
    state = jax.device_put(state, copied)
    step = jax.jit(train_step, static_argnums=0, donate_argnums=1)
    if start == 0:
        report.samples(0, sample(gan, state, samples_key, GRID))
    metrics = None
    with _stop_signals() as stop:
        for done in range(start + 1, steps + 1):
            batch = jax.device_put(dataset.batch(key, done - 1, images), split)
            jax.block_until_ready(metrics)  # one step ahead of the devices, so that the bar tells the truth
            state, metrics = step(gan, state, batch)
            report.tick(done)
            last, save = done == steps or stop.is_set(), done % options.checkpoint_every == 0
            if done == 1 or done % options.log_every == 0 or save or last:
                report.log(done, metrics)
            if done % options.sample_every == 0 or done == steps:
                report.samples(done, sample(gan, state, samples_key, GRID))
            if save or last:
                if not _is_finite(state):
                    raise FloatingPointError(
                        f"step {done}: a weight is no longer finite; the newest checkpoint is from before. "
                        "Try smaller learning rates"
                    )
                checkpoint.save(manager, done, state)
            if last:
                break
    return state


@jax.jit
def _is_finite(state: GANState) -> jax.Array:
    """Whether every float is: the metrics of a step speak of the weights before it."""
    floats = [x for x in jax.tree.leaves(state) if jnp.issubdtype(x.dtype, jnp.floating)]
    return jnp.all(jnp.array([jnp.all(jnp.isfinite(x)) for x in floats]))


@contextlib.contextmanager
def _stop_signals() -> Iterator[threading.Event]:
    """An event that the first SIGINT or SIGTERM sets; a second one acts as usual."""
    stop, signals = threading.Event(), (signal.SIGINT, signal.SIGTERM)
    if threading.current_thread() is not threading.main_thread():
        yield stop  # signals are the main thread's
        return
    usual = {number: signal.getsignal(number) for number in signals}

    def restore() -> None:
        for number, handler in usual.items():
            signal.signal(number, handler)

    def request(*_: Any) -> None:
        restore()
        stop.set()

    for number in signals:
        signal.signal(number, request)
    try:
        yield stop
    finally:
        restore()


@contextlib.contextmanager
def _lock(workdir: Path) -> Iterator[None]:
    """Refuses a workdir that another process is training in; the lock goes with the process, however it ends."""
    import fcntl

    with (workdir / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise RunError(f"another process is training in {workdir}; wait for it, or name another") from error
        yield


def _check_options(recipe: Recipe, options: Options) -> None:
    counts = {k: v for k, v in dataclasses.asdict(options).items() if k != "data_dir"}
    for name, value in {"steps": recipe.steps, "batch_size": recipe.batch_size, **counts}.items():
        if value < 1:
            raise RunError(f"--{name.replace('_', '-')} must be at least 1, not {value}")
    try:
        parallel.shardings(options.devices)
    except ValueError as error:
        raise RunError(f"--devices: {error}") from error
    if recipe.batch_size % options.devices:
        raise RunError(f"--batch-size {recipe.batch_size} cannot be split evenly over --devices {options.devices}")


def _check_workdir(workdir: Path, config: dict[str, Any]) -> None:
    """Refuses a workdir that holds another run, or that cannot be written to; writes nothing."""
    path = workdir / "config.json"
    unknown = f"{path} is not a run's config.json; name another --workdir"
    try:
        if path.exists():
            before = json.loads(path.read_text())
            if not isinstance(before, dict) or "recipe" not in before:
                raise RunError(unknown)
            differ = [
                f"{name} is {before.get(name)!r} there, {value!r} here"
                for name, value in json.loads(json.dumps(config)).items()
                if before.get(name) != value
            ]
            if differ:
                raise RunError(f"{workdir} holds another run ({'; '.join(differ)}); name another --workdir")
        elif (workdir / "checkpoints").exists() or (workdir / "metrics.jsonl").exists():
            raise RunError(f"{workdir} holds a run but no config.json to know it by; name another --workdir")
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise RunError(unknown) from None
    except OSError as error:
        raise RunError(f"--workdir {workdir} cannot be read ({error.strerror}); name another") from error
    folder = next(p for p in (workdir, *workdir.absolute().parents) if p.exists())
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        why = "is not writable" if folder.is_dir() else "is not a folder"
        raise RunError(f"--workdir {workdir}: {folder} {why}; name another")


def _introduction(recipe: Recipe, state: GANState, dataset: data.Dataset, workdir: Path, devices: int) -> str:
    n, h, w, c = dataset.images.shape
    gen, disc = (sum(x.size for x in jax.tree.leaves(net.params)) for net in (state.gen, state.disc))
    what = f"{dataset.name}: {n:,} images of {h}x{w}x{c}; generator {gen:,} parameters, discriminator {disc:,}"
    kind = jax.local_devices()[0].device_kind
    how = f"steps {int(state.step)} to {recipe.steps} of {recipe.batch_size} images on {devices} x {kind}, in {workdir}"
    return f"{what}\n{how}"


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Writes a whole file or none: what a later run reads must never be half there."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(value, indent=2, allow_nan=False) + "\n")
    partial.replace(path)
