"""The host's loop: turns of several updates on the devices, and what is due after each: pictures, lines, a checkpoint.

What is due after a turn is done while the devices take the next one, which has been handed to them before: they never
wait for the host. It is all done before anything of that next turn is, so that files are written in the order of their
steps. The final state depends on no event and on no period. Where a run has several processes, the leader alone
reports, samples, saves and calls the user's events.
"""

import contextlib
import functools
import itertools
import math
import time
from collections.abc import Callable, Generator, Sequence
from typing import NamedTuple

import jax
import numpy as np

from jaxgan import parallel
from jaxgan.data import DataError
from jaxgan.data.pairs import beside
from jaxgan.evaluation.scores import BEST_BY
from jaxgan.forward_pass import Metrics
from jaxgan.gan import GANState
from jaxgan.randomness import Purpose
from jaxgan.run import checkpoint, processes
from jaxgan.run.best import Score, is_better, lowest_scores, no_best, score_by
from jaxgan.run.events import Event, Snapshot, call_all, check_names
from jaxgan.run.finite import check_metrics, check_state
from jaxgan.run.metrics import SCORES
from jaxgan.run.prepare import Prepared
from jaxgan.run.report import Report
from jaxgan.run.screen import say
from jaxgan.run.signals import stop_signals
from jaxgan.run.turns import MOST, open_turns, together, wait
from jaxgan.sampling import ROWS, grid_labels, sample

COLUMNS = 8  # of a sample grid; as many rows, or one for each class
TURN = 0.5  # seconds at most, about, of a turn; a signal is heard once the two that are under way are over
MINUTE = 60  # seconds


class Pending(NamedTuple):
    """A turn that the devices have been given, and what is due once it is over; before the first, the first grid."""

    snapshot: Snapshot
    updates: int = 0
    events: Sequence[Event] = ()
    log: bool = False
    save: bool = False


Wanted = tuple[GANState, int, int]  # a turn: the state on the devices, updates done, and how many more
Done = tuple[GANState, Metrics, int]  # what came of it, and of how many updates: perhaps of fewer
Turns = Generator[Wanted, Done, GANState]


class Clock(NamedTuple):
    """When the last turn was over, when the last checkpoint was due, and how many updates take about a `TURN`."""

    over: float
    saved: float = math.inf  # until the first turn has compiled
    pace: int = 1


def train(prepared: Prepared, report: Report | None) -> GANState:
    """Takes the prepared state to the last step, or to where the run is asked to stop, and saves it there.

    Args:
      prepared: the run.
      report: the leader's; None in the other processes.

    Raises:
      Exception: those of `run`.
    """
    if prepared.start == prepared.recipe.steps:
        return prepared.state
    with contextlib.ExitStack() as stack, stop_signals() as asked_to_stop:
        take, most = open_turns(prepared, stack)
        run = turns(prepared, report, most, asked_to_stop)
        wanted = next(run)
        while True:
            try:
                done = (*take(*wanted), wanted[2])
            except (DataError, processes.ProcessError) as error:
                run.throw(error)
                raise
            try:
                wanted = run.send(done)
            except StopIteration as end:
                return end.value


def train_together(runs: Sequence[Prepared], reports: Sequence[Report]) -> list[GANState | FloatingPointError]:
    """The same for several runs of one GAN on the same data in memory and one device, in one program by `jax.vmap`.

    To rounding, each comes to what it comes to alone. Those that are behind, after a kill, are taken to where the
    others are first.

    Returns:
      Of each run its state, or why it has diverged, which ends it alone.

    Raises:
      Exception: the others of `run`.
    """
    take, most, asked = together(runs), MOST, False
    found: dict[int, GANState | FloatingPointError] = {}
    wanted: dict[int, Wanted] = {}
    with stop_signals() as asked_to_stop:
        loops = [turns(p, report, most, lambda turn: asked) for p, report in zip(runs, reports, strict=True)]

        def advance(i: int, done: Done | None) -> None:
            wanted.pop(i, None)
            try:
                wanted[i] = next(loops[i]) if done is None else loops[i].send(done)
            except StopIteration as end:
                found[i] = end.value
            except FloatingPointError as error:
                found[i] = error

        for i, p in enumerate(runs):
            if p.start == p.recipe.steps:
                found[i] = p.state
            else:
                advance(i, None)
        while wanted:
            first = min(step for _, step, _ in wanted.values())
            behind = [i for i, (_, step, _) in wanted.items() if step == first]
            ahead = [step - first for _, step, _ in wanted.values() if step > first]
            count = min(ahead + [wanted[i][2] for i in behind])
            results = take([(runs[i], wanted[i][0]) for i in behind], first, count)
            asked = asked_to_stop(0)
            for i, result in zip(behind, results, strict=True):
                advance(i, (*result, count))
            if asked:  # those ahead have not moved yet
                found |= {i: runs[i].state for i in wanted}
                break
    return [found[i] for i in range(len(runs))]


def turns(p: Prepared, report: Report | None, most: int, asked_to_stop: Callable[[int], bool]) -> Turns:
    """The loop of one run, as a generator: it yields a `Wanted` turn, and is sent what is `Done`, or an error of it.

    The devices may be at work still when it is sent that: it does what is due of the turn before meanwhile. It returns
    the run's last state.

    Args:
      p: the run.
      report: as in `train`.
      most: how many updates a turn has at most.
      asked_to_stop: whether to stop after a turn, given its number, from 1.
    """
    step, several = p.start, jax.process_count() > 1
    grids = functools.partial(_draw, p, report, p.config.get("class_names", ())[:ROWS])
    events = (Event("samples", p.options.sample_every, grids), *p.events)
    finish = functools.partial(_finish, p, report, lowest_scores(p.checkpoints.scores() if report else {}))
    pending = Pending(Snapshot(step, p.gan, p.workdir, False, p.state, {}), events=() if step else events[:1])
    clock = Clock(time.perf_counter())
    if several:  # they agree by programs of their own, for which the devices must be free
        pending = finish(pending)
    state = parallel.replicate(p.state, p.devices)
    for turn in itertools.count(1):
        try:
            state, metrics, count = yield state, step, min(clock.pace, most, _until_due(p, events, step))
        except (DataError, processes.ProcessError):
            finish(pending)
            if processes.is_leader() and pending.updates and p.checkpoints.latest_step() != step:
                check_state(step, pending.snapshot.state, _after_nan(p))
                _write(p, pending.snapshot, None, wait=True)
            raise
        check_names(events, metrics)
        finish(pending)  # what is due of the turn before, while the devices take this one
        if several:
            wait(p, metrics)
        clock, minute = _timed(clock, pending.updates)
        step += count
        stop = asked_to_stop(turn + 1) or step == p.recipe.steps
        pending = _due(p, report, events, state, metrics, count, step, minute, stop)
        clock = clock._replace(saved=time.perf_counter()) if pending.save else clock
        if several or stop:
            pending = finish(pending)
        if stop:
            break
    return pending.snapshot.state


def _until_due(p: Prepared, events: Sequence[Event], step: int) -> int:
    """How many updates there are until something is due: a turn ends there."""
    periods = [p.options.log_every, p.options.checkpoint_every, *(event.every for event in events)]
    return min(p.recipe.steps - step, *(every - step % every for every in periods if every))


def _timed(clock: Clock, updates: int) -> tuple[Clock, bool]:
    """The clock after a turn, and whether the last checkpoint was due more than a minute ago; the leader's."""
    now = time.perf_counter()
    saved = min(clock.saved, now)
    pace = max(1, min(MOST, int(TURN * updates / (now - clock.over))))
    pace, minute = processes.broadcast(pace, now - saved > MINUTE)
    return Clock(now, saved, pace), bool(minute)


def _due(
    p: Prepared,
    report: Report | None,
    events: Sequence[Event],
    state: GANState,
    metrics: Metrics,
    count: int,
    step: int,
    minute: bool,
    stop: bool,
) -> Pending:
    """What is due of the turn that the devices have been given, whose end `step` is."""
    end, every = step == p.recipe.steps, p.options.checkpoint_every
    due = [event for event in events if end or step % event.every == 0]
    save = stop or (step % every == 0 if every else minute)
    samples = _grid(p, parallel.own_copy(state)) if report and events[0] in due else None
    snapshot = Snapshot(step, p.gan, p.workdir, end, state, metrics, samples)
    if save or due:
        _ = snapshot.state  # copied, before the next turn overwrites it
    return Pending(snapshot, count, due, stop or step == 1 or step % p.options.log_every == 0, save)


def _finish(p: Prepared, report: Report | None, best: dict[str | None, float], pending: Pending) -> Pending:
    """Waits for the end of a turn. Then what is due: first the events, then their line of metrics, then the checkpoint.

    In this order all that belongs to the steps of a checkpoint is written before it. Where an event raises, the line
    and the checkpoint are written before its error ends the run. A state that is better than what `best` has of its
    unit, by the recipe's `best_by`, is saved, too, and `best` is kept up to date, in the leader. Returns the turn with
    nothing due any more.
    """
    snapshot, updates, due, log, save = pending
    wait(p, snapshot.device_metrics)
    if due or log or save:
        check_metrics(snapshot.step, snapshot.device_metrics, _after_nan(p))
    error, score, failed, better = None, None, False, False
    if report:
        scalars, units = {}, {}
        try:
            scalars, units = call_all(due, snapshot)
        except Exception as raised:
            error = raised
        if log or scalars:
            report.log(snapshot.step, {**snapshot.metrics, **scalars}, next(iter(units.values()), None))
        if updates:
            report.tick(snapshot.step)
        if score := score_by(p.recipe.best_by, scalars, units):
            better = is_better(score, best, snapshot.step)
        if snapshot.last and not best and (p.recipe.best_by != BEST_BY or not scalars.keys().isdisjoint(SCORES)):
            say(no_best(p.recipe.best_by, scalars), "stderr")
    if due:
        failed, better = processes.broadcast(error is not None, better)
    if updates and (save or failed or better):
        _save(p, snapshot, score, wait=bool(failed))
    if failed:
        with processes.synchronized():
            if error:
                raise error
    return pending._replace(events=(), log=False, save=False)


def _grid(p: Prepared, state: GANState) -> jax.Array:
    """The images of a sample grid: the same latents and conditions each time; a row for each class."""
    labels = grid_labels(p.gan, COLUMNS) if p.shown is None else p.shown.labels
    count, key = COLUMNS**2 if labels is None else len(labels), jax.random.fold_in(state.key, Purpose.SAMPLES)
    return sample(p.gan, state, key, count, labels=labels)


def _draw(p: Prepared, report: Report | None, names: Sequence[str], snapshot: Snapshot) -> None:
    """The event of the sample grids."""
    if report:
        samples = snapshot.device_samples
        if samples is None:  # of the untrained generator; on one device as the later ones, by the same program
            samples = _grid(p, parallel.own_copy(parallel.replicate(p.state, p.devices[:1])))
        report.samples(snapshot.step, np.asarray(samples), COLUMNS, names, beside(p.shown))


def _save(p: Prepared, snapshot: Snapshot, score: Score | None, wait: bool = False) -> None:
    """Has the leader begin to save a state, or with `wait` has it saved."""
    check_state(snapshot.step, snapshot.state, _after_nan(p))
    with processes.synchronized():
        if processes.is_leader():
            _write(p, snapshot, score, wait)


def _write(p: Prepared, snapshot: Snapshot, score: Score | None, wait: bool) -> None:
    checkpoint.save(p.checkpoints, snapshot.step, snapshot.state, score)
    if wait:
        checkpoint.finish(p.checkpoints, snapshot.state)


def _after_nan(p: Prepared) -> str:
    newest = p.checkpoints.latest_step()
    left = "no checkpoint was saved" if newest is None else f"the newest checkpoint, of step {newest}, is from before"
    left = left if processes.is_leader() else "process 0 names the newest checkpoint"
    return f"{left}. Try smaller learning rates; `debug_nans` finds the operation"
