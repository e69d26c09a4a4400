"""The lines of metrics.jsonl: one JSON object for each logged step, in order.

A long run has millions of them, so they are read one at a time.
"""

import json
import statistics
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jaxgan.files import atomic_write

NAME = "metrics.jsonl"
UNIT = "scored_by"  # what the scores of a line were measured in, where an event says it; the one text among numbers
SCORES = (
    "frechet_distance",
    "inception_score",
    "precision",
    "recall",
    "density",
    "coverage",
    "label_agreement",
    "l1",
    "psnr",
)


def each_line(workdir: Path) -> Iterator[dict[str, Any]]:
    """The objects of the file, one at a time; what is not a whole line of metrics is passed over."""
    return (line for _, line in _parsed(workdir / NAME))


def read_metrics(workdir: Path) -> list[dict[str, Any]]:
    """The objects of the file, all at once."""
    return list(each_line(workdir))


def unit(workdir: Path) -> str | None:
    """What the newest scores were measured in; None where that is not known, or there are none."""
    newest = None
    for line in each_line(workdir):
        newest = newest if line.keys().isdisjoint(SCORES) else line.get(UNIT)
    return newest


def comparable(workdir: Path) -> Iterator[dict[str, Any]]:
    """As `each_line`, without the scores that are of another unit than the newest ones."""
    newest = unit(workdir)
    for line in each_line(workdir):
        alike = line.get(UNIT) == newest
        yield line if alike else {name: value for name, value in line.items() if name not in (*SCORES, UNIT)}


def keep_until(workdir: Path, step: int) -> dict[str, Any]:
    """Drops the lines past `step`, and half a line that a killed run has left.

    Returns:
      The last line that is kept, or {}.
    """
    path, last = workdir / NAME, {}
    with atomic_write(path) as partial, partial.open("wb") as file:
        for text, line in _parsed(path):
            if line["step"] <= step:
                file.write(text.rstrip(b"\n") + b"\n")
                last = line
    return last


def last_and_rate(workdir: Path) -> tuple[dict[str, Any], float]:
    """The last line, and the median of the images per second; the first line's rate has the compiling in it."""
    last, rates = {}, array("d")
    for last in each_line(workdir):
        rates.append(last.get("images_per_second") or 0)
    return last, statistics.median(rates[1:] or rates or [0])


def _parsed(path: Path) -> Iterator[tuple[bytes, dict[str, Any]]]:
    if not path.exists():
        return
    with path.open("rb") as file:
        for text in file:
            try:
                line = json.loads(text)
            except ValueError:
                continue
            if isinstance(line, dict) and isinstance(line.get("step"), int):
                yield text, line
