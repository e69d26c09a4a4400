"""Runs of two processes with two devices each, on loopback; alone with four they must do the same."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
import small_tfds
from common import small_gan
from small_data import encoded, folder_of

import jaxgan
from experiments.bench.agreement import as_float64, difference, plain, random_data, run

ROOT = Path(__file__).parents[1]
SCORED = ("--data", "digits", "--batch-size", "16", "--checkpoint-every", "20", "--log-every", "1")
QUICK = (*SCORED, "--evaluate-every", "0")


IDEA = """
import jax.numpy as jnp
from jaxgan import recipes
from jaxgan.losses import of_logits
LOSS = of_logits(lambda r, f, table=jnp.cumsum(jnp.ones(4)): table[0] * f.mean(), lambda r, f: r.mean() - f.mean())
RECIPE = recipes.get("tf2_gan").replace(disc_loss_scale=1.0, loss=LOSS)
"""
GONE = """
import jax, numpy as np
from jaxgan import recipes

class Images:
    reads = 0

    def __len__(self):
        return 40

    def __getitem__(self, i):
        Images.reads += 1
        if jax.process_index() == 1 and Images.reads > 3_000:
            raise OSError("it is gone")
        return np.full((28, 28, 1), i, np.uint8)

RECIPE = recipes.get("tf2_gan").replace(data=Images, batch_size=16)
"""
WORKER = """
import json, resource, sys
import jax
import jaxgan
from common import small_gan
from experiments.bench.agreement import as_float64, random_data, run, several
from jaxgan import parallel, recipes
from jaxgan.run import Options, processes
from jaxgan.run import run as train

address, folder, me = *sys.argv[1:3], int(sys.argv[3])
processes.join(address, 2, me)
with jax.enable_x64(True):
    gan, devices = small_gan(3), parallel.choose_devices()
    dataset, batches = random_data(gan, 20, 16)
    for form in parallel.FORMS:
        state = parallel.replicate(as_float64(jaxgan.init(gan, jax.random.key(0))), devices)
        print("losses", json.dumps(run(several(gan, dataset, devices, form), state, batches).tolist()))
jax.distributed.shutdown = lambda: None  # as a refusal ends
recipe = recipes.get("digits").replace(steps=3, batch_size=16)
for changes, seed, options, name in (
    ({}, me, {}, "run"),
    ({"batch_size": 18}, 0, {}, "run"),
    ({}, 0, {"devices": 3}, "run"),
    ({"data": "small"}, 0, {"data_dir": f"{folder}/{me}"}, "run"),
    ({}, 0, {}, f"run{me}"),
    ({}, 0, {}, "full"),
):
    if name == "full" and me == 0:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
    try:
        train(recipe.replace(**changes), f"{folder}/{name}", seed, Options(**options))
    except ValueError as error:
        print("refused", json.dumps(str(error)))
"""


@pytest.fixture
def start():
    """Starts some processes of one run; whatever is left of them in the end is killed."""
    with contextlib.ExitStack() as stack:

        def start(*args, own_args=((), ()), devices=2, slurm=False, worker=False):
            """`experiments.train`, or WORKER with the coordinator's address, `args` and its number."""
            with socket.create_server(("127.0.0.1", 0)) as server:
                port = server.getsockname()[1]
            paths = f"{ROOT}{os.pathsep}{ROOT / 'tests'}"
            environment = {**os.environ, "PYTHONPATH": paths, "JAX_NUM_CPU_DEVICES": str(devices)}
            started, address, count = [], f"127.0.0.1:{port}", len(own_args)
            for i, own in enumerate(own_args):
                command = [sys.executable, "-m", "experiments.train", *args, *own]
                if worker:
                    command = [sys.executable, "-c", WORKER, address, *args, i]
                elif slurm:  # whose job ID decides the port
                    task = {"SLURM_NTASKS": count, "SLURM_PROCID": i, "SLURM_LOCALID": i}
                    task |= {"SLURM_JOB_ID": port, "SLURM_STEP_NODELIST": "localhost"}
                    environment = environment | {name: str(value) for name, value in task.items()}
                elif count > 1:
                    command += ["--coordinator", address, "--num-processes", count, "--process-id", i]
                process = subprocess.Popen(
                    [*map(str, command)], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
                )
                stack.callback(process.communicate)
                stack.callback(process.kill)
                started.append(process)
            return started

        yield start


def ends(started, timeout=200):
    """How they ended: for each its exit status, and what it wrote on stderr."""
    errors = [process.communicate(timeout=timeout)[1] for process in started]
    return [(process.returncode, err) for process, err in zip(started, errors, strict=True)]


def summary_of(workdir):
    return json.loads((workdir / "summary.json").read_text())


def steps_of(workdir):
    return [json.loads(line)["step"] for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def wait_for_step(workdir, step, started):
    deadline, metrics = time.monotonic() + 120, workdir / "metrics.jsonl"
    while not (metrics.exists() and metrics.read_text().count("\n") >= step):
        assert [p.poll() for p in started] == [None] * len(started), ends(started)
        assert time.monotonic() < deadline
        time.sleep(0.02)


def says_that_one_has_ended(status, err, me, other):
    """Whoever notices first: the connection between them, a communication that fails, or JAX's own service."""
    ours = f"error: process {me} cannot go on: (process {other}|another process) has ended"
    return (status == 1 and re.match(ours, err)) or (status in (1, -signal.SIGABRT) and "another task died" in err)


@pytest.mark.nightly
def test_two_processes_make_one_run_and_one_alone_goes_on_with_it(start, tmp_path):
    """Slurm says which process each is; they have joined when the recipe's file is read, as it may use devices.

    Where the newest checkpoint is damaged both go on from the one before it.
    """
    (tmp_path / "idea.py").write_text(IDEA)
    args = (tmp_path / "idea.py", *SCORED, "--evaluate-every", 3, "--workdir", tmp_path / "run")
    for status, err in ends(start(*args, "--steps", 4, slurm=True)):
        assert status == 0, err
        assert err.startswith("SLURM_NTASKS=2: waiting, ")
        assert len(err.splitlines()) == 1
    summary = summary_of(tmp_path / "run")
    assert len(summary["devices"]) == 4
    assert summary["final"]["step"] == 4
    assert summary["best"]["step"] in (3, 4)
    newest = tmp_path / "run" / "checkpoints" / "4"
    for file in (newest / "state").rglob("*"):
        if file.is_file() and (size := file.stat().st_size) > 1_000:
            os.truncate(file, size // 2)
    assert ends(start(*args, "--steps", 4)) == [(0, ""), (0, "")]
    assert (newest.is_dir(), newest.with_name("4.damaged").is_dir()) == (True, True)
    assert summary_of(tmp_path / "run")["state_sha256"] == summary["state_sha256"]
    assert ends(start(*args, "--steps", 6, own_args=[()], devices=1)) == [(0, "")]
    summary = summary_of(tmp_path / "run")
    assert (summary["steps_resumed_from"], summary["final"]["step"]) == (4, 6)
    assert steps_of(tmp_path / "run") == list(range(1, 7))


@pytest.mark.slow
def test_one_is_killed_the_other_says_so_and_both_go_on_to_the_same_state(start, tmp_path):
    """Each reads its own share of streamed images, and they end in the state of a whole run with all in memory."""
    noise = np.random.default_rng(0).integers(0, 256, (40, 28, 28), np.uint8)
    folder = folder_of(tmp_path / "images", {f"{i:02d}.png": encoded(image) for i, image in enumerate(noise)})
    args = ("tf2_gan", *QUICK, "--data", folder, "--steps", 60, "--workdir")
    assert ends(start(*args, tmp_path / "whole")) == [(0, ""), (0, "")]
    args = (*args, tmp_path / "killed", "--stream")
    started = start(*args)
    wait_for_step(tmp_path / "killed", 30, started)
    started[1].kill()
    ((status, err),) = ends(started[:1], timeout=60)
    assert says_that_one_has_ended(status, err, 0, 1), err
    assert not (tmp_path / "killed" / "summary.json").exists()
    assert ends(start(*args)) == [(0, ""), (0, "")]
    whole, killed = summary_of(tmp_path / "whole"), summary_of(tmp_path / "killed")
    assert killed["steps_resumed_from"] == 20
    assert killed["state_sha256"] == whole["state_sha256"]


@pytest.mark.nightly
def test_where_the_leader_is_killed_the_other_ends_and_asking_one_to_stop_stops_both_at_one_step(start, tmp_path):
    """By SIGINT, which is handed on as SIGTERM; in a run that was resumed, whose turns are fewer than its steps."""
    args = ("tf2_gan", *QUICK, "--steps", 100_000, "--workdir", tmp_path)
    started = start(*args)
    wait_for_step(tmp_path, 25, started)
    started[0].kill()
    ((status, err),) = ends(started[1:], timeout=60)
    assert says_that_one_has_ended(status, err, 1, 0), err
    started = start(*args)
    wait_for_step(tmp_path, steps_of(tmp_path)[-1] + 20, started)
    started[1].send_signal(signal.SIGINT)
    (first, first_err), (second, second_err) = ends(started, timeout=60)
    assert (first, second) == (130, 130), (first_err, second_err)
    step = steps_of(tmp_path)[-1]
    for err in (first_err, second_err):
        assert f"stopped at step {step} of 100000" in err
        assert len(err.splitlines()) == 1
    assert (tmp_path / "checkpoints" / str(step)).is_dir()


@pytest.mark.nightly
def test_where_one_hangs_the_other_names_it_and_it_ends_when_it_goes_on(start, tmp_path):
    """The leader of one run and the other process of another, which hang at the same time."""
    runs = []
    for hung in (0, 1):
        runs.append(start("tf2_gan", *QUICK, "--workdir", tmp_path / f"{hung}", "--steps", "100000", devices=1))
        wait_for_step(tmp_path / f"{hung}", 5, runs[hung])
    for hung, started in enumerate(runs):
        started[hung].send_signal(signal.SIGSTOP)
    begin = time.monotonic()
    for hung, started in enumerate(runs):
        ((status, err),) = ends([started[1 - hung]], timeout=60)
        assert status == 1
        (line,) = err.splitlines()
        silent = f"process {hung} has not been heard of for 25 seconds; start all"
        assert f"process {1 - hung} cannot go on: {silent}" in line
        assert time.monotonic() - begin < 60
        started[hung].send_signal(signal.SIGCONT)
        ((status, err),) = ends([started[hung]], timeout=60)
        assert status
        assert re.search("cannot go on: |JAX distributed service detected fatal error", err)  # who notices first


@pytest.mark.slow
def test_twenty_updates_agree_with_the_plain_step_and_what_keeps_them_from_one_run_is_said_in_each(
    start, x64, tmp_path
):
    """In float64, with batch normalisation and labels; `experiments.bench.agreement` has the recipes, and float32."""
    gan = small_gan(3)
    dataset, batches = random_data(gan, 20, 16)
    expected = run(plain(gan, dataset), as_float64(jaxgan.init(gan, jax.random.key(0))), batches)
    small_tfds.write(str(tmp_path / "0"), [{"image": jaxgan.images.png(np.zeros((8, 8, 1), np.uint8))}] * 16)
    refusals = [
        ("seed is 0 in process 0, 1 in process 1",) * 2,
        ("`batch_size` 18 cannot be split evenly over 2 devices in each of 2 processes",) * 2,
        ("`devices`: 3 devices asked for, 2 available",) * 2,
        ("process 1: small: no such dataset", "small: no such dataset"),
        ("must be a folder that all processes share",) * 2,
        tuple(f"{who}a checkpoint cannot be written to {tmp_path}/full/checkpoints/3" for who in ("", "process 0: ")),
    ]
    for i, process in enumerate(start(tmp_path, worker=True)):
        out, err = process.communicate(timeout=200)
        said = [line.partition(" ")[::2] for line in out.splitlines()]
        several = [json.loads(text) for kind, text in said if kind == "losses"]
        assert len(several) == 2, err
        for losses in several:  # under pmap, and under shard_map
            assert difference(np.array(losses), expected).max() < 1e-9
        refused = [json.loads(text) for kind, text in said if kind == "refused"]
        assert len(refused) == len(refusals), err
        assert all(words[i] in text for words, text in zip(refusals, refused, strict=True)), refused
        assert refused[3].startswith(refusals[3][i])
    assert not (tmp_path / "run").exists()


@pytest.mark.nightly
def test_what_one_has_wrong_is_one_line_in_each(start, tmp_path):
    """A flag; and an image that it cannot read in the middle, before which the state is saved."""
    (tmp_path / "idea.py").write_text(IDEA)
    args = (tmp_path / "idea.py", *QUICK, "--workdir", tmp_path / "run")
    for status, err in ends(start(*args, own_args=((), ("--loss", "hinge"))), timeout=60):
        assert (status, len(err.splitlines())) == (2, 1), err
        assert "--loss: in idea it is no plain value" in err
    assert not (tmp_path / "run").exists()
    (tmp_path / "gone.py").write_text(GONE)
    args = (tmp_path / "gone.py", "--stream", "--log-every", 1, "--evaluate-every", 0, "--workdir", tmp_path / "run")
    for status, err in ends(start(*args), timeout=100):
        assert (status, len(err.splitlines())) == (2, 1), err
        assert "is gone" in err
    (saved,) = (tmp_path / "run" / "checkpoints").iterdir()
    assert int(saved.name) == steps_of(tmp_path / "run")[-1] > 1
