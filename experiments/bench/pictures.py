"""An update of `pictures` at 64 pixels beside PyTorch's: `python -m experiments.bench.pictures [--json FILE]`.

In one table: ours with the augmentation of few pictures and without; PyTorch eager and compiled, without it. Each is a
process of its own, and they take turns. PyTorch's is the usual alternating update (`jaxgan.benchmark.torch_r3gan`).
"""

import dataclasses
import statistics
import tempfile
from pathlib import Path

from jaxgan import recipes
from jaxgan.benchmark import timing
from jaxgan.benchmark.updates import jax_update
from jaxgan.commands.cli import one_line_errors, parse, run_script
from jaxgan.run.screen import say
from jaxgan.run.workdir import write_json


@dataclasses.dataclass(frozen=True)
class Pictures:
    """Measures an update of `pictures` at 64 pixels, ours and PyTorch's."""

    size: int = 64
    """Of the pictures."""
    rounds: int = 5
    """In each of which all are measured, for two updates at least."""
    json: Path | None = None
    """Where the results are written too."""


def main(args: list[str] | None = None) -> None:
    """Prints milliseconds and memory of each, and the ratio to the fastest of PyTorch's."""
    flags = parse(Pictures, "experiments.bench.pictures", args)
    recipe = recipes.get("pictures").replace(size=str(flags.size), gamma=2.0)
    with one_line_errors(), tempfile.TemporaryDirectory() as cache:
        from jaxgan.benchmark.torch_r3gan import time_update

        theirs = (time_update, recipe.gen.widths, recipe.gen.blocks, recipe.batch_size, recipe.gamma, recipe.classes)
        work: dict[str, timing.Work] = {
            "jaxgan": (jax_update, recipe, cache),
            "jaxgan, augment 0.3": (jax_update, recipe.replace(augment=0.3), cache),
            "torch eager": (*theirs, False),
            "torch.compile": (*theirs, True),
        }
        with timing.workers(work) as (ready, failed):
            samples: dict[str, list[float]] = {name: [] for name in ready}
            for number in range(flags.rounds):
                say(f"round {number + 1} of {flags.rounds}")
                for name, worker in ready.items():
                    samples[name].append(min(timing.measure(worker, 2.0)))
            ends = {name: worker.facts | timing.end(worker) for name, worker in ready.items()}
    found = {
        name: {
            "milliseconds": round(1e3 * statistics.median(of), 1),
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
        write_json(flags.json, {"size": flags.size, "batch_size": recipe.batch_size, "updates": found})


if __name__ == "__main__":
    run_script(main)
