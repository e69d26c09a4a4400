"""What a run tells: a progress bar or plain lines, `metrics.jsonl`, TensorBoard events, pictures.

workdir/metrics.jsonl      one JSON object for each logged step
workdir/tensorboard/       the same, and the sample grids, as event files
workdir/samples/           sample grids as PNG, by step
workdir/samples.gif        those grids one after the other
workdir/losses.png         both losses and the discriminator's mean logits over the steps
"""

import contextlib
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxgan import images


class Report:
    """Writes a run's progress, as a context manager. A resumed run's files go on without a seam."""

    def __init__(self, workdir: Path, start: int, steps: int, batch_size: int):
        """Opens the files; what a killed run had reported past step `start` is dropped."""
        from tensorboardX import SummaryWriter

        (workdir / "samples").mkdir(exist_ok=True)
        for late in (p for p in grids(workdir) if int(p.stem) > start):
            late.unlink()
        kept = [m for m in read_metrics(workdir) if m["step"] <= start]
        partial = workdir / "metrics.jsonl.partial"
        partial.write_text("".join(json.dumps(m) + "\n" for m in kept))
        partial.replace(workdir / "metrics.jsonl")
        self._metrics = (workdir / "metrics.jsonl").open("a", buffering=1)
        self._workdir, self._batch_size = workdir, batch_size
        self._events = SummaryWriter(str(workdir / "tensorboard"), purge_step=start + 1, flush_secs=10)
        self._screen = _screen(start, steps)
        self._since = time.perf_counter()
        self._begin = self._since - (kept[-1].get("seconds", 0) if kept else 0)  # of all the run's processes
        self._since_step = start

    def __enter__(self) -> "Report":
        """Shows the progress bar."""
        self._screen.__enter__()
        return self

    def __exit__(self, *exception: Any) -> None:
        """Closes the files and leaves the screen in order."""
        self._screen.__exit__(*exception)
        self._metrics.close()
        self._events.close()

    def tick(self, step: int) -> None:
        """Moves the progress bar."""
        self._screen.tick(step)

    def log(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Reports the scalars of a step, with the images per second since the last report."""
        now = time.perf_counter()
        values = {name: float(value) for name, value in metrics.items()}
        values["images_per_second"] = (step - self._since_step) * self._batch_size / (now - self._since)
        self._since, self._since_step = now, step
        line = {
            "step": step,
            "seconds": round(now - self._begin, 3),
            **{k: float(f"{v:.6g}") for k, v in values.items()},
        }
        self._metrics.write(json.dumps(line) + "\n")
        for name, value in values.items():
            self._events.add_scalar(name, value, step)
        self._screen.log(step, values)

    def samples(self, step: int, samples: np.ndarray) -> None:
        """Saves a sample grid of uint8 [N, H, W, C]."""
        from tensorboardX.proto.summary_pb2 import Summary

        picture = images.grid(samples)
        png = images.png(picture)
        images.save_png(self._workdir / "samples" / f"{step:06d}.png", png)
        # Not by add_image, which would resize and compress it once more, five times as long as all the rest.
        h, w, c = picture.shape
        image = Summary.Image(height=h, width=w, colorspace=c, encoded_image_string=png)
        self._events.file_writer.add_summary(Summary(value=[Summary.Value(tag="samples", image=image)]), step)


def read_metrics(workdir: Path) -> list[dict[str, Any]]:
    """The lines of `metrics.jsonl`, in order; half a line that a killed run left is passed over."""
    path = workdir / "metrics.jsonl"
    lines = []
    for line in path.read_text().splitlines() if path.exists() else []:
        with contextlib.suppress(json.JSONDecodeError):
            lines.append(json.loads(line))
    return [line for line in lines if isinstance(line, dict) and "step" in line]


def grids(workdir: Path) -> list[Path]:
    """The sample grids of a run, by step."""
    return sorted((p for p in (workdir / "samples").glob("*.png") if p.stem.isdecimal()), key=lambda p: int(p.stem))


def draw(workdir: Path) -> None:
    """Makes `samples.gif` and `losses.png` of what a run has left in its workdir."""
    if frames := grids(workdir):
        images.save_gif(workdir / "samples.gif", frames)
    if metrics := read_metrics(workdir):
        _draw_losses(workdir / "losses.png", metrics)


def _draw_losses(path: Path, metrics: list[dict[str, Any]]) -> None:
    from matplotlib.figure import Figure  # without pyplot: no display, no global state

    figure = Figure(figsize=(9, 4.5), layout="constrained")
    steps = [m["step"] for m in metrics]
    panels = {
        "loss": {"loss_gen": "generator", "loss_disc": "discriminator"},
        "discriminator's mean logit": {"logit_real": "real images", "logit_fake": "generated images"},
    }
    for axes, (label, curves) in zip(figure.subplots(1, 2), panels.items(), strict=True):
        for (name, legend), colour in zip(curves.items(), ("tab:blue", "tab:orange"), strict=True):
            values = np.array([m[name] for m in metrics])
            axes.plot(steps, values, color=colour, alpha=0.25, linewidth=0.8)
            axes.plot(steps, _smooth(values), color=colour, label=legend)
        axes.set(xlabel="step", ylabel=label)
        axes.grid(alpha=0.2)
        axes.legend()
    figure.savefig(path, dpi=120)


def _smooth(values: np.ndarray) -> np.ndarray:
    """The running mean over about a twentieth of the curve, with a shorter window at the ends."""
    half = len(values) // 40
    total = np.concatenate([[0.0], np.cumsum(values)])
    i = np.arange(len(values))
    low, high = np.maximum(i - half, 0), np.minimum(i + half + 1, len(values))
    return (total[high] - total[low]) / (high - low)


def _screen(start: int, steps: int) -> "_Bar | _Lines":
    from rich.console import Console

    console = Console()
    return _Bar(console, start, steps) if console.is_terminal else _Lines(steps)


class _Bar:
    """A progress bar, for a terminal."""

    def __init__(self, console: Any, start: int, steps: int):
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (
            MofNCompleteColumn(),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[text]}"),
            TimeRemainingColumn(),
            TextColumn("left"),
        )
        self._progress = Progress(*columns, console=console)
        self._task = self._progress.add_task("", completed=start, total=steps, text="compiling")

    def __enter__(self) -> None:
        self._progress.start()

    def __exit__(self, *_: Any) -> None:
        self._progress.stop()

    def tick(self, step: int) -> None:
        self._progress.update(self._task, completed=step)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self._progress.update(self._task, text=_text(values))


class _Lines:
    """Plain lines, for a file or a pipe."""

    def __init__(self, steps: int):
        self._steps, self._first = steps, None

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: Any) -> None:
        pass

    def tick(self, step: int) -> None:
        pass

    def log(self, step: int, values: Mapping[str, float]) -> None:
        now = time.perf_counter()
        self._first = self._first or (now, step)  # what came before was compiling for the most part
        begin, first = self._first
        left = int((now - begin) / (step - first) * (self._steps - step)) if step > first else None
        clock = "" if left is None else f"  {left // 3600}:{left // 60 % 60:02d}:{left % 60:02d} left"
        width = len(str(self._steps))
        print(f"step {step:{width}d}/{self._steps}  {_text(values)}{clock}", flush=True)


def _text(values: Mapping[str, float]) -> str:
    return (
        f"loss_gen {values['loss_gen']:.3f}  loss_disc {values['loss_disc']:.3f}  "
        f"{values['images_per_second']:,.0f} images/s"
    )
