"""Several processes of one run, one on each machine say, by JAX's distributed runtime.

Each of them calls what is here in the same order; alone, a process agrees with itself.
"""

import contextlib
import json
import socket
import time
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils


class ProcessError(ValueError):
    """Processes that cannot go on together; the message says why."""


class ProcessLost(RuntimeError):
    """Another process of the run has ended; the message says what to do."""


def join(coordinator: str | None = None, num_processes: int | None = None, process_id: int | None = None) -> None:
    """Makes this process one of several; before any device is used.

    Without arguments the cluster's environment decides (Slurm, Open MPI, a TPU slice: what
    `jax.distributed.initialize` recognises), and where that says nothing the process stays alone.

    Args:
      coordinator: HOST:PORT where process 0 listens, the same in all.
      num_processes: how many there are.
      process_id: which one this is, from 0.

    Raises:
      ProcessError: only some of these are given, they do not fit together, or nobody listens.
    """
    flags = {"--coordinator": coordinator, "--num-processes": num_processes, "--process-id": process_id}
    missing = [name for name, value in flags.items() if value is None]
    # A lost process is noticed within the first, and waited for at the end during the second.
    timeouts = {"heartbeat_timeout_seconds": 30, "shutdown_timeout_seconds": 30}
    if len(missing) == len(flags):
        with contextlib.suppress(ValueError):  # no cluster
            jax.distributed.initialize(**timeouts)
        return
    if missing:
        raise ProcessError(f"several processes need {', '.join(flags)}: {' and '.join(missing)} missing")
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise ProcessError(f"--coordinator must be HOST:PORT, not {coordinator}")
    if not 0 <= process_id < num_processes:
        raise ProcessError(f"--process-id must be from 0 to --num-processes - 1, not {process_id} of {num_processes}")
    if process_id:
        _wait_for(host, int(port))
    jax.distributed.initialize(coordinator, num_processes, process_id, **timeouts)


def _wait_for(host: str, port: int, seconds: float = 300) -> None:
    """Waits until process 0 listens. JAX would wait, too, but then abort without saying for whom."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return socket.create_connection((host, port), timeout=5).close()
        except OSError as error:
            if isinstance(error, socket.gaierror) or time.monotonic() > deadline:
                raise ProcessError(
                    f"--coordinator {host}:{port} cannot be reached ({error}); is process 0 running there?"
                ) from error
            time.sleep(0.2)


def is_leader() -> bool:
    """Whether this is the process that reports, samples and writes."""
    return jax.process_index() == 0


@contextlib.contextmanager
def together() -> Iterator[dict[str, Any]]:
    """A passage that all processes get through, or none.

    Yields a dict for what must be the same in all, as values that JSON can hold, by names that a user knows.

    Raises:
      ProcessError: in all of them, where those values differ, or where another process has met an error.
      ValueError, OSError: the error, in the process that has met it.
    """
    same, problem = {}, None
    try:
        yield same
    except (ValueError, OSError) as error:
        if jax.process_count() == 1:
            raise
        problem = error
    if jax.process_count() > 1:
        message = _disagreement(_gather({"same": same, "problem": str(problem or "")}))
        if message:
            jax.distributed.shutdown()  # while all are here, or the last would see the first as lost
            raise problem or ProcessError(message)


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
def in_step(*ends: type[Exception]) -> Iterator[None]:
    """What all processes do in step with one another.

    Args:
      ends: exceptions that all of them meet at the same point, if at all. They then leave together, or the last
        would see the first as lost.

    Raises:
      ProcessLost: another one has ended, and the communication with it failed.
    """
    try:
        yield
    except ends:
        jax.distributed.shutdown()
        raise
    except jax.errors.JaxRuntimeError as error:
        if jax.process_count() == 1:
            raise
        why = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise ProcessLost(
            f"process {jax.process_index()} cannot go on: another process has ended, or cannot be reached ({why}); "
            "start all of them again, and they go on from the newest checkpoint"
        ) from error


def all_asked_to_stop(step: int) -> bool:
    """Whether this is the step after which to stop, once SIGTERM has asked any of the processes to."""
    return multihost_utils.reached_preemption_sync_point(step)
