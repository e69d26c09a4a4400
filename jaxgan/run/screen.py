"""What a run shows: a progress bar on a terminal, plain lines anywhere else."""

import contextlib
import sys
import time
from collections.abc import Iterable, Mapping
from typing import Any, TextIO

UNSHOWN = ("logit_", "grad_norm_", "learning_rate_")  # how metrics begin that are for the files alone
QUIET = 10.0  # seconds at most, about, between two plain lines


def write(line: str, file: TextIO) -> None:
    """Prints a line. A command puts its own function in this one's place (`jaxgan.commands.process`)."""
    print(line, file=file, flush=True)


def say(line: str, stream: str = "stdout") -> None:
    """Prints a line on "stdout" or "stderr", and does without where nobody reads: that must not cost a run."""
    file = getattr(sys, stream)
    if file is None:  # closed before the program began
        return
    encoding = getattr(file, "encoding", None) or "utf-8"
    with contextlib.suppress(OSError, ValueError):  # the file is closed, or the disk full
        write(line.encode(encoding, "backslashreplace").decode(encoding), file)


def clock(seconds: float) -> str:
    """So many seconds as h:mm:ss."""
    return f"{int(seconds) // 3600}:{int(seconds) // 60 % 60:02d}:{int(seconds) % 60:02d}"


def open_screen(start: int, steps: int) -> "Bar | Lines":
    """The bar where stdout is a terminal that can draw one, else lines; as a context manager."""
    from rich.console import Console

    console = Console()
    try:
        terminal = sys.stdout is not None and sys.stdout.isatty()
    except ValueError:  # closed
        terminal = False
    # Rich alone would also draw into a file, where FORCE_COLOR is set.
    draws = terminal and console.is_terminal and not console.is_dumb_terminal
    return Bar(console, start, steps) if draws else Lines(start, steps)


class Bar:
    """A progress bar, for a terminal."""

    def __init__(self, console: Any, start: int, steps: int):
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        shown = TextColumn("{task.fields[text]}", markup=False), TimeRemainingColumn(), TextColumn("left")
        self._progress = Progress(MofNCompleteColumn(), BarColumn(bar_width=None), *shown, console=console)
        self._task = self._progress.add_task("", completed=start, total=steps, text="compiling")

    def __enter__(self) -> "Bar":
        with contextlib.suppress(OSError):  # the terminal has been closed
            self._progress.start()
        return self

    def __exit__(self, *_: Any) -> None:
        with contextlib.suppress(OSError):
            self._progress.stop()

    def tick(self, step: int) -> None:
        with contextlib.suppress(OSError):
            self._progress.update(self._task, completed=step)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        with contextlib.suppress(OSError):
            self._progress.update(self._task, text=text(values))


class Lines:
    """Plain lines, for a file, a pipe, or a terminal that cannot draw."""

    def __init__(self, start: int, steps: int):
        self._start, self._steps, self._first, self._said = start, steps, None, time.perf_counter()

    def __enter__(self) -> "Lines":
        if self._start < self._steps:
            say("compiling")
        return self

    def __exit__(self, *_: Any) -> None:
        pass

    def tick(self, step: int) -> None:
        """Says how far the run is, where it has said nothing for a while."""
        if time.perf_counter() - self._said > QUIET:
            self._say(step, "")

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Prints the scalars of a step, and the time that is left."""
        now = time.perf_counter()
        self._first = self._first or (now, step)  # what came before was compiling for the most part
        begin, first = self._first
        left = f"  {clock((now - begin) / (step - first) * (self._steps - step))} left" if step > first else ""
        self._say(step, f"  {text(values)}{left}")

    def _say(self, step: int, rest: str) -> None:
        say(f"step {step:{len(str(self._steps))}d}/{self._steps}{rest}")
        self._said = time.perf_counter()


class Nothing:
    """No screen: another run has it."""

    def __enter__(self) -> "Nothing":
        return self

    def __exit__(self, *_: Any) -> None:
        pass

    def tick(self, step: int) -> None:
        pass

    def log(self, step: int, values: Mapping[str, float]) -> None:
        pass


def text(values: Mapping[str, float]) -> str:
    """The losses, what a user's events have found, and the images per second; those that there are."""
    seen = {name: value for name, value in values.items() if not name.startswith(UNSHOWN)}
    rate = seen.pop("images_per_second", None)
    names = sorted(seen, key=lambda name: {"loss_gen": 0, "loss_disc": 1}.get(name, 2))
    parts = [f"{name} {seen[name]:{'.3f' if name.startswith('loss_') else '.4g'}}" for name in names]
    return "  ".join(parts + ([] if rate is None else [f"{rate:,.0f} images/s"]))


def shown(items: Iterable[Any], what: str) -> Iterable[Any]:
    """The items, with a progress bar on a terminal and a line elsewhere: a `Track`."""
    from rich.console import Console
    from rich.progress import track

    console = Console()
    if console.is_terminal and not console.is_dumb_terminal:
        return track(items, what, console=console, transient=True)
    say(what)
    return items
