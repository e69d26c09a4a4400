"""What the devices of a run exchange in each update: `python -m experiments.bench.communication [RECIPE …]`.

Counted in the compiled `train_steps`: the bytes of every array that a collective operation reduces or gathers, by
what it is for. The bytes depend on the recipe and its batch, not on the number of devices. With N devices, a ring
has each of them send 2 (N - 1) / N times what is reduced, and (N - 1) / N times what is gathered.
"""

import dataclasses
import re

import jax

from jaxgan import parallel, recipes
from jaxgan.commands.cli import RecipeNames, check_names, parse, run_script
from jaxgan.gan import GAN
from jaxgan.programs import hlo
from jaxgan.programs.compile_ahead import lower

# What an operation is for, by the scope it stands in. There should be none for "other".
KINDS = {"gradients": "gradients", "moments": r"BatchNorm_\d+", "features": "minibatch_features", "losses": "losses"}
COLUMNS = (*KINDS, "other")

# One operation for each array, since each has a purpose of its own; compiled quickly, since nothing is run.
APART = {
    "xla_disable_hlo_passes": "all-reduce-combiner,cpu-all-reduce-combiner,all-gather-combiner",
    "xla_backend_optimization_level": 0,
}


@dataclasses.dataclass(frozen=True)
class Communication:
    """Counts the bytes that the devices exchange in one update."""

    recipes: RecipeNames = tuple(recipes.SYSTEMS)
    """Which ones."""


def main() -> None:
    """Compiles each recipe's program for two devices, and prints a row for it, in KiB."""
    jax.config.update("jax_platforms", "cpu")  # the same program, but for how it is scheduled
    jax.config.update("jax_num_cpu_devices", 2)
    flags = parse(Communication, "experiments.bench.communication")
    check_names(flags.recipes, recipes.RECIPES, "recipe")
    print("| recipe | batch | " + " | ".join(COLUMNS) + " |")
    print("|---" * (2 + len(COLUMNS)) + "|")
    for name in flags.recipes:
        recipe = recipes.get(name)
        count = count_bytes(compiled_steps(recipe.build(), recipe.batch_size))
        kib = [count[kind] / 1024 for kind in COLUMNS]
        cells = [f"`{name}`", str(recipe.batch_size), *(f"{k:,.0f}" if k >= 10 else f"{k:.2g}" for k in kib)]
        print(f"| {' | '.join(cells)} |", flush=True)


def compiled_steps(gan: GAN, batch_size: int) -> str:
    """The text of the program that runs take, `train_steps`, for two devices.

    Args:
      gan: the static description.
      batch_size: of the whole batch.
    """
    lowered = lower(gan, batch_size, parallel.choose_devices(2), images=batch_size * gan.training_ratio)
    return lowered.compile(compiler_options=APART).as_text()


def count_bytes(program: str) -> dict[str, int]:
    """The bytes of the arrays that a program's collectives reduce or gather, by kind; of one pass through each loop."""
    count = dict.fromkeys(COLUMNS, 0)
    for step, scope in collectives(program):
        kind = next((kind for kind, name in KINDS.items() if any(re.fullmatch(name, part) for part in scope)), "other")
        count[kind] += hlo.exchanged(step)
    return count


def collectives(program: str) -> list[tuple[hlo.Instruction, list[str]]]:
    """Those of a program's text, and the scope that each stands in."""
    steps = (step for part in hlo.read(program).values() for step in part)
    found = (step for step in steps if step.opcode.removesuffix("-start") in hlo.COLLECTIVES)
    return [(step, step.attribute("op_name").split("/")) for step in found]


if __name__ == "__main__":
    run_script(main)
