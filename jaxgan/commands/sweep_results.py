"""What came of a sweep: its points in the order of a score, as a table, and as a picture over each setting."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxgan.commands import scoring
from jaxgan.commands.seed_statistics import mean_and_deviation
from jaxgan.files import atomic_write
from jaxgan.run import RunError
from jaxgan.run.metrics import each_line
from jaxgan.run.plots import logarithmic
from jaxgan.run.screen import say

LEGEND = 10  # lines of a panel, at most, to be named


def of_studies(
    folder: Path,
    points: Mapping[str, Mapping[str, Any]],
    studies: Mapping[str, Mapping[str, Any]],
    order_by: str,
    higher: bool = False,
) -> dict[str, Any]:
    """What sweep.json holds.

    Args:
      folder: of the sweep, where each point has a folder of its name.
      points: the values of the settings that are varied, by the point's name.
      studies: of the points that have been trained so far, as from `run_seeds`.
      order_by: a score or a metric.
      higher: whether the higher is better.

    Returns:
      `recipe`, `order_by`, and whether `higher` is better; `vary`, the values of each setting; of the scores `count`,
      `features`, `reference` and `floor`; and `rows`, of the trained points, those without a value last: `name` and
      `settings`; `seeds`, those that have ended, with their `values` at the last step, which are None where they have
      none, and `state_sha256`; of the values `mean` and `std`, as from `mean_and_deviation`, and likewise of the best
      during training, `best` and `best_std`; and `diverged`, the reasons by seed.

    Raises:
      RunError: the scores of two points must not be compared.
    """
    rows, first = [], None
    for name in (name for name in points if name in studies):
        study = studies[name]
        if "final" in study:
            first = first or (name, study["final"])
            if differ := scoring.differences(first[1], study["final"]):
                why = "; ".join(differ)
                raise RunError(f"{folder}: the scores of {first[0]} and {name} are of different kinds ({why})")
        ended = [seed for seed in study["seeds"] if "diverged" not in seed]
        row = {"name": name, "settings": dict(points[name]), "seeds": [seed["seed"] for seed in ended]}
        row["values"] = [_value(seed, folder / name / f"seed-{seed['seed']}", order_by) for seed in ended]
        row["state_sha256"] = [seed["state_sha256"] for seed in ended]
        best = [seed.get("best", {}).get("scores", {}).get(order_by) for seed in ended]
        for (mean, std), values in ((("mean", "std"), row["values"]), (("best", "best_std"), best)):
            known = [value for value in values if value is not None]
            row |= dict(zip((mean, std), mean_and_deviation(known) if known else (None, None), strict=True))
        row["diverged"] = {str(seed["seed"]): seed["diverged"] for seed in study["seeds"] if "diverged" in seed}
        rows.append(row)
    rows.sort(key=lambda row: math.inf if row["mean"] is None else -row["mean"] if higher else row["mean"])
    settings = {name: [*dict.fromkeys(of[name] for of in points.values())] for name in next(iter(points.values()))}
    result = {"recipe": next(iter(studies.values()))["recipe"], "order_by": order_by, "higher": higher}
    about = first[1] if first else {}
    result |= {"vary": settings} | {k: about[k] for k in ("count", "features", "reference", "floor") if k in about}
    return result | {"rows": rows}


def _value(seed: Mapping[str, Any], workdir: Path, name: str) -> float | None:
    """A score of the last generator, or the last value of a metric; None where there is no such."""
    if name in (scores := seed.get("final", {}).get("scores", {})):
        return scores[name]
    values = [line[name] for line in each_line(workdir) if isinstance(line.get(name), int | float)]
    return float(values[-1]) if values else None


def table(found: Mapping[str, Any]) -> str:
    """The result of `of_studies` as lines of text."""
    by, better = found["order_by"], "higher" if found["higher"] else "lower"
    lines = [f"{found['recipe']}: {by} at the last step, {better} is better; the mean and the standard deviation"]
    if by in (floor := found.get("floor", {})):
        reference = found["reference"]
        lines.append(
            f"{found['count']:,} samples against {reference['count']:,} real images ({reference['data']}, "
            f"{reference['split']}), features {found['features']['name']}; the floor is {floor[by]:.4g}"
        )
    if all(row["mean"] is None for row in found["rows"]):
        lines.append(f"no run has a {by}: the order is that of the flags; --order-by names a metric of metrics.jsonl")
    has_best = any(row["best"] is not None for row in found["rows"])
    cells = [[*found["vary"], by, *(["best during training"] if has_best else []), "seeds"]]
    for row in found["rows"]:
        ended, diverged = len(row["seeds"]), len(row["diverged"])
        of = f"{ended}, and {diverged} diverged" if diverged else str(ended)
        best = [_number(row["best"], row["best_std"])] if has_best else []
        value = _number(row["mean"], row["std"]) if ended or not diverged else "diverged"
        cells.append([*(str(row["settings"][name]) for name in found["vary"]), value, *best, of])
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    rows = ("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)) for row in cells)
    return "\n".join([*lines, "", *(row.rstrip() for row in rows)])


def _number(mean: float | None, std: float | None) -> str:
    return "-" if mean is None else f"{mean:.4g}" + ("" if std is None else f" ± {std:.2g}")


def draw(path: Path, found: Mapping[str, Any]) -> None:
    """Draws a PNG with a panel for each setting: over its values the mean, one standard deviation and each seed.

    A line is a combination of the other settings; a cross at the top is a run that has diverged.
    """
    if all(row["mean"] is None for row in found["rows"]):
        return
    try:
        from matplotlib.figure import Figure

        vary = found["vary"]
        figure = Figure(figsize=(max(6, 4.5 * len(vary)), 4.5), layout="constrained")
        better = "higher" if found["higher"] else "lower"
        figure.suptitle(f"{found['recipe']}: {found['order_by']}, {better} is better")
        for axes, setting in zip(figure.subplots(1, len(vary), squeeze=False)[0], vary, strict=True):
            _draw_panel(axes, setting, vary[setting], found["rows"])
            axes.set(xlabel=setting, ylabel=found["order_by"])
        with atomic_write(path) as partial:
            figure.savefig(partial, dpi=120, format="png")
    except Exception as error:  # as in `plots.draw`
        say(f"{path} cannot be drawn ({error}); all else is written", "stderr")


def _draw_panel(axes: Any, setting: str, values: Sequence[Any], rows: Sequence[Mapping[str, Any]]) -> None:
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    at = {value: value if numbers else i for i, value in enumerate(values)}
    lines: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        others = {name: value for name, value in row["settings"].items() if name != setting}
        lines.setdefault(", ".join(f"{name} {value}" for name, value in others.items()), []).append(row)
    for i, (label, line) in enumerate(sorted(lines.items())):
        colour, line = f"C{i % 10}", sorted(line, key=lambda row: at[row["settings"][setting]])
        ended = [(at[row["settings"][setting]], row) for row in line if row["mean"] is not None]
        x, mean, std = [x for x, _ in ended], [row["mean"] for _, row in ended], [row["std"] or 0 for _, row in ended]
        axes.errorbar(x, mean, std, color=colour, marker="o", markersize=5, capsize=3, label=label)
        dots = [(x, value) for x, row in ended for value in row["values"] if value is not None]
        axes.plot([x for x, _ in dots], [y for _, y in dots], ".", color=colour, alpha=0.4)
        lost = [at[row["settings"][setting]] for row in line if row["diverged"]]
        axes.plot(lost, [0.97] * len(lost), "x", color=colour, transform=axes.get_xaxis_transform())
    if numbers:
        logarithmic(axes, "x", values, 5)
        axes.set_xticks(values, [f"{value:g}" for value in values])
        axes.tick_params(axis="x", which="minor", length=0)
    else:
        axes.set_xticks(range(len(values)), [str(value) for value in values])
        axes.set_xlim(-0.5, len(values) - 0.5)
    logarithmic(axes, "y", [value for row in rows for value in row["values"] if value is not None], 10)
    axes.grid(alpha=0.2)
    if 1 < len(lines) <= LEGEND:
        axes.legend()
