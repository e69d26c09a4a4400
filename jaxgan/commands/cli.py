"""Flags in, one clear line and exit status 2 where they are wrong."""

import contextlib
import dataclasses
import io
import os
import sys
import traceback
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar, cast

import jax
import tyro

from jaxgan.commands import process
from jaxgan.data import DataError
from jaxgan.evaluation import cache
from jaxgan.evaluation.inception_weights import WeightsError
from jaxgan.recipes import RecipeError, user_files
from jaxgan.run import CheckpointError, ProcessError, ProcessLost, RunError, Stopped, WorkdirError, screen

T = TypeVar("T")
RecipeNames = Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="[RECIPE …]")]
MENDABLE = (CheckpointError, DataError, ProcessError, RecipeError, RunError, WeightsError, WorkdirError)


@dataclasses.dataclass(frozen=True)
class Cluster:
    """The processes of one run; without these flags, what Slurm or another cluster's environment says."""

    coordinator: str | None = None
    """HOST:PORT where process 0 listens for the others; the same for all."""
    num_processes: int | None = None
    """How many processes there are."""
    process_id: int | None = None
    """Which one this is, from 0."""


def run_script(main: Callable[[], None]) -> None:
    """Calls `main`, and where that refuses its input, or shows its help, ends the process at once.

    At once, since the background threads of a failed read print tracebacks while Python winds down.
    """
    try:
        main()
    except SystemExit as end:
        if not isinstance(end.code, int | None):
            raise
        for stream in filter(None, (sys.stdout, sys.__stderr__)):
            with contextlib.suppress(OSError, ValueError):  # nobody listens
                stream.flush()
        os._exit(end.code or 0)


def parse(flags: type[T], module: str, args: list[str] | None = None, **more: Any) -> T:
    """Parses the command line into the dataclass `flags`, as `tyro.cli`; a mistake ends the program with one line."""
    errors = io.StringIO()
    try:
        with contextlib.redirect_stderr(errors), contextlib.suppress(BrokenPipeError):
            given = tyro.cli(flags, prog=f"python -m {module}", args=args, **more)
            screen.write = process.writer({*_names(given)})
            return given
    except SystemExit as end:
        if end.code:
            fail(f"{_first_message(errors.getvalue())} (see python -m {module} --help)")
        raise
    raise SystemExit(0)  # nobody reads the help to its end


def _names(flags: Any) -> Iterator[str]:
    """The settings that a command has flags for, those in groups too."""
    for name, value in (flags if isinstance(flags, dict) else vars(flags)).items():
        if isinstance(value, dict) or dataclasses.is_dataclass(value):
            yield from _names(value)
        else:
            yield name


def keep_programs() -> None:
    """Keeps compiled programs in the user's cache folder, where there is one, and JAX has not been told of another.

    A second run then begins in seconds. JAX knows a program by all that it is compiled from, so none is ever stale.
    """
    folder, config = cache.folder(), cast(Any, jax.config)  # whose attributes are made when JAX is imported
    if config.jax_compilation_cache_dir is not None or folder is None:
        return
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
    if os.access(folder, os.W_OK | os.X_OK):
        config.update("jax_compilation_cache_dir", str(folder))
        config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


def check_names(names: Iterable[str], known: Collection[str], what: str) -> None:
    """Ends the program at the first of `names` that is not among `known`."""
    for name in names:
        if name not in known:
            fail(f"no {what} is named {name!r}; there are {', '.join(known)}")


def check_flags(flags: Any, **least: int) -> None:
    """Ends the program where a flag is less than it must be."""
    for name, value in least.items():
        if getattr(flags, name) < value:
            fail(f"--{name} must be at least {value}, not {getattr(flags, name)}")


def check_json(path: Path | None) -> None:
    """Ends the program where `--json` is no file that can be written."""
    check_file("--json", path, ".json")


def check_file(flag: str, path: Path | None, suffix: str) -> None:
    """Ends the program where what a flag names is no file of that suffix that can be written."""
    if path and (path.suffix != suffix or path.is_dir()):
        fail(f"{flag} {path} must be a file that ends in {suffix}")
    if path and not path.parent.is_dir():
        fail(f"{path}: there is no folder {path.parent}; make it first")
    if path and not os.access(path.parent, os.W_OK | os.X_OK):
        fail(f"{flag} {path}: {path.parent} is not writable")


def fail(message: object, status: int = 2) -> NoReturn:
    """Prints one line to stderr and ends the program.

    Raises:
      SystemExit: always, with the status.
    """
    line = " ".join(str(message).split())
    with contextlib.suppress(OSError, ValueError):  # nobody listens
        screen.write(f"error: {line}" if status != 130 else line, sys.__stderr__ or sys.stdout)
    raise SystemExit(status)


@contextlib.contextmanager
def one_line_errors(show_traceback: bool = False) -> Iterator[None]:
    """Turns what a user can mend into one line on stderr; a mistake of ours keeps its traceback.

    What a recipe's own file raises is one line with the file's name and the line number in it.

    Args:
      show_traceback: whether the whole traceback is printed before the line.
    """
    process.set_up()
    try:
        yield
    except KeyboardInterrupt:
        fail("interrupted", 130)
    except Exception as error:
        if show_traceback:
            traceback.print_exc()
        if isinstance(error, Stopped):
            fail(error, 130)
        if isinstance(error, FloatingPointError | ProcessLost):
            fail(error, 1)
        if isinstance(error, MENDABLE):
            fail(error)
        if line := _in_recipe_file(error):
            fail(f"{line}{'' if show_traceback else ' (--traceback shows all)'}")
        if isinstance(error, OSError):
            fail(error)
        raise


def _in_recipe_file(error: Exception) -> str | None:
    """Where the file of a recipe went wrong, and how; None where no such file is in use."""
    files = user_files.loaded()
    message = (str(error).strip() or type(error).__name__).splitlines()[0]
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename in files]
    if isinstance(error, SyntaxError) and error.filename in files:
        where, message = f"{error.filename}, line {error.lineno}", error.msg
    elif frames:
        where = f"{frames[-1].filename}, line {frames[-1].lineno}"
    else:
        used = [file for file, module in files.items() if hasattr(module, "RECIPE")]
        if not used:
            return None
        where = f"in a run of {used[0]}"
    if isinstance(error, ImportError) and (error.name or "").partition(".")[0] == "experiments":
        message += "; the recipes are imported by: from jaxgan import recipes"
    return f"{where}: {type(error).__name__}: {message}"


def _first_message(box: str) -> str:
    """The first section of the box that tyro draws around a mistake, as one line."""
    lines = [line.strip("│╭╮╰╯─ ") for line in box.splitlines()[1:]]
    message = " ".join(lines[: lines.index("")] if "" in lines else lines)
    return message.removeprefix("Error parsing settings: ")
