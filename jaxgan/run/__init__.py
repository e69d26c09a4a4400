"""A run: `run(recipe, workdir)` trains, reports, samples and saves, and resumes where it stopped.

A run is a function of (recipe, seed). Its final state does not depend on how often it reports or saves, on which events
it calls, or on where it was interrupted; on the number of devices it depends by rounding alone.

Where a run has several processes, each of them calls `run`.
"""

import contextlib
import dataclasses
import os
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import jax

from jaxgan.data import Source
from jaxgan.gan import GANState
from jaxgan.run import checkpoint, metrics, plots, processes
from jaxgan.run.arrays import state_sha256
from jaxgan.run.checkpoint import CheckpointError
from jaxgan.run.errors import RunError, Stopped
from jaxgan.run.events import Event, Snapshot
from jaxgan.run.loop import train, train_together
from jaxgan.run.numerics import fixed_numerics, start_devices
from jaxgan.run.prepare import Options, Prepared, Recipe, introduction, prepare
from jaxgan.run.processes import ProcessError, ProcessLost
from jaxgan.run.report import Report
from jaxgan.run.screen import say
from jaxgan.run.weights_and_biases import weights_and_biases
from jaxgan.run.workdir import WorkdirError, read_summary, write_json

__all__ = [
    "CheckpointError",
    "Event",
    "Options",
    "ProcessError",
    "ProcessLost",
    "Recipe",
    "RunError",
    "Snapshot",
    "Stopped",
    "WorkdirError",
    "run",
    "run_together",
    "weights_and_biases",
]


def run(
    recipe: Recipe,
    workdir: str | os.PathLike[str],
    seed: int = 0,
    options: Options = Options(),
    accepted: Collection[str] = (),
) -> dict[str, Any]:
    """Trains to the last step, from the newest checkpoint in `workdir` where there is one.

    SIGINT, SIGTERM and SIGHUP end a run early, once it has finished the turns that are under way, two of about half a
    second or one step each, and saved its state.

    Args:
      recipe: what to train, and on what.
      workdir: where everything is written: `config.json`, `checkpoints/`, what `report` and `plots` list, and
        at the end `summary.json`.
      seed: of the root key, from which all randomness comes; from 0 to 2**32 - 1.
      options: what does not change the numbers.
      accepted: fields of config.json in which the run that `workdir` holds may differ from this one.

    Returns:
      The summary, as in `summary.json`.

    Raises:
      RunError: an option or an event does not fit, or there are no devices.
      WorkdirError: the workdir is another run's, or cannot be written to.
      jaxgan.data.DataError: the data cannot be had.
      CheckpointError: no checkpoint is whole, or the newest is damaged and `strict` is set, or one cannot be written.
      ProcessError: the processes are not of one run, or one of them has met any of these.
      ProcessLost: one of them has ended.
      FloatingPointError: a loss or a weight is no longer finite.
      Stopped: the run was asked to stop.
      Exception: what an event of the recipe raises; the state is saved first.
    """
    begin = time.perf_counter()
    start_devices()
    with (
        fixed_numerics(),
        processes.exit_together(Stopped, FloatingPointError),
        contextlib.ExitStack() as stack,
    ):
        prepared = prepare(recipe, Path(workdir), seed, options, accepted, stack)
        report = None
        if processes.is_leader():
            say(introduction(prepared))
            report = _report(prepared, stack)
        return _end(prepared, train(prepared, report), begin)


def run_together(
    recipe: Recipe, workdirs: Mapping[int, str | os.PathLike[str]], options: Options = Options()
) -> dict[int, str]:
    """Trains several seeds of a recipe as `run` does, all in one program, on one device and data in memory.

    To rounding, each of them is the run that it is alone: it has its own folder, and goes on there, together or alone.

    Args:
      recipe: what to train, and on what.
      workdirs: by seed.
      options: those of all.

    Returns:
      The seeds that have diverged, and why. The others have gone on.

    Raises:
      Exception: those of `run`.
    """
    begin = time.perf_counter()
    start_devices()
    options = dataclasses.replace(options, devices=options.devices or 1)
    if options.devices != 1 or jax.process_count() > 1:
        raise RunError(f"`together` is for one device; choose `devices` 1, not {options.devices}")
    streamed = "`together` is for data in memory, and these are streamed; leave one of them away"
    if options.stream:
        raise RunError(streamed)
    if options.debug_nans:
        raise RunError("`debug_nans` is for one run; leave `together` or it away")
    with fixed_numerics(), contextlib.ExitStack() as stack:
        runs: list[Prepared] = []
        for seed, workdir in workdirs.items():
            like = runs[0] if runs else None
            runs.append(prepare(recipe, Path(workdir), seed, options, (), stack, like))
            if isinstance(runs[-1].dataset, Source):
                raise RunError(streamed)
        shown = min(runs, key=lambda p: p.start)
        others = "".join(f"\nnote: {p.note}" for p in runs if p.note and p is not shown)
        say(f"{introduction(shown)}{others}\n{len(runs)} seeds in one program: {', '.join(map(str, workdirs))}")
        reports = [_report(p, stack, p is shown) for p in runs]
        found = dict(zip(workdirs, zip(runs, train_together(runs, reports), strict=True), strict=True))
        diverged = {seed: str(state) for seed, (_, state) in found.items() if isinstance(state, FloatingPointError)}
        ended = [(p, state) for p, state in found.values() if not isinstance(state, FloatingPointError)]
        # Those that were stopped say so when all is saved.
        for p, state in sorted(ended, key=lambda run: -int(run[1].step)):
            _end(p, state, begin, len(runs))
        return diverged


def _report(prepared: Prepared, stack: contextlib.ExitStack, shown: bool = True) -> Report:
    """The leader's report; when `stack` is left, it and the events are closed."""
    for event in prepared.events:
        stack.callback(event.close)
    steps = prepared.recipe.steps
    return stack.enter_context(Report(prepared.workdir, prepared.start, steps, prepared.images_per_step, shown))


def _end(prepared: Prepared, state: GANState, begin: float, together: int = 1) -> dict[str, Any]:
    """Ends a run in its last state: the checkpoint is on disk, the summary written. A run that was stopped says so."""
    steps = prepared.recipe.steps
    with processes.synchronized():
        if processes.is_leader():
            checkpoint.finish(prepared.checkpoints, state)
    if int(state.step) < steps:
        raise Stopped(f"stopped at step {int(state.step)} of {steps}; the same command goes on from there")
    with processes.synchronized():
        if processes.is_leader():
            seconds = time.perf_counter() - begin
            _conclude(prepared, state_sha256(state), seconds, together, _best(prepared))
    return read_summary(prepared.workdir)


def _best(prepared: Prepared) -> dict[str, Any]:
    """Of the best checkpoint its step, and by what it was chosen, with its value; empty where there is none."""
    best = prepared.checkpoints.best()
    if best is None:
        return {}
    value = best.score.value if prepared.recipe.best_by[1] == "min" else -best.score.value
    return {"best": {"step": best.step, "value": value, "chosen_by": best.score.unit}}


def _conclude(prepared: Prepared, state_sha256: str, seconds: float, together: int, best: Mapping[str, Any]) -> None:
    """Writes the summary of a finished run, so many of which were trained in one program, and then its pictures."""
    workdir, steps = prepared.workdir, prepared.recipe.steps
    # A run that was finished before knows how long it took.
    if not (prepared.start == steps and read_summary(workdir).get("step") == steps):
        last, rate = metrics.last_and_rate(workdir)
        summary = {
            "recipe": prepared.config["recipe"],
            "seed": prepared.config["seed"],
            "step": steps,
            "state_sha256": state_sha256,
            **{name: last.get(name) for name in ("loss_gen", "loss_disc")},
            "images_per_second": rate,
            "seconds": round(seconds, 3),
            "steps_resumed_from": prepared.start,
            "devices": [device.device_kind for device in prepared.devices],
            "jax_version": jax.__version__,
            **({"trained_together": together} if together > 1 else {}),
            **best,
        }
        try:
            write_json(workdir / "summary.json", summary)
        except OSError as error:
            raise RunError(
                f"{workdir / 'summary.json'} cannot be written ({error.strerror}); mend that, then say the same again"
            ) from error
    if prepared.start < steps or not plots.are_drawn(workdir, steps):
        plots.draw(workdir, steps)
