"""What a run writes and shows: event files, lines of metrics, plots, and a screen that nobody may be reading."""

import errno
import io
import json
import os
import resource
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_data import opened

from jaxgan import images
from jaxgan.commands import process
from jaxgan.run import metrics, plots, report, screen, tensorboard
from jaxgan.run.workdir import append


def events_of(folder):
    """(step, tags) of all records in a folder of event files, in TensorBoard's order, without the files' beginnings."""
    events = [e for path in sorted(folder.iterdir()) for _, e in tensorboard.read(path)]
    return [(e.step, [v.tag for v in e.summary.value]) for e in events if e.HasField("summary")]


def test_records_are_those_of_tensorboardx(tmp_path):
    """Its writer is the oracle: the same message gives the same bytes."""
    from tensorboardX.proto.event_pb2 import Event
    from tensorboardX.record_writer import RecordWriter

    ours = tensorboard.scalars(3, {"loss_gen": 0.5, "a[b]%s": 1.0})
    (tmp_path / "ours").write_bytes(ours)
    ((end, event),) = tensorboard.read(tmp_path / "ours")
    assert end == len(ours)
    writer = RecordWriter(str(tmp_path / "theirs"))
    writer.write(Event.FromString(event.SerializeToString()).SerializeToString())
    writer.close()
    assert (tmp_path / "theirs").read_bytes() == ours
    assert {v.tag: v.simple_value for v in event.summary.value} == {"loss_gen": 0.5, "a[b]%s": 1.0}


def test_before_its_first_update_a_run_imports_nothing_that_takes_seconds(tmp_path):
    """tensorboardX imports PyTorch where that is installed."""
    code = (
        "import pathlib, sys, jaxgan.run\n"
        "from jaxgan import data\n"
        "from jaxgan.run import report\n"
        "data.load('digits'), report.Report(pathlib.Path(sys.argv[1]), 0, 9, 16)\n"
        "print(*{'torch', 'tensorboardX', 'matplotlib', 'tensorflow'} & set(sys.modules))"
    )
    found = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert found.stdout.split() == []


@given(cut=st.integers(0, 400), step=st.integers(0, 6))
def test_what_is_kept_of_an_event_file_is_the_whole_records_up_to_a_step(tmp_path_factory, cut, step):
    folder = tmp_path_factory.mktemp("events")
    records = [tensorboard.beginning(1), *(tensorboard.scalars(i, {"x": float(i)}) for i in range(1, 6))]
    content = b"".join(records)[:cut]
    (folder / "events.out.tfevents.1").write_bytes(content)
    tensorboard.keep_until(folder, step)
    ends = np.cumsum([len(r) for r in records])
    whole = [i for i, end in enumerate(ends) if end <= cut and 1 <= i <= step]
    assert [s for s, _ in events_of(folder)] == whole
    assert content.startswith((folder / "events.out.tfevents.1").read_bytes())


@given(
    steps=st.lists(st.integers(1, 50), unique=True).map(sorted),
    last=st.integers(0, 50),
    half=st.sampled_from([b"", b'{"step": 51, "lo', b"\xff\x00", b"[1]\n", b'{"step": "x"}\n']),
)
def test_what_is_kept_of_the_metrics_is_the_whole_lines_up_to_a_step(tmp_path_factory, steps, last, half):
    workdir = tmp_path_factory.mktemp("metrics")
    lines = [{"step": step, "seconds": 2.0 * step} for step in steps]
    (workdir / metrics.NAME).write_bytes(b"".join(json.dumps(line).encode() + b"\n" for line in lines) + half)
    kept = [line for line in lines if line["step"] <= last]
    assert metrics.keep_until(workdir, last) == (kept[-1] if kept else {})
    assert [json.loads(line) for line in (workdir / metrics.NAME).read_bytes().splitlines()] == kept
    assert metrics.read_metrics(workdir) == kept


def test_a_resumed_report_goes_on_without_a_gap_or_a_repeat(tmp_path):
    """As after a kill between the picture of a step and the checkpoint that was to hold it."""
    picture = np.zeros((4, 8, 8, 1), np.uint8)

    def go(start, stop):
        with report.Report(tmp_path, start, 6, 16) as r:
            for step in range(start + bool(start), stop + 1):
                r.samples(step, picture)
                if step == 0:
                    continue
                r.log(step, {"loss_gen": 1.0, "loss_disc": 2.0})

    go(0, 2)
    go(0, 4)  # killed before the first checkpoint
    newest = max((tmp_path / "tensorboard").iterdir())
    newest.write_bytes(newest.read_bytes() + b"half a record")
    go(3, 6)
    assert [line["step"] for line in metrics.read_metrics(tmp_path)] == [1, 2, 3, 4, 5, 6]
    assert [int(p.stem) for p in report.grids(tmp_path)] == [0, 1, 2, 3, 4, 5, 6]
    events = events_of(tmp_path / "tensorboard")
    assert [step for step, tags in events if "samples" in tags] == [0, 1, 2, 3, 4, 5, 6]
    assert [step for step, tags in events if "loss_gen" in tags] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("left", [None, "events.out.tfevents.9900000000.elsewhere"])
def test_event_files_are_in_order_after_a_clock_that_was_ahead(tmp_path, monkeypatch, left):
    folder = tmp_path / "tensorboard"
    if left:
        folder.mkdir()
        (folder / left).write_bytes(b"")
    for step, now in ((1, 9_000_000_000), (2, 1_700_000_000), (3, 1_700_000_000), (4, 9_500_000_000)):
        monkeypatch.setattr(tensorboard.time, "time_ns", lambda now=now: now * 10**9 + 5)
        with report.Report(tmp_path, step - 1, 6, 16) as r:
            r.log(step, {"loss_gen": 1.0})
    assert [step for step, _ in events_of(folder)] == [1, 2, 3, 4]


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), TypeError("descriptors")])
@pytest.mark.parametrize("broken", ["metrics.jsonl", "tensorboard", "samples"])
def test_what_cannot_be_written_is_said_once_and_done_without(tmp_path, monkeypatch, capfd, broken, error):
    """A full disk, or a library that fails: TensorBoard's messages raise TypeError with some versions of protobuf."""

    def failing(write):
        def attempt(path, content):
            if broken in str(path):
                raise error
            return write(path, content)

        return attempt

    monkeypatch.setattr(report, "append", failing(append))
    monkeypatch.setattr(images, "save_png", failing(images.save_png))
    with report.Report(tmp_path, 0, 9, 16) as r:
        for step in range(1, 9):
            r.samples(step, np.zeros((1, 8, 8, 1), np.uint8))
            r.log(step, {"loss_gen": 1.0, "loss_disc": 2.0})
    err = capfd.readouterr().err
    assert len(err.splitlines()) == 1
    assert f"{tmp_path / broken} cannot be written ({getattr(error, 'strerror', error)})" in err
    written = {
        "metrics.jsonl": len(metrics.read_metrics(tmp_path)),
        "tensorboard": len(events_of(tmp_path / "tensorboard")) // 2,
        "samples": len(report.grids(tmp_path)),
    }
    assert written == {name: 0 if name == broken else 8 for name in written}


def test_a_line_is_written_whole_or_not_at_all(tmp_path):
    path, limits = tmp_path / "file", resource.getrlimit(resource.RLIMIT_FSIZE)
    append(path, b"0123456789")
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (15, limits[1]))
        with pytest.raises(OSError, match=r"File too large|No space"):
            append(path, b"0123456789")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == b"0123456789"


def test_plots_draw_what_there_is(tmp_path, capfd):
    lines = [{"step": 1, "loss_gen": 1.0}, {"step": 2, "fid": 3.0}, {"step": 3, "loss_gen": None, "grad_norm_gen": 2.0}]

    def drawn(lines):
        (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        (tmp_path / "losses.png").unlink(missing_ok=True)
        plots.draw(tmp_path, 3)
        return opened(tmp_path / "losses.png").size if (tmp_path / "losses.png").exists() else None

    two = drawn(lines)  # losses and norms
    assert drawn(lines[:1]) == (two[0] // 2, two[1])
    assert drawn(lines[1:2]) is None
    assert capfd.readouterr().err == ""
    (tmp_path / "samples").mkdir()
    (tmp_path / "samples" / "000001.png").write_bytes(b"half a picture")
    plots.draw(tmp_path, 3)
    err = capfd.readouterr().err
    assert len(err.splitlines()) == 1
    assert "samples.gif cannot be drawn" in err
    assert not (tmp_path / "samples.gif").exists()


@given(length=st.integers(1, 3000), count=st.integers(2, 300))
def test_evenly_chosen_items(length, count):
    chosen = plots.evenly(range(length), count)
    assert len(chosen) == min(length, count)
    assert chosen == sorted(set(chosen))
    assert (chosen[0], chosen[-1]) == (0, length - 1)
    gaps = np.diff(chosen)
    assert not len(gaps) or gaps.max() - gaps.min() <= 1


def test_a_gif_of_many_files_opens_few_at_a_time(tmp_path):
    (tmp_path / "samples").mkdir()
    for i in range(300):
        images.save_png(tmp_path / "samples" / f"{i:06d}.png", np.full((4, 4, 1), i % 256, np.uint8))
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 60, limits[1]))
        plots.draw(tmp_path, 3)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert opened(tmp_path / "samples.gif").n_frames == plots.FRAMES


def test_long_curves_are_thinned_to_their_means():
    values = np.arange(10_000.0)
    thinned = plots.thinned(values)
    assert len(thinned) == plots.POINTS
    np.testing.assert_allclose(thinned, values.reshape(-1, 5).mean(1))
    np.testing.assert_allclose(plots.smoothed(np.ones(100)), 1)


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_an_output_that_nobody_reads_costs_nothing(monkeypatch, stream):
    read, write = os.pipe()
    os.close(read)
    with open(write, "w") as file:
        monkeypatch.setattr(sys, stream, file)
        monkeypatch.setattr(screen, "write", process.writer(()))
        screen.say("first", stream)
        print("later", file=file, flush=True)  # anyone's
    screen.say("the file is closed", stream)
    monkeypatch.setattr(sys, stream, None)
    screen.say("none was ever open", stream)


def test_what_an_output_cannot_encode_is_shown_escaped(monkeypatch):
    file = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", file)
    screen.say("run[bold] 100% \udcff漢")
    assert file.buffer.getvalue() == b"run[bold] 100% \\udcff\\u6f22\n"


@pytest.mark.parametrize("environment", [{"FORCE_COLOR": "1"}, {"TERM": "dumb"}, {"TTY_COMPATIBLE": "1"}])
def test_plain_lines_where_no_bar_can_be_drawn(monkeypatch, environment):
    class Stream(io.StringIO):
        def isatty(self):
            return environment.get("TERM") == "dumb"

    file = Stream()
    monkeypatch.setattr(sys, "stdout", file)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with screen.open_screen(0, 100) as shown:
        shown.log(1, {"loss_gen": 0.5, "loss_disc": 0.25, "[red]fid": 12.0, "images_per_second": 1000.0})
    lines = file.getvalue().splitlines()
    assert lines == ["compiling", "step   1/100  loss_gen 0.500  loss_disc 0.250  [red]fid 12  1,000 images/s"]


def test_a_bar_takes_names_as_they_are(monkeypatch):
    from rich.console import Console

    console = Console(file=io.StringIO(), force_terminal=True, width=120, color_system=None)
    with screen.Bar(console, 0, 10) as bar:
        bar.log(1, {"[red]fid": 12.0})
    assert "[red]fid 12" in console.file.getvalue()


def test_a_line_now_and_then_though_nothing_is_logged(monkeypatch, capsys):
    lines = screen.Lines(0, 100)
    lines.tick(1)
    assert capsys.readouterr().out == ""
    monkeypatch.setattr(screen, "QUIET", 0.0)
    lines.tick(7)
    assert capsys.readouterr().out == "step   7/100\n"
