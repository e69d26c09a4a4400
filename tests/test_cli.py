"""The scripts: what they promise on the command line. One run is a process of its own, killed and resumed."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_data import opened

from jaxgan import commands
from jaxgan.commands import benchmark, cli, sample, train

ROOT = Path(__file__).parents[1]
QUICK = (
    *("--batch-size=16", "--checkpoint-every=20", "--log-every=5", "--sample-every=100", "--evaluate-every=0"),
    "--devices=1",
)


def start(*args):
    command = [sys.executable, "-m", "experiments.train", *map(str, args)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run of a process of its own: its folder, and what it wrote on stdout."""
    workdir = tmp_path_factory.mktemp("whole")
    process = start("digits", "--workdir", workdir, *QUICK, "--steps", "160")
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return workdir, out


def summary_of(workdir):
    return json.loads((workdir / "summary.json").read_text())


def test_lines_of_progress_where_there_is_no_terminal(whole):
    _, out = whole
    assert "step   1/160" in out
    assert "step 160/160" in out
    assert "\x1b[" not in out


@pytest.mark.nightly
def test_killed_and_resumed_ends_in_the_same_state(whole, tmp_path):
    """The promise of the same run again, on a real process, killed with no warning."""
    command = ("digits", "--workdir", tmp_path, *QUICK, "--steps", "160")
    process = start(*command)
    metrics = tmp_path / "metrics.jsonl"
    deadline = time.monotonic() + 120
    saved = tmp_path / "checkpoints" / "20"
    while not (saved.is_dir() and metrics.read_text().count("\n") > 12):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.kill()
    process.communicate(timeout=60)
    assert not (tmp_path / "summary.json").exists()
    process = start(*command)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    resumed = summary_of(tmp_path)
    assert 0 < resumed["steps_resumed_from"] < 160
    assert resumed["state_sha256"] == summary_of(whole[0])["state_sha256"]
    steps = [json.loads(line)["step"] for line in metrics.read_text().splitlines()]
    assert steps == sorted(set(steps))


@pytest.mark.slow
def test_sample(whole, tmp_path):
    workdir, _ = whole
    grid, npz = tmp_path / "grid.png", tmp_path / "samples.npz"
    sample.main([str(workdir), "--count", "70", "--seed", "5", "--out", str(grid), "--npz", str(npz)])
    images = np.load(npz)["images"]
    assert images.shape == (70, 8, 8, 1)
    assert images.dtype == np.uint8
    assert images.std() > 10
    assert opened(grid).width > 256
    more = tmp_path / "more.npz"
    sample.main([str(workdir), "--count", "75", "--seed", "5", "--npz", str(more)])
    np.testing.assert_array_equal(np.load(more)["images"][:70], images)


@pytest.mark.slow
def test_sample_paths_and_real_images_beside(whole, tmp_path, capfd):
    workdir, _ = whole
    strip, gif, npz = tmp_path / "strip.png", tmp_path / "walk.gif", tmp_path / "paths.npz"
    paths = [str(workdir), "--interpolate", "5", "--count", "3"]
    sample.main([*paths, "--out", str(strip), "--gif", str(gif), "--npz", str(npz)])
    assert len(capfd.readouterr().out.splitlines()) == 3
    assert np.load(npz)["images"].shape == (15, 8, 8, 1)
    assert opened(gif).n_frames == 9  # there and back
    width, height = opened(strip).size
    assert width > 1.5 * height
    beside = tmp_path / "beside.png"
    sample.main([str(workdir), "--beside-real", "--out", str(beside)])
    width, height = opened(beside).size
    assert 1.8 * height < width < 2.1 * height


def test_help_names_the_recipes_and_shows_their_own_defaults(called, capfd):
    with pytest.raises(SystemExit) as end:
        called(train.main, "tf2_dcgan", "--help")
    assert not end.value.code
    text = " ".join(capfd.readouterr().out.replace("│", " ").split())
    assert "canton_lsgan " in text
    assert "--update {shared,alternating}" in text
    assert "(default: mnist)" in text
    kinds = ("digits", "stacked_mnist", *(f"{of}:PATH" for of in ("folder", "prepared", "pairs", "domains")))
    assert all(kind in text for kind in (*kinds, "grey:NAME", "inverse:NAME"))
    # Those that scripts outside the project rely on, and two more.
    designed = ("data", "data-dir", "steps", "batch-size", "seed", "workdir", "devices", "update")
    for flag in (*designed, "gen-learning-rate", "ema-decay"):
        assert f"--{flag} " in text


def test_the_jaxgan_command_has_those_that_a_checkout_has_scripts_for(called, refused, capfd):
    called(commands.command)
    listed = dict(line.split(maxsplit=1) for line in capfd.readouterr().out.splitlines()[2:])
    scripts = {path.stem: path.read_text() for path in (ROOT / "experiments").glob("*.py")}
    scripts = {name: text for name, text in scripts.items() if "(main)" in text}
    assert set(listed) == set(scripts) >= {"train", "sample", "evaluate", "seeds", "report", "prepare", "plan"}
    assert all(f"from jaxgan.commands.{name} import main" in scripts[name] for name in listed)
    assert all(scripts[name].startswith(f'"""{about}') for name, about in listed.items())
    for command in (["train", "--steps", "0"], ["reproduce", "--rounds", "0"], ["fly"]):
        assert command[-2:][0] in refused(commands.command, *command)


def test_a_script_that_refuses_ends_at_once_with_its_status(monkeypatch, capfd):
    """And does not wait for threads, nor lets them speak."""
    monkeypatch.setattr("os._exit", lambda status: (_ for _ in ()).throw(ChildProcessError(status)))
    for ends, status in ((lambda: cli.fail("no", 130), 130), (lambda: cli.fail("no"), 2), (sys.exit, 0)):
        with pytest.raises(ChildProcessError, match=f"^{status}$"):
            cli.run_script(ends)
    assert capfd.readouterr().err == "no\nerror: no\n"
    assert cli.run_script(lambda: None) is None


@pytest.fixture(scope="module")
def bad_folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("bad")
    for name in ("empty", "text", "sizes", "plain"):
        (root / name).mkdir()
    for name, size in (("text", 8), ("sizes", 8), ("sizes", 9), ("plain", 8)):
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
    "a rate that is not finite": (["digits", "--gen-learning-rate", "inf"], "--gen-learning-rate must be above 0"),
    "a seed that no key is made of": (["--seed", "-1"], "--seed"),
    "an empty name": (["--data", ""], "--data"),
    "a rate where the recipe has a schedule": (
        ["r3gan_small", "--gen-learning-rate", "1e-3"],
        "in r3gan_small it is a schedule, jaxgan.schedules:Cosine(start=0.001, end=0.0001, steps=8000); change it in",
    ),
    "a number where the recipe has a schedule": (["r3gan_small", "--beta2=0.9"], "--beta2: in r3gan_small"),
    "a flag of what is an object": (["wgan_gp", "--penalties", "r1"], "no plain value, ['jaxgan.penalties:WGANGP"),
    "a rate below zero": (["digits", "--gen-learning-rate", "-1"], "--gen-learning-rate must be above 0"),
    "a rate of zero": (
        ["digits", "--gen-learning-rate", "0"],
        "--gen-learning-rate must be above 0 and finite, not 0.0",
    ),
    "a weight where the recipe has a schedule of it": (
        ["r3gan_small", "--gamma", "1"],
        "--gamma: in r3gan_small it is",
    ),
    "pictures, and none named": (
        ["pictures"],
        "pictures is for pictures of your own; say where they are: --data folder:",
    ),
    "a decay of noise that there is none of": (
        ["digits", "--instance-noise-decay", "0.9"],
        "--instance-noise-decay 0.9 has no effect in digits: the same is built with 1.0; leave it away",
    ),
    "a split of data without": (["digits", "--split", "test"], "--split test has no effect in digits: digits has no"),
    "two flags for one average": (
        ["digits", "--ema-decay", "0.5", "--ema-half-life", "100"],
        "--ema-decay 0.5 has no effect in digits",
    ),
    "missing folder": (["--data", "folder:{bad}/missing"], "missing"),
    "empty folder": (["--data", "folder:{bad}/empty"], "empty"),
    "a text file among the images": (["digits", "--data", "folder:{bad}/text"], "notes.txt"),
    "labels that the data has none of": (
        ["digits_conditional", "--data", "folder:{bad}/plain"],
        "has no labels",
    ),
    "an option of another loss": (["--loss", "least_squares", "--real-label", "0.9"], "--real-label"),
    "a border that leaves nothing": (["--border", "4"], "--border"),
    "no updates of D": (["--training-ratio", "0"], "--training-ratio"),
    "too many devices": (["--devices", "99"], "--devices"),
    "a workdir that cannot be made": (["--workdir", "/proc/nothing/run"], "--workdir"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_input_is_one_line_and_status_2(case, bad_folders, tmp_path, monkeypatch, refused):
    args, named = WRONG[case]
    monkeypatch.chdir(tmp_path)
    assert named in refused(train.main, *(arg.format(bad=bad_folders) for arg in args))
    assert not list(tmp_path.iterdir())


def test_a_workdir_of_another_run_is_refused(whole, refused):
    workdir, _ = whole
    before = summary_of(workdir)
    err = refused(train.main, "digits", "--workdir", workdir, *QUICK, "--steps", "160", "--seed", "1")
    assert "seed is 0 there, 1 here" in err
    assert summary_of(workdir) == before


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write anywhere")
def test_no_permission_to_write(tmp_path, refused):
    tmp_path.chmod(0o500)
    assert "not writable" in refused(train.main, "--steps", "1", "--workdir", tmp_path / "run")
    assert "not writable" in refused(benchmark.main, "--json", tmp_path / "results.json")


def test_wrong_input_to_sample(whole, tmp_path, refused):
    for args, named in {
        "{tmp}": "holds no run",
        "": "WORKDIR",
        "{run} --count 0": "--count",
        "{run} --npz {tmp}/missing/s.npz": "missing",
        "{run} --out {tmp}/grid.jpg": "--out",
        "{run} --latent-grid 2 2": "--latent-grid",
        "{run} --latent-grid 0 2": "--latent-grid",
        "{run} --interpolate 1": "--interpolate",
        "{run} --gif {tmp}/walk.gif": "--interpolate",
        "{run} --interpolate 3 --beside-real": "one at a time",
        "{run} --data-dir {tmp}": "--beside-real",
        "{run} --data digits": "--beside-real",
        "{run} --label 3": "has no classes",
        "{run} --recipe mine.py": "leave it away",
    }.items():
        assert named in refused(sample.main, *args.format(tmp=tmp_path, run=whole[0]).split()), args
