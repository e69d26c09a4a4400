"""Curves, dots and sample grids as data that a page can hold."""

import base64
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jaxgan.commands.page.runs import Entry, curves_alike, only, values_of
from jaxgan.commands.page.tables import main, number
from jaxgan.evaluation.scores import title
from jaxgan.run.metrics import SCORES
from jaxgan.run.plots import LOSSES, draw_curve, logarithmic

LARGE = (640, 200_000)  # pixels wide and bytes, at most: a grid to look at
SMALL = (224, 24_000)  # one of a strip
POINTS = 250  # of a curve, at most
CRISP = 200  # narrower grids are shown enlarged, pixel by pixel
STYLE: Any = {
    "font.size": 9,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.alpha": 0.3,
    "lines.linewidth": 1.2,
    "savefig.transparent": True,  # the page shows it in its own colours, light or dark
    "svg.fonttype": "none",
    "svg.hashsalt": "jaxgan",  # the same file again
}


class Picture(NamedTuple):
    """A picture as a page holds it, what is seen on it in words, and its style."""

    uri: str
    width: int
    height: int
    alt: str
    style: str | None = None


def curves(entries: Sequence[Entry]) -> list[tuple[str, Sequence[Entry], list[tuple[str, Picture]]]]:
    """Losses, logits and whatever else the runs logged; then the scores, apart where they may not be compared.

    Returns:
      For each part what its scores were measured in, its entries, and its captions and figures.
    """
    known = {name: f"{label}: {curve}" for label, names in LOSSES.items() for name, curve in names.items()}
    logged = sorted({name for entry in entries for run in entry.runs for name in run.curves} - {*known, *SCORES})
    captions = known | {name: title(name) for name in (*logged, *SCORES)}
    parts = [("", entries, [*known, *logged]), *((why, group, SCORES) for why, group in curves_alike(entries))]
    drawn = [(why, group, [_curves(group, name, captions[name]) for name in names]) for why, group, names in parts]
    return [(why, group, found) for why, group, figures in drawn if (found := [figure for figure in figures if figure])]


def are_few(entries: Sequence[Entry]) -> bool:
    """Whether there are so few runs that their values as logged can be seen behind the running means."""
    return sum(len(entry.runs) for entry in entries) <= 6


def _curves(entries: Sequence[Entry], name: str, caption: str) -> tuple[str, Picture] | None:
    """One metric over the steps, a line for each run that has it in its entry's colour; with its caption."""
    entries = only(entries, lambda run: name in run.curves)
    if not entries:
        return None

    def draw(axes: Any) -> None:
        shown = []
        for entry in entries:
            for run in entry.runs:
                x, y = run.curves[name]
                draw_curve(axes, x, y, name not in SCORES, are_few(entries), POINTS, color=entry.colour)
                shown += [y.min(), y.max()]
        axes.set_xlabel("step")
        if name == "frechet_distance":  # falls fast at first
            logarithmic(axes, "y", shown, 10)

    of = ", ".join(f"{entry.key} ({entry.name})" for entry in entries)
    return caption, _drawn((4.2, 2.5), draw, f"{caption} over the steps, of {of}")


def dots(entries: Sequence[Entry]) -> Picture:
    """The main score of each run, of the last generator filled and of the best one hollow, beside the floor."""
    name = main(entries)

    def draw(axes: Any) -> None:
        shown = []
        for i, entry in enumerate(entries):
            last, best = (list(values_of(entry, name, which).values()) for which in ("final", "best"))
            floors = sorted(set(values_of(entry, name, of="floor").values()))
            shown += last + best + floors
            axes.plot(last, [i - 0.16] * len(last), "o", color=entry.colour, markersize=6, alpha=0.9)
            axes.plot(best, [i + 0.16] * len(best), "o", color=entry.colour, markersize=6, fillstyle="none")
            axes.vlines(floors, i - 0.5, i + 0.5, color="black", linestyle="--", linewidth=1)
        axes.set_yticks(range(len(entries)), [entry.key for entry in entries])
        axes.set_ylim(len(entries) - 0.5, -0.5)
        is_log = logarithmic(axes, "x", shown, 30)
        axes.set_xlabel(f"{title(name)}{', logarithmic' if is_log else ''} (dashed: the floor)")
        if shown and not is_log:
            axes.set_xlim(left=min(0, *shown))

    last = {entry.key: ", ".join(map(number, values_of(entry, name).values())) for entry in entries}
    alt = "; ".join(f"{key} last {values or 'not measured'}" for key, values in last.items())
    return _drawn((4.8, 0.75 + 0.42 * len(entries)), draw, f"{title(name)} of each run: {alt}")


def _drawn(size: tuple[float, float], draw: Callable[[Any], None], alt: str) -> Picture:
    """What `draw` puts on axes; its size in the page is that of print."""
    import matplotlib
    from matplotlib.figure import Figure  # without pyplot: no display, no global state

    file = io.BytesIO()
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=size, layout="constrained")
        draw(figure.subplots())
        figure.savefig(file, format="svg", metadata={"Date": None})
    return Picture(_uri("svg+xml", file), round(96 * size[0]), round(96 * size[1]), alt)


def grid(path: Path, alt: str, limits: tuple[int, int]) -> Picture | str:
    """A sample grid, made smaller where it is too large, and JPEG if need be; or why it cannot be read."""
    from PIL import Image

    width, size = limits
    try:
        with Image.open(path) as picture:
            picture.load()
        if picture.width > width:
            height = max(1, round(picture.height * width / picture.width))
            picture = picture.resize((width, height), Image.Resampling.LANCZOS)
        kind, file = "png", io.BytesIO()
        picture.save(file, kind, optimize=True)
        if file.tell() > size:
            kind, file = "jpeg", io.BytesIO()
            picture.convert("RGB").save(file, kind, quality=88, optimize=True)
    except Exception as error:  # of Pillow's there are many kinds
        return f"{path.name} cannot be read ({getattr(error, 'strerror', None) or error})"
    return Picture(_uri(kind, file), *picture.size, alt, "crisp" if picture.width < CRISP else None)


def _uri(kind: str, file: io.BytesIO) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"
