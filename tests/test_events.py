"""Events between the turns of a run: when they are called, what they see, and that they leave no trace."""

import jax
import numpy as np
import pytest
from small_run import OPTIONS, metrics_of, recipe

from jaxgan.run import Event, Options, RunError, loop, report, run
from jaxgan.run.arrays import state_sha256
from jaxgan.run.events import Snapshot, call_all

pytestmark = pytest.mark.usefixtures("shared_programs")


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """The summary of a run without events of its own."""
    return run(recipe(), tmp_path_factory.mktemp("plain"), 0, OPTIONS)


def test_events_are_called_at_their_steps_and_leave_no_trace(plain, tmp_path):
    seen, kept = [], []

    def look(moment):
        seen.append((moment.step, moment.last, moment.workdir == tmp_path, moment.metrics["loss_gen"]))
        kept.append(moment.state)
        assert moment.state is kept[-1]
        return {"distance": 10.0 * moment.step, "[bold]%s": float("nan")}

    events = (Event("look", 4, look), Event("quiet", 5, lambda moment: {"five": 5} if moment.step == 5 else None))
    summary = run(recipe(events=events), tmp_path, 0, OPTIONS)
    assert summary["state_sha256"] == plain["state_sha256"]
    assert [s[:3] for s in seen] == [(4, False, True), (8, False, True), (9, True, True)]
    lines = {m["step"]: m for m in metrics_of(tmp_path)}
    assert {step: m["distance"] for step, m in lines.items() if "distance" in m} == {4: 40, 8: 80, 9: 90}
    assert [round(lines[s]["loss_gen"], 4) for s, *_ in seen] == [round(loss, 4) for *_, loss in seen]
    assert lines[4]["[bold]%s"] is None  # JSON has no NaN
    assert lines[5].keys() > {"five", "loss_gen"}  # a step that nothing else logs
    # The states are copies: the updates since have not overwritten them.
    assert [int(state.step) for state in kept] == [4, 8, 9]
    assert state_sha256(kept[-1]) == summary["state_sha256"] != state_sha256(kept[0])


def test_the_state_is_saved_before_an_events_error_ends_the_run(plain, tmp_path):
    def fail(moment):
        raise KeyError("mine")

    options = Options(devices=1, log_every=1)
    with pytest.raises(KeyError, match="mine"):
        run(recipe(events=(Event("bad", 5, fail),)), tmp_path, 0, options)
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["5"]
    assert [m["step"] for m in metrics_of(tmp_path)] == [1, 2, 3, 4, 5]
    summary = run(recipe(), tmp_path, 0, options)
    assert (summary["steps_resumed_from"], summary["state_sha256"]) == (5, plain["state_sha256"])
    assert [m["step"] for m in metrics_of(tmp_path)] == list(range(1, 10))


def test_the_devices_have_the_next_turn_while_an_event_is_called(plain, tmp_path, monkeypatch):
    handed = []  # how many updates, turn by turn

    def recorded(*args):
        take = steps_on(*args)
        return lambda state, dataset, batches, count: [
            handed.append(int(count)),
            take(state, dataset, batches, count),
        ][1]

    steps_on = loop.parallel.steps_on
    monkeypatch.setattr(loop.parallel, "steps_on", recorded)
    seen = []
    events = (Event("look", 3, lambda moment: seen.append((moment.step, sum(handed) > moment.step))),)
    summary = run(recipe(events=events), tmp_path, 0, OPTIONS)
    assert seen == [(3, True), (6, True), (9, False)]
    assert sum(handed) == 9
    assert summary["state_sha256"] == plain["state_sha256"]


def test_a_picture_that_cannot_be_made_is_said_once_and_the_run_goes_on(plain, tmp_path, monkeypatch, capfd):
    def fail_after_the_first(*args):
        if (tmp_path / "samples" / "000000.png").exists():
            raise KeyError("mine")
        return grid(*args)

    grid = report.images.grid
    monkeypatch.setattr(report.images, "grid", fail_after_the_first)
    summary = run(recipe(), tmp_path, 0, Options(devices=1, log_every=2, sample_every=4))
    assert summary["state_sha256"] == plain["state_sha256"]
    assert [m["step"] for m in metrics_of(tmp_path)] == [1, 2, 4, 6, 8, 9]
    said = f"{tmp_path / 'samples'} cannot be written ('mine'); the run goes on without it"
    assert capfd.readouterr().err.splitlines() == [said]


def test_all_of_the_steps_of_a_checkpoint_is_written_before_it_and_nothing_past_it(tmp_path, monkeypatch):
    save, seen = loop.checkpoint.save, {}

    def saved(checkpoints, step, *args):
        lines = [m["step"] for m in metrics_of(tmp_path)]
        seen[step] = lines, sorted(int(p.stem) for p in (tmp_path / "samples").iterdir()), list(called)
        save(checkpoints, step, *args)

    monkeypatch.setattr(loop.checkpoint, "save", saved)
    called = []
    events = (Event("look", 2, lambda moment: called.append(moment.step)),)
    options = Options(devices=1, log_every=1, sample_every=2, checkpoint_every=4)
    run(recipe(events=events), tmp_path, 0, options)
    assert seen == {
        4: ([1, 2, 3, 4], [0, 2, 4], [2, 4]),
        8: ([*range(1, 9)], [0, 2, 4, 6, 8], [2, 4, 6, 8]),
        9: ([*range(1, 10)], [0, 2, 4, 6, 8, 9], [2, 4, 6, 8, 9]),
    }


def test_what_is_no_event_is_refused_before_anything_is_written(tmp_path):
    for event, message in (
        (Event("mine", 0, print), "event 'mine': every must be a whole number of at least 1, not 0"),
        (Event("mine", 2.5, print), "event 'mine': every must be .* not 2.5"),
        (Event("mine", 5, "print"), "events of a recipe must be"),
        (print, "events of a recipe must be"),
    ):
        with pytest.raises(RunError, match=message):
            run(recipe(events=(event,)), tmp_path / "w", 0, OPTIONS)
    assert not (tmp_path / "w").exists()


def test_what_an_event_may_not_return(tmp_path):
    snapshot = Snapshot(1, None, tmp_path, False, None, {"loss_gen": np.float32(1)})
    for found, message in (
        ({"step": 1}, "'step' is the name of another metric"),
        ({"loss_gen": 1}, "'loss_gen' is the name of another metric"),
        ({"first": 1}, "'first' is the name of another metric"),
        ({"x": [1, 2]}, "'x' must be a scalar"),
        ({"x": "high"}, "'x' must be a scalar, not 'high'"),
        ({"scored_by": 3.0}, "'scored_by' must be a text, not 3.0"),
        (3.0, "must return a dict of scalars or None, not float"),
    ):
        events = [Event("one", 1, lambda m: {"first": 0}), Event("two", 1, lambda m, found=found: found)]
        with pytest.raises(RunError, match=f"event 'two'.*{message}"):
            call_all(events, snapshot)
    assert call_all([Event("x", 1, lambda m: {"x": jax.numpy.float32(2)})], snapshot) == ({"x": 2.0}, {})
