"""Stacked MNIST under VEEGAN's protocol: `python -m experiments.studies.stacked_mnist [ROW …]`.

As Lin et al. 2018, arXiv:1712.04086, run it (table 3; github.com/fjxmlzn/PacGAN, stacked_MNIST_experiments): a DCGAN,
whose discriminator sees one image, or several beside one another as channels. They train for 100,000 updates, with two
of G for each of D; here it is one, at twice the rate. `--steps` says how many are taken here. Started again, it goes on
where it was stopped; trials that the results have are not made again.
"""

from pathlib import Path

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from experiments.studies import modes
from jaxgan.commands import study
from jaxgan.commands.cli import run_script
from jaxgan.networks.layers import Context, Conv, ConvTranspose, flat
from jaxgan.networks.normalisation import BatchNorm
from jaxgan.recipes.groups import Data, Objective, Optimization, Schedule
from jaxgan.recipes.settings import Recipe

LOGITS = 64  # in an update
normal, truncated = nn.initializers.normal(0.02), nn.initializers.truncated_normal(0.02)


def normalise(x: Array, context: Context) -> Array:
    """Batch normalisation as their networks have it."""
    return BatchNorm(context.train, 0.9, 1e-5, axis_name=context.axis_name)(x)


class Gen(nn.Module):
    """The generator: z [B, 100] -> images [B, 28, 28, 3], of a hyperbolic tangent."""

    @nn.compact
    def __call__(self, z: Array, labels: None, context: Context) -> Array:
        x = nn.Dense(2 * 2 * 512, kernel_init=normal)(z).reshape(-1, 2, 2, 512)
        for features in (256, 128, 64):
            x = nn.relu(normalise(x, context))
            x = ConvTranspose(features, 5, 2, kernel_init=normal)(x)
            x = x[:, 1:, 1:] if features == 128 else x  # of 8x8 the 7x7 whose convolution with stride 2 gives 4x4
        x = nn.relu(normalise(x, context))
        return jnp.tanh(ConvTranspose(3, 5, 2, kernel_init=normal)(x))


class Disc(nn.Module):
    """The discriminator: images [B, 28, 28, 3] in groups, beside one another as channels -> logits [B / group]."""

    group: int = 1

    @nn.compact
    def __call__(self, images: Array, labels: None, context: Context) -> Array:
        x = images.reshape(-1, self.group, *images.shape[1:])
        x = jnp.concatenate([x[:, i] for i in range(self.group)], axis=-1)
        x = nn.leaky_relu(Conv(64, 5, 2, kernel_init=truncated)(x), 0.2)
        for features in (128, 256, 512):
            x = nn.leaky_relu(normalise(Conv(features, 5, 2, kernel_init=truncated)(x), context), 0.2)
        return nn.Dense(1, kernel_init=normal)(flat(x))[:, 0]


# By name what the table calls each, how many images D sees at once, and the published modes and KL.
METHODS = {
    "dcgan": ("DCGAN", 1, "99.0, 3.40 (VEEGAN's authors); 78.9 ± 6.5, 4.50 (PacGAN's)"),
    "pacdcgan2": ("PacDCGAN2", 2, "1,000.0, 0.06 ± 0.003"),
}
STUDY = study.Study(
    "stacked_mnist",
    "method",
    {name: title for name, (title, *_) in METHODS.items()},
    {
        "updates": lambda of: f"{of['steps']:,}",
        "trials": lambda of: len(of["seeds"]),
        "modes of 1,000": lambda of: study.with_error(of, "found"),
        "KL": lambda of: study.with_error(of, "divergence"),
        "published (100,000 updates)": lambda of: METHODS[of["config"]["recipe"]][2],
        "minutes": "minutes",
    },
)


def recipe_of(row: str, steps: int) -> Recipe:
    """The recipe of a row. Images are in [0, 1], as theirs are."""
    group = METHODS[row][1]
    return Recipe(
        name=row,
        gen=Gen(),
        disc=Disc(group),
        image_range=(0.0, 1.0),
        source=Data(data="stacked_mnist", split="train+test", batch_size=LOGITS * group),
        objective=Objective(prior="uniform", group=group),
        optimization=Optimization(gen_learning_rate=4e-4, disc_learning_rate=2e-4, beta1=0.5),
        schedule=Schedule(steps=steps, update="alternating", ema_decay=0.0),
    )


def main(args: list[str] | None = None) -> None:
    """Trains and counts the first trial of each row, the second of each, and so on."""
    page = Path("docs/reproductions.md")
    study.command(
        STUDY, recipe_of, modes.of_seed, 0, args=args, rows=tuple(METHODS), steps=100_000, seeds=10, page=page
    )


if __name__ == "__main__":
    from experiments.studies import stacked_mnist  # by its name, which runs know their networks by

    run_script(stacked_mnist.main)
