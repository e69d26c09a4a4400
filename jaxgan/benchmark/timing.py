"""The time of several things, each in a process of its own, interleaved.

A process prepares (it builds, compiles and reports), and then measures for some seconds each time that it is asked. So
several can be measured one after the other in each of several rounds, and what slows the machine slows all of them.
"""

import contextlib
import multiprocessing
import re
import resource
import signal
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, TypeVar

from jaxgan.run.screen import say
from jaxgan.run.signals import end_with_parent

CAPACITY = 1024  # the most updates in one dispatch
DISPATCH = 1.0  # seconds, about, as the longest in training
SECONDS = 1.0  # of each measurement by `compare`

Facts = dict[str, Any]
Job = TypeVar("Job")
Work = tuple[Any, ...]  # (prepare, *args), prepare being a function of args that gives `Prepared`
# What a process is for: from its arguments to what it repeats, dispatch(count) -> None, which returns when all is done;
# the facts it reports; and what gives those that it reports at its end, as `peak_bytes`.
Prepared = tuple[Callable[[int], None], Facts, Callable[[], Facts]]


class Failed(RuntimeError):
    """A process that could not do its work; the message says why."""


class Worker(NamedTuple):
    """A process that has prepared, and waits to be asked."""

    process: BaseProcess
    pipe: Connection
    facts: Facts


def compare(work: Mapping[str, Work], rounds: int) -> dict[str, list[float]]:
    """Seconds for one of what each in `work` repeats, in each round: the median of its dispatches.

    Raises:
      Failed: one of them cannot do its work.
    """
    say(f"preparing {', '.join(work)}")
    with workers(work) as (ready, failed):
        for error in failed.values():
            raise error
        samples: dict[str, list[float]] = {name: [] for name in work}
        for number in range(rounds):
            say(f"timing, round {number + 1} of {rounds}")
            for name, worker in ready.items():
                samples[name].append(statistics.median(measure(worker, SECONDS)))
    return samples


@contextlib.contextmanager
def workers(
    work: Mapping[Job, Work], at_once: int = 1, patience: float | None = None
) -> Iterator[tuple[dict[Job, Worker], dict[Job, Failed]]]:
    """Starts a process for each in `work`, so many at a time; all end with the context.

    One that is not ready after `patience` seconds is ended: a compiler may take for ever.

    Gives, by the same names in the same order, the workers that are ready, and why others are not.
    """
    processes: list[BaseProcess] = []
    context = multiprocessing.get_context("spawn")

    def start(how: Work) -> Worker | Failed:
        pipe, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs, how[0], how[1:]))
        process.start()
        processes.append(process)
        theirs.close()
        try:
            if not pipe.poll(patience):
                process.kill()
                return Failed(f"it was not ready after {patience:g} seconds")
            return Worker(process, pipe, _answer(pipe))
        except Failed as error:
            return error

    script = sys.modules["__main__"]
    with ThreadPoolExecutor(at_once) as pool:  # ends after them: its threads wait for their answers
        try:
            sys.modules["__main__"] = ModuleType("__main__")  # else each process imports the script
            found = dict(zip(work, pool.map(start, work.values()), strict=True))
            sys.modules["__main__"] = script
            yield (
                {job: each for job, each in found.items() if isinstance(each, Worker)},
                {job: each for job, each in found.items() if isinstance(each, Failed)},
            )
        finally:
            sys.modules["__main__"] = script
            for process in processes:
                process.kill()
                process.join()


def measure(worker: Worker, seconds: float) -> list[float]:
    """Seconds for one of what the worker repeats: the mean of each dispatch in about that time."""
    return _answer(worker.pipe, seconds)


def end(worker: Worker) -> Facts:
    """Ends a worker, and gives what it reports then."""
    return _answer(worker.pipe, None)


def _answer(pipe: Connection, *questions: float | None) -> Any:
    try:
        for question in questions:
            pipe.send(question)
        answer = pipe.recv()
    except (EOFError, ConnectionError):
        raise Failed("its process was killed, perhaps for its memory") from None
    if isinstance(answer, Failed):
        raise answer
    return answer


def _serve(pipe: Connection, prepare: Callable[..., Prepared], args: tuple[Any, ...]) -> None:
    """The work of a process: it prepares, and answers until it is told to end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent's to hear
    end_with_parent()
    with contextlib.suppress(EOFError, BrokenPipeError):  # the parent has ended
        try:
            dispatch, facts, last = prepare(*args)
            dispatch(1)
            count = _count(_seconds(dispatch, 1))
            if count > 1:  # now of several in one dispatch
                count = _count(_seconds(dispatch, count))
            pipe.send(facts)
            while (asked := pipe.recv()) is not None:
                end, samples = time.perf_counter() + asked, []
                while not samples or time.perf_counter() < end:
                    samples.append(_seconds(dispatch, count))
                pipe.send(samples)
            pipe.send(last())
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
    # On Linux, where getrusage counts the memory of the process that started this one.
    if status.exists() and (found := re.search(r"VmHWM:\s*(\d+) kB", status.read_text())):
        return 1024 * int(found[1])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
