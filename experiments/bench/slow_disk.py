"""Runs whose disk is slow: `python -m experiments.bench.slow_disk --seconds 8`.

Each write, flush and renaming in the folder of checkpoints waits for so long, by functions that are loaded before the
system's own (compiled by `cc`, on Linux). One process trains, and then two; both have to end in the state of the same
run whose disk is not slow.
"""

import dataclasses
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from jaxgan.commands.cli import check_flags, fail, parse, run_script
from jaxgan.commands.torture import flags_of_processes
from jaxgan.run.screen import say
from jaxgan.run.workdir import read_summary

FUNCTIONS = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

static void wait_at(const char *path) {
  const char *folder = getenv("SLOW_FOLDER");
  if (folder && strncmp(path, folder, strlen(folder)) == 0) usleep(1e6 * atof(getenv("SLOW_SECONDS")));
}

static void wait_for(int file) {
  char name[64], path[4096];
  snprintf(name, sizeof name, "/proc/self/fd/%d", file);
  ssize_t length = readlink(name, path, sizeof path - 1);
  if (length > 0) {
    path[length] = 0;
    wait_at(path);
  }
}

#define SLOW(type, name, parameters, arguments, wait) \
  type name parameters { \
    wait; \
    return ((type (*) parameters)dlsym(RTLD_NEXT, #name)) arguments; \
  }
SLOW(int, fsync, (int file), (file), wait_for(file))
SLOW(int, fdatasync, (int file), (file), wait_for(file))
SLOW(ssize_t, write, (int file, const void *data, size_t n), (file, data, n), wait_for(file))
SLOW(ssize_t, writev, (int file, const struct iovec *data, int n), (file, data, n), wait_for(file))
SLOW(int, rename, (const char *from, const char *to), (from, to), wait_at(to))
"""


@dataclasses.dataclass(frozen=True)
class SlowDisk:
    """Trains on a slow disk, in one process and in two, and says what becomes of it."""

    seconds: float = 8
    """How long each write, flush and renaming waits."""


def library(folder: Path) -> Path:
    """Compiles the slow functions.

    Raises:
      FileNotFoundError: there is no `cc`.
    """
    path = folder / "slow.so"
    command = ["cc", "-shared", "-fPIC", "-x", "c", "-", "-o", str(path), "-ldl"]
    subprocess.run(command, input=FUNCTIONS, text=True, check=True)
    return path


def slow(functions: Path, folder: Path, seconds: float) -> dict[str, str]:
    """The environment of a process for which a folder is on a slow disk."""
    wait = {"SLOW_FOLDER": str(folder), "SLOW_SECONDS": str(seconds)}
    return {**os.environ, "LD_PRELOAD": str(functions), **wait}


def train(workdir: Path, processes: int, environment: Mapping[str, str]) -> tuple[str, float]:
    """Trains for two checkpoints: the SHA-256 of the last state, and how many seconds it took."""
    command = [sys.executable, "-m", "experiments.train", "tf2_gan", "--data", "digits", "--evaluate-every", "0"]
    command += ["--steps", "20", "--checkpoint-every", "10", "--workdir", str(workdir)]
    environment = {**environment, "JAX_NUM_CPU_DEVICES": str(2 // processes)}
    begin, started = time.monotonic(), []
    for own in flags_of_processes(processes) if processes > 1 else [[]]:
        started.append(subprocess.Popen([*command, *own], env=environment, stdout=subprocess.DEVNULL))
    ended = [process.wait() for process in started]
    if any(ended):
        fail(f"{workdir.name}: the run ended with an error", 1)
    return read_summary(workdir)["state_sha256"], time.monotonic() - begin


def main(args: list[str] | None = None) -> None:
    """Trains on a quick and on the slow disk, and compares."""
    flags = parse(SlowDisk, "experiments.bench.slow_disk", args)
    check_flags(flags, seconds=0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        functions = library(folder)
        for processes in (1, 2):
            quick, took = train(folder / f"quick-{processes}", processes, os.environ)
            workdir = folder / f"slow-{processes}"
            found, slowly = train(workdir, processes, slow(functions, workdir / "checkpoints", flags.seconds))
            same = "the same state" if found == quick else "another state"
            say(f"{processes} process{'es' if processes > 1 else ''}: {took:.0f} s, slowly {slowly:.0f} s, {same}")


if __name__ == "__main__":
    run_script(main)
