"""A run, in this process: what it writes, and how it goes on."""

import contextlib
import dataclasses
import json
import math
import os
import re
import shutil
import time

import numpy as np
import pytest
from small_data import opened
from small_run import OPTIONS, metrics_of, recipe

from jaxgan import data
from jaxgan.run import Event, Options, RunError, WorkdirError, plots, run
from jaxgan.run.prepare import introduction, prepare
from jaxgan.run.workdir import claim

pytestmark = pytest.mark.usefixtures("shared_programs")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run: its folder and its summary."""
    workdir = tmp_path_factory.mktemp("runs") / "deep" / "run"
    return workdir, run(recipe(), workdir, 0, OPTIONS)


def test_what_a_run_writes(finished):
    workdir, summary = finished
    assert summary == json.loads((workdir / "summary.json").read_text())
    assert summary["step"] == 9
    assert len(summary["state_sha256"]) == 64
    assert summary["images_per_second"] > 0
    metrics = metrics_of(workdir)
    assert [m["step"] for m in metrics] == [1, 2, 4, 6, 8, 9]
    for line in metrics:
        assert {"loss_gen", "loss_disc", "logit_real", "logit_fake", "images_per_second", "seconds"} < set(line)
        assert all(math.isfinite(value) for value in line.values())
    assert sorted(p.name for p in (workdir / "checkpoints").iterdir()) == ["8", "9"]
    names = sorted(p.name for p in (workdir / "samples").iterdir())
    assert names == ["000000.png", "000003.png", "000006.png", "000009.png"]
    first, last = (np.asarray(opened(workdir / "samples" / name)) for name in (names[0], names[-1]))
    assert first.shape == last.shape
    assert (first != last).any()
    assert opened(workdir / "samples.gif").n_frames == 4
    assert min(opened(workdir / "losses.png").size) > 300
    config = json.loads((workdir / "config.json").read_text())
    assert (config["recipe"], config["seed"], config["batch_size"]) == ("tf2_gan", 0, 16)
    assert "steps" not in config


@pytest.mark.parametrize(("ratio", "own"), [(1, True), (2, False), (2, True)])
def test_an_update_of_ones_own_is_said_to_get_all_batches_of_a_step(tmp_path, ratio, own):
    made = recipe(training_ratio=ratio, update=(lambda gan, state, batch: (state, {})) if own else "shared")
    with contextlib.ExitStack() as stack:
        said = introduction(prepare(made, tmp_path, 0, OPTIONS, (), stack))
    told = r"<lambda> \(test_run.py:\d+\) gets the 2 batches of a step in one, and has to divide them"
    assert bool(re.search(told, said)) == (own and ratio > 1)


@pytest.mark.parametrize(("batch_size", "more"), [(1_797, False), (1_798, True)])
def test_a_batch_of_more_images_than_there_are_is_said(tmp_path, batch_size, more):
    with contextlib.ExitStack() as stack:
        said = introduction(prepare(recipe(batch_size=batch_size), tmp_path, 0, OPTIONS, (), stack))
    assert ("note: a batch takes more images than there are, some of them several times" in said) == more


def test_event_files_hold_the_same_scalars(finished):
    from tensorboardX.proto.event_pb2 import Event
    from tensorboardX.record_writer import RecordWriter  # noqa: F401 (the format that is read here)

    workdir, _ = finished
    (file,) = (workdir / "tensorboard").iterdir()
    content, at, losses, pictures = file.read_bytes(), 0, {}, 0
    while at < len(content):  # TFRecord: length, its checksum, the record, its checksum
        length = int.from_bytes(content[at : at + 8], "little")
        event = Event.FromString(content[at + 12 : at + 12 + length])
        at += 16 + length
        for value in event.summary.value:
            pictures += value.HasField("image")
            if value.tag == "loss_gen":
                losses[event.step] = value.simple_value
    assert losses == pytest.approx({m["step"]: m["loss_gen"] for m in metrics_of(workdir)}, rel=1e-5)
    assert pictures == 4


def test_the_same_seed_gives_the_same_state_and_another_does_not(finished, tmp_path):
    _, summary = finished
    # How often a run reports and saves leaves no trace.
    same = run(recipe(), tmp_path / "same", 0, Options(devices=1, log_every=5, checkpoint_every=100))
    other = run(recipe(), tmp_path / "other", 1, OPTIONS)
    assert same["state_sha256"] == summary["state_sha256"] != other["state_sha256"]


def test_a_finished_run_goes_on_when_given_more_steps(finished, tmp_path):
    _, summary = finished
    shorter = run(recipe(steps=5), tmp_path, 0, OPTIONS)
    assert shorter["step"] == 5
    config = json.loads((tmp_path / "config.json").read_text())
    assert config.pop("accumulate") == 1  # as in one from before there were microbatches
    (tmp_path / "config.json").write_text(json.dumps(config))
    longer = run(recipe(), tmp_path, 0, OPTIONS)
    assert longer["steps_resumed_from"] == 5
    assert longer["state_sha256"] == summary["state_sha256"]
    assert [m["step"] for m in metrics_of(tmp_path)] == [1, 2, 4, 5, 6, 8, 9]
    assert run(recipe(), tmp_path, 0, OPTIONS)["state_sha256"] == summary["state_sha256"]
    with pytest.raises(RunError, match="already"):
        run(recipe(steps=8), tmp_path, 0, OPTIONS)


def test_what_was_reported_past_the_checkpoint_is_dropped_and_the_clock_goes_on(finished, tmp_path):
    """As after a kill: a line for a step that will be done again, half a line, and a grid from the future."""
    _, summary = finished
    run(recipe(steps=4), tmp_path, 0, OPTIONS)
    lines = [{**line, "seconds": 1000 + i} for i, line in enumerate(metrics_of(tmp_path))]
    lines.append({**lines[-1], "step": 6})
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(m) + "\n" for m in lines) + '{"step": 7, "lo')
    (tmp_path / "samples" / "000006.png").write_bytes(b"half a picture")
    (tmp_path / "samples" / "000006.png.partial").write_bytes(b"")
    assert run(recipe(), tmp_path, 0, OPTIONS)["state_sha256"] == summary["state_sha256"]
    assert [m["step"] for m in metrics_of(tmp_path)] == [1, 2, 4, 6, 8, 9]
    seconds = [m["seconds"] for m in metrics_of(tmp_path)]
    assert seconds == sorted(seconds)
    assert seconds[3] > 1000
    assert opened(tmp_path / "samples" / "000006.png").size


@pytest.mark.slow
def test_a_loss_that_is_not_finite_ends_the_run_and_keeps_what_was_saved(tmp_path):
    with pytest.raises(FloatingPointError, match=r"step \d: .*loss_gen is nan.*; no checkpoint was saved\."):
        run(recipe(gen_learning_rate=1e30, disc_learning_rate=1e30), tmp_path, 0, Options(devices=1, log_every=1))
    assert not list((tmp_path / "checkpoints").iterdir())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:overflow encountered in cast")
def test_weights_that_are_not_finite_are_never_saved(tmp_path):
    """The metrics of the step that makes them so are still finite."""
    options = Options(devices=1, checkpoint_every=1, log_every=1)
    with pytest.raises(
        FloatingPointError,
        match=r"step 1: numbers of the generator and of the averaged .* are no longer finite; no checkpoint was",
    ):
        run(recipe(gen_learning_rate=1e39, batch_size=16), tmp_path, 0, options)
    assert not list((tmp_path / "checkpoints").iterdir())


def test_a_finished_run_keeps_its_summary_and_bears_files_gone_or_added(finished, tmp_path):
    original, summary = finished
    workdir = tmp_path / "run"
    shutil.copytree(original, workdir)
    config = json.loads((workdir / "config.json").read_text())
    with claim(workdir, config), pytest.raises(WorkdirError, match="another process is training"):
        run(recipe(), workdir, 0, OPTIONS)
    assert run(recipe(), workdir, 0, OPTIONS) == summary == json.loads((workdir / "summary.json").read_text())
    (workdir / "summary.json").unlink()
    shutil.rmtree(workdir / "samples")
    (workdir / "metrics.jsonl").write_text("[1]\n")
    assert run(recipe(), workdir, 0, OPTIONS)["state_sha256"] == summary["state_sha256"]
    # As a kill leaves it, between the last checkpoint of a longer run and its summary.
    text = json.dumps({**summary, "step": 5, "state_sha256": "0"})
    for left in (text, text[:20]):
        (workdir / "summary.json").write_text(left)
        again = run(recipe(), workdir, 0, OPTIONS)
        assert (again["step"], again["state_sha256"]) == (9, summary["state_sha256"])
        assert json.loads((workdir / "summary.json").read_text()) == again
    (workdir / "samples" / "notes.txt").write_text("mine")
    assert run(recipe(steps=10), workdir, 0, OPTIONS)["step"] == 10
    assert (workdir / "samples" / "notes.txt").exists()


@pytest.mark.slow
def test_pictures_are_of_the_last_step_whatever_the_clock_said(tmp_path, monkeypatch):
    pictures = [tmp_path / name for name in ("samples.gif", "losses.png", "scores.png")]
    events = (Event("score", 1, lambda moment: {"precision": 1 / moment.step}),)

    def in_future(contents):
        for path, content in contents.items():
            path.write_bytes(content)
            os.utime(path, (time.time() + 1e6,) * 2)

    run(recipe(steps=5, events=events), tmp_path, 0, OPTIONS)
    of_5 = {path: path.read_bytes() for path in pictures}
    in_future({path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()})
    run(recipe(events=events), tmp_path, 0, OPTIONS)
    of_9 = {path: path.read_bytes() for path in pictures}
    assert opened(tmp_path / "samples.gif").n_frames == 5  # 0, 3, 5, 6, 9
    assert all(of_5[path] != of_9[path] for path in pictures)
    # As a kill leaves it, between the summary and one of them: each of another run, half, or gone.
    for left in (lambda path: of_5[path], lambda path: of_9[path][:100], None):
        for path in pictures:
            in_future({path: left(path)}) if left else path.unlink()
        run(recipe(events=events), tmp_path, 0, OPTIONS)
        assert {path: path.read_bytes() for path in pictures} == of_9
    monkeypatch.setattr(plots, "draw", lambda *_: pytest.fail("drawn again"))
    os.utime(pictures[0], (0, 0))
    run(recipe(events=events), tmp_path, 0, OPTIONS)


@pytest.mark.slow
def test_a_run_moves_between_numbers_of_devices(tmp_path):
    """Begun on eight devices, taken up by all there are, by one and by two: the losses of a run on one."""
    slow = {"gen_learning_rate": 1e-5, "disc_learning_rate": 1e-5}  # rounding alone grows fast at the recipe's own
    run(recipe(**slow), tmp_path / "one", 0, dataclasses.replace(OPTIONS, log_every=1))
    for steps, devices, form in ((3, 8, "pmap"), (5, None, "shard_map"), (7, 1, "pmap"), (9, 2, "shard_map")):
        options = dataclasses.replace(OPTIONS, log_every=1, devices=devices, parallel=form)
        summary = run(recipe(**slow, steps=steps), tmp_path / "moved", 0, options)
        assert len(summary["devices"]) == (devices or 8)
    one, moved = metrics_of(tmp_path / "one"), metrics_of(tmp_path / "moved")
    assert [m["step"] for m in moved] == list(range(1, 10))
    for name in ("loss_gen", "loss_disc", "logit_real", "logit_fake"):
        np.testing.assert_allclose([m[name] for m in moved], [m[name] for m in one], rtol=1e-3, atol=1e-4)


def test_options_that_do_not_fit(tmp_path):
    for changes, options, message in (
        ({"batch_size": 10}, {"devices": 4}, r"`batch_size` 10 .* over 4 devices; choose a multiple of 4"),
        ({"batch_size": 12}, {}, r"`batch_size` 12 .* over 8 devices"),
        ({"accumulate": 4}, {"devices": 8}, r"`batch_size` 16 .* `accumulate` 4 micro.*; choose a multiple of 32"),
        ({}, {"devices": 99}, r"`devices`: 99 devices asked for, 8 available"),
        ({}, {"devices": 0}, r"`devices` must be at least 1, not 0"),
        ({}, {"log_every": 0}, r"`log_every` must be at least 1"),
    ):
        with pytest.raises(RunError, match=message):
            run(recipe(**changes), tmp_path / "w", 0, Options(**options))
    assert not (tmp_path / "w").exists()


def test_another_run_is_refused_and_left_alone(finished):
    workdir, _ = finished
    before = {p: p.read_bytes() for p in workdir.rglob("*") if p.is_file()}
    for changes, seed, message in [
        ({}, 1, "seed is 0 there, 1 here"),
        ({"update": "alternating"}, 0, "update is 'shared' there, 'alternating' here"),
        ({"accumulate": 2}, 0, "accumulate is 1 there, 2 here"),
        ({"batch_size": 8, "beta1": 0.9}, 0, "batch_size is 16 there, 8 here; beta1 is 0.5 there, 0.9 here"),
    ]:
        with pytest.raises(WorkdirError, match=message):
            run(recipe(**changes), workdir, seed, OPTIONS)
    assert before == {p: p.read_bytes() for p in workdir.rglob("*") if p.is_file()}


@pytest.mark.slow
def test_changed_data_is_another_run_and_the_same_elsewhere_is_not(tmp_path):
    images = data.load("digits", None, (28, 28, 1)).images
    run(recipe(steps=1, data=lambda: data.Dataset("here", images)), tmp_path, 0, OPTIONS)
    assert run(recipe(steps=2, data=lambda: data.Dataset("there", images)), tmp_path, 0, OPTIONS)["step"] == 2
    with pytest.raises(WorkdirError, match="data_sha256 is"):
        run(recipe(steps=2, data=lambda: data.Dataset("here", images[:-1])), tmp_path, 0, OPTIONS)


def test_workdirs_that_cannot_be_used(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(WorkdirError, match="is not a folder"):
        run(recipe(), tmp_path / "file" / "run", 0, OPTIONS)
    (tmp_path / "garbled").mkdir()
    (tmp_path / "garbled" / "config.json").write_text("{")
    with pytest.raises(WorkdirError, match="not a run's config"):
        run(recipe(), tmp_path / "garbled", 0, OPTIONS)
    (tmp_path / "orphan" / "checkpoints").mkdir(parents=True)
    with pytest.raises(WorkdirError, match=r"no config\.json"):
        run(recipe(), tmp_path / "orphan", 0, OPTIONS)
