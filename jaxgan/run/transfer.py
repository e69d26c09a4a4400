"""A run that starts from the weights of another one: what of them fits is taken, and the rest begins anew."""

import contextlib
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from jaxgan.gan import GANState
from jaxgan.run import checkpoint
from jaxgan.run.arrays import by_name, shapes
from jaxgan.run.errors import RunError

Weights = Literal["last", "best", "averaged"]


class Found(NamedTuple):
    """A checkpoint of another run: its step, the SHA-256 of its state, and its arrays, as nested dictionaries."""

    step: int
    sha256: str
    arrays: dict[str, Any]


def read(workdir: str, weights: Weights) -> Found:
    """The checkpoint of a run that another one starts from: the newest, or with "best" the one of the best score.

    Raises:
      RunError: the folder holds no checkpoint, or none with a score.
      CheckpointError: it is damaged.
    """
    folder = Path(workdir).expanduser() / "checkpoints"
    if not folder.is_dir():
        holds = "holds no checkpoints" if folder.parent.is_dir() else "is no folder"
        raise RunError(f"`init_from` {workdir} {holds}; name the workdir of a run")
    with contextlib.closing(checkpoint.open_folder(folder, read_only=True)) as checkpoints:
        best = checkpoints.best() if weights == "best" else None
        step = best.step if best else checkpoints.latest_step()
        if step is None or (weights == "best" and best is None):
            none = "no checkpoint" if step is None else "no checkpoint with a score"
            raise RunError(f"`init_from` {workdir} holds {none}; train it first, or choose other `init_weights`")
        arrays, sha256 = checkpoint.read_any(checkpoints, step)
    return Found(step, sha256, arrays)


def transferred(state: GANState, found: Found, workdir: str, weights: Weights) -> tuple[GANState, str]:
    """An initial state with the parameters and batch statistics of another run, as far as names and shapes agree.

    Both networks are taken, and the average of the generator; with "averaged", the generator itself is that average.
    Optimisers, the memory, the step and the key are the initial ones.

    Args:
      state: the initial state.
      found: the other run's checkpoint.
      workdir: its folder, for messages.
      weights: which of its generators.

    Returns:
      The state; and a line that says what was taken, and which layers begin anew.

    Raises:
      RunError: nothing of a network fits.
    """
    old = found.arrays
    gen, gen_anew = _fitting(state.gen.variables, old["averaged_gen" if weights == "averaged" else "gen"])
    disc, disc_anew = _fitting(state.disc.variables, old["disc"])
    for name, variables, anew in (("gen", gen, gen_anew), ("disc", disc, disc_anew)):
        if len(anew) == len(jax.tree.leaves(variables)):
            raise RunError(
                f"`init_from` {workdir}: its {name} has no array with the name and the shape of one of this run's"
            )
    averaged, _ = _fitting(gen, old["averaged_gen"])
    state = state.replace(gen=state.gen.replace(**gen), disc=state.disc.replace(**disc), averaged_gen=averaged)
    count = len(jax.tree.leaves((gen, disc)))
    layers = [f"{name} {path[1]}" for name, paths in (("gen", gen_anew), ("disc", disc_anew)) for path in paths]
    begin = f"; these begin anew: {', '.join(dict.fromkeys(layers))}" if layers else ""
    taken = count - len(gen_anew) - len(disc_anew)
    return state, f"{taken} of {count} arrays are those of {workdir} at step {found.step:,}{begin}"


def _fitting(new: dict[str, Any], old: dict[str, Any]) -> tuple[dict[str, Any], list[tuple[str, ...]]]:
    """The variables of a network, each from `old` where that has one of the same name, shape and type; and the rest."""
    there, kinds, here = by_name(old), shapes(old), shapes(new)
    anew = [names for names, kind in here.items() if kinds.get(names) != kind]
    taken = [x if names in anew else jnp.asarray(there[names]) for names, x in by_name(new).items()]
    return jax.tree.unflatten(jax.tree.structure(new), taken), anew
