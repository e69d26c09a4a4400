"""One runner of studies: a study is a table of recipes, seeds and columns.

What is missing is trained: the first seed of each row, then the second of each, so that a study that is stopped early
has as much of each. After each seed NAME.json is written, and the table made from it, between <!-- NAME --> and
<!-- end --> of a page. Where a study takes `train_seeds`, seeds that NAME.json has, of the same recipe, are not trained
again, so that it can be gone on with where its runs are not.
"""

import dataclasses
import functools
import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import tyro

from jaxgan.benchmark import updates
from jaxgan.commands.cli import check_flags, check_names, fail, keep_programs, one_line_errors, parse
from jaxgan.commands.scored_run import Scored
from jaxgan.commands.scoring import Scorer, ScorerOptions, scorer
from jaxgan.commands.seed_statistics import mean_and_deviation
from jaxgan.commands.seeds import run_seeds
from jaxgan.files import atomic_write
from jaxgan.recipes.settings import Recipe
from jaxgan.run import Options, RunError
from jaxgan.run.screen import say
from jaxgan.run.workdir import differences, read_config, write_json

Record = dict[str, Any]
TIMES = ("milliseconds", "slower")


class Study(NamedTuple):
    """A table.

    Attributes:
      name: of the results, NAME.json, and of the table's place in a page.
      heading: of the first column.
      rows: by name in the results, what the table calls it there.
      columns: by heading, what `values` finds under that name; or a function of a row's record that gives text, a
        number or such values. Of values the mean and the standard deviation are shown, and a dash where there is none
        or the record lacks what the function reads.
    """

    name: str
    heading: str
    rows: Mapping[str, str]
    columns: Mapping[str, str | Callable[[Record], Any]]


@dataclasses.dataclass(frozen=True)
class Flags:
    """Measures rows of a table over seeds; started again, it goes on where it was stopped."""

    rows: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="[ROW …]")]
    """Which ones."""
    steps: int
    """How many updates of D; where a row has a length of its own, those of the others."""
    runs: Path
    """Where the runs are kept, a folder for each row."""
    seeds: int = 3
    """How many seeds of each; 0 trains none."""
    rounds: int = 0
    """How many times each update is timed, for a second; 0 keeps the times that were measured before."""
    out: Path = Path("experiments/results")
    """Where pictures and the results are written, as JSON."""
    page: Path | None = None
    """The page that the table is written into (by default README.md beside the results)."""
    data_dir: str | None = None
    """Where TensorFlow Datasets keeps its data (by default ~/tensorflow_datasets)."""


def command(
    study: Study,
    recipe: Callable[[str, int], Recipe],
    of_seed: Callable[[Recipe, Path, Record, Scorer], Record],
    scores: int = 0,
    finish: Callable[[Flags, dict[str, Record]], None] = lambda flags, results: None,
    args: list[str] | None = None,
    by: ScorerOptions = ScorerOptions(),
    **defaults: Any,
) -> None:
    """The command `python -m experiments.studies.NAME`: times the rows, trains them, and fills the table.

    A row's record has its times, `steps`, `config` and `seeds`: of each `seed` either `diverged`, why, or what it is.

    Args:
      study: the table.
      recipe: a function of a row's name, and of the flag `steps`.
      of_seed: what the record says of a run that has ended: a function of its recipe, its folder, what seeds.json says
        of it, and what it is measured with.
      scores: how many there are during training; none also leaves away those at its end.
      finish: a function of the flags and all records, before they are written.
      args: the command line.
      by: what scores.
      **defaults: of the flags; `rows` are those that have a recipe.
    """
    usual = Flags(runs=Path("runs") / study.name, **defaults)
    flags = parse(Flags, f"experiments.studies.{study.name}", args, default=usual)
    check_names(flags.rows, defaults["rows"], study.heading)
    check_flags(flags, seeds=0, steps=10, rounds=0)

    def measure(name: str, seeds: int) -> Record:
        return train_seeds(study, name, recipe(name, flags.steps), seeds, flags, of_seed, scores, by)

    seeds, timed = dict.fromkeys(flags.rows, flags.seeds), dict.fromkeys([defaults["rows"][0], *flags.rows])
    timed = {name: recipe(name, flags.steps) for name in timed}
    carry_out(study, flags.out, seeds, measure, functools.partial(finish, flags), flags.page, timed, flags.rounds)


def train_seeds(
    study: Study,
    name: str,
    recipe: Recipe,
    seeds: int,
    flags: Flags,
    of_seed: Callable[[Recipe, Path, Record, Scorer], Record],
    scores: int = 0,
    by: ScorerOptions = ScorerOptions(),
) -> Record:
    """The record of a row: `steps`, `config`, and `seeds`, of which those that NAME.json has are not trained again.

    Args:
      study: the table.
      name: the row's.
      recipe: what is trained.
      seeds: how many.
      flags: as given.
      of_seed: as for `command`.
      scores: likewise.
      by: likewise.

    Raises:
      RunError: not all seeds were scored alike, or are of the same data; or as in `run_seeds`.
    """
    folder, options = flags.runs / name, Options(flags.data_dir, log_every=20, sample_every=max(1, recipe.steps // 10))
    config = json.loads(json.dumps(recipe.config()))
    before = read_results(flags.out / f"{study.name}.json").get(name, {})
    same = before.get("steps") == recipe.steps
    same = same and not differences(before["config"], config, recipe.config_defaults(), ())
    record: Record = {**(before if same else {}), "steps": recipe.steps, "config": config}
    found = {seed["seed"]: seed for seed in record.get("seeds", [])}
    if missing := [seed for seed in range(seeds) if seed not in found]:
        here = [seed for seed in range(seeds) if seed in missing or (folder / f"seed-{seed}").exists()]
        scored = Scored(max(1, recipe.steps // scores) if scores else 0, by)
        trained, measure = run_seeds(recipe, folder, here, options, scored)["seeds"], scorer(recipe, flags.data_dir, by)
        for seed in (seed for seed in trained if seed["seed"] in missing):
            number, workdir = seed["seed"], folder / f"seed-{seed['seed']}"
            if "diverged" not in seed:
                digest = {"data_sha256": read_config(workdir).get("data_sha256")}
                seed = {"seed": number} | of_seed(recipe, workdir, seed, measure) | digest
            found[number] = seed
    record["seeds"] = [found[seed] for seed in sorted(found)]
    ended = [seed for seed in record["seeds"] if "diverged" not in seed]
    if len({seed.get("scored_by") for seed in ended}) > 1:
        raise RunError(f"{folder}: not all seeds were scored alike; name another --runs and another --out")
    if len({seed["data_sha256"] for seed in ended if "data_sha256" in seed}) > 1:
        raise RunError(f"{folder}: not all seeds are of the same data; name another --runs and another --out")
    return record


def carry_out(
    study: Study,
    out: Path,
    seeds: Mapping[str, int],
    measure: Callable[[str, int], Record],
    finish: Callable[[dict[str, Record]], None] = lambda results: None,
    page: Path | None = None,
    timed: Mapping[str, Recipe] | None = None,
    rounds: int = 0,
) -> None:
    """Measures rows, writes after each, and ends the program where one has failed.

    Args:
      study: the table.
      out: the folder of NAME.json.
      seeds: of each row how many; other rows are shown as they were measured before.
      measure: a function of a row and a number of seeds, which trains what is missing of these and gives the row's
        record. After a RunError the other rows go on.
      finish: a function of all records, before they are written.
      page: where the table is written, if there is such a page (by default README.md in `out`).
      timed: recipes whose updates are timed first, as in `updates.times`.
      rounds: of timing; without any the times that were measured before are kept.
    """
    make_folder(out)
    keep_programs()
    path, page, failed = out / f"{study.name}.json", page or out / "README.md", []
    with one_line_errors():
        results = read_results(path)

        def write() -> None:
            write_json(path, {name: results[name] for name in study.rows if name in results})
            write_table(study, results, page)

        if timed and rounds:
            times = updates.times(timed, rounds)
            results |= {name: results.get(name, {}) | times[name] for name in times}
            write()
        for count in range(1, max(seeds.values(), default=0) + 1):
            for name in (name for name in seeds if count <= seeds[name] and name not in failed):
                try:
                    found = measure(name, count)
                    results[name] = found | {k: v for k, v in results.get(name, {}).items() if k in TIMES}
                    finish(results)
                    write()
                except RunError as error:
                    say(f"{name}: {error}", "stderr")
                    failed.append(name)
    say(f"see {out}")
    if failed:
        fail(f"{', '.join(sorted(failed))}: no results, as said above", 1)


def table(study: Study, results: Mapping[str, Record]) -> str:
    """The results as a table in Markdown. Rows that were scored otherwise than the first show their times alone."""
    rows = {name: results[name] for name in study.rows if name in results}
    units = {name: values(of, "scored_by")[:1] for name, of in rows.items() if of.get("seeds")}
    others = [name for name in units if units[name] != next(iter(units.values()))]
    for name in others:
        rows[name] = {what: value for what, value in rows[name].items() if what in (*TIMES, "steps")}
    lines = [f"| {study.heading} | {' | '.join(study.columns)} |", "|---" * (1 + len(study.columns)) + "|"]
    for name, of in rows.items():
        lines.append(f"| {' | '.join([study.rows[name], *(_cell(of, column) for column in study.columns.values())])} |")
    if others:
        lines += ["", f"Scored otherwise, and not to be compared: {'; '.join(study.rows[name] for name in others)}."]
    return "\n".join(lines)


def write_table(study: Study, results: Mapping[str, Record], page: Path) -> None:
    """Writes the table between <!-- NAME --> and <!-- end --> of a page, if there is such a page."""
    if page.exists():
        between = re.compile(rf"(?<=<!-- {study.name} -->\n).*?(?=<!-- end -->)", re.DOTALL)
        content = between.sub(lambda _: f"{table(study, results)}\n", page.read_text(), count=1)
        with atomic_write(page) as partial:
            partial.write_text(content)


def values(of: Record, name: str) -> list[Any]:
    """The values of that name of the seeds that have one; or the one value that a record has itself."""
    return [of[name]] if name in of else [s[name] for s in of.get("seeds", []) if s.get(name) is not None]


def with_error(of: Record, name: str) -> str:
    """The mean of the values of that name over seeds, and its standard error."""
    if not (known := values(of, name)):
        return "-"
    mean, deviation = mean_and_deviation(known)
    return f"{mean:.3g}" if deviation is None else f"{mean:.3g} ± {deviation / len(known) ** 0.5:.2g}"


def _cell(of: Record, column: str | Callable[[Record], Any]) -> str:
    try:
        value = values(of, column) if isinstance(column, str) else column(of)
    except LookupError:
        return "-"
    if isinstance(value, list) and len(value) > 1:
        mean, deviation = mean_and_deviation(value)
        return f"{mean:.3g} ± {deviation:.2g}"
    value = (value or ["-"])[0] if isinstance(value, list) else value
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def make_folder(out: Path) -> None:
    """Makes the folder, or ends the program with a line."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        fail(f"--out {out} cannot be made ({error.strerror}); name another")


def read_results(path: Path) -> dict[str, Any]:
    """What a study has written before; ends the program where it is something else."""
    try:
        return dict(json.loads(path.read_text())) if path.exists() else {}
    except (ValueError, TypeError):
        fail(f"{path} is not what this script has written; move it away")


def machine(device: str) -> str:
    """What a run was on, by its kind of device."""
    return f"{os.cpu_count()} CPU cores" if device == "cpu" else device
