"""Whether several seeds are faster in one program: `python -m experiments.bench.vmapped_seeds [RECIPE …]`.

One program takes several states through an update by `jax.vmap`; the other is what a run takes, once for each seed.
Both take the same updates over data on the device, in turn, so that what a busy machine does to one it does to both.
"""

import dataclasses
import functools
import statistics
import time
from collections.abc import Callable
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
import tyro

import jaxgan
from jaxgan import recipes
from jaxgan.benchmark.updates import IMAGES
from jaxgan.commands.cli import check_names, parse
from jaxgan.gan import Batch, image_shape
from jaxgan.recipes.settings import Recipe
from jaxgan.train_step import train_steps

SECONDS = 0.5  # about, of one measurement


@dataclasses.dataclass(frozen=True)
class VmappedSeeds:
    """Measures updates of several seeds in one program, and one seed after the other."""

    recipes: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="[RECIPE …]")] = (
        "tf2_gan",
        "digits",
    )
    """Which ones."""
    seeds: int = 4
    """How many."""
    rounds: int = 15
    """Measurements of each program."""


def main(args: list[str] | None = None) -> None:
    """Prints a line for each recipe."""
    flags = parse(VmappedSeeds, "experiments.bench.vmapped_seeds", args)
    check_names(flags.recipes, recipes.RECIPES, "recipe")
    print(f"{jax.devices()[0].device_kind}, {flags.seeds} seeds; milliseconds for an update of them all")
    for name in flags.recipes:
        alone, together = measure(recipes.get(name), flags.seeds, flags.rounds)
        ratios = [a / t for a, t in zip(alone, together, strict=True)]
        print(
            f"{name}: one after the other {1e3 * statistics.median(alone):.2f}, "
            f"together {1e3 * statistics.median(together):.2f}; "
            f"{statistics.median(ratios):.2f} times as fast (from {min(ratios):.2f} to {max(ratios):.2f})",
            flush=True,
        )


def measure(recipe: Recipe, seeds: int, rounds: int) -> tuple[list[float], list[float]]:
    """Seconds for one update of all seeds, in each round: one after the other, and together."""
    gan, rng = recipe.build(), np.random.default_rng(0)
    images = jnp.asarray(rng.integers(0, 256, (IMAGES, *image_shape(gan)), np.uint8))
    dataset = Batch(images, jnp.asarray(rng.integers(0, gan.classes, IMAGES, np.int32)) if gan.classes else None)
    batches = rng.integers(0, IMAGES, (seeds, 256, recipe.batch_size * recipe.training_ratio), np.int32)
    states = [jaxgan.init(gan, jax.random.key(seed)) for seed in range(seeds)]
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *states)
    one = jax.jit(train_steps, static_argnums=0, donate_argnums=1)
    several = jax.vmap(functools.partial(train_steps, gan), in_axes=(0, None, 0, None))
    several = jax.jit(several, donate_argnums=0)

    def alone(count: int) -> None:
        for seed in range(seeds):
            states[seed] = jax.block_until_ready(one(gan, states[seed], dataset, batches[seed], count))[0]

    def together(count: int) -> None:
        nonlocal stacked
        stacked = jax.block_until_ready(several(stacked, dataset, batches, count))[0]

    for take in (alone, together):
        take(1)  # compiles
    count = max(1, min(batches.shape[1], int(SECONDS / _seconds(alone, 1))))
    taken = [[_seconds(take, count) for take in (alone, together)] for _ in range(rounds)]
    return [a for a, _ in taken], [t for _, t in taken]


def _seconds(take: Callable[[int], None], count: int) -> float:
    begin = time.perf_counter()
    take(count)
    return (time.perf_counter() - begin) / count


if __name__ == "__main__":
    main()
