"""The small run that tests of `jaxgan.run` take: dense networks, which compile fast, on the embedded data."""

import functools
import json

from jaxgan import parallel, recipes
from jaxgan.commands import seed_statistics
from jaxgan.data import sources
from jaxgan.evaluation import kernel_distance, scores
from jaxgan.recipes.settings import Recipe
from jaxgan.run import Options, plots

steps_on = functools.lru_cache(parallel.steps_on)
digits = functools.lru_cache(sources._digits)
OPTIONS = Options(devices=1, log_every=2, sample_every=3, checkpoint_every=4, keep=2)


class Small(Recipe):
    """A recipe whose GAN is built once, so that JAX knows its programs again."""

    __hash__ = Recipe.__hash__

    def build(self):
        """The GAN, which is the same whatever the events are."""
        return _build(self.replace(events=()))


_build = functools.lru_cache(Recipe.build)  # of a few recipes, as long as the tests


def share_programs(patch):
    """Lets runs of one recipe in a test module share their program and data, which take longer to make than they take.

    Args:
      patch: pytest's monkeypatch.
    """
    patch.setattr(
        parallel, "steps_on", lambda gan, devices, form, streamed: steps_on(gan, tuple(devices), form, streamed)
    )
    patch.setattr(sources, "_digits", digits)


def undrawn(patch):
    """Leaves the curves and the film of runs undrawn, and those of their seeds, which take longer than small runs do.

    Args:
      patch: pytest's monkeypatch.
    """
    patch.setattr(plots, "draw", lambda workdir, step: None)
    patch.setattr(seed_statistics, "draw", lambda path, *args: path.touch())


def few_subsets(patch):
    """Takes the kernel distance over three subsets, since a hundred take seconds at each score.

    Args:
      patch: pytest's monkeypatch.
    """
    patch.setattr(scores, "kernel_distance", functools.partial(kernel_distance, subsets=3))


def recipe(**changes):
    """Nine steps of the small run, or with changes."""
    made = recipes.get("tf2_gan").replace(**{"data": "digits", "batch_size": 16, "steps": 9, **changes})
    return Small(**vars(made))


def metrics_of(workdir):
    """The lines of metrics.jsonl."""
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
