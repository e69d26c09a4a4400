"""How processes join, agree and are lost, as far as one process shows it; `test_processes` has several."""

import socket
import time

import jax
import pytest

from jaxgan.run import ProcessError, loop, processes


def test_flags_that_do_not_fit():
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken = f"127.0.0.1:{server.getsockname()[1]}"
        for *given, message in (
            ("127.0.0.1:1234", None, None, "`num_processes` and `process_id` missing"),
            ("here", 2, 0, "`coordinator` must be HOST:PORT, not here"),
            ("h:99999", 2, 0, "must be HOST:PORT"),
            ("h:1234", 2, 2, "`process_id` must be from 0 .* not 2 of 2"),
            ("nowhere.invalid:1", 2, 1, "nowhere.invalid:1 cannot be reached"),
            (taken, 2, 0, f"{taken} cannot be listened at"),
        ):
            with pytest.raises(ProcessError, match=message):
                processes.join(*given)


def test_what_makes_a_cluster(monkeypatch):
    variables = ("SLURM_NTASKS", "OMPI_COMM_WORLD_SIZE", "JOB_COMPLETION_INDEX")
    for environment, expected in (
        ({}, False),
        ({"SLURM_NTASKS": "1", "SLURM_PROCID": "0"}, False),
        ({"SLURM_NTASKS": "8"}, True),
        ({"OMPI_COMM_WORLD_SIZE": "2"}, True),
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, False),
        ({"JOB_COMPLETION_INDEX": "0"}, True),
    ):
        with monkeypatch.context() as patch:
            for name in variables:
                patch.delenv(name, raising=False)
            for name, value in environment.items():
                patch.setenv(name, value)
            assert processes._in_cluster() is expected, environment


def test_only_failed_communication_is_taken_for_a_lost_process(monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    for message, kind in (
        ("RESOURCE_EXHAUSTED: Out of memory allocating 1 bytes", jax.errors.JaxRuntimeError),
        ("UNKNOWN: Gloo AllGather failed: Connection closed by peer", processes.ProcessLost),
        ("INTERNAL: NCCL operation failed: remote process exited", processes.ProcessLost),
    ):
        with pytest.raises(kind), processes.exit_together():
            raise jax.errors.JaxRuntimeError(message)


def test_alone_it_is_the_leader_and_agrees_with_itself():
    assert processes.is_leader()
    with processes.synchronized() as same:
        same["batch_size"] = 3
    with pytest.raises(OSError, match="full"), processes.synchronized():
        raise OSError("full")


def test_the_leader_says_how_long_a_turn_is(monkeypatch):
    """By its own clock each would come to another length, and they would wait for one another for ever."""
    monkeypatch.setattr(processes, "broadcast", lambda pace, minute: (7, 1))
    clock, minute = loop._timed(loop.Clock(time.perf_counter() - 10), 20)
    assert (clock.pace, minute) == (7, True)


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
