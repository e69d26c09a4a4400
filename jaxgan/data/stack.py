"""Images that are read one after another, as one array; with a progress bar on a terminal."""

import os
import sys
from collections.abc import Iterable, Iterator

import numpy as np

from jaxgan.data.dataset import DataError, one_line


def stack(images: Iterable[tuple[str, np.ndarray]], count: int, name: str) -> np.ndarray:
    """Images as one array, uint8 [count, H, W, C].

    It is filled as they come, so that the images are in memory once and not twice.

    Args:
      images: what each is called in messages, and its pixels, uint8 [H, W, C]; `count` of them, at least one.
      count: how many there are.
      name: the dataset's name, for messages.

    Raises:
      DataError: two differ in shape, or there is not enough memory for all.
    """
    array, first = None, ""
    for i, (which, pixels) in enumerate(progress(images, count, name)):
        if array is None:
            first = which
            try:
                array = np.empty((count, *pixels.shape), np.uint8)
            except MemoryError as error:
                size = count * pixels.size / 2**30
                raise DataError(f"{name}: {count:,} images take {size:.1f} GiB, more than there is memory") from error
        if pixels.shape != array.shape[1:]:
            one, other = ("x".join(map(str, shape)) for shape in (array.shape[1:], pixels.shape))
            raise DataError(
                f"{name}: images differ in shape: {first} is {one} and {which} is {other}; give an image_shape"
            )
        array[i] = pixels
    return array


def progress(items: Iterable, count: int, name: str) -> Iterator:
    """The items; on a terminal, with a progress bar on stderr where there are many."""
    if count < 20 or not on_terminal():
        yield from items
        return
    from rich import progress as bars
    from rich.console import Console

    # The name is the user's: as markup, pics[bold] would lose a part of itself.
    columns = (bars.TextColumn("{task.description}", markup=False), bars.BarColumn(), bars.TaskProgressColumn())
    console = Console(stderr=True, force_terminal=True)
    with bars.Progress(*columns, bars.TimeRemainingColumn(), console=console, transient=True) as bar:
        yield from bar.track(items, count, description=f"loading {one_line(name)}")


def on_terminal() -> bool:
    """Whether stderr is a terminal that can redraw a line. FORCE_COLOR, which `rich` would go by, does not matter."""
    return sys.stderr is not None and sys.stderr.isatty() and os.environ.get("TERM") not in ("dumb", "unknown")
