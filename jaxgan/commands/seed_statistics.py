"""The mean and the standard deviation over seeds: of their scores as a table, of their curves as a picture."""

import functools
import statistics
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxgan.commands import scoring
from jaxgan.evaluation.scores import HIGHER, LOWER
from jaxgan.run.plots import LOSSES, SCORES, Curves, draw_panels, logarithmic, smoothed, thinned

MARKED = 30  # points of a curve, at most, to be marked
SMOOTH = [name for curves in LOSSES.values() for name in curves]


def mean_and_deviation(values: Sequence[float]) -> tuple[float, float | None]:
    """The mean, and the standard deviation of the sample (n - 1 in the denominator); None for one value alone."""
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None


def over_seeds(scores: Mapping[int, dict[str, Any]]) -> dict[str, Any]:
    """The scores of one or more seeds, each as from `scoring.score_state`, by name, with what they depend on.

    Returns:
      `seeds` and `steps`, a list each; `count`, `features`, `reference`, `version` and `floor`, as of any of them; and
      `scores`, by name: `values` in the order of the seeds, their `mean`, and `std`, as from `mean_and_deviation`.

    Raises:
      ValueError: they must not be compared: they differ in the number of samples, the features or the reference.
    """
    (first, one), *others = scores.items()
    for seed, other in others:
        if differ := scoring.differences(one, other):
            raise ValueError(f"the scores of seed {first} and seed {seed} are of different kinds ({'; '.join(differ)})")
    values = {name: [score["scores"].get(name) for score in scores.values()] for name in one["scores"]}
    return {
        "seeds": list(scores),
        "steps": [score["step"] for score in scores.values()],
        **{name: one[name] for name in ("count", "features", "reference", "version", "floor") if name in one},
        "scores": {
            name: {"values": of} | dict(zip(("mean", "std"), mean_and_deviation(of), strict=True))
            for name, of in values.items()
            if None not in of
        },
    }


def table(which: str, found: dict[str, Any]) -> str:
    """A result of `over_seeds` as lines of text; `which` says of which checkpoint it is."""
    reference, least = found["reference"], found["floor"]
    seeds = "".join(f"{f'seed {seed}':>11}" for seed in found["seeds"])
    lines = [
        f"{which}: {found['count']:,} samples of each seed against {reference['count']:,} real images "
        f"({reference['data']}, {reference['split']}),",
        f"features {found['features']['name']}; {scoring.of_floor(least)}",
        *scoring.duplicates(least),
        f"{'':<23}{'better':<8}{'mean':>11}{'std':>11}{'floor':>11}{seeds}",
    ]
    better = dict.fromkeys(LOWER, "lower") | dict.fromkeys(HIGHER, "higher")
    for name, score in found["scores"].items():
        numbers = [score["mean"], score["std"], least.get(name), *score["values"]]
        cells = "".join(f"{'-' if number is None else f'{number:.4g}':>11}" for number in numbers)
        lines.append(f"{name:<23}{better.get(name, ''):<8}{cells}")
    lines.append(f"{'step':<64}" + "".join(f"{step:>11,}" for step in found["steps"]))
    return "\n".join(lines)


def draw(path: Path, recipe: str, runs: Mapping[int, Curves], diverged: Collection[int] = ()) -> None:
    """Draws a PNG of the scores during training, and the losses: each seed, their mean and its standard deviation.

    `runs` has the curves of each seed, as from `read_curves`; of losses their running means are drawn. Seeds that have
    `diverged` are dotted, and not part of the mean.
    """
    ended = [seed for seed in runs if seed not in diverged]
    title = f"{recipe}: {len(ended)} {'seed' if len(ended) == 1 else 'seeds'}"
    if len(ended) > 1:
        title += "; mean and one standard deviation, and each seed as a thin line"
    if diverged:
        title += f"; dotted: {len(diverged)} diverged"

    def draw_one(axes: Any, name: str, label: str, colour: str) -> None:
        smooth = smoothed if name in SMOOTH else lambda values: values
        drawn = {seed: curves[name] for seed, curves in runs.items() if name in curves}
        for seed, (x, y) in drawn.items():
            style = ":" if seed in diverged else "-"
            axes.plot(thinned(x), thinned(smooth(y)), style, color=colour, alpha=0.6, linewidth=0.8)
        of_mean = [drawn[seed] for seed in ended if seed in drawn]
        x = functools.reduce(np.intersect1d, [steps for steps, _ in of_mean] or [np.array([])])  # that all have
        if not len(x):
            axes.plot([], [], color=colour, label=label)
            return
        values = np.array([smooth(y[np.isin(steps, x)]) for steps, y in of_mean])
        mean, marker = values.mean(0), "o" if name not in SMOOTH and len(x) <= MARKED else None
        axes.plot(thinned(x), thinned(mean), color=colour, label=label, linewidth=2, marker=marker, markersize=4)
        if len(values) > 1:
            std = values.std(0, ddof=1)
            low, high = thinned(mean - std), thinned(mean + std)
            axes.fill_between(thinned(x), low, high, color=colour, alpha=0.2, linewidth=0)
        if name == "frechet_distance":  # falls fast at first
            logarithmic(axes, "y", mean, 10)

    names = {name for curves in runs.values() for name in curves}
    draw_panels(path, [SCORES, LOSSES], names, draw_one, title)
