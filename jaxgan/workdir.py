"""The folder of a run: whose it is, and who writes in it.

config.json says which run it holds; summary.json what came of it.
"""

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any


class WorkdirError(ValueError):
    """A folder that cannot be this run's; the message says why."""


def check(workdir: Path, config: dict[str, Any]) -> None:
    """Refuses a folder that holds another run, or that cannot be written to; writes nothing.

    Raises:
      WorkdirError: with the settings that differ, where it is another run's.
    """
    path = workdir / "config.json"
    unknown = f"{path} is not a run's config.json; name another --workdir"
    try:
        if path.exists():
            before = json.loads(path.read_text())
            if not isinstance(before, dict) or "recipe" not in before:
                raise WorkdirError(unknown)
            before = {"accumulate": 1, "precision": "float32"} | before  # from when these were no choice yet
            differ = [
                f"{name} is {before.get(name)!r} there, {value!r} here"
                for name, value in json.loads(json.dumps(config)).items()
                if before.get(name) != value
            ]
            if differ:
                raise WorkdirError(f"{workdir} holds another run ({'; '.join(differ)}); name another --workdir")
        elif (workdir / "checkpoints").exists() or (workdir / "metrics.jsonl").exists():
            raise WorkdirError(f"{workdir} holds a run but no config.json to know it by; name another --workdir")
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise WorkdirError(unknown) from None
    except OSError as error:
        raise WorkdirError(f"--workdir {workdir} cannot be read ({error.strerror}); name another") from error
    folder = next(p for p in (workdir, *workdir.absolute().parents) if p.exists())
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        why = "is not writable" if folder.is_dir() else "is not a folder"
        raise WorkdirError(f"--workdir {workdir}: {folder} {why}; name another")


@contextlib.contextmanager
def claim(workdir: Path, config: dict[str, Any]) -> Iterator[None]:
    """Makes the folder this run's, and keeps other processes from training in it meanwhile.

    The lock goes with the process, however that ends.

    Raises:
      WorkdirError: it cannot be written to, or another process is training in it.
    """
    import fcntl

    try:
        workdir.mkdir(parents=True, exist_ok=True)
        write_json(workdir / "config.json", config)
        lock = (workdir / ".lock").open("w")
    except OSError as error:
        raise WorkdirError(f"--workdir {workdir} cannot be written ({error.strerror}); name another") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise WorkdirError(f"another process is training in {workdir}; wait for it, or name another") from error
        yield


def read_summary(workdir: Path) -> dict[str, Any]:
    """What a finished run came to; empty where there is no summary.json, or not a whole one."""
    try:
        return dict(json.loads((workdir / "summary.json").read_text()))
    except (OSError, ValueError, TypeError):
        return {}


def write_json(path: Path, value: dict[str, Any] | list[Any]) -> None:
    """Writes a whole file or none: what a later run reads must never be half there."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(value, indent=2, allow_nan=False) + "\n")
    partial.replace(path)
