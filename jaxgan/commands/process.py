"""What a command changes in its process, and the library leaves alone: loggers, a hook, streams, how lines are said."""

import logging
import os
import re
import sys
from typing import Any, TextIO

from jaxgan.run import screen

FLAGS: set[str] = set()  # the settings that this command has flags for


def set_up() -> None:
    """Makes this process a command's: Orbax's threads are silent, lines name flags, and a lost stream costs nothing."""
    for logger in ("absl", "asyncio", "concurrent.futures"):  # what fails is raised, too
        logging.getLogger(logger).setLevel(logging.CRITICAL)
    if sys.unraisablehook is sys.__unraisablehook__:
        sys.unraisablehook = _without_closed_loops
    screen.write = write


def with_flags(line: str) -> str:
    """A line of the library's, which names settings like `batch_size`, with their flags like --batch-size."""
    return re.sub(r"`(\w+)`", lambda found: f"--{found[1].replace('_', '-')}" if found[1] in FLAGS else found[0], line)


def write(line: str, file: TextIO) -> None:
    """Prints a line. A stream that fails once is pointed at nothing, so that later writes, by anyone, do not fail."""
    try:
        print(with_flags(line), file=file, flush=True)
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, file.fileno())
        os.close(nowhere)


def _without_closed_loops(unraisable: Any) -> None:
    """Python's hook, but for what Orbax's background threads leave behind, dozens of times, where a write fails."""
    if "Event loop is closed" not in str(unraisable.exc_value):
        sys.__unraisablehook__(unraisable)
