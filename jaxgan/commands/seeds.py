"""The same recipe under several seeds, and how their scores vary: `python -m experiments.seeds RECIPE`.

Each seed is a run of its own, the same to the last bit as that seed trained alone, in a folder of the study:

    seed-0/ …      the runs
    seeds.json     where each run ended, and its scores; of each score all values, their mean and standard deviation
    seeds.png      the scores during training, and the losses

Started again, a study goes on: finished runs are only read. More seeds or more steps may be asked for.
"""

import dataclasses
import statistics
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any

import tyro

from jaxgan import recipes
from jaxgan.commands import seed_statistics
from jaxgan.commands.cli import check_flags, check_json, fail, keep_programs, one_line_errors
from jaxgan.commands.scored_run import Scored, is_scored, run_scored, train_together
from jaxgan.commands.scoring import scorer
from jaxgan.commands.train import Settings, folder_name, for_data, given, read_flags
from jaxgan.data.digests import FILES
from jaxgan.evaluation.scores import title
from jaxgan.recipes.settings import Recipe
from jaxgan.run import Options, RunError, WorkdirError, plots
from jaxgan.run.metrics import SCORES, read_metrics, unit
from jaxgan.run.prepare import config_of
from jaxgan.run.screen import say
from jaxgan.run.workdir import check, read_config, read_summary, write_json

WHICH = ("final", "best")


@dataclasses.dataclass(frozen=True)
class Seeds:
    """Trains a recipe under several seeds, one after the other, and says how their scores vary."""

    recipe: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RECIPE")]
    """One of the recipes below, or a Python file that defines RECIPE; it decides the defaults, and comes first."""
    seeds: int = 5
    """How many: 0, 1, …"""
    runs: str | None = None
    """The folder of the study (by default runs/seeds/RECIPE, with the flags that make it another recipe)."""
    json: Path | None = None
    """Where to save seeds.json, too."""
    traceback: bool = False
    """Show the whole traceback of an error."""
    options: Annotated[Options, tyro.conf.OmitArgPrefixes, tyro.conf.arg(name="run")] = Options()
    scored: Annotated[Scored, tyro.conf.OmitArgPrefixes, tyro.conf.arg(name="scores")] = Scored()
    settings: Settings = recipes.RECIPES["digits"]


def main(args: list[str] | None = None) -> None:
    """Parses the flags, trains, and prints the tables; the exit status is 1 where a seed has diverged."""
    args = sys.argv[1:] if args is None else args
    with one_line_errors("--traceback" in args):
        flags, usual, recipe = read_flags(Seeds, "experiments.seeds", args)
        check_flags(flags, seeds=1)
        if flags.scored.evaluate_every is not None and flags.scored.evaluate_every < 1:
            fail(f"--evaluate-every must be at least 1, not {flags.scored.evaluate_every}: a study is of scores")
        if flags.runs == "":
            fail("--runs is empty; name a folder, or leave the flag away")
        check_json(flags.json)
        folder = Path(flags.runs or f"runs/seeds/{folder_name(recipe, usual)}")
        keep_programs()
        recipe = for_data(recipe, usual, flags.options.data_dir, given(args))
        found = run_seeds(recipe, folder, flags.seeds, flags.options, flags.scored)
        name, least = recipe.best_by[0], recipe.best_by[1] == "min"
        by = f"{'lowest' if least else 'highest'} {title(name)} during training"
        titles = {"final": "last step", "best": by}
        for which in WHICH:
            if which in found:
                say(f"{seed_statistics.table(f'{which} ({titles[which]})', found[which])}\n")
        if len({seed["scored"] for seed in found["seeds"] if "scored" in seed}) > 1:
            say("note: not all seeds were scored as often during training, so the best of some was chosen among more\n")
        if len({seed["best"].get("chosen_by") for seed in found["seeds"] if "best" in seed}) > 1:
            say("note: not all seeds were scored alike during training, and so the best was not chosen alike\n")
        if flags.json:
            write_json(flags.json, found)
    say(f"see {folder}/seeds.json and {folder}/seeds.png")
    if found["diverged"]:
        fail(f"{found['diverged']} of {flags.seeds} seeds diverged", 1)


def run_seeds(
    recipe: Recipe,
    folder: Path,
    seeds: int | Collection[int] = 5,
    options: Options = Options(),
    scored: Scored = Scored(),
    diverged: dict[int, str] | None = None,
    together: bool = False,
) -> dict[str, Any]:
    """Trains and scores a recipe under so many seeds, 0, 1, …, or under those named; if one diverges, the others go on.

    Each is a run in `folder`, with the `options` of `run`. Finished runs that were scored otherwise than `scored` says
    are scored again. Those that are known to have `diverged`, and why, are not trained; others that do are added there.
    With `together` those that are missing are trained in one program.

    Returns:
      What seeds.json holds: `recipe`, `steps` and `config`; `seeds`, a list with `seed` and either `diverged`, why, or
      `seconds`, how often it was `scored` during training, and `step`, `state_sha256`, `final` and `best` of its
      summary; how many have `diverged`; and `final` and `best`, their scores as from `over_seeds`.

    Raises:
      RunError: scores are of different kinds, or runs of different data; or as in `run`.
      Exception: the others of `run`.
    """
    diverged = {} if diverged is None else diverged
    seeds = range(seeds) if isinstance(seeds, int) else seeds
    try:
        for seed in seeds:
            workdir = folder / f"seed-{seed}"
            if recipes.changed_since(read_config(workdir), recipe):
                files = f"{recipe.name}.py, or a file that it imports,"
                raise WorkdirError(f"{files} is not what {workdir} was begun with; name another --runs")
            check(workdir, *config_of(recipe, seed))
        by = scorer(recipe, options.data_dir, scored.by) if scored.every(recipe) else None
        found: dict[int, dict[str, Any]] = {}
        result: dict[str, Any] = {}
        for seed in seeds:
            summary = read_summary(folder / f"seed-{seed}")
            if summary.get("step") == recipe.steps and (by is None or is_scored(summary, by)):
                found[seed] = summary
        if found or diverged:  # what could not be compared is refused before anything is trained
            result = _write(recipe, folder, found, diverged)
        missing = {seed: folder / f"seed-{seed}" for seed in seeds if seed not in {*found, *diverged}}
        if together and len(missing) > 1:
            diverged |= train_together(recipe, missing, options, scored)
            result = _write(recipe, folder, found, diverged)
        for seed in [seed for seed in missing if seed not in diverged]:
            say(f"\nseed {seed} ({len({*found, *diverged}) + 1} of {len(seeds)})")
            try:
                found[seed] = run_scored(recipe, folder / f"seed-{seed}", seed, options, scored=scored)
            except FloatingPointError as error:
                diverged[seed] = str(error)
                say(f"seed {seed} diverged: {error}", "stderr")
            result = _write(recipe, folder, found, diverged)
        return result
    except (RunError, WorkdirError) as error:
        raise type(error)(str(error).replace("`workdir`", "`runs`")) from error


def _write(recipe: Recipe, folder: Path, found: dict[int, dict[str, Any]], diverged: dict[int, str]) -> dict[str, Any]:
    """Writes seeds.json and seeds.png of what has ended; returns what seeds.json holds."""
    _refuse_other_data(folder, found)
    of_seeds: dict[int, dict[str, Any]] = {seed: {"seed": seed, "diverged": why} for seed, why in diverged.items()}
    for seed, summary in found.items():
        lines = read_metrics(folder / f"seed-{seed}")
        about = {"seed": seed, "seconds": lines[-1]["seconds"] if lines else None}
        about |= {"scored": sum(not line.keys().isdisjoint(SCORES) for line in lines)}
        kept = ("step", "state_sha256", "final", "best")
        of_seeds[seed] = about | {name: summary[name] for name in kept if name in summary}
    result: dict[str, Any] = {"recipe": recipe.name, "steps": recipe.steps, "config": recipe.config()}
    result |= {"seeds": [of_seeds[seed] for seed in sorted(of_seeds)], "diverged": len(diverged)}
    for which in WHICH:
        scores = {seed: found[seed][which] for seed in sorted(found) if "scores" in found[seed].get(which, {})}
        try:
            result |= {which: seed_statistics.over_seeds(scores)} if scores else {}
        except ValueError as error:
            raise RunError(f"{folder}: {error}; name another --runs") from error
    write_json(folder / "seeds.json", result)
    curves = {seed: plots.read_curves(folder / f"seed-{seed}", plots.LOSSES | plots.SCORES) for seed in of_seeds}
    _leave_out_other_units(curves, {seed: unit(folder / f"seed-{seed}") for seed in of_seeds})
    try:
        seed_statistics.draw(folder / "seeds.png", recipe.name, curves, diverged)
    except Exception as error:  # as in `plots.draw`
        say(f"{folder / 'seeds.png'} cannot be drawn ({error}); all else is written", "stderr")
    return result


def _leave_out_other_units(curves: dict[int, plots.Curves], units: dict[int, str | None]) -> None:
    """Leaves away the score curves of seeds that were scored otherwise than most during training, and says so."""
    scored = [seed for seed in curves if not curves[seed].keys().isdisjoint(SCORES)]
    for seed in scored:
        if units[seed] != (usual := statistics.mode(units[seed] for seed in scored)):
            curves[seed] = {name: curve for name, curve in curves[seed].items() if name not in SCORES}
            here, there = units[seed] or "unknown", usual or "unknown"
            say(f"note: seeds.png has no scores of seed {seed}: they are scored by: {here}; the others by: {there}")


def _refuse_other_data(folder: Path, seeds: Collection[int]) -> None:
    """Refuses runs whose images were not the same, though they were found in the same place."""
    digests = {seed: read_config(folder / f"seed-{seed}").get("data_sha256") for seed in sorted(seeds)}
    for seed, digest in digests.items():
        alike = [other for other in digests if str(digests[other]).startswith(FILES) == str(digest).startswith(FILES)]
        if digest != digests[first := min(alike)]:
            raise RunError(f"{folder}: seed {first} and seed {seed} are of different data; name another --runs")
