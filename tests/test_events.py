"""Events between the turns of a run: when they are called, what they see, and that they leave no trace."""

import json

import jax
import numpy as np
import pytest
from small_run import OPTIONS, metrics_of, recipe

from jaxgan.run import Event, Options, RunError, loop, report, run, weights_and_biases
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
    def call(*events):
        return call_all(events, Snapshot(1, None, tmp_path, False, None, {"loss_gen": np.float32(1)}))

    for found, message in (
        ({"step": 1}, "'step' is the name of another metric"),
        ({"loss_gen": 1}, "'loss_gen' is the name of another metric"),
        ({"first": 1}, "'first' is the name of another metric"),
        ({"x": [1, 2]}, "'x' must be a scalar"),
        ({"x": "high"}, "'x' must be a scalar, not 'high'"),
        ({"scored_by": 3.0}, "'scored_by' must be a text, not 3.0"),
        (3.0, "must return a dict of scalars or None, not float"),
    ):
        with pytest.raises(RunError, match=f"event 'two'.*{message}"):
            call(Event("one", 1, lambda m: {"first": 0}), Event("two", 1, lambda m, found=found: found))
    seen = []
    events = [Event("x", 1, lambda m: {"x": jax.numpy.float32(2)}), Event("y", 1, lambda m: seen.append(dict(m.found)))]
    assert (call(*events), seen) == (({"x": 2.0}, {}), [{"x": 2.0}])
    twice = Snapshot(1, None, tmp_path, False, None, {})
    assert call_all(events[:1], twice) == ({"x": 2.0}, {})
    assert call_all([], twice) == ({}, {})  # finished again, with nothing due: no score to save a best checkpoint by


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the package
def test_weights_and_biases_has_metrics_what_events_found_and_grids_of_a_run_that_goes_on(plain, tmp_path):
    """Read from the file that it keeps while it is offline, a log of LevelDB's form."""
    pytest.importorskip("wandb")
    from wandb.proto.wandb_internal_pb2 import Record

    def fail(snapshot):
        if snapshot.step == 6 and not (tmp_path / "failed").exists():
            (tmp_path / "failed").touch()
            raise KeyError("mine")
        return {"found": snapshot.step + 0.5}

    events = (Event("first", 2, fail), weights_and_biases(2, project="mine", mode="offline"))
    options = Options(devices=1, log_every=1, sample_every=4)
    with pytest.raises(KeyError, match="mine"):
        run(recipe(events=events), tmp_path, 0, options)
    summary = run(recipe(events=events), tmp_path, 0, options)
    assert summary["state_sha256"] == plain["state_sha256"]

    def records(path):
        data, at, whole = path.read_bytes(), 7, b""
        while at + 7 <= len(data):
            at += 32768 - at % 32768 if 32768 - at % 32768 < 7 else 0
            size, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
            whole += data[at + 7 : at + 7 + size]
            at += 7 + size
            if kind in (1, 4):  # a record's only part, or its last
                yield Record.FromString(whole)
                whole = b""

    paths = sorted((tmp_path / "wandb").glob("offline-run*/*.wandb"), key=lambda path: path.stat().st_mtime_ns)
    found = [record for path in paths for record in records(path)]
    assert [record.WhichOneof("record_type") for record in found].count("exit") == len(paths)
    start = next(record.run for record in found if record.WhichOneof("record_type") == "run")
    known = (start.run_id, start.project, start.display_name)
    assert known == ((tmp_path / "wandb" / "id.txt").read_text(), "mine", tmp_path.name)
    assert "batch_size" in {update.key for update in start.config.update}
    items = [record.history.item for record in found if record.history.item]
    lines = [{item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in of} for of in items]
    assert [line["_step"] for line in lines] == [2, 4, 8, 9]  # at 6 the run ended before
    metrics = {m["step"]: m for m in metrics_of(tmp_path)}
    for line in lines:
        step = line["_step"]
        assert line["found"] == step + 0.5
        assert round(line["loss_gen"], 4) == round(metrics[step]["loss_gen"], 4)
        assert ("samples.path" in line) == (step in (4, 8, 9))
