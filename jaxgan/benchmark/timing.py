"""What `experiments.benchmark` measures, each in a process of its own, and how it asks them in turn.

A process prepares (it builds, compiles and reports), and then measures for some seconds each time that it is asked. So
several can be measured in rounds, and what a busy machine does to one of them it does to all. Nothing here imports a
framework: each process has the memory of its own alone.
"""

import contextlib
import json
import multiprocessing
import multiprocessing.connection
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Hashable, Iterator, Mapping
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from unittest import mock

if TYPE_CHECKING:
    from jaxgan.recipes.settings import Recipe

CAPACITY = 1024  # the most updates in one dispatch
DISPATCH = 1.0  # seconds, about, as the longest in training

Facts = dict[str, Any]
Job = TypeVar("Job", bound=Hashable)
# What a process is for: from its arguments to what it repeats, dispatch(count) -> None, which returns when all is done;
# the facts it reports; and what it says at its end, as a rule its peak memory in bytes.
Prepared = tuple[Callable[[int], None], Facts, Callable[[], Any]]


class Failed(RuntimeError):
    """A process that could not do its work; the message says why."""


class Worker(NamedTuple):
    """A process that has prepared, and waits to be asked."""

    process: BaseProcess
    pipe: Connection
    facts: Facts


@contextlib.contextmanager
def workers() -> Iterator[Callable[..., Worker]]:
    """Gives (prepare, *args) -> worker, which starts a process and waits until it is ready; all end with the context.

    Starting raises `Failed` where a process cannot prepare.
    """
    with _processes() as launch:
        yield lambda prepare, *args: _ready(*launch(prepare, args))


@contextlib.contextmanager
def workers_at_once(work: Mapping[Job, tuple]) -> Iterator[dict[Job, Worker | Failed]]:
    """Starts a worker for each (prepare, *args) in `work`, as many at a time as there are cores; all end together.

    Gives by the same names, in the same order, the workers that are ready, and why others are not.
    """
    with _processes() as launch:
        found, preparing, left = {}, {}, list(work.items())
        while preparing or left:
            while left and len(preparing) < os.cpu_count():
                name, (prepare, *args) = left.pop(0)
                process, pipe = launch(prepare, tuple(args))
                preparing[pipe] = name, process
            for pipe in multiprocessing.connection.wait(preparing):
                name, process = preparing.pop(pipe)
                try:
                    found[name] = _ready(process, pipe)
                except Failed as error:
                    found[name] = error
        yield {name: found[name] for name in work}


@contextlib.contextmanager
def _processes() -> Iterator[Callable[[Callable[..., Prepared], tuple], tuple[BaseProcess, Connection]]]:
    """Gives what starts a process, without waiting for it; all end with the context."""
    processes, context = [], multiprocessing.get_context("spawn")

    def launch(prepare: Callable[..., Prepared], args: tuple) -> tuple[BaseProcess, Connection]:
        pipe, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs, prepare, args))
        with mock.patch.dict(sys.modules, __main__=ModuleType("__main__")):  # else it imports the script
            process.start()
        processes.append(process)
        theirs.close()
        return process, pipe

    try:
        yield launch
    finally:
        for process in processes:
            process.kill()
            process.join()


def _ready(process: BaseProcess, pipe: Connection) -> Worker:
    """Waits until it has prepared."""
    return Worker(process, pipe, _answer(pipe))


def measure(worker: Worker, seconds: float) -> list[float]:
    """Seconds for one of what the worker repeats: the mean of each dispatch in about that time."""
    worker.pipe.send(seconds)
    return _answer(worker.pipe)


def end(worker: Worker) -> Any:
    """Ends a worker, and gives what it says then: as a rule its peak memory, in bytes."""
    worker.pipe.send(None)
    said = _answer(worker.pipe)
    worker.process.join()
    return said


def _answer(pipe: Connection) -> Any:
    try:
        answer = pipe.recv()
    except (EOFError, ConnectionError):
        raise Failed("its process was killed, perhaps for its memory") from None
    if isinstance(answer, Failed):
        raise answer
    return answer


def _serve(pipe: Connection, prepare: Callable[..., Prepared], args: tuple) -> None:
    """The work of a process: it prepares, and answers until it is told to end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent's to hear
    with contextlib.suppress(EOFError, BrokenPipeError):  # the parent has ended
        try:
            dispatch, facts, peak = prepare(*args)
            dispatch(1)
            count = _count(_seconds(dispatch, 1))
            if count > 1:
                count = _count(_seconds(dispatch, count))
            pipe.send(facts)
            while (asked := pipe.recv()) is not None:
                end, samples = time.perf_counter() + asked, []
                while not samples or time.perf_counter() < end:
                    samples.append(_seconds(dispatch, count))
                pipe.send(samples)
            pipe.send(peak())
        except (EOFError, BrokenPipeError):
            raise
        except Exception as error:
            pipe.send(Failed(f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"))


def _count(seconds: float) -> int:
    """How many updates to dispatch at once, where one takes so long."""
    return max(1, min(CAPACITY, int(DISPATCH / seconds)))


def _seconds(dispatch: Callable[[int], None], count: int) -> float:
    begin = time.perf_counter()
    dispatch(count)
    return (time.perf_counter() - begin) / count


def peak_of_process() -> int:
    """The most memory that this process has had, in bytes."""
    status = Path("/proc/self/status")
    if status.exists():  # Linux, where getrusage counts the memory of the process that started this one
        return 1024 * int(re.search(r"VmHWM:\s*(\d+) kB", status.read_text())[1])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


class Trained(NamedTuple):
    """A run of `experiments.train`: the seconds of the whole process, and of it to its last line of metrics; these."""

    seconds: float
    to_last_line: float
    metrics: list[dict[str, Any]]


def train(recipe: "Recipe", flags: list[str], steps: int, folder: Path) -> Trained:
    """Trains a recipe on the embedded digits, resized to its images, by `python -m experiments.train` without scores.

    Compiled programs are kept in `folder`, so that a second call finds them.

    Args:
      recipe: what to train.
      flags: more flags.
      steps: how many updates.
      folder: where it may write.

    Raises:
      Failed: the run failed.
    """
    environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(folder / "cache")}
    environment["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.2"  # as runs have it by default
    with tempfile.TemporaryDirectory(dir=folder) as workdir:
        command = [
            sys.executable,
            "-m",
            "jaxgan.commands.train",
            recipe.name,
            "--workdir",
            workdir,
            "--steps",
            str(steps),
        ]
        command += ["--data", "digits", "--split", "train", "--border", "0", "--devices", "1"]
        command += ["--batch-size", str(recipe.batch_size), "--evaluate-every", "0", *flags]
        begin = time.time()  # the clock of files
        process = subprocess.run(command, env=environment, capture_output=True, text=True)
        seconds = time.time() - begin
        if process.returncode:
            raise Failed(f"experiments.train: {(process.stderr.strip().splitlines() or ['it failed'])[-1]}")
        path = Path(workdir) / "metrics.jsonl"
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        return Trained(seconds, path.stat().st_mtime - begin, lines)
