"""The scripts, as processes of their own: what they promise on the command line."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[1]
TFDS = ROOT.parent / "shared" / "data" / "tfds"
QUICK = ("--batch-size", "16", "--checkpoint-every", "20", "--log-every", "5", "--sample-every", "100")


# The flags that scripts outside the project rely on.
DESIGNED = ("data", "data-dir", "steps", "batch-size", "seed", "workdir", "devices", "update")


def start(script, *args, cwd=ROOT):
    command = [sys.executable, "-m", f"experiments.{script}", *map(str, args)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        command, cwd=cwd, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def call(script, *args, cwd=ROOT):
    process = start(script, *args, cwd=cwd)
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def train(workdir, *args):
    status, out, err = call("train", "digits", "--workdir", workdir, *QUICK, *args)
    assert status == 0, err
    return json.loads((workdir / "summary.json").read_text()), out


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("finished")
    summary, out = train(workdir, "--steps", "300")
    return workdir, summary, out


def test_lines_of_progress_where_there_is_no_terminal(finished):
    _, _, out = finished
    assert "step   1/300" in out
    assert "step 300/300" in out
    assert "\x1b[" not in out


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_killed_and_resumed_ends_in_the_same_state(finished, tmp_path, number):
    """The promise of the same run again, on a real process, killed with no warning or asked to stop."""
    _, summary, _ = finished
    process = start("train", "digits", "--workdir", tmp_path, *QUICK, "--steps", "300")
    metrics = tmp_path / "metrics.jsonl"
    deadline = time.monotonic() + 120
    saved = tmp_path / "checkpoints" / "20"
    while not (saved.is_dir() and metrics.read_text().count("\n") > 12):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert not (tmp_path / "summary.json").exists()
    if number == signal.SIGINT:
        assert process.returncode == 130
        assert "the same command goes on from there" in err
        assert len(err.splitlines()) == 1
    resumed, _ = train(tmp_path, "--steps", "300")
    assert 0 < resumed["steps_resumed_from"] < 300
    assert resumed["state_sha256"] == summary["state_sha256"]
    steps = [json.loads(line)["step"] for line in metrics.read_text().splitlines()]
    assert steps == sorted(set(steps))


def test_sample(finished, tmp_path):
    workdir, _, _ = finished
    grid, npz = tmp_path / "grid.png", tmp_path / "samples.npz"
    status, _, err = call("sample", workdir, "--count", "70", "--seed", "5", "--out", grid, "--npz", npz)
    assert status == 0, err
    images = np.load(npz)["images"]
    assert images.shape == (70, 8, 8, 1)
    assert images.dtype == np.uint8
    assert images.std() > 10
    assert Image.open(grid).width > 256
    more = tmp_path / "more.npz"
    assert call("sample", workdir, "--count", "75", "--seed", "5", "--npz", more)[0] == 0
    np.testing.assert_array_equal(np.load(more)["images"][:70], images)


def test_sample_paths_and_real_images_beside(finished, tmp_path):
    workdir, _, _ = finished
    strip, gif, npz = tmp_path / "strip.png", tmp_path / "walk.gif", tmp_path / "paths.npz"
    status, out, err = call(
        "sample", workdir, "--interpolate", "5", "--count", "3", "--out", strip, "--gif", gif, "--npz", npz
    )
    assert status == 0, err
    assert len(out.splitlines()) == 3
    assert np.load(npz)["images"].shape == (15, 8, 8, 1)
    assert Image.open(gif).n_frames == 9  # there and back
    width, height = Image.open(strip).size
    assert width > 1.5 * height
    beside = tmp_path / "beside.png"
    status, _, err = call("sample", workdir, "--beside-real", "--out", beside)
    assert status == 0, err
    width, height = Image.open(beside).size
    assert 1.8 * height < width < 2.1 * height


def test_help_shows_the_recipes_own_defaults():
    status, out, _ = call("train", "tf2_dcgan", "--help")
    assert status == 0
    text = " ".join(out.replace("│", " ").split())
    assert "--update {shared,alternating}" in text
    assert "(default: mnist)" in text
    for flag in [
        "data",
        "data-dir",
        "steps",
        "batch-size",
        "seed",
        "workdir",
        "devices",
        "update",
        "gen-learning-rate",
        "ema-decay",
    ]:
        assert f"--{flag} " in text


@pytest.fixture(scope="module")
def bad_folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("bad")
    for name in ("empty", "text", "sizes"):
        (root / name).mkdir()
    for name, size in (("text", 8), ("sizes", 8), ("sizes", 9)):
        Image.new("L", (size, size)).save(root / name / f"{size}.png")
    (root / "text" / "notes.txt").write_text("not an image")
    return root


WRONG = {
    "unknown recipe": (["nonesuch"], "nonesuch"),
    "unknown recipe after flags": (["--steps", "3", "nonesuch"], "nonesuch"),
    "unknown dataset": (["--data", "nonesuch"], "nonesuch"),
    "negative steps": (["--steps", "-3"], "--steps"),
    "steps that are no number": (["--steps", "many"], "--steps"),
    "unknown flag": (["--stepz", "3"], "--stepz"),
    "unknown choice": (["--update", "sideways"], "--update"),
    "a rate that is not finite": (["--gen-learning-rate", "inf"], "--gen-learning-rate"),
    "a seed that no key is made of": (["--seed", "-1"], "--seed"),
    "an empty name": (["--data", ""], "--data"),
    "a rate below zero": (["--gen-learning-rate", "-1"], "--gen-learning-rate"),
    "missing folder": (["--data", "folder:{bad}/missing"], "missing"),
    "empty folder": (["--data", "folder:{bad}/empty"], "empty"),
    "a text file among the images": (["--data", "folder:{bad}/text"], "notes.txt"),
    "images of different sizes": (["--data", "folder:{bad}/sizes"], "9.png"),
    "an option of another recipe": (["--subpixel"], "--subpixel"),
    "a border that leaves nothing": (["--border", "4"], "--border"),
    "no updates of D": (["--training-ratio", "0"], "--training-ratio"),
    "too many devices": (["--devices", "99"], "--devices"),
    "a workdir that cannot be made": (["--workdir", "/proc/nothing/run"], "--workdir"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_input_is_one_line_and_status_2(case, bad_folders, tmp_path):
    args, named = WRONG[case]
    status, _, err = call("train", *[arg.format(bad=bad_folders) for arg in args], cwd=tmp_path)
    assert status == 2
    assert len(err.splitlines()) == 1, err
    assert named in err
    assert not list(tmp_path.iterdir())


def test_a_workdir_of_another_run_is_refused(finished):
    workdir, summary, _ = finished
    status, _, err = call("train", "digits", "--workdir", workdir, *QUICK, "--steps", "300", "--seed", "1")
    assert status == 2
    assert "seed is 0 there, 1 here" in err
    assert len(err.splitlines()) == 1
    assert json.loads((workdir / "summary.json").read_text()) == summary


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write anywhere")
def test_no_permission_to_write(tmp_path):
    tmp_path.chmod(0o500)
    status, _, err = call("train", "--steps", "1", "--workdir", tmp_path / "run")
    assert status == 2
    assert "not writable" in err


def test_a_truncated_checkpoint_is_named_and_nothing_is_lost(tmp_path):
    train(tmp_path, "--steps", "21")
    largest = max((tmp_path / "checkpoints" / "21").rglob("*"), key=lambda p: p.stat().st_size)
    os.truncate(largest, 1000)
    before = sorted(tmp_path.rglob("*"))
    for script, args in (("train", ["digits", *QUICK, "--workdir", tmp_path]), ("sample", [tmp_path])):
        status, _, err = call(script, *args)
        assert status == 2
        assert len(err.splitlines()) == 1, err
        assert str(tmp_path / "checkpoints" / "21") in err
        assert "step 20" in err
        assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("args", "named"),
    [
        (["{tmp}"], "holds no run"),
        ([], "WORKDIR"),
        (["{run}", "--count", "0"], "--count"),
        (["{run}", "--npz", "{tmp}/missing/s.npz"], "missing"),
        (["{run}", "--out", "{tmp}/grid.jpg"], "--out"),
        (["{run}", "--latent-grid", "2", "2"], "--latent-grid"),
        (["{run}", "--latent-grid", "0", "2"], "--latent-grid"),
        (["{run}", "--interpolate", "1"], "--interpolate"),
        (["{run}", "--gif", "{tmp}/walk.gif"], "--interpolate"),
        (["{run}", "--interpolate", "3", "--beside-real"], "one at a time"),
        (["{run}", "--data-dir", "{tmp}"], "--beside-real"),
    ],
)
def test_wrong_input_to_sample(finished, tmp_path, args, named):
    status, _, err = call("sample", *[arg.format(tmp=tmp_path, run=finished[0]) for arg in args])
    assert status == 2
    assert len(err.splitlines()) == 1, err
    assert named in err
