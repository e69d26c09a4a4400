"""Whether several seeds are faster in one program: `python -m experiments.bench.vmapped_seeds [RECIPE …]`.

One program takes several states through an update by `jax.vmap`, as `experiments.sweep --together` does; the other is
what a run takes, once for each seed. Both take the same updates over data on the device, each in a process of its own,
interleaved.
"""

import dataclasses
import functools
import statistics

import jax
import jax.numpy as jnp

import jaxgan
from jaxgan import recipes
from jaxgan.benchmark.timing import Prepared, compare
from jaxgan.benchmark.updates import random_data
from jaxgan.commands.cli import RecipeNames, check_names, parse, run_script
from jaxgan.recipes.settings import Recipe
from jaxgan.train_step import train_steps


@dataclasses.dataclass(frozen=True)
class VmappedSeeds:
    """Measures updates of several seeds in one program, and one seed after the other."""

    recipes: RecipeNames = ("dirac", "ring", "tf2_gan", "digits")
    """Which ones."""
    seeds: int = 10
    """How many."""
    rounds: int = 15
    """Measurements of each program."""


def main() -> None:
    """Prints a line for each recipe."""
    flags = parse(VmappedSeeds, "experiments.bench.vmapped_seeds")
    check_names(flags.recipes, recipes.RECIPES, "recipe")
    print(f"{flags.seeds} seeds; milliseconds for an update of them all")
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
    work = {name: (updates, recipe, seeds, name == "together") for name in ("one after the other", "together")}
    alone, together = compare(work, rounds).values()
    return alone, together


def updates(recipe: Recipe, seeds: int, together: bool) -> Prepared:
    """Updates of all seeds, in one program or one seed after the other."""
    gan = recipe.build()
    dataset, batches = random_data(gan, recipe.batch_size, seeds)
    states = [jaxgan.init(gan, jax.random.key(seed)) for seed in range(seeds)]
    if together:
        states = [jax.tree.map(lambda *x: jnp.stack(x), *states)]
        take = jax.vmap(functools.partial(train_steps, gan), in_axes=(0, None, 0, None))
        batches = batches[None]
    else:
        take = functools.partial(train_steps, gan)
    take = jax.jit(take, donate_argnums=0)

    def dispatch(count: int) -> None:
        for i, state in enumerate(states):
            states[i] = jax.block_until_ready(take(state, dataset, batches[i], count))[0]

    return dispatch, {}, dict


if __name__ == "__main__":
    from experiments.bench import vmapped_seeds  # by its name, as the processes that measure know what is in it

    run_script(vmapped_seeds.main)
