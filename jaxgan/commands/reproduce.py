"""Trains and scores the recipes, and draws the results that are shown: `python -m experiments.reproduce [RECIPE …]`.

Started again, it goes on where it was stopped; what is finished is only drawn again. The first seed of each comes
first, then the second of each.
"""

import dataclasses
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from jaxgan import images, recipes
from jaxgan.commands import sample
from jaxgan.commands.cli import check_flags, check_names, parse
from jaxgan.commands.scored_run import Scored
from jaxgan.commands.seeds import run_seeds
from jaxgan.commands.study import Record, Study, carry_out, machine
from jaxgan.commands.train import for_data
from jaxgan.recipes.settings import Recipe
from jaxgan.run import Options, RunError
from jaxgan.run.metrics import read_metrics
from jaxgan.run.report import grids as sample_grids
from jaxgan.run.workdir import read_summary

# Updates on two CPU cores, and how many seeds. Where None, the document's own number takes less than 40 minutes; for
# tf2_dcgan it is the number after which the document shows its samples.
UPDATES = {
    "digits": (None, 3),
    "digits_conditional": (None, 3),
    "tf2_gan": (None, 3),
    "tf2_dcgan": (3_000, 3),
    "gan_elements": (None, 3),
    "canton_lsgan": (6_000, 1),
    "keras_dcgan": (10_000, 1),
    "keras_mnist": (300, 1),
    "wgan_gp": (6_000, 1),
    "sngan_small": (None, 1),
    "r3gan_small": (None, 1),
    "r3gan_small_conditional": (None, 1),
    "stylegan2_small": (None, 1),
}

# What the command `sample` draws besides samples, by the ends of the files' names.
PICTURES = {
    "canton_lsgan": {"-patch": ["--latent-grid", "8", "8"]},
    "gan_elements": {"-beside-real": ["--beside-real"], "-interpolation": ["--interpolate", "11", "--count", "6"]},
}


def _final(score: str, which: str = "final") -> Callable[[Record], list[float]]:
    """A column of a score of each seed."""
    return lambda of: (of[which] or {})["scores"][score]["values"]


STUDY = Study(
    "results",
    "recipe",
    {name: f"`{name}`" for name in UPDATES},
    {
        "updates": lambda of: f"{of['updates']:,}",
        "seeds": lambda of: len(of["final"]["seeds"]),
        "Fréchet distance, last": _final("frechet_distance"),
        "best": _final("frechet_distance", "best"),
        "floor": lambda of: of["final"]["floor"]["frechet_distance"],
        "inception score": _final("inception_score"),
        "precision": _final("precision"),
        "recall": _final("recall"),
        "minutes": lambda of: f"{np.mean(of['minutes']):.1f}",
    },
)


@dataclasses.dataclass(frozen=True)
class Reproduce:
    """Trains and scores recipes on their own data, and draws their results."""

    recipes: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="[RECIPE …]")] = tuple(UPDATES)
    """Which ones."""
    runs: Path = Path("runs/results")
    """Where the runs are kept, a folder for each recipe."""
    out: Path = Path("experiments/results")
    """Where the pictures and results.json are written, and the table in README.md."""
    data_dir: str | None = None
    """Where TensorFlow Datasets keeps its data (by default ~/tensorflow_datasets)."""
    seeds: int | None = None
    """How many seeds of each (by default 3, and 1 of those that take longest)."""
    full: bool = False
    """The documents' own numbers of updates, for a GPU."""


def main() -> None:
    """Trains, scores and draws the first seed of each recipe, the second of each, and so on."""
    flags = parse(Reproduce, "experiments.reproduce")
    check_names(flags.recipes, UPDATES, "recipe with results")
    if flags.seeds is not None:
        check_flags(flags, seeds=1)
    wanted = {name: flags.seeds or UPDATES[name][1] for name in flags.recipes}
    carry_out(STUDY, flags.out, wanted, lambda name, seeds: _reproduce(name, seeds, flags))


def _reproduce(name: str, seeds: int, flags: Reproduce) -> Record:
    """Trains and scores a recipe under some seeds, and draws the first: what the table says of it."""
    usual, folder = recipes.get(name), flags.runs / name
    recipe = for_data(usual, usual, flags.data_dir, ("data",))
    steps = recipe.steps if flags.full else UPDATES[name][0] or recipe.steps
    # A run that has gone further, with --full say, is not cut short.
    saved = [int(p.name) for p in (folder / "seed-0" / "checkpoints").glob("*") if p.name.isdecimal()]
    recipe = recipe.replace(steps=max(steps, *saved, 1))
    print(f"{name}: {recipe.steps:,} updates", flush=True)
    every = max(1, recipe.steps // 10)
    options = Options(flags.data_dir, log_every=20, sample_every=every, checkpoint_every=min(every, 250))
    found = run_seeds(recipe, folder, seeds, options, Scored(min(1_000, every)))
    ended = [seed for seed in found["seeds"] if "diverged" not in seed]
    if found["diverged"]:
        print(f"{name}: {found['diverged']} of {seeds} seeds diverged", file=sys.stderr)
    if "final" not in found or "diverged" in found["seeds"][0]:
        raise RunError("seed 0 has diverged" if "diverged" in found["seeds"][0] else "seed 0 has no scores to show")
    _draw(recipe, folder / "seed-0", flags)
    metrics = read_metrics(folder / "seed-0")
    late = metrics[-max(1, len(metrics) // 20) :]
    return {
        "updates": recipe.steps,
        "minutes": [round(seed["seconds"] / 60, 1) for seed in ended],
        "machine": machine(read_summary(folder / "seed-0")["devices"][0]),
        "loss_gen": round(float(np.mean([m["loss_gen"] for m in late])), 3),
        "loss_disc": round(float(np.mean([m["loss_disc"] for m in late])), 3),
        "state_sha256": [seed["state_sha256"] for seed in ended],
        "final": found["final"],
        "best": found.get("best"),
        "diverged": found["diverged"],
    }


def _draw(recipe: Recipe, workdir: Path, flags: Reproduce) -> None:
    """The pictures of a finished run."""
    for kind, how in {"": [], **PICTURES.get(recipe.name, {})}.items():
        data = ["--data-dir", flags.data_dir] if flags.data_dir and "--beside-real" in how else []
        sample.main([str(workdir), "--out", str(flags.out / f"{recipe.name}{kind}.png"), *how, *data])
    shutil.copy(workdir / "losses.png", flags.out / f"{recipe.name}-losses.png")
    if recipe.name == "digits":
        shutil.copy(workdir.parent / "seeds.png", flags.out / "digits-seeds.png")
    if recipe.name == "keras_mnist":
        images.save_png(flags.out / "keras_mnist-evolution.png", _evolution(workdir))


def _evolution(workdir: Path, count: int = 6) -> np.ndarray:
    """The sample grids nearest to `count` equally spaced steps, under their steps."""
    from PIL import Image

    grids = {int(path.stem): path for path in sample_grids(workdir)}
    wanted = np.linspace(0, max(grids), count)
    chosen = sorted({min(grids, key=lambda step, at=at: abs(step - at)) for at in wanted})
    small = {f"step {step:,}": np.asarray(Image.open(grids[step]).reduce(2)) for step in chosen}
    return images.beside({name: picture.reshape(*picture.shape[:2], -1) for name, picture in small.items()})
