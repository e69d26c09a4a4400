"""What games of another shape learn: `python -m experiments.studies.games [RECIPE …]`.

Of held-out images: whether BiGAN's reconstructions and CycleGAN's translations are still the same digit, by MNIST's
classifier; how pure the classes are that InfoGAN found without labels; how near pix2pix's colours come. Started again,
it goes on where it was stopped.
"""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

import jaxgan
from jaxgan import data, evaluation, images, recipes
from jaxgan.commands import scoring, study
from jaxgan.commands.cli import run_script
from jaxgan.commands.scoring import Scorer
from jaxgan.recipes.settings import Recipe
from jaxgan.run.numerics import fixed_numerics
from jaxgan.run.workdir import read_summary

COUNT = 2_000  # held-out images
STUDY = study.Study(
    "games",
    "recipe",
    {name: f"`{name}`" for name in recipes.GAMES},
    {
        "updates": lambda of: f"{of['steps']:,}",
        "what it learned": lambda of: of["seeds"][0]["what"],
        "of held-out images": "learned",
        "Fréchet distance": "frechet_distance",
        "floor": lambda of: study.values(of, "floor")[0],
        "minutes": "minutes",
    },
)


def bigan(call: Callable[..., Any], to_uint8: Callable[[Any], np.ndarray], data_dir: str | None) -> Any:
    """Images above what G makes of their codes."""
    real = data.load("mnist", data_dir, split="test").read(np.arange(COUNT))
    again = to_uint8(call("gen", call("gen", real.images, method="encode"), None))
    same = np.mean(_digits(again) == real.labels)
    return "reconstructions that are the same digit", same, _rows(real.images, again)


def infogan(call: Callable[..., Any], to_uint8: Callable[[Any], np.ndarray], data_dir: str | None) -> Any:
    """A column for each class that was found: four latents; then one whose first, and whose second, number goes up."""
    real = data.load("mnist", data_dir, split="test").read(np.arange(COUNT))
    found = np.argmax(call("disc", real.images, None)[1][0], axis=1)
    pure = sum(np.bincount(real.labels[found == c]).max() for c in np.unique(found)) / COUNT
    z = np.repeat(np.random.RandomState(0).uniform(-1, 1, (4, 1, 74)), 10, axis=1).astype(np.float32)
    z = np.concatenate([z, np.repeat(z[:1], 10, axis=0)])
    z[..., :10] = np.eye(10)
    z[4:, :, 10:12] = 0
    z[4:9, :, 10], z[9:, :, 11] = np.linspace(-1, 1, 5)[:, None], np.linspace(-1, 1, 5)[:, None]
    shown = to_uint8(call("gen", z.reshape(-1, 74), None))
    return "test images whose class is the most frequent digit of it (purity)", pure, images.grid(shown, 10)


def pix2pix(call: Callable[..., Any], to_uint8: Callable[[Any], np.ndarray], data_dir: str | None) -> Any:
    """Conditions, what G makes of them, and the images that they are of."""
    real = recipes.get("pix2pix").held_out(COUNT, data_dir)
    made = to_uint8(call("gen", np.zeros((COUNT, 0), np.float32), real.labels))
    picture = _rows(np.repeat(real.labels, 3, axis=-1), made, real.images)
    return "decibels from the true colours (PSNR)", evaluation.paired(made, real.images)["psnr"], picture


def cyclegan(call: Callable[..., Any], to_uint8: Callable[[Any], np.ndarray], data_dir: str | None) -> Any:
    """Images of the other domain, their translations, and those back; then the same of images, the other way."""
    digits = data.load("mnist", data_dir, split="test").read(np.arange(1, 2 * COUNT, 2))  # those of the other domain
    found = data.load("inverse:mnist", data_dir, (28, 28, 3), split="test")
    other, own = found.unpaired["other"].images[:COUNT], found.images[:COUNT]
    there = call("gen", np.zeros((COUNT, 0), np.float32), other)
    back = call("gen", own, method="back")
    rows = [other, to_uint8(there), to_uint8(call("gen", there, method="back"))]
    rows += [own, to_uint8(back), to_uint8(call("gen", np.zeros((COUNT, 0), np.float32), back))]
    return "translations that are the same digit", np.mean(_digits(rows[1]) == digits.labels), _rows(*rows)


LEARNED = {"bigan": bigan, "infogan": infogan, "pix2pix": pix2pix, "cyclegan": cyclegan}


def game(name: str, steps: int) -> Recipe:
    """The recipe of a game, with at most so many updates."""
    recipe = recipes.get(name)
    return recipe.replace(steps=min(steps, recipe.steps))


def of_seed(recipe: Recipe, workdir: Path, ended: study.Record, by: Scorer) -> study.Record:
    """What a run has learned, and its picture, games.png in its folder."""
    gan, state = jaxgan.load(workdir)
    variables = {"gen": state.averaged_gen, "disc": state.disc.variables}

    @functools.partial(jax.jit, static_argnames=("player", "method"))
    def call(player: str, *args: Any, method: str | None = None) -> Any:
        floats = [jaxgan.from_uint8(x, gan.image_range) if x is not None and x.dtype == np.uint8 else x for x in args]
        return getattr(gan, player).apply(variables[player], *floats, jaxgan.Context(), method=method)

    with fixed_numerics():
        to_uint8 = lambda x: np.asarray(jaxgan.to_uint8(x, gan.image_range))  # noqa: E731
        what, learned, picture = LEARNED[recipe.name](call, to_uint8, by.data_dir)
    images.save_png(workdir / "games.png", picture)
    summary = read_summary(workdir)
    return {
        "what": what,
        "learned": float(learned),
        "frechet_distance": ended["final"]["scores"]["frechet_distance"],
        "floor": ended["final"]["floor"]["frechet_distance"],
        "unit": scoring.unit(ended["final"]),  # another in each row, as the data are
        "minutes": round(ended["seconds"] / 60, 1),
        "machine": study.machine(summary["devices"][0]),
        "state_sha256": summary["state_sha256"],
    }


def finish(flags: study.Flags, results: dict[str, study.Record]) -> None:
    """Puts the pictures of each game's first seed beside the results."""
    for name in flags.rows:
        if (path := flags.runs / name / "seed-0" / "games.png").exists():
            (flags.out / f"{name}.png").write_bytes(path.read_bytes())


def _digits(shown: np.ndarray) -> np.ndarray:
    """The digits that the classifier of MNIST sees in images, uint8 [N, H, W, C]."""
    probabilities = evaluation.embed(evaluation.classifier("mnist"), shown).probabilities
    return np.argmax(np.asarray(probabilities), axis=1)


def _rows(*rows: np.ndarray) -> np.ndarray:
    """A picture of rows of images, uint8 [N, H, W, C], the first 16 of each."""
    return images.grid(np.concatenate([x[:16] for x in rows]), columns=16)


def main(args: list[str] | None = None) -> None:
    """Trains and measures the first seed of each, the second of each, and so on."""
    study.command(STUDY, game, of_seed, 10, finish, args, rows=tuple(recipes.GAMES), steps=10_000, seeds=1)


if __name__ == "__main__":
    run_script(main)
