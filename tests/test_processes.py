"""Runs of two processes with two devices each, on loopback; alone with four they must do the same."""

import contextlib
import json
import os
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
from jaxgan.run import ProcessError, processes

ROOT = Path(__file__).parents[1]
SCORED = ("--data", "digits", "--batch-size", "16", "--checkpoint-every", "20", "--log-every", "1")
QUICK = (*SCORED, "--evaluate-every", "0")


@pytest.fixture
def start():
    """Starts a script as some processes of one run; whatever is left of them in the end is killed."""
    with contextlib.ExitStack() as stack:

        def start(script, *args, own_args=((), ()), devices=2, slurm=False):
            """`experiments.SCRIPT`, or a program of its own that takes the coordinator's address and its number."""
            with socket.create_server(("127.0.0.1", 0)) as server:
                port = server.getsockname()[1]
            paths = f"{ROOT}{os.pathsep}{ROOT / 'tests'}"
            environment = {**os.environ, "PYTHONPATH": paths, "JAX_NUM_CPU_DEVICES": str(devices)}
            started = []
            for i, own in enumerate(own_args):
                command = [sys.executable, "-m", f"experiments.{script}", *args, *own]
                if script == WORKER:
                    command = [sys.executable, "-c", WORKER, f"127.0.0.1:{port}", i]
                elif len(own_args) > 1 and not slurm:
                    command += [
                        "--coordinator",
                        f"127.0.0.1:{port}",
                        "--num-processes",
                        len(own_args),
                        "--process-id",
                        i,
                    ]
                if slurm:  # whose job ID decides the port
                    task = {"SLURM_NTASKS": len(own_args), "SLURM_PROCID": i, "SLURM_LOCALID": i}
                    task |= {"SLURM_JOB_ID": port, "SLURM_STEP_NODELIST": "localhost"}
                    environment = environment | {name: str(value) for name, value in task.items()}
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


def losses_of(workdir):
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, len(lines) + 1))
    return np.array([[line["loss_gen"], line["loss_disc"]] for line in lines])


def wait_for_step(workdir, step, started):
    deadline, metrics = time.monotonic() + 120, workdir / "metrics.jsonl"
    while not (metrics.exists() and metrics.read_text().count("\n") >= step):
        assert [p.poll() for p in started] == [None] * len(started), ends(started)
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.slow
def test_two_processes_make_one_run_and_one_alone_goes_on_with_it(start, tmp_path):
    args = ("tf2_gan", *SCORED, "--evaluate-every", 3, "--workdir", tmp_path)
    assert ends(start("train", *args, "--steps", 4)) == [(0, ""), (0, "")]
    summary = summary_of(tmp_path)
    assert len(summary["devices"]) == 4
    assert summary["final"]["step"] == 4
    assert summary["best"]["step"] in (3, 4)
    assert ends(start("train", *args, "--steps", 6, own_args=[()], devices=1)) == [(0, "")]
    assert summary_of(tmp_path)["steps_resumed_from"] == 4
    assert summary_of(tmp_path)["final"]["step"] == 6
    assert len(losses_of(tmp_path)) == 6


@pytest.mark.slow
def test_two_processes_stream_one_run(start, tmp_path):
    """Each reads its own share, and they end in the state of the same run in memory."""
    noise = np.random.default_rng(0).integers(0, 256, (40, 28, 28), np.uint8)
    folder = folder_of(tmp_path / "images", {f"{i:02d}.png": encoded(image) for i, image in enumerate(noise)})
    args = ("tf2_gan", *QUICK, "--data", folder, "--steps", 4)
    assert ends(start("train", *args, "--stream", "--workdir", tmp_path / "streamed")) == [(0, ""), (0, "")]
    assert ends(start("train", *args, "--workdir", tmp_path / "resident")) == [(0, ""), (0, "")]
    assert summary_of(tmp_path / "streamed")["state_sha256"] == summary_of(tmp_path / "resident")["state_sha256"]


WORKER = """
import json, sys
import jax
import jaxgan
from common import small_gan
from small_data import encoded, folder_of
from experiments.bench.agreement import as_float64, random_data, run, several
from jaxgan import parallel
from jaxgan.run import processes

jax.config.update("jax_enable_x64", True)
processes.join(sys.argv[1], 2, int(sys.argv[2]))
gan, devices = small_gan(3), parallel.choose_devices()
dataset, batches = random_data(gan, 20, 16)
for form in parallel.FORMS:
    state = parallel.replicate(as_float64(jaxgan.init(gan, jax.random.key(0))), devices)
    print("losses", json.dumps(run(several(gan, dataset, devices, form), state, batches).tolist()))
"""


@pytest.mark.slow
def test_twenty_updates_agree_with_the_plain_step_in_float64(start, x64):
    """With batch normalisation and labels; `experiments.bench.agreement` has the recipes, and float32."""
    gan = small_gan(3)
    dataset, batches = random_data(gan, 20, 16)
    expected = run(plain(gan, dataset), as_float64(jaxgan.init(gan, jax.random.key(0))), batches)
    started = start(WORKER)
    for process in started:
        out, err = process.communicate(timeout=200)
        several = [json.loads(line.removeprefix("losses ")) for line in out.splitlines() if line.startswith("losses ")]
        assert len(several) == 2, err
        for losses in several:  # under pmap, and under shard_map
            assert difference(np.array(losses), expected).max() < 1e-9


@pytest.mark.slow
def test_one_is_killed_the_other_says_so_and_both_go_on_to_the_same_state(start, tmp_path):
    args = ("train", "tf2_gan", *QUICK, "--steps", 60, "--workdir")
    assert ends(start(*args, tmp_path / "whole")) == [(0, ""), (0, "")]
    started = start(*args, tmp_path / "killed")
    wait_for_step(tmp_path / "killed", 30, started)
    started[1].kill()
    ((status, err),) = ends(started[:1], timeout=60)
    # Ours, or JAX's own where its service has noticed first.
    assert (status == 1 and "another process has ended" in err) or (status == -6 and "another task died" in err)
    assert not (tmp_path / "killed" / "summary.json").exists()
    assert ends(start(*args, tmp_path / "killed")) == [(0, ""), (0, "")]
    whole, killed = summary_of(tmp_path / "whole"), summary_of(tmp_path / "killed")
    assert killed["steps_resumed_from"] == 20
    assert killed["state_sha256"] == whole["state_sha256"]


@pytest.mark.slow
def test_where_the_leader_is_killed_the_other_ends_too(start, tmp_path):
    started = start("train", "tf2_gan", *QUICK, "--steps", 100_000, "--workdir", tmp_path)
    wait_for_step(tmp_path, 5, started)
    started[0].kill()
    ((status, err),) = ends(started[1:], timeout=60)
    assert (status == 1 and "another process has ended" in err) or (status == -6 and "another task died" in err)


@pytest.mark.slow
def test_a_workdir_that_is_not_shared_is_refused(start, tmp_path):
    own = (("--workdir", tmp_path / "here"), ("--workdir", tmp_path / "there"))
    for status, err in ends(start("train", "digits", *QUICK, "--steps", 3, own_args=own), timeout=60):
        assert status == 2
        assert "there must be a folder that all processes share" in err


@pytest.mark.slow
def test_slurm_says_which_process_this_is(start, tmp_path):
    args = ("tf2_gan", *QUICK, "--steps", 3, "--workdir", tmp_path)
    for status, err in ends(start("train", *args, slurm=True)):
        assert status == 0, err
        assert err.startswith("SLURM_NTASKS=2: waiting, ")
        assert len(err.splitlines()) == 1
    assert len(summary_of(tmp_path)["devices"]) == 4


IDEA = """
import jax.numpy as jnp
from jaxgan import recipes
from jaxgan.losses import of_logits
LOSS = of_logits(lambda r, f, table=jnp.cumsum(jnp.ones(4)): table[0] * f.mean(), lambda r, f: r.mean() - f.mean())
RECIPE = recipes.get("tf2_gan").replace(disc_loss_scale=1.0, loss=LOSS)
"""


@pytest.mark.slow
@pytest.mark.parametrize("slurm", [False, True])
def test_a_recipe_file_may_use_devices_when_it_is_read(start, tmp_path, slurm):
    """The processes have joined by then; what the file, or a flag, has wrong is one line in each."""
    (tmp_path / "idea.py").write_text(IDEA)
    args = (tmp_path / "idea.py", *QUICK, "--steps", 3, "--workdir", tmp_path / "run")
    for status, err in ends(start("train", *args, slurm=slurm)):
        assert status == 0, err
    assert len(summary_of(tmp_path / "run")["devices"]) == 4
    if not slurm:
        for status, err in ends(start("train", *args, own_args=((), ("--loss", "hinge"))), timeout=60):
            assert (status, len(err.splitlines())) == (2, 1), err
            assert "--loss: in idea it is no plain value" in err


@pytest.mark.slow
def test_asking_one_to_stop_stops_both_at_one_step(start, tmp_path):
    """By SIGINT, which is handed on as SIGTERM."""
    started = start("train", "tf2_gan", *QUICK, "--steps", 100_000, "--workdir", tmp_path)
    wait_for_step(tmp_path, 5, started)
    started[1].send_signal(signal.SIGINT)
    (first, first_err), (second, second_err) = ends(started, timeout=60)
    assert (first, second) == (130, 130), (first_err, second_err)
    step = int((tmp_path / "metrics.jsonl").read_text().count("\n"))
    for err in (first_err, second_err):
        assert f"stopped at step {step} of 100000" in err
    assert (tmp_path / "checkpoints" / str(step)).is_dir()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("args", "own_args", "message"),
    [
        ((), (("--seed", 1), ("--beta1", 0.5)), "seed is 1 in process 0, 0 in process 1"),
        (
            ("--batch-size", 18),
            ((), ()),
            "--batch-size 18 cannot be split evenly over 2 devices in each of 2 processes",
        ),
        (("--devices", 3), ((), ()), "--devices: 3 devices asked for, 2 available"),
    ],
    ids=["another recipe", "batch size", "devices"],
)
def test_what_keeps_them_from_one_run_is_one_line_in_each(start, tmp_path, args, own_args, message):
    started = start("train", "digits", *QUICK, *args, "--workdir", tmp_path / "run", own_args=own_args)
    for status, err in ends(started, timeout=60):
        assert status == 2
        assert len(err.splitlines()) == 1, err
        assert message in err
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_where_one_has_no_data_both_say_so(start, tmp_path):
    png = jaxgan.images.png(np.zeros((8, 8, 1), np.uint8))
    small_tfds.write(str(tmp_path / "data"), [{"image": png}] * 16)
    args = ("train", "digits", *QUICK[2:], "--data", "small", "--workdir", tmp_path / "run")
    started = start(*args, own_args=(("--data-dir", tmp_path / "data"), ("--data-dir", tmp_path / "none")))
    (first, first_err), (second, second_err) = ends(started, timeout=60)
    assert (first, second) == (2, 2)
    assert first_err.startswith("error: process 1: small: no such dataset")
    assert second_err.startswith("error: small: no such dataset")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"coordinator": "127.0.0.1:1234"}, "`num_processes` and `process_id` missing"),
        ({"coordinator": "here", "num_processes": 2, "process_id": 0}, "`coordinator` must be HOST:PORT, not here"),
        ({"coordinator": "h:99999", "num_processes": 2, "process_id": 0}, "must be HOST:PORT"),
        ({"coordinator": "h:1234", "num_processes": 2, "process_id": 2}, "`process_id` must be from 0 .* not 2 of 2"),
        (
            {"coordinator": "nowhere.invalid:1", "num_processes": 2, "process_id": 1},
            "nowhere.invalid:1 cannot be reached",
        ),
    ],
)
def test_flags_that_do_not_fit(flags, message):
    with pytest.raises(ProcessError, match=message):
        processes.join(**flags)


def test_a_port_that_is_taken_is_refused():
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(ProcessError, match=f"{address} cannot be listened at"):
            processes.join(address, 2, 0)


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, False),
        ({"SLURM_NTASKS": "1", "SLURM_PROCID": "0"}, False),
        ({"SLURM_NTASKS": "8"}, True),
        ({"OMPI_COMM_WORLD_SIZE": "2"}, True),
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, False),
        ({"JOB_COMPLETION_INDEX": "0"}, True),
    ],
)
def test_what_makes_a_cluster(monkeypatch, environment, expected):
    for name in ("SLURM_NTASKS", "OMPI_COMM_WORLD_SIZE", "JOB_COMPLETION_INDEX"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert processes._in_cluster() is expected


def test_only_failed_communication_is_taken_for_a_lost_process(monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    for message, kind in (
        ("RESOURCE_EXHAUSTED: Out of memory allocating 1 bytes", jax.errors.JaxRuntimeError),
        ("UNKNOWN: Gloo AllGather failed: Connection closed by peer", processes.ProcessLost),
        ("INTERNAL: NCCL operation failed: remote process exited", processes.ProcessLost),
    ):
        with pytest.raises(kind), processes.exit_together():
            raise jax.errors.JaxRuntimeError(message)


def test_a_coordinator_that_is_not_there_is_waited_for_and_then_named():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(ProcessError, match=f"127.0.0.1:{port} cannot be reached"):
        processes._wait_for("127.0.0.1", port, seconds=0.5)


def test_alone_it_is_the_leader_and_agrees_with_itself():
    assert processes.is_leader()
    with processes.synchronized() as same:
        same["batch_size"] = 3
    with pytest.raises(OSError, match="full"), processes.synchronized():
        raise OSError("full")


def test_what_processes_disagree_on():
    said = [{"problem": "", "same": {"seed": 0, "lr": 0.1}}, {"problem": "", "same": {"seed": 0, "lr": 0.1}}]
    assert processes._disagreement(said) == ""
    said[1]["same"] = {"seed": 2, "data": "x"}
    assert processes._disagreement(said).endswith(
        "seed is 0 in process 0, 2 in process 1; lr is 0.1 in process 0, None in process 1; "
        "data is None in process 0, 'x' in process 1"
    )
    said[1]["problem"] = "no disk"
    assert processes._disagreement(said) == "process 1: no disk"
