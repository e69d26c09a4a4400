"""What the tables of the page say, cell by cell."""

import json
import math
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from jaxgan.commands import scoring
from jaxgan.commands.page.runs import Entry, Run, span, value_of, values_of
from jaxgan.commands.seed_statistics import mean_and_deviation
from jaxgan.evaluation.scores import HIGHER, LOWER, title
from jaxgan.run.plots import LOSSES

MAIN = "frechet_distance"
ARROWS: dict[str, str] = {**dict.fromkeys(LOWER, " ↓"), **dict.fromkeys(HIGHER, " ↑")}
NONE = "\N{EN DASH}"  # for a value that there is not
NBSP = "\N{NO-BREAK SPACE}"


class Cell(NamedTuple):
    """A cell that is more than text: what is printed small below, shown where the pointer rests, or for machines."""

    text: str
    small: Sequence[str] = ()
    hover: str | None = None
    value: float | None = None
    is_bold: bool = False


class Table(NamedTuple):
    """A table; each cell is text, a `Cell`, or an entry to be named, and the first of a row is its head."""

    caption: str
    head: Sequence[str | Entry]
    rows: Sequence[Sequence[str | Cell | Entry]]
    style: str | None = None


def absent(why: str) -> Cell:
    """A dash for a value that there is not, with the reason."""
    return Cell(NONE, [why])


def main(entries: Sequence[Entry]) -> str:
    """The score that has a table of its own: the Fréchet distance, or the first one of runs that have none."""
    names = [name for entry in entries for run in entry.runs for name in run.final["scores"]]
    return MAIN if MAIN in names or not names else names[0]


def main_scores(entries: Sequence[Entry]) -> Table:
    """The main score of runs that were scored alike: a row for each entry."""
    rows: list[list[str | Cell | Entry]] = []
    name = main(entries)
    for entry, last, best in zip(entries, means(entries, name), means(entries, name, "best"), strict=True):
        seeds = [str(run.seed) for run in entry.runs]
        count = f"{len(seeds)}" + (f" of {entry.count}" if len(seeds) < entry.count else "")
        at = span(run.best["step"] for run in values_of(entry, name, "best"))
        floor = span(values_of(entry, name, of="floor").values(), number)
        rows.append([
            entry,
            str(entry.runs[0].config["recipe"]),
            entry.steps,
            Cell(count, [f"seed{'s' * (len(seeds) > 1)} {', '.join(seeds)}"]),
            last._replace(small=[*last.small, last.hover or ""]),
            best._replace(small=[*best.small, best.hover or "", f"step {at}" if at else ""]),
            floor or absent("not measured"),
        ])  # fmt: skip
    of = [f"{title(name)}, {which}{ARROWS.get(name, '')}" for which in ("last", "best")]
    head = ["Run", "Recipe", "Steps", "Seeds", *of, "Floor"]
    return Table(f"{title(name)} of the last and of the best generator", head, rows)


def other_scores(entries: Sequence[Entry]) -> Table:
    """The other scores of the last generators: a row each, a column for each entry, and the floor."""
    scored = [run.final for entry in entries for run in entry.runs]
    left_out = (main(entries), "kernel_distance_error")
    names = dict.fromkeys(name for score in scored for name in score["scores"] if name not in left_out)
    rows = [
        [
            title(name) + ARROWS.get(name, "").replace(" ", NBSP),
            *means(entries, name),
            number(value_of(scored[0], name, "floor")),
        ]
        for name in names
    ]
    return Table("Other scores of the last generator", ["Score", *entries, "Floor"], rows, "narrow")


def means(entries: Sequence[Entry], name: str, which: str = "final") -> list[Cell]:
    """One score of each entry: the mean over its runs with its deviation; the best of several means is bold.

    None is where all are the same, or there is no telling which is better.
    """
    cells = [_mean(values_of(entry, name, which)) for entry in entries]
    known = [cell.value for cell in cells if cell.value is not None]
    if name not in (*LOWER, *HIGHER) or not known or math.isclose(min(known), max(known)):
        return cells
    best = min(known) if name in LOWER else max(known)
    return [cell._replace(is_bold=cell.value is not None and math.isclose(cell.value, best)) for cell in cells]


def _mean(values: dict[Run, float]) -> Cell:
    if not values:
        return absent("not measured")
    mean, std = mean_and_deviation([*values.values()])
    each = ", ".join(f"seed {run.seed}: {number(value)}".replace(" ", NBSP) for run, value in values.items())
    return Cell(with_deviation(mean, std), hover=each if len(values) > 1 else None, value=mean)


def not_scored(entries: Sequence[Entry]) -> Table:
    """The runs that have no final scores, or go on."""
    rows: list[list[str | Cell | Entry]] = []
    for of, run in ((entry, run) for entry in entries for run in entry.runs if run.lacks):
        curves = {net: run.curves[name][1] for name, net in LOSSES["loss"].items() if name in run.curves}
        losses = ", ".join(f"{net} {number(values[-1])}" for net, values in curves.items())
        steps = f"{max(run.last_step, run.steps or 0):,}"
        shown = losses or absent("none logged")
        rows.append([of, str(run.config["recipe"]), str(run.seed), steps, absent(run.lacks), shown])
    head = ["Run", "Recipe", "Seed", "Steps", "Scores", "Last losses"]
    return Table("Runs without final scores, or that go on", head, rows)


def settings(entries: Sequence[Entry]) -> Table:
    """The settings that are not the same in all entries, a row each; the seed is none of them.

    The length of a run is one, though config.json does not say it.
    """
    configs = [{"steps": entry.steps, **entry.runs[0].config} for entry in entries]
    names = dict.fromkeys(name for config in configs for name in config if name != "seed")
    values = {name: [config.get(name, ...) for config in configs] for name in names}
    rows = [[name, *map(_setting, row)] for name, row in values.items() if any(value != row[0] for value in row)]
    return Table("From config.json, where not all are alike", ["Setting", *entries], rows, "narrow code")


def _setting(value: Any) -> str | Cell:
    if value is ...:
        return absent("not in its config.json")
    shown = value if isinstance(value, str) else json.dumps(value)
    is_digest = len(shown) == 64 and shown.isalnum()
    return Cell(shown[:12] + "…", hover=shown) if is_digest else shown


def all_settings(run: Run) -> str:
    """The whole config of a run, a line each."""
    return "\n".join(f"{name} = {json.dumps(value)}" for name, value in run.config.items())


def facts(run: Run) -> dict[str, str | Cell]:
    """What is known of a run, by name."""

    def said(name: str) -> str | Cell:
        value = run.summary.get(name)
        if value is None:
            return absent("not in summary.json" if run.summary else "not finished")
        return number(value) if type(value) in (int, float) else str(value)

    devices = run.summary.get("devices")
    kinds = [*map(str, devices)] if isinstance(devices, list) else []
    counts = ", ".join(f"{kinds.count(kind)} x {kind}" for kind in dict.fromkeys(kinds))
    return {
        "Folder": str(run.workdir),
        "Recipe": str(run.config["recipe"]),
        "Seed": str(run.seed),
        "Steps": f"{run.last_step:,} logged" if run.steps is None else f"{run.steps:,}",
        "Seconds": said("seconds"),
        "Images per second": said("images_per_second"),
        "Resumed from step": said("steps_resumed_from"),
        "Devices": counts or absent("not known"),
        "JAX": said("jax_version"),
        "SHA-256 of the final state": said("state_sha256"),
    }


def scores(run: Run) -> Table:
    """The final and the best scores of a run beside the floor."""
    final, best = run.final, run.best
    rows = [
        [title(name), *map(number, (value_of(final, name), value_of(best, name), value_of(final, name, "floor")))]
        for name in final["scores"] | (best or final)["scores"]
    ]
    head = ["Score", f"Last (step {final['step']:,})", f"Best (step {best['step']:,})" if best else "Best", "Floor"]
    return Table(f"Scores of seed {run.seed}", head, rows)


def depends_on(score: dict[str, Any]) -> dict[str, str]:
    """What a run's scores depend on, by name."""
    return {
        "Measured": measured(score),
        "Latents' seed": str(score["seed"]),
        "Weights": score["weights"],
        "Floor": "; ".join([_floor(score["floor"]), *scoring.duplicates(score["floor"])]),
        "SHA-256 of the features": score["features"]["sha256"] or NONE,
        "SHA-256 of the reference": str(score["reference"].get("sha256", "?")),
    }


def measured(score: dict[str, Any]) -> str:
    """What a score is of, as text."""
    reference, features = score["reference"], score["features"]
    return (
        f"{score['count']:,} samples against {_count(reference)} real images ({reference.get('data', '?')}, "
        f"{reference.get('split', '?')}, {str(reference.get('sha256', '?'))[:8]}), {scoring.seen_with(features)}"
    )


def differences(entries: Sequence[Entry], others: Sequence[Entry]) -> str:
    """Why the scores of two groups are not to be compared."""
    found = scoring.differences(*(group[0].runs[0].final for group in (entries, others)))
    return re.sub("[()']", "", "; ".join(found))  # of Python's tuples of texts


def _floor(least: dict[str, Any]) -> str:
    return "none" if least.get("count") == 0 else f"of {_count(least)} other real images"


def _count(among: dict[str, Any]) -> str:
    count = among.get("count")
    return f"{count:,}" if isinstance(count, int) else "?"


def number(value: float | None) -> str:
    """Four digits of a number, and no fewer than all before the point; a dash where there is none."""
    if value is None:
        return NONE
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e9 else f"{value:.4g}"


def with_deviation(mean: float, deviation: float | None) -> str:
    """A mean with its standard deviation, both to the second digit of the latter."""
    if not deviation:
        return number(mean) if deviation is None else f"{number(mean)} ± 0"
    decimals = min(max(1 - math.floor(math.log10(deviation)), 0), 8)
    return f"{mean:,.{decimals}f} ± {deviation:,.{decimals}f}"
