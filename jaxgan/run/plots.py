"""The pictures of a finished run.

workdir/samples.gif        the sample grids one after the other
workdir/losses.png         losses, the discriminator's mean logits and the norms of gradients over the steps
workdir/scores.png         the scores over the steps, where there are any

Each holds the step that it was drawn at, as a comment.
"""

import functools
from array import array
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from jaxgan import images
from jaxgan.data.dataset import first_line
from jaxgan.files import atomic_write
from jaxgan.run.metrics import comparable
from jaxgan.run.report import grids
from jaxgan.run.screen import say

T = TypeVar("T")
Panels = dict[str, dict[str, str]]  # label of an axis -> name of a metric -> name of its curve
Curves = dict[str, tuple[np.ndarray, np.ndarray]]  # name of a metric -> its steps, its values

LOSSES = {
    "loss": {"loss_gen": "generator", "loss_disc": "discriminator"},
    "discriminator's mean logit": {"logit_real": "real images", "logit_fake": "generated images"},
    "norm of the gradient": {"grad_norm_gen": "generator", "grad_norm_disc": "discriminator"},
}
SCORES = {
    "Fréchet distance": {"frechet_distance": "lower is better"},
    "inception score": {"inception_score": "higher is better"},
    "share": {
        "precision": "precision",
        "recall": "recall",
        "density": "density",
        "coverage": "coverage",
        "label_agreement": "label agreement",
    },
    "L1": {"l1": "lower is better"},
    "PSNR (dB)": {"psnr": "higher is better"},
}
COLOURS = ("tab:blue", "tab:orange", "tab:green", "tab:red", "tab:purple")
FRAMES = 200  # of the GIF, at most
POINTS = 2000  # of a curve, at most


def draw(workdir: Path, step: int) -> None:
    """Makes the pictures of a run, whose last step this is; where one cannot be made, a line says so."""
    drawings = {
        "samples.gif": _draw_samples,
        "losses.png": functools.partial(_draw_curves, panels=LOSSES),
        "scores.png": functools.partial(_draw_curves, panels=SCORES, smooth=False),
    }
    for name, make in drawings.items():
        try:
            make(workdir / name, comment=f"drawn at step {step}")
        except Exception as error:  # of Pillow's and Matplotlib's there are many kinds
            why = getattr(error, "strerror", None) or first_line(error)
            say(f"{workdir / name} cannot be drawn ({why}); all else is written", "stderr")


def are_drawn(workdir: Path, step: int) -> bool:
    """Whether the pictures that there should be have been drawn at this step."""
    wanted = {"samples.gif": grids(workdir)}
    wanted |= {name: read_curves(workdir, panels) for name, panels in (("losses.png", LOSSES), ("scores.png", SCORES))}
    return all(_comment_of(workdir / name) == f"drawn at step {step}" for name, shown in wanted.items() if shown)


def _comment_of(path: Path) -> str | None:
    from PIL import Image

    try:
        with Image.open(path) as picture:
            found = picture.info.get("comment")
    except (OSError, SyntaxError):  # none, or a damaged one
        return None
    return found.decode(errors="replace") if isinstance(found, bytes) else found


def evenly(items: Sequence[T], count: int) -> list[T]:
    """At most `count` of the items, evenly chosen, the first and the last among them."""
    if len(items) <= count:
        return list(items)
    return [items[i] for i in np.linspace(0, len(items) - 1, count).round().astype(int)]


def _draw_samples(path: Path, comment: str) -> None:
    if frames := grids(path.parent):
        images.save_gif(path, evenly(frames, FRAMES), comment=comment)


def _draw_curves(path: Path, panels: Panels, comment: str, smooth: bool = True) -> None:
    """Draws the metrics of a run over its steps, as `draw_curve`; nothing where it has none of them."""
    curves = read_curves(path.parent, panels)

    def draw_one(axes: Any, name: str, label: str, colour: str) -> None:
        draw_curve(axes, *curves[name], smooth, color=colour, label=label)

    draw_panels(path, [panels], curves, draw_one, comment=comment)


def draw_curve(
    axes: Any, x: np.ndarray, y: np.ndarray, smooth: bool, faint: bool = True, points: int = POINTS, **style: Any
) -> None:
    """Draws on Matplotlib's axes a running mean of at most `points`, `faint` values behind it, or marks each value."""
    if not smooth:
        axes.plot(x, y, marker="o", markersize=4, **style)
        return
    if faint:
        axes.plot(thinned(x, points), thinned(y, points), color=style["color"], alpha=0.25, linewidth=0.8)
    axes.plot(thinned(x, points), thinned(smoothed(y), points), **style)


def logarithmic(axes: Any, which: str, values: Collection[float], factor: float) -> bool:
    """Makes an axis, x or y, logarithmic, its ticks plain numbers, where the values differ by more than `factor`."""
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


def read_curves(workdir: Path, panels: Panels | None = None) -> Curves:
    """The metrics that a run has, of those in the panels or of all; of scores those of the newest unit."""
    names = None if panels is None else {name for curves in panels.values() for name in curves}
    steps, values = {}, {}
    for line in comparable(workdir):
        for name, value in line.items():
            if (names is None or name in names) and type(value) in (int, float) and abs(value) < 1e300:
                steps.setdefault(name, array("q")).append(line["step"])
                values.setdefault(name, array("d")).append(value)
    return {name: (np.array(steps[name]), np.array(values[name])) for name in values}


def draw_panels(
    path: Path,
    rows: Sequence[Panels],
    names: Collection[str],
    draw_one: Callable[[Any, str, str, str], None],
    title: str | None = None,
    comment: str = "",
) -> None:
    """Draws a picture of several panels; nothing where none of the metrics is there.

    Args:
      path: the picture, a PNG.
      rows: the panels of each row.
      names: the metrics that there are; panels without any of them are left out.
      draw_one: draws a metric: a function of Matplotlib's axes, its name, its curve's name, and a colour.
      title: stands above them all.
      comment: what the file holds beside the picture.
    """
    from matplotlib.figure import Figure  # without pyplot: no display, no global state

    found = [{label: curves for label, curves in row.items() if not curves.keys().isdisjoint(names)} for row in rows]
    found = [row for row in found if row]
    if not found:
        return
    columns = max(map(len, found))
    figure = Figure(figsize=(4.5 * columns, 4.5 * len(found)), layout="constrained")
    if title:
        figure.suptitle(title)
    for row, places in zip(found, figure.subplots(len(found), columns, squeeze=False), strict=True):
        for axes in places[len(row) :]:
            axes.remove()
        for axes, (ylabel, curves) in zip(places, row.items(), strict=False):
            for (name, label), colour in zip(curves.items(), COLOURS, strict=False):
                if name in names:
                    draw_one(axes, name, label, colour)
            axes.set(xlabel="step", ylabel=ylabel)
            if axes.get_xscale() == "linear":
                axes.locator_params(axis="x", nbins=6)  # more numbers of five digits would touch
            axes.grid(alpha=0.2)
            axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3, fontsize="small", frameon=False)
    with atomic_write(path) as partial:
        figure.savefig(partial, dpi=120, format="png", metadata={"comment": comment} if comment else None)


def smoothed(values: np.ndarray) -> np.ndarray:
    """The running mean over about a twentieth of the curve, with a shorter window at the ends."""
    half = len(values) // 40
    total = np.concatenate([[0.0], np.cumsum(values)])
    i = np.arange(len(values))
    low, high = np.maximum(i - half, 0), np.minimum(i + half + 1, len(values))
    return (total[high] - total[low]) / (high - low)


def thinned(values: np.ndarray, points: int = POINTS) -> np.ndarray:
    """The means of `points` pieces of a longer curve."""
    if len(values) <= points:
        return values
    return np.array([piece.mean() for piece in np.array_split(values, points)])
