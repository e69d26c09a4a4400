"""What scripts need of a run in a folder: its recipe, and the state of one of its checkpoints."""

import contextlib
from pathlib import Path
from typing import Literal

import jaxgan
from jaxgan import GAN, GANState
from jaxgan.commands.cli import fail
from jaxgan.run import checkpoint
from jaxgan.run.numerics import root_key
from jaxgan.run.screen import say

Weights = Literal["averaged", "last", "best"]


def check_workdir(workdir: Path) -> None:
    """Ends the program where a folder holds no run."""
    if not (workdir / "config.json").is_file():
        fail(f"{workdir} holds no run (there is no config.json); give the workdir of a run of experiments.train")


def check_seed(seed: int) -> None:
    """Ends the program where a seed is none."""
    if not 0 <= seed < 2**32:
        fail(f"--seed must be from 0 to {2**32 - 1}, not {seed}")


def read_state(workdir: Path, gan: GAN, weights: Weights = "averaged") -> GANState:
    """The newest checkpoint's state; with `best` that of the checkpoint with the best score during training."""
    if not (workdir / "checkpoints").is_dir():
        fail(f"{workdir} holds no checkpoint; train first")
    with contextlib.closing(checkpoint.open_folder(workdir / "checkpoints", read_only=True)) as checkpoints:
        best = checkpoints.best() if weights == "best" else None
        if best and best.apart:
            of, by = ", ".join(f"{step:,}" for step in best.apart), best.score.unit or "unknown"
            say(f"note: the best of the steps scored by: {by}; step {of} was scored otherwise", "stderr")
        return checkpoint.restore(checkpoints, jaxgan.init(gan, root_key(0)), best=weights == "best")
