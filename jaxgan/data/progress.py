"""A progress bar, on a terminal, over images that are read."""

import os
import sys
from collections.abc import Generator, Iterable
from typing import TypeVar

from jaxgan.data.dataset import one_line

T = TypeVar("T")


def progress(items: Iterable[T], count: int, name: str, doing: str = "loading") -> Generator[T, None, None]:
    """`count` items; on a terminal, with a progress bar on stderr where there are many."""
    if count < 20 or not on_terminal():
        yield from items
        return
    from rich import progress as bars
    from rich.console import Console

    # The name is the user's: as markup, pics[bold] would lose a part of itself.
    columns = (bars.TextColumn("{task.description}", markup=False), bars.BarColumn(), bars.TaskProgressColumn())
    console = Console(stderr=True, force_terminal=True)
    with bars.Progress(*columns, bars.TimeRemainingColumn(), console=console, transient=True) as bar:
        yield from bar.track(items, count, description=f"{doing} {one_line(name)}")


def on_terminal() -> bool:
    """Whether stderr is a terminal that can redraw a line. FORCE_COLOR, which `rich` would go by, does not matter."""
    return sys.stderr is not None and sys.stderr.isatty() and os.environ.get("TERM") not in ("dumb", "unknown")
