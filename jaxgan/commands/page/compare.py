"""Which scores may be compared, what they come to over seeds, and which settings differ."""

import math
import statistics
from collections.abc import Sequence
from typing import Any, NamedTuple

from jaxgan.commands import scoring
from jaxgan.commands.page.runs import Entry, Run
from jaxgan.evaluation.scores import HIGHER, LOWER


class Row(NamedTuple):
    """The runs of an entry that were scored in one way."""

    entry: Entry
    runs: list[Run]


def scored_alike(entries: Sequence[Entry]) -> list[list[Row]]:
    """The scored runs, in groups within which scores may be compared."""
    groups: list[list[Row]] = []
    for entry in entries:
        for run in entry.runs:
            if not (score := run.score("final")):
                continue
            rows = next((g for g in groups if not scoring.differences(g[0].runs[0].score("final"), score)), None)
            if rows is None:
                groups.append(rows := [])
            if not rows or rows[-1].entry is not entry:
                rows.append(Row(entry, []))
            rows[-1].runs.append(run)
    return groups


def best_of(run: Run) -> dict[str, Any] | None:
    """A run's best scores, where they are measured as its final ones are."""
    final, best = run.score("final"), run.score("best")
    return best if final and best and not scoring.differences(final, best) else None


def value_of(score: dict[str, Any] | None, name: str, of: str = "scores") -> float | None:
    """A score, or its floor, by name; None where it is no finite number."""
    value = score[of].get(name) if score else None
    return value if type(value) in (int, float) and math.isfinite(value) else None


def values_of(runs: Sequence[Run], name: str, which: str = "final") -> dict[Run, float]:
    """The values of one score, of those runs that have it."""
    found = {run: value_of(best_of(run) if which == "best" else run.score("final"), name) for run in runs}
    return {run: value for run, value in found.items() if value is not None}


def mean_and_deviation(values: Sequence[float]) -> tuple[float, float | None]:
    """The mean, and the standard deviation of the sample (over n - 1); None for one value alone."""
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None


def leading(name: str, means: Sequence[float | None]) -> float | None:
    """The best of several means; None where all are the same, or there is no telling which is better."""
    known = [mean for mean in means if mean is not None]
    if not known or math.isclose(min(known), max(known)) or name not in (*LOWER, *HIGHER):
        return None
    return min(known) if name in LOWER else max(known)


def number(value: float) -> str:
    """Four digits of a number, and no fewer than all before the point."""
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e9 else f"{value:.4g}"


def with_deviation(mean: float, deviation: float | None) -> str:
    """A mean with its standard deviation, both to the second digit of the latter."""
    if not deviation:
        return number(mean) if deviation is None else f"{number(mean)} ± 0"
    decimals = min(max(1 - math.floor(math.log10(deviation)), 0), 8)
    return f"{mean:,.{decimals}f} ± {deviation:,.{decimals}f}"


def differing(entries: Sequence[Entry]) -> dict[str, list[Any]]:
    """The settings that are not the same in all entries, with the value in each; the seed is none of them.

    The length of a run is one, though config.json does not say it. A value that a config lacks is `...`.
    """
    configs = [{"steps": entry.steps(), **entry.runs[0].config} for entry in entries]
    names = dict.fromkeys(name for config in configs for name in config if name != "seed")
    values = {name: [config.get(name, ...) for config in configs] for name in names}
    return {name: row for name, row in values.items() if any(value != row[0] for value in row)}
