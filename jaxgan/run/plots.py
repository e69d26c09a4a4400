"""The pictures of a finished run.

workdir/samples.gif        the sample grids one after the other
workdir/losses.png         losses, the discriminator's mean logits and the norms of gradients over the steps
"""

from array import array
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jaxgan import images
from jaxgan.run.metrics import each_line
from jaxgan.run.report import grids
from jaxgan.run.screen import say

PANELS = {
    "loss": {"loss_gen": "generator", "loss_disc": "discriminator"},
    "discriminator's mean logit": {"logit_real": "real images", "logit_fake": "generated images"},
    "norm of the gradient": {"grad_norm_gen": "generator", "grad_norm_disc": "discriminator"},
}
FRAMES = 200  # of the GIF, at most
POINTS = 2000  # of a curve, at most


def draw(workdir: Path) -> None:
    """Makes the pictures of what a run has left in its workdir; one that cannot be made is told in one line."""
    for name, make in (("samples.gif", _draw_samples), ("losses.png", _draw_curves)):
        try:
            make(workdir / name)
        except Exception as error:  # of Pillow's and Matplotlib's there are many kinds
            why = getattr(error, "strerror", None) or str(error) or type(error).__name__
            say(f"{workdir / name} cannot be drawn ({why}); all else is written", "stderr")


def are_drawn(workdir: Path) -> bool:
    """Whether the pictures are there, and not older than summary.json."""
    wanted = [workdir / "samples.gif"] if grids(workdir) else []
    since = (workdir / "summary.json").stat().st_mtime
    return all(p.exists() and p.stat().st_mtime >= since for p in [*wanted, workdir / "losses.png"])


def evenly(items: Sequence, count: int) -> list:
    """At most `count` of the items, evenly chosen, the first and the last among them."""
    if len(items) <= count:
        return list(items)
    return [items[i] for i in np.linspace(0, len(items) - 1, count).round().astype(int)]


def _draw_samples(path: Path) -> None:
    if frames := grids(path.parent):
        images.save_gif(path, evenly(frames, FRAMES))


def _draw_curves(path: Path) -> None:
    from matplotlib.figure import Figure  # without pyplot: no display, no global state

    names = [name for curves in PANELS.values() for name in curves]
    steps, values = {name: array("q") for name in names}, {name: array("d") for name in names}
    for line in each_line(path.parent):
        for name in names:
            if isinstance(line.get(name), (int, float)):
                steps[name].append(line["step"])
                values[name].append(line[name])
    panels = {label: [name for name in curves if values[name]] for label, curves in PANELS.items()}
    panels = {label: found for label, found in panels.items() if found}
    if not panels:
        return
    figure = Figure(figsize=(4.5 * len(panels), 4.5), layout="constrained")
    for axes, (label, found) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        for name in found:
            colour = ("tab:blue", "tab:orange")[list(PANELS[label]).index(name)]
            x, y = np.array(steps[name]), np.array(values[name])
            axes.plot(_thinned(x), _thinned(y), color=colour, alpha=0.25, linewidth=0.8)
            axes.plot(_thinned(x), _thinned(_smooth(y)), color=colour, label=PANELS[label][name])
        axes.set(xlabel="step", ylabel=label)
        axes.grid(alpha=0.2)
        axes.legend()
    partial = path.with_name(path.name + ".partial")
    try:
        figure.savefig(partial, dpi=120, format="png")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _smooth(values: np.ndarray) -> np.ndarray:
    """The running mean over about a twentieth of the curve, with a shorter window at the ends."""
    half = len(values) // 40
    total = np.concatenate([[0.0], np.cumsum(values)])
    i = np.arange(len(values))
    low, high = np.maximum(i - half, 0), np.minimum(i + half + 1, len(values))
    return (total[high] - total[low]) / (high - low)


def _thinned(values: np.ndarray) -> np.ndarray:
    """The means of `POINTS` pieces of a longer curve."""
    if len(values) <= POINTS:
        return values
    return np.array([piece.mean() for piece in np.array_split(values, POINTS)])
