"""The folder of a run: whose it is, and who writes in it.

config.json says which run it holds; summary.json what came of it.
"""

import contextlib
import errno
import json
import os
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from jaxgan.files import atomic_write

# Fields that say where the data are found. Which data they are is what data_sha256 says.
WHERE = ("data", "split")
TELLS = ("format", "class_names")  # fields that make no run another one


class WorkdirError(ValueError):
    """A folder that cannot be this run's; the message says why."""


def check(
    workdir: Path, config: Mapping[str, Any], defaults: Mapping[str, Any], accepted: Collection[str] = ()
) -> None:
    """Refuses a folder that holds another run, or that cannot be written to; writes nothing.

    The data of a run are known by their digest: where both configs hold `data_sha256`, the fields of `WHERE` may
    differ. While `config` does not hold it yet, and the folder's does, the data are not compared.

    Args:
      workdir: the folder; it need not exist.
      config: what decides this run's numbers.
      defaults: the value of each field that a config may lack, since it was written by an older or a newer version.
      accepted: fields that may differ.

    Raises:
      WorkdirError: with the settings that differ, where it is another run's.
    """
    path = workdir / "config.json"
    unknown = f"{path} is not a run's config.json; name another `workdir`"
    try:
        if path.exists():
            before = json.loads(path.read_text())
            if not isinstance(before, dict) or "recipe" not in before:
                raise WorkdirError(unknown)
            if (number := before.get("format", 1)) > config.get("format", 1):
                raise WorkdirError(f"{path} is of a newer version, whose format is {number}; upgrade jaxgan")
            if differ := differences(before, json.loads(json.dumps(config)), defaults, accepted):
                raise WorkdirError(f"{workdir} holds another run ({'; '.join(differ)}); name another `workdir`")
        elif (workdir / "checkpoints").exists() or (workdir / "metrics.jsonl").exists():
            raise WorkdirError(f"{workdir} holds a run but no config.json to know it by; name another `workdir`")
    except (json.JSONDecodeError, UnicodeDecodeError, TypeError):
        raise WorkdirError(unknown) from None
    except OSError as error:
        raise WorkdirError(f"`workdir` {workdir} cannot be read ({error.strerror}); name another") from error
    folder = next(p for p in (workdir, *workdir.absolute().parents) if p.exists())
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        why = "is not writable" if folder.is_dir() else "is not a folder"
        raise WorkdirError(f"`workdir` {workdir}: {folder} {why}; name another")


def differences(
    there: dict[str, Any], here: dict[str, Any], defaults: Mapping[str, Any], accepted: Collection[str]
) -> list[str]:
    """What makes two configs those of different runs, as text."""
    passed_over = {*TELLS, *accepted}
    if there.get("data_sha256") is None or here.get("data_sha256") is None:
        passed_over.add("data_sha256")
    if there.get("data_sha256") is not None and here.get("data_sha256") in (None, there["data_sha256"]):
        passed_over.update(WHERE)
    there, here = {**defaults, **there}, {**defaults, **here}
    return [
        f"{name} is {there.get(name)!r} there, {here.get(name)!r} here"
        for name in {**here, **there}
        if name not in passed_over and there.get(name) != here.get(name)
    ]


@contextlib.contextmanager
def claim(workdir: Path, config: Mapping[str, Any]) -> Iterator[None]:
    """Makes the folder this run's, and keeps other processes from training in it meanwhile.

    The lock goes with the process, however that ends. A config.json that is there is left as it is; `record` writes it
    once the run's checkpoint has been read.

    Raises:
      WorkdirError: it cannot be written to, or another process is training in it.
    """
    import fcntl

    with contextlib.ExitStack() as stack:
        with _writing(workdir):
            workdir.mkdir(parents=True, exist_ok=True)
            lock = stack.enter_context((workdir / ".lock").open("w"))
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                why = f"another process is training in {workdir}; wait for it, or name another `workdir`"
                raise WorkdirError(why) from error
            if not (workdir / "config.json").exists():
                write_json(workdir / "config.json", config)
        yield


def record(workdir: Path, config: Mapping[str, Any]) -> None:
    """Writes config.json; a WorkdirError says where that cannot be."""
    with _writing(workdir):
        write_json(workdir / "config.json", config)


@contextlib.contextmanager
def _writing(workdir: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise WorkdirError(f"`workdir` {workdir} cannot be written ({error.strerror}); name another") from error


def read_config(workdir: Path) -> dict[str, Any]:
    """What config.json says; empty where there is none, or not a whole one."""
    return _read(workdir / "config.json")


def read_summary(workdir: Path) -> dict[str, Any]:
    """What a finished run came to; empty where there is no summary.json, or not a whole one."""
    return _read(workdir / "summary.json")


def _read(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
        return {}


def write_json(path: Path, value: Mapping[str, Any] | list[Any]) -> None:
    """Writes a whole file or none: what a later run reads must never be half there."""
    with atomic_write(path) as partial:
        partial.write_text(json.dumps(value, indent=2, allow_nan=False) + "\n")


def append(path: Path, content: bytes) -> None:
    """Adds the whole of `content` to a file, or nothing of it.

    Raises:
      OSError: it cannot be written, for example because the disk is full.
    """
    with path.open("ab", buffering=0) as file:
        size = file.seek(0, os.SEEK_END)
        try:
            if file.write(content) < len(content):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        except OSError:
            file.truncate(size)
            raise
