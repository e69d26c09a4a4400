"""A trained run, loaded: its GAN, and the state of one of its checkpoints."""

import contextlib
import os
from pathlib import Path
from typing import Literal, get_args

from jaxgan.gan import GAN, GANState, init
from jaxgan.recipes import RecipeError, of_run
from jaxgan.run import checkpoint
from jaxgan.run.numerics import root_key

Weights = Literal["averaged", "last", "best"]


def load(
    workdir: str | os.PathLike[str], weights: Weights = "averaged", recipe: str | os.PathLike[str] | None = None
) -> tuple[GAN, GANState]:
    """The GAN of a run, and its state.

        gan, state = jaxgan.load("runs/digits")
        images = jaxgan.sample(gan, state, jax.random.key(1), 64)
        codes = gan.gen.apply(state.averaged_gen, images, jaxgan.Context(), method="encode")

    Args:
      workdir: the run's folder.
      weights: which generator `state.averaged_gen` is: the average over training; the last weights; or the average at
        the best score, with the state of that step.
      recipe: the Python file that defines the run's recipe, where one of your own does.

    Raises:
      RecipeError: the folder holds no run, or one of another recipe.
      CheckpointError: there is no checkpoint, or it is damaged.
      ValueError: there are no such weights, or no checkpoint has a score.
    """
    if weights not in get_args(Weights):
        raise ValueError(f"weights must be one of {', '.join(get_args(Weights))}, not {weights!r}")
    folder = Path(workdir)
    if not (folder / "config.json").is_file():
        raise RecipeError(f"{folder} holds no run (there is no config.json); name the workdir of one")
    gan = of_run(folder, Path(recipe) if recipe else None).build()
    like = init(gan, root_key(0))
    with contextlib.closing(checkpoint.open_folder(folder / "checkpoints", read_only=True)) as checkpoints:
        if weights == "best" and checkpoints.best() is None:
            raise ValueError(f"{checkpoints.path}: no checkpoint has a score")
        state = checkpoint.restore(checkpoints, like, weights == "best")
    return gan, state.replace(averaged_gen=state.gen.variables) if weights == "last" else state
