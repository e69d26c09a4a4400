"""What a run writes of its progress: `metrics.jsonl`, TensorBoard events, sample grids; and what it shows.

workdir/metrics.jsonl      one JSON object for each logged step
workdir/tensorboard/       the same, and the sample grids, as event files
workdir/samples/           sample grids as PNG, by step

Each of them may fail, on a full disk say, or where Pillow does: the run then says so once, and goes on without it. All
is written before the checkpoint of the same step, and at once, so that what a killed run goes on from has been reported
in full.
"""

import functools
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxgan import images
from jaxgan.data.dataset import first_line
from jaxgan.run import metrics, tensorboard
from jaxgan.run.health import Watch
from jaxgan.run.screen import Nothing, open_screen, say
from jaxgan.run.workdir import append


class Report:
    """Writes and shows a run's progress, as a context manager. A resumed run's files go on without a seam."""

    def __init__(self, workdir: Path, start: int, steps: int, images_per_step: int, shown: bool = True):
        """Drops what a killed run has reported past step `start`, which this one goes on from, to step `steps`.

        Where it is not `shown`, it is written alone.
        """
        self._workdir, self._images_per_step = workdir, images_per_step
        self._off: set[str] = set()
        self._first_unit = ...  # of the run's scores; not looked up yet
        last = self._attempt("metrics.jsonl", lambda: metrics.keep_until(workdir, start)) or {}
        self._attempt("samples", lambda: _drop_grids(workdir, start))
        self._events, self._start = None, start
        self._screen = open_screen(start, steps) if shown else Nothing()
        self._since, self._since_step = time.perf_counter(), start
        self._begin = self._since - last.get("seconds", 0)  # of all the run's processes
        self._watch = Watch()
        self._attempt("metrics.jsonl", lambda: self._watch.earlier(metrics.each_line(workdir)))

    def __enter__(self) -> "Report":
        self._screen.__enter__()
        return self

    def __exit__(self, *exception: Any) -> None:
        self._screen.__exit__(*exception)

    def tick(self, step: int) -> None:
        self._screen.tick(step)

    def log(self, step: int, values: Mapping[str, float], unit: str | None = None) -> None:
        """Reports the scalars of a step, and the images per second; `unit` is what their scores were measured in."""
        now = time.perf_counter()
        rate = (step - self._since_step) * self._images_per_step / (now - self._since)
        self._since, self._since_step = now, step
        values = {**values, "images_per_second": rate}
        line = {"step": step, "seconds": round(now - self._begin, 3), **{k: _rounded(v) for k, v in values.items()}}
        line |= {metrics.UNIT: unit} if unit else {}
        text = (json.dumps(line, allow_nan=False) + "\n").encode()
        self._attempt("metrics.jsonl", lambda: append(self._workdir / metrics.NAME, text))
        self._attempt("tensorboard", lambda: self._append_event(tensorboard.scalars(step, self._tagged(values, unit))))
        self._screen.log(step, values)
        for note in self._watch.line(line):
            say(note, "stderr")

    def _tagged(self, values: Mapping[str, float], unit: str | None) -> Mapping[str, float]:
        """Values by their names in TensorBoard, where a curve is of one unit: another than the first is in the name."""
        if values.keys().isdisjoint(metrics.SCORES):
            return values
        if self._first_unit is ...:
            scored = (x for x in metrics.each_line(self._workdir) if not x.keys().isdisjoint(metrics.SCORES))
            self._first_unit = next((x.get(metrics.UNIT) for x in scored), unit)
        if unit == self._first_unit:
            return values
        return {f"{k} ({unit})" if k in metrics.SCORES else k: value for k, value in values.items()}

    def samples(
        self,
        step: int,
        samples: np.ndarray,
        columns: int | None = None,
        names: Sequence[str] = (),
        beside: Sequence[np.ndarray] = (),
    ) -> None:
        """Saves a picture of samples; the arguments are those of `images.drawn`."""
        for note in self._watch.grid(step, samples, columns or len(samples)) if step else ():
            say(note, "stderr")
        if {"samples", "tensorboard"} <= self._off:
            return
        try:
            picture = images.drawn(samples, columns, names, beside)
            png = images.png(picture, level=1)  # the updates go on meanwhile, on the same cores perhaps
        except Exception as error:  # as in `_attempt`
            return self._give_up("samples", error)
        path = self._workdir / "samples" / f"{step:06d}.png"
        self._attempt("samples", lambda: images.save_png(path, png))
        record = functools.partial(tensorboard.picture, step, "samples", picture.shape, png)
        self._attempt("tensorboard", lambda: self._append_event(record()))

    def _append_event(self, records: bytes) -> None:
        """The file is opened for its first records: to import tensorboardX takes seconds, while the devices work."""
        if self._events is None:
            self._events = tensorboard.new_file(self._workdir / "tensorboard")
            self._events.parent.mkdir(exist_ok=True)
            # A run from the start draws its first picture, of step 0, again.
            tensorboard.keep_until(self._events.parent, self._start or -1)
            append(self._events, tensorboard.beginning(self._start + 1))
        append(self._events, records)

    def _attempt(self, name: str, write: Callable[[], Any]) -> Any:
        """The result of `write`; where that fails, says so, and never tries that file or folder again."""
        if name in self._off:
            return None
        try:
            return write()
        except Exception as error:  # of the libraries that write them there are many kinds
            return self._give_up(name, error)

    def _give_up(self, name: str, error: Exception) -> None:
        if name not in self._off:
            self._off.add(name)
            why = getattr(error, "strerror", None) or first_line(error)
            say(f"{self._workdir / name} cannot be written ({why}); the run goes on without it", "stderr")


def grids(workdir: Path) -> list[Path]:
    """The sample grids of a run, by step."""
    return sorted((p for p in (workdir / "samples").glob("*.png") if p.stem.isdecimal()), key=lambda p: int(p.stem))


def _drop_grids(workdir: Path, start: int) -> None:
    (workdir / "samples").mkdir(exist_ok=True)
    for late in (p for p in grids(workdir) if int(p.stem) > start):
        late.unlink()


def _rounded(value: float) -> float | None:
    """Six digits; None, JSON's null, where it is not finite."""
    return float(f"{value:.6g}") if math.isfinite(value) else None
