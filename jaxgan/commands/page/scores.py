"""The tables of scores: only scores that may be compared stand in one table."""

import math
import re
from collections.abc import Sequence

from jaxgan.commands import scoring
from jaxgan.commands.page import figures
from jaxgan.commands.page.compare import (
    Row,
    leading,
    mean_and_deviation,
    number,
    scored_alike,
    value_of,
    values_of,
    with_deviation,
)
from jaxgan.commands.page.markup import NONE, dash, section, table, tag, text
from jaxgan.commands.page.runs import Entry, Run, steps_of
from jaxgan.evaluation.scores import HIGHER, LOWER
from jaxgan.run.plots import LOSSES

MAIN = "frechet_distance"
TITLES = {"frechet_distance": "Fréchet distance"}
NBSP = "\N{NO-BREAK SPACE}"
QUOTES = "[()']"  # of Python's tuples of texts
BESIDE = {"kernel_distance_error"}  # no score but the error of one; the details have it


def title(name: str) -> str:
    """A metric's name as text."""
    return TITLES.get(name, name.replace("_", " "))


def badge(entry: Entry) -> str:
    """An entry's sign, in its colour."""
    return tag("span", text(entry.key), class_="key", style=f"background:{entry.colour}")


def named(entry: Entry) -> str:
    """An entry's sign and name."""
    width = f"min-width:{min(len(entry.name), 16)}ch"  # a short name is not broken
    return tag("span", badge(entry), tag("span", text(entry.name), style=width), class_="named")


def measured(score: dict) -> str:
    """What a score depends on, as text."""
    reference, features = score["reference"], score["features"]
    return (
        f"{score['count']:,} samples against {count_of(reference)} real images ({reference.get('data', '?')}, "
        f"{reference.get('split', '?')}, {str(reference.get('sha256', '?'))[:8]}), features {features['name']} "
        f"({features['sha256'][:8]})"
    )


def count_of(among: dict) -> str:
    """How many images there were, as text."""
    count = among.get("count")
    return f"{count:,}" if isinstance(count, int) else "?"


def summary(entries: Sequence[Entry]) -> str:
    """The section of the scores: a table and dots for each way of measuring, and what was not scored."""
    groups, parts = scored_alike(entries), []
    if len(groups) > 1:
        why = (
            "These runs were not all measured alike, so each table stands for itself: no score is to be compared with "
        )
        parts.append(tag("p", text(why + "one of another table."), class_="warn"))
    for i, rows in enumerate(groups):
        score = rows[0].runs[0].score("final")
        if len(groups) > 1:
            parts.append(tag("h3", text(f"Table {i + 1}: " + ", ".join(row.entry.key for row in rows))))
        if i:
            other = "; ".join(scoring.differences(score, groups[0][0].runs[0].score("final")))
            reason = f"Not to be compared with table 1. Here and there: {re.sub(QUOTES, '', other)}."
            parts.append(tag("p", text(reason), class_="warn"))
        parts += [tag("p", text(f"{measured(score)}."), class_="soft"), _main(rows)]
        parts += [_dots(rows) if sum(len(row.runs) for row in rows) > 1 else "", _others(rows)]
    if groups:
        parts.append(_reading(groups))
    if lacking := [(entry, run) for entry in entries for run in entry.runs if run.lacks()]:
        parts += [tag("h3", text("Not finished or not scored")), _lacking(lacking)]
    return section("Scores", *parts)


def each(values: dict[Run, float]) -> str:
    """The single values of several seeds, as text."""
    return ", ".join(f"seed {run.seed}: {number(v)}".replace(" ", NBSP) for run, v in values.items())


def _cell(values: dict[Run, float], bold: float | None, below: Sequence[str] = ()) -> str:
    """A mean with its deviation, the single values where the pointer rests, and what is printed small below it."""
    if not values:
        return dash("not measured")
    mean, deviation = mean_and_deviation(list(values.values()))
    hover = each(values) if len(values) > 1 else None
    shown = tag("data", text(with_deviation(mean, deviation)), value=repr(mean), title=hover)
    is_bold = bold is not None and math.isclose(mean, bold)
    return (tag("strong", shown) if is_bold else shown) + "".join(tag("small", text(line)) for line in below)


def _means(rows: Sequence[Row], name: str, which: str = "final") -> list[float | None]:
    found = [list(values_of(runs, name, which).values()) for _, runs in rows]
    return [mean_and_deviation(values)[0] if values else None for values in found]


def _main(rows: Sequence[Row]) -> str:
    bold = {which: leading(MAIN, _means(rows, MAIN, which)) for which in ("final", "best")}
    lines = []
    for entry, runs in rows:
        last, best = values_of(runs, MAIN), values_of(runs, MAIN, "best")
        several = len(runs) > 1
        steps = sorted({run.score("best")["step"] for run in best})
        at = f"step {steps[0]:,}" + (f" to {steps[-1]:,}" if steps[1:] else "") if steps else ""
        floors = sorted({value for run in runs if (value := value_of(run.score("final"), MAIN, "floor")) is not None})
        floor = " to ".join(number(value) for value in {floors[0]: 0, floors[-1]: 0}) if floors else ""
        lines.append(
            [
                named(entry),
                text(entry.runs[0].config["recipe"]),
                text(entry.steps()),
                _seeds(entry, runs),
                _cell(last, bold["final"], [each(last)] if several else []),
                _cell(best, bold["best"], [each(best), at] if several else [at]),
                text(floor) or dash("not measured"),
            ]
        )
    head = ["Run", "Recipe", "Steps", "Seeds", "Fréchet distance, last ↓", "Fréchet distance, best ↓", "Floor"]
    return table("Fréchet distance of the last and of the best generator", [text(h) for h in head], lines)


def _seeds(entry: Entry, runs: Sequence[Run]) -> str:
    """How many seeds a row is of, and which."""
    listed = tag("small", text(f"seed{'s' if runs[1:] else ''} {', '.join(str(run.seed) for run in runs)}"))
    return text(len(runs) if len(runs) == len(entry.runs) else f"{len(runs)} of {len(entry.runs)}") + listed


def _dots(rows: Sequence[Row]) -> str:
    alt = "Fréchet distance of each run: " + "; ".join(
        f"{entry.key} last {', '.join(map(number, values_of(runs, MAIN).values())) or 'not measured'}"
        for entry, runs in rows
    )
    caption = tag("figcaption", text("Each dot is a run: filled the last generator, hollow the best."))
    return tag("figure", figures.dots(rows, MAIN, alt), caption, class_="dots")


def _others(rows: Sequence[Row]) -> str:
    """The other scores of the last generators: a row each, a column for each entry, and the floor."""
    scored = [run.score("final") for _, runs in rows for run in runs]
    names = dict.fromkeys(name for score in scored for name in score["scores"] if name not in {MAIN, *BESIDE})
    better = dict.fromkeys(LOWER, f"{NBSP}↓") | dict.fromkeys(HIGHER, f"{NBSP}↑")
    lines = []
    for name in names:
        bold, floor = leading(name, _means(rows, name)), value_of(scored[0], name, "floor")
        cells = [values_of(runs, name) for _, runs in rows]
        shown = [_cell(values, bold) for values in cells]
        lines.append([text(title(name) + better.get(name, "")), *shown, number(floor) if floor is not None else NONE])
    head = ["Score", *(named(entry) for entry, _ in rows), "Floor"]
    return table("Other scores of the last generator", head, lines, "narrow") if lines else ""


def _reading(groups: Sequence[Sequence[Row]]) -> str:
    notes = ["The floor is the score of held-out real images: no generator is expected to do better."]
    if any(len(row.runs) > 1 for rows in groups for row in rows):
        notes.append(
            "Of several seeds: mean ± standard deviation (n - 1); each one below, on hover, and in the details."
        )
    notes.append("The best generator is chosen by scores during training, and measured on other samples.")
    if any(len(rows) > 1 for rows in groups):
        notes.append("Bold is the best mean of a row or column; it may be within the spread of the seeds.")
    return tag("p", tag("small", text(" ".join(notes))))


def _lacking(lacking: Sequence[tuple[Entry, Run]]) -> str:
    lines = []
    for entry, run in lacking:
        losses = [
            f"{net} {number(run.curves[name][1][-1])}" for name, net in LOSSES["loss"].items() if name in run.curves
        ]
        lines.append(
            [
                named(entry),
                text(run.config["recipe"]),
                text(run.seed),
                f"{max(run.last_step, steps_of(run) or 0):,}",
                dash(run.lacks()),
                text(", ".join(losses)) or dash("none logged"),
            ]
        )
    head = ["Run", "Recipe", "Seed", "Steps", "Scores", "Last losses"]
    return table("Runs without final scores, or that go on", head, lines)
