"""The time of an update of several recipes, measured in turns, so that a busy machine does the same to all."""

import statistics
import tempfile
from collections.abc import Mapping

from jaxgan.benchmark import timing
from jaxgan.benchmark.updates import jax_update
from jaxgan.recipes.settings import Recipe
from jaxgan.run.screen import say

SECONDS = 1.0  # of each turn


def times(recipes: Mapping[str, Recipe], rounds: int) -> dict[str, dict[str, float]]:
    """Times an update of each recipe in a process of its own.

    Args:
      recipes: by name; the others are compared with the first.
      rounds: how many turns each has, of a second.

    Returns:
      By name `milliseconds`, the median over the rounds, and how many times `slower` than the first it is: the median
      of the ratios within a round.
    """
    first = next(iter(recipes))
    with timing.workers() as start, tempfile.TemporaryDirectory() as cache:
        workers = {}
        for name, recipe in recipes.items():
            say(f"{name}: compiling")
            workers[name] = start(jax_update, recipe, cache)
        samples = {name: [] for name in recipes}
        for number in range(rounds):
            say(f"timing, round {number + 1} of {rounds}")
            for name, worker in workers.items():
                samples[name].append(statistics.median(timing.measure(worker, SECONDS)))
    slower = {
        name: statistics.median(mine / its for mine, its in zip(of, samples[first], strict=True))
        for name, of in samples.items()
    }
    return {
        name: {"milliseconds": round(1e3 * statistics.median(of), 2), "slower": round(slower[name], 3)}
        for name, of in samples.items()
    }
