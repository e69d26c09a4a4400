"""The time of several things, measured in turns, so that a busy machine does the same to all."""

import statistics
import tempfile
from collections.abc import Mapping

from jaxgan.benchmark import timing
from jaxgan.benchmark.updates import jax_update
from jaxgan.recipes.settings import Recipe
from jaxgan.run.screen import say

SECONDS = 1.0  # of each turn


def compare(work: Mapping[str, tuple], rounds: int) -> dict[str, list[float]]:
    """Seconds for one of what each (prepare, *args) in `work` prepares, in each round: the median of its dispatches.

    Raises:
      timing.Failed: one of them cannot do its work.
    """
    say(f"preparing {', '.join(work)}")
    with timing.workers(work) as (workers, failed):
        for error in failed.values():
            raise error
        samples = {name: [] for name in work}
        for number in range(rounds):
            say(f"timing, round {number + 1} of {rounds}")
            for name, worker in workers.items():
                samples[name].append(statistics.median(timing.measure(worker, SECONDS)))
    return samples


def times(recipes: Mapping[str, Recipe], rounds: int) -> dict[str, dict[str, float]]:
    """Times an update of each recipe in a process of its own.

    Args:
      recipes: by name; the others are compared with the first.
      rounds: how many turns each has, of a second.

    Returns:
      By name `milliseconds`, the median over the rounds, and how many times `slower` than the first it is: the median
      of the ratios within a round.
    """
    with tempfile.TemporaryDirectory() as cache:
        samples = compare({name: (jax_update, recipe, cache) for name, recipe in recipes.items()}, rounds)
    first = next(iter(samples.values()))
    return {
        name: {
            "milliseconds": round(1e3 * statistics.median(of), 2),
            "slower": round(statistics.median(mine / its for mine, its in zip(of, first, strict=True)), 3),
        }
        for name, of in samples.items()
    }
