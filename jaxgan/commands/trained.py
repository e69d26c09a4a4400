"""A trained run, as `sample` and `evaluate` take one: their common flags, its recipe, and one of its checkpoints."""

import contextlib
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import tyro

import jaxgan
from jaxgan import GAN, GANState, recipes
from jaxgan.commands.cli import fail, keep_programs
from jaxgan.evaluation.scores import BEST_BY
from jaxgan.recipes.settings import Recipe
from jaxgan.run import checkpoint
from jaxgan.run.numerics import root_key, start_devices
from jaxgan.run.screen import say
from jaxgan.run.workdir import read_config


@dataclasses.dataclass(frozen=True)
class Trained:
    """Which run, and which of its generators."""

    folder: Annotated[Path | None, tyro.conf.Positional, tyro.conf.arg(metavar="WORKDIR", help_behavior_hint="")] = None
    """The run's folder."""
    seed: int = 0
    """Decides the samples' latents: sample i is the same for every count."""
    weights: Literal["averaged", "last", "best"] = "averaged"
    """Which generator: the average over training, the one of the last step, or the average at the best score."""
    data: str | None = None
    """Where the run's data is now (by default where it was)."""
    data_dir: str | None = None
    """Where TensorFlow Datasets keeps its data (by default ~/tensorflow_datasets)."""
    recipe: Path | None = None
    """The Python file that defines the run's recipe, where a file of yours does."""
    accept_changed_file: bool = False
    """Take that file as it is, though it has been changed since the run began."""
    traceback: bool = False
    """Show the whole traceback of an error."""

    @property
    def workdir(self) -> Path:
        """The run's folder; ends the program where none was given."""
        return self.folder or fail("name the WORKDIR of a run of experiments.train")


def check(flags: Trained) -> None:
    """Ends the program where the folder holds no run, or the seed is none."""
    if not (flags.workdir / "config.json").is_file():
        fail(f"{flags.workdir} holds no run (there is no config.json); give the workdir of a run of experiments.train")
    if not 0 <= flags.seed < 2**32:
        fail(f"--seed must be from 0 to {2**32 - 1}, not {flags.seed}")


def load(flags: Trained) -> tuple[Recipe, GAN, GANState]:
    """The recipe, with the data that `--data` names; its GAN; and the newest or the best checkpoint's state."""
    start_devices()
    recipe = recipes.of_run(flags.workdir, flags.recipe, flags.accept_changed_file)
    recipe = recipe.replace(data=flags.data) if flags.data else recipe
    gan, folder = recipe.build(), flags.workdir / "checkpoints"
    keep_programs()
    if not folder.is_dir():
        fail(f"{flags.workdir} holds no checkpoint; train first")
    with contextlib.closing(checkpoint.open_folder(folder, read_only=True)) as checkpoints:
        best = checkpoints.best() if flags.weights == "best" else None
        if flags.weights == "best" and best is None and checkpoints.latest_step() is not None:
            name, of_event = recipe.best_by[0], recipe.best_by != BEST_BY
            needs = f"{name!r}, which an event of the recipe has to find" if of_event else "score"
            how = "" if of_event else "; train with --evaluate-every N"
            fail(f"{checkpoints.path}: no checkpoint has a {needs}{how}")
        if best and best.apart:
            of, by = ", ".join(f"{step:,}" for step in best.apart), best.score.unit or "unknown"
            say(f"note: the best of the steps scored by: {by}; step {of} was scored otherwise", "stderr")
        return recipe, gan, checkpoint.restore(checkpoints, jaxgan.init(gan, root_key(0)), flags.weights == "best")


def check_data(flags: Trained, name: str, identity: Callable[[], str]) -> None:
    """Ends the program where the data of that name are not those that the run was trained on."""
    known = read_config(flags.workdir).get("data_sha256")
    if known is not None and identity() != known:
        fail(f"{name} does not hold the images of this run; --data says where they are now")
