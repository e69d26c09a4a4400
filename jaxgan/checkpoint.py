"""Checkpoints of a whole state, by Orbax; nothing else knows about Orbax.

A checkpoint is written in the background and appears under its step's name only when it is whole.
Beside the arrays it holds their SHA-256, so that what is restored is known to be what was saved.
"""

import contextlib
import gc
import hashlib
import logging
import os
import time
import traceback
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp


class CheckpointError(ValueError):
    """A checkpoint that cannot be restored or written; the message names it and says what would help."""


def open_manager(
    directory: str | os.PathLike, keep: int | None = None, read_only: bool = False
) -> ocp.CheckpointManager:
    """Opens a folder of checkpoints, clearing away any that a killed process left half written.

    Args:
      directory: made when the first checkpoint is saved.
      keep: how many of the newest to keep; None keeps all.
      read_only: leaves all as it is, since a run may be writing there.
    """
    logging.getLogger("absl").setLevel(logging.CRITICAL)  # what fails is raised, too
    options = ocp.CheckpointManagerOptions(
        max_to_keep=keep,
        cleanup_tmp_directories=not read_only,
        read_only=read_only,
        async_options=ocp.AsyncOptions(timeout_secs=120),  # how long processes wait for one that failed to write
    )
    handlers = {"state": ocp.StandardCheckpointHandler(), "digest": ocp.JsonCheckpointHandler()}
    return ocp.CheckpointManager(Path(directory).absolute(), options=options, item_handlers=handlers)


def save(manager: ocp.CheckpointManager, step: int, state: Any) -> None:
    """Starts saving `state`, a tree of arrays and typed keys; returns before it is on disk.

    Raises:
      CheckpointError: this or the last checkpoint could not be written.
    """
    # In the host's memory, where no device has a say in how they are stored; and a copy, for the next step is free
    # to overwrite the state's own buffers while these are written.
    arrays = jax.tree.map(np.array, _key_data(state))
    digest = ocp.args.JsonSave({"state_sha256": state_sha256(arrays)})
    with _saving(manager):
        manager.save(step, args=ocp.args.Composite(state=ocp.args.StandardSave(arrays), digest=digest))


def finish(manager: ocp.CheckpointManager) -> None:
    """Waits until all that was saved is on disk.

    Raises:
      CheckpointError: it could not be written.
    """
    with _saving(manager):
        manager.wait_until_finished()


def restore(manager: ocp.CheckpointManager, like: Any) -> Any:
    """The newest checkpoint.

    Args:
      manager: from `open_manager`.
      like: a state with the same structure, shapes, dtypes and kinds of key; its values are not used.

    Raises:
      CheckpointError: there is none, it is damaged, or it is of another structure than `like`.
    """
    step = manager.latest_step()
    if step is None:
        raise CheckpointError(f"{manager.directory} holds no checkpoint; train first")
    path = manager.directory / str(step)
    target = jax.tree.map(lambda x: np.empty(x.shape, x.dtype), _key_data(like))
    args = ocp.args.Composite(state=ocp.args.StandardRestore(target), digest=ocp.args.JsonRestore())
    try:
        with _quiet():
            restored = manager.restore(step, args=args)
        whole = state_sha256(restored.state) == restored.digest["state_sha256"]
    except jax.errors.JaxRuntimeError:  # of communication, where another process has ended
        raise
    except Exception as error:  # Orbax and TensorStore raise nearly every kind
        raise CheckpointError(_damaged(path, manager)) from error
    if not whole:
        raise CheckpointError(_damaged(path, manager))
    return jax.tree.map(_with_key, like, restored.state)


def read(directory: str | os.PathLike, like: Any) -> Any:
    """The newest checkpoint of a folder in which a run may be writing; as `restore`."""
    with contextlib.closing(open_manager(directory, read_only=True)) as manager:
        return restore(manager, like)


def state_sha256(state: Any) -> str:
    """SHA-256 over the name, type, shape and bytes of every array of a tree, in the tree's order."""
    digest = hashlib.sha256()
    for path, array in jax.tree_util.tree_leaves_with_path(_key_data(state)):
        array = np.asarray(array)
        digest.update(f"{jax.tree_util.keystr(path)} {array.dtype.str} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _is_key(x: Any) -> bool:
    return jnp.issubdtype(x.dtype, jax.dtypes.prng_key)


def _key_data(state: Any) -> Any:
    return jax.tree.map(lambda x: jax.random.key_data(x) if _is_key(x) else x, state)


def _with_key(like: Any, array: jax.Array) -> jax.Array:
    return jax.random.wrap_key_data(array, impl=str(jax.random.key_impl(like))) if _is_key(like) else jnp.asarray(array)


def _damaged(path: Path, manager: ocp.CheckpointManager) -> str:
    older = [step for step in manager.all_steps() if step != manager.latest_step()]
    then = f"go on from step {max(older)}" if older else "start anew"
    return f"checkpoint {path} is damaged or of another version; move it away to {then}"


@contextlib.contextmanager
def _saving(manager: ocp.CheckpointManager):
    try:
        with _quiet():
            yield
    except jax.errors.JaxRuntimeError:
        raise
    except Exception as error:  # Orbax and TensorStore raise nearly every kind here too
        why = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise CheckpointError(
            f"a checkpoint cannot be written to {manager.directory} ({why}); "
            "make room, then the same command goes on from the newest whole one"
        ) from error


@contextlib.contextmanager
def _quiet():
    """Silences the dozens of tracebacks that Orbax's background threads print about a file that fails."""
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere):
        try:
            yield
        except BaseException as error:
            traceback.clear_frames(error.__traceback__)  # what they hold complains when it is freed
            gc.collect()
            time.sleep(0.3)  # for the threads to finish
            raise
