"""Several processes of one run, one on each machine say, by JAX's distributed runtime.

Each of them calls what is here in the same order; alone, a process agrees with itself.
"""

import contextlib
import importlib.util
import json
import os
import re
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from jaxgan.data.dataset import first_line
from jaxgan.run import meeting
from jaxgan.run.errors import ProcessError
from jaxgan.run.screen import say

# A lost process is noticed within the first, if `meeting` does not notice before; at the end, each waits for the others
# during the second.
TIMEOUTS: dict[str, Any] = {"heartbeat_timeout_seconds": 60, "shutdown_timeout_seconds": 30}

# How many tasks Slurm and Open MPI have started.
TASKS = ("SLURM_NTASKS", "OMPI_COMM_WORLD_SIZE")

# What a failed communication says, of the many errors that JAX raises as one kind.
LOST = re.compile("gloo|nccl|unavailable|deadline|connection|coordination|heartbeat|peer|barrier", re.IGNORECASE)
CODE = re.compile("[A-Z_]+: ")  # how a message of XLA begins, which may come as a ValueError


class ProcessLost(RuntimeError):
    """Another process of the run has ended; the message says what to do."""


def join(coordinator: str | None = None, num_processes: int | None = None, process_id: int | None = None) -> None:
    """Makes this process one of several; before any device is used.

    Without arguments it is the cluster's environment that decides, by what `jax.distributed.initialize` recognises:
    Slurm and Open MPI where they run several tasks, Kubernetes' indexed jobs, a TPU slice. Else a process stays alone,
    and so does one of `num_processes` 1, whatever the environment says.

    Args:
      coordinator: HOST:PORT where process 0 listens, the same in all, and of this run alone.
      num_processes: how many there are.
      process_id: which one this is, from 0.

    Raises:
      ProcessError: the arguments do not fit together, the others cannot be met there, or they have other numbers of
        devices.
    """
    if num_processes == 1 and not process_id:
        return
    settings = {"`coordinator`": coordinator, "`num_processes`": num_processes, "`process_id`": process_id}
    missing = [name for name, value in settings.items() if value is None]
    if len(missing) == len(settings):
        if _in_cluster():
            _say_who_is_awaited()
            with contextlib.suppress(ValueError):  # not one that JAX knows
                jax.distributed.initialize(**TIMEOUTS)
    elif coordinator is None or num_processes is None or process_id is None:
        raise ProcessError(f"several processes need {', '.join(settings)}: {' and '.join(missing)} missing")
    else:
        _check_address(coordinator, num_processes, process_id)
        meeting.watch(meeting.meet(coordinator, num_processes, process_id), process_id)
        # The arguments alone decide: Slurm, say, would give each process one GPU of its machine.
        jax.distributed.initialize(
            coordinator, num_processes, process_id, cluster_detection_method="deactivate", **TIMEOUTS
        )
    if jax.distributed.is_initialized() and jax.process_count() > 1:
        counts = [len(jax.local_devices(process)) for process in range(jax.process_count())]
        if len(set(counts)) > 1:
            jax.distributed.shutdown()
            raise ProcessError(f"the processes have {', '.join(map(str, counts))} devices; give each as many")
        with exit_together():  # connected now, while none keeps the others waiting: some give up after 30 seconds
            _gather("here")


def _in_cluster() -> bool:
    """Whether anything says that this is one of several tasks, or a TPU machine, which may be."""
    return (
        any(map(_is_several, TASKS))
        or "JOB_COMPLETION_INDEX" in os.environ
        or importlib.util.find_spec("libtpu") is not None
    )


def _is_several(name: str) -> bool:
    return os.environ.get(name, "") not in ("", "1")


def _say_who_is_awaited() -> None:
    """Says which variable makes this one of several processes, for the wait for the others may be long."""
    if name := next(filter(_is_several, TASKS), None):
        say(
            f"{name}={os.environ[name]}: waiting, for up to 5 minutes, until all of these tasks have started; "
            f"a run of one process takes `num_processes` 1, or {name} unset",
            "stderr",
        )


def _check_address(coordinator: str, num_processes: int, process_id: int) -> None:
    """Refuses what cannot be the address of process 0, or the number of one."""
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise ProcessError(f"`coordinator` must be HOST:PORT, not {coordinator}")
    if not 0 <= process_id < num_processes:
        raise ProcessError(f"`process_id` must be from 0 to `num_processes` - 1, not {process_id} of {num_processes}")


def is_leader() -> bool:
    """Whether this is the process that reports, samples and writes."""
    return jax.process_index() == 0


@contextlib.contextmanager
def synchronized() -> Iterator[dict[str, Any]]:
    """Code within this block is completed by all processes, or by none; within a block of `exit_together`.

    Yields a dict for what must be the same in all, as values that JSON can hold, by names that a user knows.

    Raises:
      ProcessError: in all of them, where those values differ, or where another process has met an error.
      Exception: the error, in the process that has met it.
    """
    same, problem = {}, None
    try:
        yield same
    except Exception as error:
        if jax.process_count() == 1:
            raise
        problem = error
    if jax.process_count() > 1:
        message = _disagreement(_gather({"same": same, "problem": problem and _text(problem)}))
        if message:
            raised = problem or ProcessError(message)
            raised.is_in_all = True  # type: ignore[attr-defined]  # for `exit_together`
            raise raised


def _text(problem: Exception) -> str:
    """What other processes are told of an error: its message, and its kind where that is not written for a user."""
    told = isinstance(problem, ValueError | OSError) and str(problem)
    return str(problem) if told else f"{type(problem).__name__}: {problem}"


def _gather(value: Any) -> list[Any]:
    """The values of all processes, in their order."""
    text = np.frombuffer(json.dumps(value).encode(), np.uint8)
    lengths = multihost_utils.process_allgather(np.int32(len(text)))
    texts = multihost_utils.process_allgather(np.pad(text, (0, lengths.max() - len(text))))
    return [json.loads(row[:length].tobytes()) for row, length in zip(texts, lengths, strict=True)]


def _disagreement(everyone: list[dict[str, Any]]) -> str:
    """What keeps the processes from going on together; empty where nothing does."""
    for process, said in enumerate(everyone):
        if said["problem"]:
            return f"process {process}: {said['problem']}"
    first, *others = (said["same"] for said in everyone)
    for process, other in enumerate(others, 1):
        if differ := [
            f"{name} is {first.get(name)!r} in process 0, {other.get(name)!r} in process {process}"
            for name in first | other
            if first.get(name) != other.get(name)
        ]:
            return f"the processes are not of one run: {'; '.join(differ)}"
    return ""


@contextlib.contextmanager
def exit_together(*ends: type[Exception]) -> Iterator[None]:
    """Within this block all processes keep in step.

    They leave together where all raise at the same point, since the last would otherwise see the first as lost.

    Args:
      ends: exceptions that all of them meet at the same point, if at all; those of `synchronized` need not be named.

    Raises:
      ProcessLost: another one has ended, and the communication with it failed.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, ends) or getattr(error, "is_in_all", False):
            if jax.distributed.is_initialized():
                with contextlib.suppress(jax.errors.JaxRuntimeError, ValueError):  # one is lost
                    _gather("ended")  # which waits for the leader's last checkpoint; JAX waits for half a minute
                jax.distributed.shutdown()
            raise
        of_jax = isinstance(error, jax.errors.JaxRuntimeError)
        of_jax = of_jax or (isinstance(error, ValueError) and bool(CODE.match(str(error))))
        if not (of_jax and LOST.search(str(error))) or jax.process_count() == 1:
            raise
        raise ProcessLost(
            f"process {jax.process_index()} cannot go on: another process has ended, or cannot be reached "
            f"({first_line(error)}); start all of them again, and they go on from the newest checkpoint"
        ) from error


def broadcast(*values: int) -> Sequence[int]:
    """The leader's values, in all processes."""
    if jax.process_count() == 1:
        return values
    return multihost_utils.broadcast_one_to_all(np.asarray(values, np.int32)).tolist()
