"""Which of a run's checkpoints is the best: that of the lowest score, of scores in one unit."""

import math
from collections.abc import Mapping
from typing import NamedTuple

from jaxgan.evaluation.scores import BEST_BY
from jaxgan.run.screen import say


class Score(NamedTuple):
    """How good a checkpoint is.

    Attributes:
      value: the lower the better.
      unit: what it was measured in, as text: only scores of one unit are compared. None where that is not known.
    """

    value: float
    unit: str | None = None


class Best(NamedTuple):
    """The checkpoint with the lowest score of those that may be compared with the newest that has one.

    Attributes:
      step: its name.
      score: its score.
      apart: steps whose scores are of other units.
    """

    step: int
    score: Score
    apart: list[int]


def lowest_steps(scores: Mapping[int, Score]) -> dict[str | None, int]:
    """Of each unit the step of the lowest score; of equal ones the first."""
    ordered = sorted(scores, key=lambda step: (-scores[step].value, -step))
    return {scores[step].unit: step for step in ordered}


def score_by(best_by: tuple[str, str], scalars: Mapping[str, float], units: Mapping[str, str]) -> Score | None:
    """What decides whether a state is the best, the lower the better; None where that is no finite number.

    By another than the usual score, or the highest, it is of a unit of its own.
    """
    name, which = best_by
    if not math.isfinite(value := scalars.get(name, math.nan)):
        return None
    of = [] if best_by == BEST_BY else [f"{'lowest' if which == 'min' else 'highest'} {name}"]
    return Score(value if which == "min" else -value, ", ".join([*of, *filter(None, [units.get(name)])]) or None)


def no_best(best_by: tuple[str, str], scalars: Mapping[str, float]) -> str:
    """Why no checkpoint is kept as the best."""
    found = ", ".join(scalars) or "nothing"
    why = "was never finite" if best_by[0] in scalars else f"is not among what events find: {found}"
    return f"note: no checkpoint is kept as the best: {best_by[0]!r} {why}; `best_by` of a recipe names what decides"


def lowest_scores(scores: Mapping[int, Score]) -> dict[str | None, float]:
    """Of each unit the lowest score so far, given all by step; the newest unit last."""
    best: dict[str | None, float] = {}
    for score in scores.values():
        best[score.unit] = min(score.value, best.pop(score.unit, math.inf))
    return best


def is_better(score: Score, best: dict[str | None, float], step: int) -> bool:
    """Whether a score is the lowest of its unit so far, which is noted; a line says where that is not the last unit."""
    if best and score.unit != (before := [*best][-1]):
        here, there = (unit or "unknown" for unit in (score.unit, before))
        say(
            f"note: from step {step:,} on this run is scored by: {here}; earlier scores, by: {there}, are not compared "
            "with these, and the best is chosen among these alone",
            "stderr",
        )
    lowest = best.pop(score.unit, math.inf)
    best[score.unit] = min(score.value, lowest)
    return score.value < lowest
