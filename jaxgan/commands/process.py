"""What a command changes in its process, and the library leaves alone: loggers, a hook, how lines are written."""

import logging
import os
import re
import sys
from collections.abc import Callable, Collection
from typing import Any, TextIO


def set_up() -> None:
    """Makes this process a command's: Orbax's threads are silent, and so is what writes ONNX."""
    for logger in ("absl", "asyncio", "concurrent.futures", "onnx_ir"):  # what fails is raised, too
        logging.getLogger(logger).setLevel(logging.CRITICAL)
    if sys.unraisablehook is sys.__unraisablehook__:
        sys.unraisablehook = _without_closed_loops


def writer(flags: Collection[str]) -> Callable[[str, TextIO], None]:
    """What prints a command's lines in place of `jaxgan.run.screen.write`.

    The library's lines name settings like `batch_size`; those among `flags` are shown as flags, --batch-size. A stream
    that fails once is pointed at nothing, so that later writes, by anyone, do not fail.
    """

    def write(line: str, file: TextIO) -> None:
        shown = re.sub(r"`(\w+)`", lambda x: f"--{x[1].replace('_', '-')}" if x[1] in flags else x[0], line)
        try:
            print(shown, file=file, flush=True)
        except OSError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, file.fileno())
            os.close(nowhere)

    return write


def _without_closed_loops(unraisable: Any) -> None:
    """Python's hook, but for what Orbax's background threads leave behind, dozens of times, where a write fails."""
    if "Event loop is closed" not in str(unraisable.exc_value):
        sys.__unraisablehook__(unraisable)
