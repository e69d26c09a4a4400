"""Checkpoints of a whole state, by Orbax; nothing else knows about Orbax.

A checkpoint is written in the background and appears under its step's name only when it is whole. Beside the arrays
it holds their SHA-256, so that what is restored is known to be what was saved, and their score where they have one.
Each one is read back before an older one is removed for it, and the one of the lowest score in each unit is kept.
Every process has the whole state: one of them writes, the others read, and Orbax knows of none but its own.
"""

import contextlib
import dataclasses
import os
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from jaxgan.data.dataset import first_line
from jaxgan.randomness import key_data, with_keys
from jaxgan.run import plain_paths
from jaxgan.run.arrays import arranged, difference, names_of, sha256_of_dicts, shapes, state_sha256
from jaxgan.run.best import Best, Score, lowest_steps
from jaxgan.run.signals import interrupted_as_usual

# What a system says of files that may be whole: why one cannot be written, and why one cannot be read.
FULL = re.compile("No space left on device|Disk quota exceeded|File too large")
REFUSED = re.compile(
    "Read-only file system|Permission denied|Too many open files|Input/output error|Stale (NFS )?file handle|timed out"
)
AGAIN = "put back a copy of it, or train in another folder"
FORMAT = 1  # the number of a checkpoint's form, as `recipes.settings.FORMAT` of config.json's


class CheckpointError(ValueError):
    """A checkpoint that cannot be restored or written; the message names it and says what would help."""


@dataclasses.dataclass(frozen=True, eq=False)
class Checkpoints:
    """An open folder of checkpoints, as from `open_folder`.

    Attributes:
      path: the folder.
      keep: how many of the newest are kept, besides the best of each unit; None keeps all.
      manager: Orbax's CheckpointManager.
      link: what Orbax knows the folder by, where that is not its path.
      inode: the folder's number, by which it is known to be the same; None where it is only read.
    """

    path: Path
    keep: int | None
    manager: Any
    link: Path | None = None
    inode: int | None = None

    def close(self) -> None:
        """Waits for what is being written, and closes the folder."""
        with contextlib.suppress(Exception):  # told by `save` or `finish` already
            self.manager.close()
        plain_paths.remove(self.link)

    def steps(self) -> list[int]:
        """Those of the whole checkpoints, the newest last."""
        return sorted(self.manager.all_steps())

    def reload(self) -> None:
        """Looks again which there are."""
        self.manager.reload()

    def latest_step(self) -> int | None:
        """That of the newest checkpoint, or of the one that is being written; None where there is none."""
        return self.manager.latest_step()

    def scores(self) -> dict[int, Score]:
        """Those of the checkpoints that have one, by step, the newest last."""
        known = {step: self.known(step) for step in self.steps()}
        return {step: Score(x["score"], x.get("unit")) for step, x in known.items() if "score" in x}

    def best(self) -> Best | None:
        """The best one; None where none has a score."""
        scores = self.scores()
        if not scores:
            return None
        unit = [*scores.values()][-1].unit
        step = lowest_steps(scores)[unit]
        return Best(step, scores[step], [other for other, score in scores.items() if score.unit != unit])

    def known(self, step: int) -> dict[str, Any]:
        """What is written beside the arrays of a checkpoint; {} where it is damaged, as `restore` would say."""
        try:
            return dict(self.manager.restore(step, args=ocp.args.Composite(digest=ocp.args.JsonRestore())).digest)
        except Exception:
            return {}


def open_folder(directory: str | os.PathLike[str], keep: int | None = None, read_only: bool = False) -> Checkpoints:
    """Opens a folder of checkpoints, clearing away any that a killed process left half written.

    Args:
      directory: made where it is not there yet and not only read; its path may hold any characters.
      keep: how many of the newest to keep; None keeps all.
      read_only: leaves all as it is, since a run may be writing there.
    """
    path, me = Path(directory).absolute(), jax.process_index()
    if not read_only:
        path.mkdir(parents=True, exist_ok=True)
    alone = ocp.options.MultiprocessingOptions(primary_host=me, active_processes={me})
    options = ocp.CheckpointManagerOptions(
        create=False,
        cleanup_tmp_directories=not read_only,
        read_only=read_only,
        multiprocessing_options=alone,
        async_options=ocp.AsyncOptions(
            timeout_secs=10**6,  # a disk may be slow, and Orbax takes a clock set forward for time that has passed
            create_directories_asynchronously=False,  # else threads wait for minutes where one cannot be made
            barrier_sync_fn=lambda **_: None,  # JAX's would be asked even so, and is shut down where a run ends early
        ),
    )
    handlers = {
        "state": ocp.StandardCheckpointHandler(multiprocessing_options=alone),
        "digest": ocp.JsonCheckpointHandler(multiprocessing_options=alone),
    }
    link = plain_paths.link(path)
    try:
        manager = ocp.CheckpointManager(link or path, options=options, item_handlers=handlers)
    except BaseException:
        plain_paths.remove(link)
        raise
    manager.reached_preemption = lambda step: False  # which would count its steps among the turns of `stop_signals`
    return Checkpoints(path, keep, manager, link, None if read_only else path.stat().st_ino)


def save(checkpoints: Checkpoints, step: int, state: Any, score: Score | None = None) -> None:
    """Starts saving `state`, a tree of arrays and typed keys; returns before it is on disk.

    The checkpoint before it is finished first, as by `finish`.

    Args:
      checkpoints: as from `open_folder`.
      step: its name.
      state: what is saved.
      score: its score, where it has one.

    Raises:
      CheckpointError: this or the last checkpoint could not be written.
    """
    finish(checkpoints, state)
    # In the host's memory, where no device has a say in how they are stored; and a copy, for the next step is free
    # to overwrite the state's own buffers while these are written.
    arrays = jax.tree.map(np.array, key_data(state))
    known: dict[str, Any] = {} if score is None else {"score": score.value, "unit": score.unit}
    known |= {"format": FORMAT, "state_sha256": state_sha256(arrays), "names": names_of(arrays)}
    digest = ocp.args.JsonSave(known)
    with _saving(checkpoints, step):
        checkpoints.manager.save(step, args=ocp.args.Composite(state=ocp.args.StandardSave(arrays), digest=digest))


def finish(checkpoints: Checkpoints, like: Any) -> None:
    """Waits until all that was saved is on disk; reads the newest back, and only then removes what is not kept.

    Args:
      checkpoints: as from `open_folder`.
      like: as in `restore`.

    Raises:
      CheckpointError: it could not be written, or cannot be read. Older checkpoints are left then.
    """
    with _saving(checkpoints, None):
        checkpoints.manager.wait_until_finished()
        if _is_elsewhere(checkpoints):
            raise FileNotFoundError(checkpoints.path)
    steps = checkpoints.steps()
    if not steps:
        return
    _read(checkpoints, steps[-1], like)
    with _saving(checkpoints, steps[-1]):
        older = steps[: -checkpoints.keep] if checkpoints.keep else []
        best = lowest_steps(checkpoints.scores()).values() if older else ()
        for step in older:
            if step not in best:
                checkpoints.manager.delete(step)


def restore(checkpoints: Checkpoints, like: Any, best: bool = False) -> Any:
    """The newest checkpoint, or the best.

    Args:
      checkpoints: as from `open_folder`.
      like: a state with the same structure, shapes, dtypes and kinds of key; its values are not used.
      best: whether that of `Checkpoints.best` is wanted.

    Raises:
      CheckpointError: there is none, it is damaged, or it holds other arrays than `like`.
    """
    step = checkpoints.latest_step()
    if step is None:
        raise CheckpointError(f"{checkpoints.path} holds no checkpoint; train first")
    if best:
        found = checkpoints.best()
        if found is None:
            raise CheckpointError(f"{checkpoints.path}: no checkpoint has a score; score the run as it trains")
        step = found.step
    return with_keys(like, jax.tree.map(jnp.asarray, _read(checkpoints, step, like)))


def restore_whole(checkpoints: Checkpoints, like: Any) -> tuple[Any, list[int]]:
    """The newest checkpoint that is whole, and the steps of newer ones, which are damaged; else as `restore`."""
    damaged: list[int] = []
    for step in reversed(checkpoints.steps()):
        if (found := _whole(checkpoints, step, like)) is not None:
            return with_keys(like, jax.tree.map(jnp.asarray, found)), damaged
        damaged.append(step)
    raise CheckpointError(f"{checkpoints.path}: no checkpoint can be read: damaged, or of another version; {AGAIN}")


def put_aside(checkpoints: Checkpoints, steps: Collection[int]) -> None:
    """Renames folders of damaged checkpoints to STEP.damaged, or STEP.damaged-2 …; a CheckpointError says why not."""
    for step in steps:
        folder, number = checkpoints.path / str(step), 1
        while (aside := Path(f"{folder}.damaged{f'-{number}' if number > 1 else ''}")).exists():
            number += 1
        with _saving(checkpoints, step):
            folder.rename(aside)


def read(directory: str | os.PathLike[str], like: Any, best: bool = False) -> Any:
    """The newest checkpoint, or the best, of a folder in which a run may be writing; as `restore`."""
    with contextlib.closing(open_folder(directory, read_only=True)) as checkpoints:
        return restore(checkpoints, like, best)


def read_any(checkpoints: Checkpoints, step: int) -> tuple[dict[str, Any], str]:
    """The arrays of a checkpoint, whatever they are, as nested dictionaries; and the SHA-256 of the state.

    Raises:
      CheckpointError: it is damaged, or cannot be read.
    """
    path = checkpoints.path / str(step)
    try:
        found = _restored(checkpoints, step, None)
        sha256, names = found.digest["state_sha256"], found.digest.get("names")
        whole = names is None or sha256_of_dicts(found.state, names) == sha256
    except Exception as error:  # Orbax and TensorStore raise nearly every kind
        raise CheckpointError(f"checkpoint {path} cannot be read ({first_line(error)}); name another run") from error
    if names is None:
        raise CheckpointError(f"checkpoint {path} is of an older version; go on with its run for a step first")
    if not whole:
        raise CheckpointError(f"checkpoint {path} is damaged; name another run")
    return found.state, sha256


def _read(checkpoints: Checkpoints, step: int, like: Any) -> Any:
    """The arrays of a checkpoint, compared with their digest."""
    path = checkpoints.path / str(step)
    if (found := _whole(checkpoints, step, like)) is not None:
        return found
    older = any(other < step for other in checkpoints.steps())
    then = "older ones are beside it: without `strict` a run goes on from the newest whole one" if older else AGAIN
    raise CheckpointError(f"checkpoint {path} cannot be read: it is damaged or of another version; {then}")


def _whole(checkpoints: Checkpoints, step: int, like: Any) -> Any | None:
    """The arrays of a checkpoint; None where they cannot be read, or are not those that were saved.

    Raises:
      CheckpointError: it is of a newer version, the files may not be read, or they hold other arrays than `like`.
    """
    path, target = checkpoints.path / str(step), jax.tree.map(lambda x: np.empty(x.shape, x.dtype), key_data(like))
    if isinstance(number := checkpoints.known(step).get("format"), int) and number > FORMAT:
        raise CheckpointError(f"checkpoint {path} is of a newer version, whose format is {number}; upgrade jaxgan")
    try:
        restored = _restored(checkpoints, step, target)
        whole = state_sha256(restored.state) == restored.digest["state_sha256"]
        if whole and shapes(restored.state) == shapes(target):
            return restored.state
    except Exception as error:  # Orbax and TensorStore raise nearly every kind
        known = REFUSED.search(str(error))
        if why := "there is not enough memory" if isinstance(error, MemoryError) else known and known[0]:
            raise CheckpointError(f"checkpoint {path} cannot be read ({why}); mend that first") from error
    try:
        restored = _restored(checkpoints, step, None)
        there = shapes(restored.state)
    except Exception:
        return None
    here = shapes(target)
    differ = [name for name in {**here, **there} if here.get(name) != there.get(name)]
    if not differ:  # it may be older than a field that holds nothing here, which Orbax does not take for the same tree
        state = arranged(restored.state, target)
        return state if state_sha256(state) == restored.digest["state_sha256"] else None
    more = f" (the first of {len(differ)} that differ)" if len(differ) > 1 else ""
    why = f"{difference(differ[0], there, here)}{more}; use the recipe as it was, or name another `workdir`"
    raise CheckpointError(f"checkpoint {path} does not fit the recipe: {why}")


def _restored(checkpoints: Checkpoints, step: int, target: Any | None) -> Any:
    """What Orbax reads: in the form of `target`, or without one whatever is there."""
    args = ocp.args.Composite(state=ocp.args.StandardRestore(target), digest=ocp.args.JsonRestore())
    with interrupted_as_usual():
        return checkpoints.manager.restore(step, args=args)


def _is_elsewhere(checkpoints: Checkpoints) -> bool:
    """Whether an open folder was moved or removed, perhaps with another in its place now."""
    try:
        return checkpoints.path.stat().st_ino != checkpoints.inode
    except OSError as error:
        return isinstance(error, FileNotFoundError)


@contextlib.contextmanager
def _saving(checkpoints: Checkpoints, step: int | None) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # Orbax and TensorStore raise nearly every kind here too
        if _is_elsewhere(checkpoints):
            raise CheckpointError(
                f"{checkpoints.path} was moved, or removed, while the run wrote there; put it back, or name where it "
                "is now, and the same command goes on from the newest checkpoint"
            ) from error
        full = FULL.search(str(error))
        known = full or REFUSED.search(str(error))
        why = known[0] if known else first_line(error)
        if checkpoints.link is not None:
            why = why.replace(str(checkpoints.link), str(checkpoints.path))
        if step is None:  # what is being written
            names = (p.name.partition(".")[0] for p in checkpoints.path.glob("*.orbax-checkpoint-tmp*"))
            step = max(map(int, filter(str.isdecimal, names)), default=None)
        path = checkpoints.path if step is None else checkpoints.path / str(step)
        newest = checkpoints.latest_step()
        raise CheckpointError(
            f"a checkpoint cannot be written to {path} ({why}); {'make room' if full else 'mend that'}, then the same "
            f"command {'begins anew' if newest is None else 'goes on from the newest whole one'}"
        ) from error
