"""An update at 64 pixels beside PyTorch's: `python -m experiments.bench.pictures [--recipe stylegan2_small]`.

In one table: ours with the augmentation of few pictures and without; PyTorch eager and compiled, without it. Each is a
process of its own, and they take turns. PyTorch's are the usual alternating updates (`jaxgan.benchmark.torch_r3gan` and
`torch_stylegan2`). Those of StyleGAN2 are means of 16, one of which has R1, and four the lengths of paths.
"""

import dataclasses
import statistics
import tempfile
from pathlib import Path
from typing import Any, Literal

from jaxgan import recipes
from jaxgan.benchmark import timing
from jaxgan.benchmark.updates import jax_update, jax_updates
from jaxgan.commands.cli import one_line_errors, parse, run_script
from jaxgan.run.screen import say
from jaxgan.run.workdir import write_json

PERIOD = 16  # of StyleGAN2's lazy regularisers, in updates


@dataclasses.dataclass(frozen=True)
class Pictures:
    """Measures an update of a recipe for one's own pictures, ours and PyTorch's."""

    recipe: Literal["pictures", "stylegan2_small"] = "pictures"
    """Which one."""
    size: int = 64
    """Of the pictures."""
    rounds: int = 5
    """In each of which all are measured, for two seconds at least."""
    json: Path | None = None
    """Where the results are written too."""


def r3gan(size: int, cache: str) -> tuple[int, dict[str, timing.Work]]:
    """How many updates are repeated as one, and what is measured: of `pictures`."""
    from jaxgan.benchmark.torch_r3gan import time_update

    recipe = recipes.get("pictures").replace(size=str(size), gamma=2.0)
    theirs = (time_update, recipe.gen.widths, recipe.gen.blocks, recipe.batch_size, recipe.gamma, recipe.classes)
    return 1, {
        "jaxgan": (jax_update, recipe, cache),
        "jaxgan, augment 0.3": (jax_update, recipe.replace(augment=0.3), cache),
        "torch eager": (*theirs, False),
        "torch.compile": (*theirs, True),
    }


def stylegan2(size: int, cache: str) -> tuple[int, dict[str, timing.Work]]:
    """The same of `stylegan2_small`."""
    from jaxgan.benchmark.torch_stylegan2 import time_update

    changes = {"size": str(size)}
    recipe = recipes.get("stylegan2_small").replace(**changes)
    gen, gamma = recipe.gen, recipe.penalties[0].penalty.gamma
    theirs = (time_update, gen.widths, gen.w_size, gen.layers, recipe.batch_size, gamma)
    return PERIOD, {
        "jaxgan": (jax_updates, recipe.name, {**changes, "transforms": ()}, cache, PERIOD),
        "jaxgan, augmented": (jax_updates, recipe.name, changes, cache, PERIOD),
        "torch eager": (*theirs, False),
        "torch.compile": (*theirs, True),
    }


def main(args: list[str] | None = None) -> None:
    """Prints milliseconds and memory of each, and the ratio to the fastest of PyTorch's."""
    flags = parse(Pictures, "experiments.bench.pictures", args)
    with one_line_errors(), tempfile.TemporaryDirectory() as cache:
        updates, work = (r3gan if flags.recipe == "pictures" else stylegan2)(flags.size, cache)
        with timing.workers(work) as (ready, failed):
            samples: dict[str, list[float]] = {name: [] for name in ready}
            for number in range(flags.rounds):
                say(f"round {number + 1} of {flags.rounds}")
                for name, worker in ready.items():
                    samples[name].append(min(timing.measure(worker, 2.0)))
            ends = {name: worker.facts | timing.end(worker) for name, worker in ready.items()}
    found: dict[str, dict[str, Any]] = {
        name: {
            "milliseconds": round(1e3 * statistics.median(of) / updates, 1),
            "peak_mib": round((ends[name]["peak_bytes"] - ends[name]["base_bytes"]) / 2**20),
            "of_jaxgan": round(statistics.median(a / b for a, b in zip(of, samples["jaxgan"], strict=True)), 3),
        }
        for name, of in samples.items()
    }
    for name, result in found.items():
        say(f"{name:<20} {result['milliseconds']:8.1f} ms {result['peak_mib']:6,} MiB, {result['of_jaxgan']} of jaxgan")
    for name, error in failed.items():
        say(f"{name}: {error}")
    if flags.json:
        batch_size = recipes.get(flags.recipe).batch_size
        write_json(flags.json, {"recipe": flags.recipe, "size": flags.size, "batch_size": batch_size, "updates": found})


if __name__ == "__main__":
    run_script(main)
