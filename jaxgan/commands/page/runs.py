"""What the page knows of runs: what their folders hold, which are the seeds of one entry, and which are comparable."""

import contextlib
import dataclasses
import json
import math
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from jaxgan.commands import scoring
from jaxgan.run import metrics
from jaxgan.run.events import RESERVED
from jaxgan.run.plots import Curves, read_curves
from jaxgan.run.report import grids
from jaxgan.run.workdir import TELLS, WHERE, WorkdirError, read_config, read_summary

SEED = re.compile(r"seed-(\d+)")  # the workdirs in a folder of experiments.seeds
COLOURS = ("#3b82c4", "#dd7a14", "#2a9d6f", "#d1495b", "#8e63c7", "#a0693f", "#d86fae", "#1899ad", "#8f8f1f", "#84888f")


@dataclasses.dataclass(frozen=True, eq=False)
class Run:
    """What a run's folder holds.

    Attributes:
      workdir: the folder.
      config: config.json.
      summary: summary.json; empty where the run has not ended.
      final: the last generator's scores, of the summary; empty where they are not there, or not whole.
      best: the best generator's; empty also where they are not measured as the final ones are.
      curves: by name of the metric, its steps and its values; of scores, those of `unit`.
      unit: what the newest scores during training were measured in; None where that is not known.
      last_step: of metrics.jsonl; 0 where it has no line.
      grids: the sample grids, by step.
    """

    workdir: Path
    config: dict[str, Any]
    summary: dict[str, Any]
    final: dict[str, Any]
    best: dict[str, Any]
    curves: Curves
    unit: str | None
    last_step: int
    grids: list[Path]

    @property
    def seed(self) -> Any:
        return self.config.get("seed")

    @property
    def steps(self) -> int | None:
        """The length of a run that has ended. A run's config does not say it."""
        step = self.summary.get("step")
        return step if isinstance(step, int) else None

    @property
    def lacks(self) -> str:
        """Why it has no final scores, or none of its last step; empty where it has them."""
        if not self.summary:
            seen = f"step {self.last_step:,} is the last one logged" if self.last_step else "nothing is logged yet"
            return f"not finished: {seen}"
        if self.steps is not None and self.last_step > self.steps:
            return f"goes on: finished at step {self.steps:,} before, now at {self.last_step:,}"
        if "final" not in self.summary:
            return "finished, but not scored (the same experiments.train without --evaluate-every 0 scores it)"
        return "" if self.final else "the scores in its summary.json are not whole"


@dataclasses.dataclass(frozen=True, eq=False)
class Entry:
    """A line of the comparison: a run, or the runs of one config that differ in the seed.

    Attributes:
      key: a short sign.
      name: of the folder.
      colour: of its curves.
      steps: how far its runs have come, as text.
      count: how many runs it has in all.
      runs: by seed; some of them alone where these alone are looked at.
    """

    key: str
    name: str
    colour: str
    steps: str
    count: int
    runs: list[Run]

    @property
    def drawn(self) -> Run | None:
        """The first run that has sample grids."""
        return next((run for run in self.runs if run.grids), None)


def span(values: Iterable[Any], shown: Callable[[Any], str] = "{:,}".format) -> str:
    """The least and the greatest of several values, as text; nothing where there are none."""
    values = list(values)
    return " to ".join(dict.fromkeys(shown(value) for value in (min(values), max(values)))) if values else ""


def workdirs(folders: Iterable[Path]) -> list[Path]:
    """The workdirs that folders are or, being folders of `experiments.seeds`, hold; each once.

    Raises:
      WorkdirError: a folder is neither.
    """
    found: dict[Path, Path] = {}
    for folder in folders:
        seeds = [path for path in folder.glob("seed-*") if SEED.fullmatch(path.name)]
        seeds.sort(key=lambda path: int(path.name[5:]))
        held = [path for path in (folder, *seeds) if (path / "config.json").is_file()]
        if not held:
            missing = "neither a config.json nor a seed-0 with one" if folder.is_dir() else "no such folder"
            give = "give the workdir of a run of experiments.train"
            raise WorkdirError(f"{folder} holds no run (there is {missing}); {give}")
        for path in held[:1] if folder in held else held:
            found.setdefault(path.resolve(), path)
    return list(found.values())


def read(workdir: Path) -> Run:
    """What a run's folder holds.

    Raises:
      WorkdirError: its config.json is not that of a run.
    """
    config = read_config(workdir)
    if "recipe" not in config:
        raise WorkdirError(f"{workdir / 'config.json'} is not a run's config.json; give another folder")
    curves: Curves = {}
    unit = None
    with contextlib.suppress(OSError):  # a run without curves
        curves, unit = read_curves(workdir), metrics.unit(workdir)
    summary = read_summary(workdir)
    final, best = _whole(summary.get("final")), _whole(summary.get("best"))
    if not final or (best and scoring.differences(final, best)):
        best = {}
    last = max((int(steps[-1]) for steps, _ in curves.values()), default=0)
    curves = {name: curve for name, curve in curves.items() if name not in RESERVED}
    return Run(workdir, config, summary, final, best, curves, unit, last, grids(workdir))


def entries(runs: Sequence[Run]) -> list[Entry]:
    """Puts runs together that have the same config up to the seed, and the same length; in the order given.

    A second run of the same seed is not another seed: it is an entry of its own. A run that has not ended belongs to
    those that have, where these are of one length.
    """
    groups: dict[tuple[str, int | None, int], list[Run]] = {}
    lengths: dict[str, set[int | None]] = {}
    for run in runs:
        lengths.setdefault(_settings(run), set()).add(run.steps)
    for run in runs:
        settings, steps, again = _settings(run), run.steps, 0
        if steps is None and len(known := lengths[settings] - {None}) == 1:
            (steps,) = known
        while any(other.seed == run.seed for other in groups.get((settings, steps, again), [])):
            again += 1
        groups.setdefault((settings, steps, again), []).append(run)
    found = [sorted(group, key=lambda run: str(run.seed).zfill(12)) for group in groups.values()]
    folders = [_folder(group) for group in found]
    return [
        Entry(
            key=chr(ord("A") + i % 26) + str(i // 26 or ""),
            name=_short(folders[i], folders),
            colour=COLOURS[i % len(COLOURS)],
            steps=span(run.steps or run.last_step for run in group),
            count=len(group),
            runs=group,
        )
        for i, group in enumerate(found)
    ]


def only(entries: Sequence[Entry], which: Callable[[Run], Any]) -> list[Entry]:
    """The entries with those of their runs alone; those that have none are left out."""
    chosen = [dataclasses.replace(entry, runs=[run for run in entry.runs if which(run)]) for entry in entries]
    return [entry for entry in chosen if entry.runs]


def scored_alike(entries: Sequence[Entry]) -> list[list[Entry]]:
    """The scored runs, in groups within which scores may be compared."""
    groups: list[list[Entry]] = []
    rest = only(entries, lambda run: run.final)
    while rest:
        one = rest[0].runs[0].final
        groups.append(only(rest, lambda run, one=one: not scoring.differences(one, run.final)))
        rest = only(rest, lambda run, one=one: scoring.differences(one, run.final))
    return groups


def curves_alike(entries: Sequence[Entry]) -> list[tuple[str, list[Entry]]]:
    """The runs whose scores during training may be drawn together, after what these were measured in.

    A run that does not say it is drawn apart.
    """
    units = dict.fromkeys(run.unit for entry in entries for run in entry.runs if run.unit)
    found = [(f"Scored by: {unit}.", only(entries, lambda run, unit=unit: run.unit == unit)) for unit in units]
    why = "It is not known what these were measured with: not to be compared with others."
    return found + [(why, [entry]) for entry in only(entries, lambda run: not run.unit)]


def value_of(score: dict[str, Any], name: str, of: str = "scores") -> float | None:
    """A score, or its floor, by name; None where it is no finite number."""
    value = score.get(of, {}).get(name)
    return value if type(value) in (int, float) and math.isfinite(value) else None


def values_of(entry: Entry, name: str, which: str = "final", of: str = "scores") -> dict[Run, float]:
    """The values of one score, of those runs that have it."""
    found = {run: value_of(getattr(run, which), name, of) for run in entry.runs}
    return {run: value for run, value in found.items() if value is not None}


def _settings(run: Run) -> str:
    """The config up to the seed. Which data it is, the digest says, where there is one."""
    left_out = {"seed", *TELLS, *(WHERE if run.config.get("data_sha256") else ())}
    return json.dumps({k: v for k, v in run.config.items() if k not in left_out}, sort_keys=True)


def _folder(group: list[Run]) -> Path:
    """What a group is named by: its seeds' folder, or its first run's."""
    first = group[0].workdir.absolute()
    together = {run.workdir.absolute().parent for run in group} == {first.parent}
    return first.parent if len(group) > 1 and together and SEED.fullmatch(first.name) else first


def _short(path: Path, paths: Iterable[Path]) -> str:
    """The last parts of a path, as many as it takes to tell it from the others; of a seed's folder two at least."""
    count = 2 if SEED.fullmatch(path.name) else 1
    others = {other.parts for other in paths} - {path.parts}
    while count < len(path.parts) and any(parts[-count:] == path.parts[-count:] for parts in others):
        count += 1
    return str(Path(*path.parts[-count:]))


def _whole(score: Any) -> dict[str, Any]:
    """A score that says all it depends on, as `jaxgan.commands.scoring` lists; {} for another."""
    kinds = {"step": int, "count": int, "seed": int, "weights": str}
    kinds |= dict.fromkeys(("features", "reference", "scores", "floor"), dict)
    is_whole = (
        isinstance(score, dict)
        and all(isinstance(score.get(name), kind) for name, kind in kinds.items())
        and all(isinstance(score["features"].get(name), str) for name in ("name", "sha256"))
    )
    return score if is_whole else {}
