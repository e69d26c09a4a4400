"""Shards of raw pixels, written by several processes at once: what `experiments.prepare` does the work with."""

import concurrent.futures
import contextlib
import dataclasses
import errno
import multiprocessing
import os
import signal
import time
import warnings
from collections.abc import Generator, Iterator
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import forkserver
from multiprocessing.context import BaseContext
from multiprocessing.synchronize import Event

import numpy as np

from jaxgan.data import DataError, Fit, Shape, folder, pairs, pixels, prepared
from jaxgan.data.progress import on_terminal, progress
from jaxgan.run.screen import QUIET, clock, say
from jaxgan.run.signals import end_with_parent

# What the processes need, with what their start imports anyway.
PRELOADED = [
    "jaxgan.commands.cli",
    "jaxgan.commands.shards",
    "array_record.python.array_record_module",
    "PIL.ImageOps",
    "PIL.JpegImagePlugin",
    "PIL.PngImagePlugin",
]
# What is wrong with the machine or the disk, and not with the file that shows it.
OF_THE_MACHINE = (errno.EMFILE, errno.ENFILE, errno.ENOENT, errno.ENOMEM, errno.ENOTCONN, errno.ESTALE)
_stop: Event | None = None  # in a process that decodes: set when what it writes is no longer wanted


@dataclasses.dataclass(frozen=True)
class Shard:
    """A shard to be written: in which folder, its number, the files of its images, and how they are read.

    With `half`, an image is the left (0) or the right half (1) of a file.
    """

    out: str
    number: int
    name: str
    root: str
    files: list[folder.Parts]
    shape: Shape
    fit: Fit
    half: int | None = None

    @property
    def path(self) -> str:
        return os.path.join(self.out, f"images-{self.number:05d}.array_record")


@dataclasses.dataclass(frozen=True)
class Written:
    """A shard that has been written: its number, its bytes, and the files that it lacks, with the reasons."""

    shard: int
    bytes: int
    skipped: list[list[str]]


def written(shards: list[Shard], processes: int) -> Generator[Written, None, None]:
    """Writes shards, each by one of the processes, and yields each when it is written.

    Raises:
      DataError: one cannot be written, or a process was ended.
    """
    if not shards:
        return
    context, count = forked(), min(processes, len(shards))
    stop = context.Event()
    pool = concurrent.futures.ProcessPoolExecutor(count, context, _ready, (stop,))
    try:
        by_future = {pool.submit(_write, shard): shard for shard in shards}
        finished = concurrent.futures.as_completed(by_future)
        begin = said = time.perf_counter()
        images, total = 0, sum(len(shard.files) for shard in shards)
        with contextlib.closing(progress(finished, len(shards), shards[0].name, "preparing")) as shown:
            for future in shown:
                yield future.result()
                images += len(by_future[future].files)
                now = time.perf_counter()
                if now - said > QUIET and not on_terminal():
                    left = clock((total - images) / images * (now - begin))
                    say(f"{images:,} of {total:,} images, {images / (now - begin):,.0f} images/s, {left} left")
                    said = now
    except BrokenProcessPool as error:
        raise DataError("a process that decodes was ended (out of memory?); the same command goes on") from error
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)
        pool = stop = None  # an error that passes would keep them, and Python warn of their semaphores


def forked() -> BaseContext:
    """How processes are started: forked from a server, which imports once what takes each a second or two."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    return context


def start_server() -> None:
    """Starts that server, which imports what the processes need while this process goes on."""
    forked()
    forkserver.ensure_running()


def _ready(stop: Event) -> None:
    """Begins a process that decodes. It ends when its parent is gone, however that was ended."""
    global _stop
    _stop = stop
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent answers Ctrl-C
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    warnings.simplefilter("ignore")  # Pillow's, of odd files
    end_with_parent()


def _write(shard: Shard) -> Written:
    """Writes a shard, whole or not at all."""
    skipped: list[list[str]] = []

    def images() -> Iterator[np.ndarray]:
        for parts in shard.files:
            if _stop and _stop.is_set():
                raise InterruptedError("it is no longer wanted")
            file = os.path.join(shard.root, *parts)
            try:
                if shard.half is None:
                    yield pixels.read(file, shard.shape, shard.fit)
                else:
                    image = pairs.halves(pixels.read(file, None)[None])[shard.half]
                    yield pixels.fit_all(image, shard.shape, shard.fit)[0]
            except DataError as error:
                if getattr(error.__cause__, "errno", None) in OF_THE_MACHINE:
                    raise DataError(f"{shard.name}: {file} {error}") from error
                skipped.append(["/".join(parts), str(error).rpartition("; ")[0]])

    partial = f"{shard.path}.{os.getpid()}.partial"
    try:
        prepared.write(partial, images())
        size = os.path.getsize(partial)
        os.replace(partial, shard.path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.remove(partial)
    return Written(shard.number, size, skipped)
