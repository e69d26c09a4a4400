"""What the page knows of runs: what their folders hold, and which of them are the seeds of one entry."""

import dataclasses
import json
import re
from array import array
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from jaxgan.run.events import RESERVED
from jaxgan.run.metrics import UNIT, comparable
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
      curves: by name of the metric, its steps and its values, where these are finite; of scores, those of `unit`.
      unit: what the newest scores during training were measured in; None where that is not known.
      last_step: of metrics.jsonl; 0 where it has no line.
      grids: the sample grids, by step.
    """

    workdir: Path
    config: dict[str, Any]
    summary: dict[str, Any]
    curves: dict[str, tuple[Sequence[int], Sequence[float]]]
    unit: str | None
    last_step: int
    grids: list[Path]

    @property
    def seed(self) -> Any:
        """Of the root key."""
        return self.config.get("seed")

    def score(self, which: str) -> dict[str, Any] | None:
        """The scores that the summary names `final` or `best`; None where they are not there, or not whole."""
        score = self.summary.get(which)
        return score if _is_whole(score) else None

    def lacks(self) -> str:
        """Why it has no final scores, or why they are not its last word; nothing where all is well."""
        step = self.summary.get("step")
        if not self.summary:
            seen = f"step {self.last_step:,} is the last one logged" if self.last_step else "nothing is logged yet"
            return f"not finished: {seen}"
        if isinstance(step, int) and self.last_step > step:
            return f"goes on: finished at step {step:,} before, now at {self.last_step:,}"
        if "final" not in self.summary:
            return "finished, but not scored (the same experiments.train without --evaluate-every 0 scores it)"
        return "" if self.score("final") else "the scores in its summary.json are not whole"


@dataclasses.dataclass(frozen=True, eq=False)
class Entry:
    """A line of the comparison: a run, or the runs of one config that differ in the seed.

    Attributes:
      key: a short sign.
      name: of the folder.
      colour: of its curves.
      runs: by seed.
    """

    key: str
    name: str
    colour: str
    runs: list[Run]

    def steps(self) -> str:
        """How far its runs have come, as text."""
        counts = [steps_of(run) or run.last_step for run in self.runs]
        least, most = min(counts), max(counts)
        return f"{most:,}" if least == most else f"{least:,} to {most:,}"


def workdirs(folders: Iterable[Path]) -> list[Path]:
    """The workdirs that folders are or, being folders of `experiments.seeds`, hold; each once.

    Raises:
      WorkdirError: a folder is neither.
    """
    found = {}
    for folder in folders:
        seeds = [path for path in folder.glob("seed-*") if SEED.fullmatch(path.name) and _holds_run(path)]
        here = [folder] if _holds_run(folder) else sorted(seeds, key=lambda path: int(path.name[5:]))
        if not here:
            why = (
                "there is neither a config.json nor a seed-0 with one" if folder.is_dir() else "there is no such folder"
            )
            raise WorkdirError(f"{folder} holds no run ({why}); give the workdir of a run of experiments.train")
        found |= {path.resolve(): found.get(path.resolve(), path) for path in here}
    return list(found.values())


def read(workdir: Path) -> Run:
    """What a run's folder holds.

    Raises:
      WorkdirError: its config.json is not that of a run.
    """
    config = read_config(workdir)
    if "recipe" not in config:
        raise WorkdirError(f"{workdir / 'config.json'} is not a run's config.json; give another folder")
    curves, last, unit = {}, 0, None
    try:
        for line in comparable(workdir):
            last, unit = line["step"], line.get(UNIT, unit)
            for name, value in line.items():
                if name not in RESERVED and type(value) in (int, float) and abs(value) < 1e300:
                    steps, values = curves.setdefault(name, (array("q"), array("d")))
                    steps.append(last)
                    values.append(value)
    except OSError:
        pass  # a run without curves
    return Run(workdir, config, read_summary(workdir), curves, unit, last, grids(workdir))


def entries(runs: Sequence[Run]) -> list[Entry]:
    """Puts runs together that have the same config up to the seed, and the same length; in the order given.

    A second run of the same seed is not another seed: it is an entry of its own. A run that has not ended belongs to
    those that have, where these are of one length.
    """
    groups: dict[tuple, list[Run]] = {}
    lengths: dict[str, set] = {}
    for run in runs:
        lengths.setdefault(_settings(run), set()).add(steps_of(run))
    for run in runs:
        settings, steps, again = _settings(run), steps_of(run), 0
        known = lengths[settings] - {None}
        if steps is None and len(known) == 1:
            steps = min(known)
        while any(other.seed == run.seed for other in groups.get((settings, steps, again), [])):
            again += 1
        groups.setdefault((settings, steps, again), []).append(run)
    found = [sorted(group, key=lambda run: str(run.seed).zfill(12)) for group in groups.values()]
    names = _short([_folder(group) for group in found])
    return [
        Entry(_key(i), name, COLOURS[i % len(COLOURS)], group)
        for i, (name, group) in enumerate(zip(names, found, strict=True))
    ]


def _key(i: int) -> str:
    return chr(ord("A") + i % 26) + (str(i // 26) if i >= 26 else "")


def _holds_run(folder: Path) -> bool:
    return (folder / "config.json").is_file()


def steps_of(run: Run) -> int | None:
    """The length of a run that has ended. A run's config does not say it."""
    step = run.summary.get("step")
    return step if isinstance(step, int) else None


def _settings(run: Run) -> str:
    """The config up to the seed. Which data it is, the digest says, where there is one."""
    left_out = {"seed", *TELLS, *(WHERE if run.config.get("data_sha256") else ())}
    return json.dumps({k: v for k, v in run.config.items() if k not in left_out}, sort_keys=True)


def _folder(group: list[Run]) -> Path:
    """What a group is named by: its seeds' folder, or its first run's."""
    first = group[0].workdir.absolute()
    together = {run.workdir.absolute().parent for run in group} == {first.parent}
    return first.parent if len(group) > 1 and together and SEED.fullmatch(first.name) else first


def _short(paths: list[Path]) -> list[str]:
    """The last parts of paths, as many as it takes to tell them apart; of a seed's folder two at least."""

    def last(path: Path, count: int) -> str:
        return "/".join(path.parts[-count:]).removeprefix("//") or "/"

    found = []
    for path in paths:
        count = 2 if SEED.fullmatch(path.name) else 1
        others = [other for other in paths if other != path]
        while count < len(path.parts) and any(last(other, count) == last(path, count) for other in others):
            count += 1
        found.append(last(path, count))
    return found


def _is_whole(score: Any) -> bool:
    """Whether a score says all that it depends on, as `jaxgan.commands.scoring` lists."""
    try:
        texts = [score["features"]["name"], score["features"]["sha256"], score["weights"]]
        numbers = [score["step"], score["count"], score["seed"]]
        return (
            all(isinstance(text, str) for text in texts)
            and all(isinstance(number, int) for number in numbers)
            and all(isinstance(score[name], dict) for name in ("reference", "scores", "floor"))
        )
    except (KeyError, TypeError):
        return False
