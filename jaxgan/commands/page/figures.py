"""Curves and dots as SVG within the page: in the colours of its text, light or dark, and sharp at any size."""

import hashlib
import io
import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from jaxgan.commands.page.compare import Row, value_of, values_of
from jaxgan.commands.page.markup import text
from jaxgan.commands.page.runs import Entry
from jaxgan.run.plots import evenly, smoothed, thinned

INK = "#010203"  # stands for the colour of the page's text
POINTS = 250  # of a curve, at most
STYLE = {
    "svg.hashsalt": "jaxgan",  # the same names again
    "svg.fonttype": "none",
    "font.size": 9,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "lines.linewidth": 1.2,
    "axes.formatter.limits": (-4, 5),
}


def curves(name: str, entries: Sequence[Entry], alt: str, smooth: bool) -> str:
    """One metric over the steps, a line for each run in its entry's colour.

    Args:
      name: of the metric.
      entries: whose runs are drawn, where they have it.
      alt: says in words what is seen.
      smooth: whether a running mean is drawn, over the faint values where runs are few; else each value is marked.
    """

    def draw(axes: Any) -> None:
        shown = []
        for entry in entries:
            for run in entry.runs:
                if name not in run.curves:
                    continue
                x, y = (np.asarray(values, float) for values in run.curves[name])
                shown += [y.min(), y.max()]
                if smooth:
                    if are_few(entries):
                        axes.plot(thinned(x, POINTS), thinned(y, POINTS), color=entry.colour, alpha=0.2, linewidth=0.7)
                    axes.plot(thinned(x, POINTS), thinned(smoothed(y), POINTS), color=entry.colour)
                else:
                    kept = evenly(range(len(x)), POINTS)
                    axes.plot(x[kept], y[kept], color=entry.colour, marker="o", markersize=3)
        axes.set_xlabel("step")
        axes.locator_params(axis="x", nbins=5)
        if name == "frechet_distance":  # falls fast at first
            _logarithmic(axes, "y", shown, 10)

    return _svg((4.2, 2.5), draw, alt)


def are_few(entries: Sequence[Entry]) -> bool:
    """Whether there are so few runs that their values as logged can be seen behind the running means."""
    return sum(len(entry.runs) for entry in entries) <= 6


def dots(rows: Sequence[Row], name: str, alt: str) -> str:
    """One score of each run, the last generator's filled and the best one's hollow, beside the floor."""

    def draw(axes: Any) -> None:
        shown = []
        for i, (entry, runs) in enumerate(rows):
            last = list(values_of(runs, name).values())
            best = list(values_of(runs, name, "best").values())
            floors = sorted({value_of(run.score("final"), name, "floor") for run in runs} - {None})
            shown += last + best + floors
            axes.plot(last, [i - 0.16] * len(last), "o", color=entry.colour, markersize=6, alpha=0.9)
            axes.plot(best, [i + 0.16] * len(best), "o", color=entry.colour, markersize=6, fillstyle="none")
            axes.vlines(floors, i - 0.5, i + 0.5, color=INK, linestyle="--", linewidth=1)
        axes.set_yticks(range(len(rows)), [entry.key for entry, _ in rows])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        is_log = _logarithmic(axes, "x", shown, 30)
        axes.set_xlabel(f"Fréchet distance{', logarithmic' if is_log else ''} (dashed: the floor)")
        if shown and not is_log:
            axes.set_xlim(left=min(0, *shown))

    return _svg((4.8, 0.75 + 0.42 * len(rows)), draw, alt)


def _logarithmic(axes: Any, which: str, values: Sequence[float], factor: float) -> bool:
    """Makes an axis logarithmic, its ticks plain numbers, where the values differ by more than `factor`."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = min(values, default=0), max(values, default=0)
    if low <= 0 or high <= factor * low:
        return False
    axes.set(**{f"{which}scale": "log"})
    axis = getattr(axes, f"{which}axis")
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 1e3 * low else (1,)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())
    return True


def _svg(size: tuple[float, float], draw: Callable[[Any], None], alt: str) -> str:
    """What `draw` puts on axes, as an element of HTML."""
    import matplotlib
    from matplotlib.figure import Figure  # without pyplot: no display, no global state

    file = io.StringIO()
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.subplots()
        axes.grid(color=INK, alpha=0.12, linewidth=0.6)
        axes.set_axisbelow(True)
        draw(axes)
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(file, format="svg", transparent=True, metadata=nothing)
    return _inline(file.getvalue(), alt)


def _inline(svg: str, alt: str) -> str:
    """Matplotlib's file as a part of a page: without addresses, sizes, fonts and names that clash."""
    width, height = (math.ceil(float(n)) for n in re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg).groups())
    inside = svg[svg.index(">", svg.index("<svg")) + 1 :]
    inside = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>|<!--.*?-->", "", inside, flags=re.DOTALL)
    inside = re.sub(r' id="[a-z]+[a-z0-9_.]*_\d+"', "", inside)  # figure_1, axes_1, line2d_7
    own = hashlib.sha256(svg.encode()).hexdigest()[:8]  # names of this figure alone
    inside = re.sub(r'( id="|url\(#|xlink:href="#)', rf"\g<1>{own}", inside)
    inside = re.sub(r"'DejaVu Sans'[^;\"]*", "system-ui, sans-serif", inside)
    inside = re.sub(r"(\d+\.\d\d)\d+", r"\1", inside).replace(INK, "currentColor")
    inside = re.sub(r"\s*\n\s*", "\n", inside)
    return f'<svg viewBox="0 0 {width} {height}" width="{width}" role="img" aria-label="{text(alt)}">{inside.strip()}\n'
