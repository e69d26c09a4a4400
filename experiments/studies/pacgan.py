"""PacGAN's table of points in the plane: `python -m experiments.studies.pacgan [ROW …]`.

Lin et al. 2018, arXiv:1712.04086, section 4.1: how many modes of `ring` and of `grid` a generator covers, by its
authors' networks and settings (github.com/fjxmlzn/PacGAN, synthetic_data_experiments). Their update is the shared one.
They train for 400,000 updates; `--steps` says how many are taken here. Beside their methods stand R1, and relativistic
pairs with R1 and R2. Started again, it goes on where it was stopped; trials that the results have are not made again.
"""

import functools
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

import jaxgan
from jaxgan.commands import study
from jaxgan.commands.cli import run_script
from jaxgan.commands.scoring import Scorer
from jaxgan.data.points import MODES
from jaxgan.evaluation.modes import modes_of_points
from jaxgan.networks.layers import Context
from jaxgan.networks.normalisation import BatchNorm
from jaxgan.penalties import R1, R2
from jaxgan.recipes.bigan import bigan
from jaxgan.recipes.groups import Data, Objective, Optimization, Schedule
from jaxgan.recipes.settings import Recipe
from jaxgan.run import checkpoint
from jaxgan.run.numerics import fixed_numerics, root_key
from jaxgan.run.workdir import read_summary

SAMPLES = 2_500
BATCH = 100  # logits in an update, of so many groups
GAMMA = {"ring": 0.1, "grid": 0.03}  # those of the recipes of that name
normal = nn.initializers.normal(0.02)


class Layers(nn.Module):
    """Hidden layers of 400 with batch normalisation and ReLU, and a linear one: [B, n] -> [B, 2]."""

    hidden: int

    @nn.compact
    def __call__(self, x: Array, context: Context) -> Array:
        for _ in range(self.hidden):
            x = nn.Dense(400, use_bias=False, kernel_init=normal)(x)
            x = nn.relu(BatchNorm(context.train, 0.95, 1e-4, axis_name=context.axis_name)(x))
        return nn.Dense(2, kernel_init=normal)(x)


class Gen(nn.Module):
    """G: z [B, 2] -> points [B, 2]; and ALI's encoder: points, and noise [B, 2] -> codes [B, 2]."""

    def setup(self) -> None:
        self.point, self.code = Layers(4), Layers(2)

    def __call__(self, z: Array, labels: None, context: Context) -> Array:
        return self.point(z, context)

    def encode(self, images: Array, noise: Array, context: Context) -> Array:
        return self.code(jnp.concatenate([images, noise], axis=1), context)


class Disc(nn.Module):
    """D: points [B, 2] in groups, and ALI's codes [B, 2] beside them -> logits [B / group].

    Three layers of 200, each the largest of five linear pieces (maxout).
    """

    group: int = 1

    @nn.compact
    def __call__(self, images: Array, codes: Array | None, context: Context) -> Array:
        x = images if codes is None else jnp.concatenate([images, codes], axis=1)
        x = x.reshape(len(x) // self.group, -1)
        for _ in range(3):
            x = functools.reduce(jnp.maximum, jnp.split(nn.Dense(5 * 200, kernel_init=normal)(x), 5, axis=1))
        return nn.Dense(1, kernel_init=normal)(x)[:, 0]


def ali(p: jaxgan.Pass) -> jaxgan.Losses:
    """The game of an encoder that gets noise beside the point."""
    noise = jax.vmap(lambda key: jax.random.normal(key, (2,)))(p.keys("code"))
    return bigan(p, noise)


BASE = Recipe(
    name="pacgan",
    gen=Gen(),
    disc=Disc(),
    image_range=None,
    source=Data(data="points:ring", batch_size=BATCH),
    objective=Objective(z_size=2),
    optimization=Optimization(gen_learning_rate=1e-4, disc_learning_rate=1e-4, beta1=0.8),
    schedule=Schedule(ema_decay=0.0),
)


def packed(group: int) -> dict[str, Any]:
    """D sees so many points for each of its logits."""
    return {"disc": Disc(group), "group": group, "batch_size": BATCH * group}


# By name, what the table calls each, and its change to BASE, by the data's gamma.
METHODS: dict[str, tuple[str, Any]] = {
    "gan": ("GAN", lambda gamma: {}),
    "ali": ("ALI", lambda gamma: {"game": ali}),
    "pacgan2": ("PacGAN2", lambda gamma: packed(2)),
    "pacgan3": ("PacGAN3", lambda gamma: packed(3)),
    "pacgan4": ("PacGAN4", lambda gamma: packed(4)),
    "r1": ("R1", lambda gamma: {"penalties": (R1(gamma),)}),
    "relativistic_r1_r2": (
        "relativistic, R1, R2",
        lambda gamma: {"loss": "relativistic", "penalties": (R1(gamma), R2(gamma))},
    ),
}
# Modes, share of good samples in per cent, divergence; mean and standard error of ten trials.
PUBLISHED = {
    "ring_gan": "6.3 ± 0.5, 98.2 %, 0.45",
    "ring_ali": "6.6 ± 0.3, 97.6 %, 0.36",
    "ring_pacgan2": "7.9 ± 0.1, 95.6 %, 0.07",
    "ring_pacgan4": "7.8 ± 0.1, 95.9 %, 0.07",
    "grid_gan": "17.3 ± 0.8, 94.8 %, 0.70",
    "grid_ali": "24.1 ± 0.4, 95.7 %, 0.14",
    "grid_pacgan2": "23.8 ± 0.7, 91.3 %, 0.13",
    "grid_pacgan4": "24.8 ± 0.2, 93.6 %, 0.04",
}
ROWS = {f"{data}_{name}": f"{data}, {title}" for data in GAMMA for name, (title, _) in METHODS.items()}
STUDY = study.Study(
    "pacgan",
    "points, method",
    ROWS,
    {
        "updates": lambda of: f"{of['steps']:,}",
        "trials": lambda of: len(of["seeds"]),
        "modes": lambda of: study.with_error(of, "found"),
        "good, %": lambda of: study.with_error(of, "good"),
        "KL": lambda of: study.with_error(of, "divergence"),
        "published (400,000 updates)": lambda of: PUBLISHED.get(of["config"]["recipe"], "-"),
        "minutes": "minutes",
    },
)


def recipe_of(row: str, steps: int) -> Recipe:
    """The recipe of a row."""
    data, name = row.split("_", 1)
    return BASE.replace(name=row, data=f"points:{data}", steps=steps, **METHODS[name][1](GAMMA[data]))


def of_seed(recipe: Recipe, workdir: Path, ended: study.Record, by: Scorer) -> study.Record:
    """The modes that 2,500 points of a run cover."""
    gan, key = recipe.build(), root_key(0)
    state = checkpoint.read(workdir / "checkpoints", jaxgan.init(gan, key))
    with fixed_numerics():
        made = np.asarray(jaxgan.sample(gan, state, key, SAMPLES))
    found = modes_of_points(made, *MODES[recipe.data.removeprefix("points:")])
    summary = read_summary(workdir)
    return {
        "found": found.found,
        "good": round(100 * found.good, 4),
        "divergence": round(found.divergence, 6) if found.found else None,
        "minutes": round(ended["seconds"] / 60, 1),
        "machine": study.machine(summary["devices"][0]),
        "state_sha256": summary["state_sha256"],
    }


def main(args: list[str] | None = None) -> None:
    """Trains and counts the first trial of each row, the second of each, and so on."""
    page = Path("docs/reproductions.md")
    study.command(STUDY, recipe_of, of_seed, 0, args=args, rows=tuple(ROWS), steps=40_000, seeds=10, page=page)


if __name__ == "__main__":
    from experiments.studies import pacgan  # by its name, which runs know their game by

    run_script(pacgan.main)
