"""A recipe under a grid of settings, and which does best: `python -m experiments.sweep RECIPE --vary NAME VALUE …`.

Each point of the grid is a study of seeds, as of `jaxgan.commands.seeds`, in a folder of the sweep:

    beta1=0.5-loss=hinge/seed-0/ …     the runs, each the same to the last bit as that run alone
    sweep.json                         the points, the best first: their settings, seeds and scores
    sweep.png                          the score over each setting

Started again, a sweep goes on: finished runs are only read. More values, seeds or steps may be asked for.
"""

import dataclasses
import itertools
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import tyro

from jaxgan import recipes
from jaxgan.commands import sweep_results
from jaxgan.commands.cli import check_flags, check_json, fail, keep_programs, one_line_errors
from jaxgan.commands.scored_run import Scored
from jaxgan.commands.seeds import run_seeds
from jaxgan.commands.train import Settings, folder_name, for_data, given, read_flags
from jaxgan.evaluation.scores import HIGHER
from jaxgan.recipes.groups import GROUPS
from jaxgan.recipes.settings import Recipe
from jaxgan.run import Options
from jaxgan.run.numerics import start_devices
from jaxgan.run.prepare import check_options
from jaxgan.run.screen import say
from jaxgan.run.workdir import read_summary, write_json

DATA = ("data", "split", "border", "fit")  # settings that say which the real images are


@dataclasses.dataclass(frozen=True)
class Sweep:
    """Trains a recipe under every combination of some settings' values, and says which does best."""

    recipe: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RECIPE")]
    """One of the recipes below, or a Python file that defines RECIPE; it decides the defaults, and comes first."""
    vary: tyro.conf.UseAppendAction[tuple[tuple[str, ...], ...]] = ()
    """A setting and its values, as its flag takes them; given again for another setting."""
    seeds: int = 1
    """How many of each combination: 0, 1, …"""
    order_by: tuple[str, ...] | None = None
    """A score of the last generator, or a metric of metrics.jsonl; of a metric, min or max after it says what is best
    (by default min; without this flag the recipe's best_by)."""
    together: bool = False
    """Train the seeds of a combination in one program, on one device: the same runs to rounding."""
    runs: str | None = None
    """The folder of the sweep (by default runs/sweeps/RECIPE, with the flags that make it another one)."""
    json: Path | None = None
    """Where to save sweep.json, too."""
    traceback: bool = False
    """Show the whole traceback of an error."""
    options: Annotated[Options, tyro.conf.OmitArgPrefixes, tyro.conf.arg(name="run")] = Options()
    scored: Annotated[Scored, tyro.conf.OmitArgPrefixes, tyro.conf.arg(name="scores")] = Scored()
    settings: Settings = recipes.RECIPES["digits"]


class Point(NamedTuple):
    """A point of the grid: its values of the settings that are varied, by name, and the recipe with them."""

    values: dict[str, Any]
    recipe: Recipe


def main(args: list[str] | None = None) -> None:
    """Parses the flags, trains, and prints the table; the exit status is 1 where all runs have diverged."""
    args = sys.argv[1:] if args is None else args
    with one_line_errors("--traceback" in args):
        flags, usual, recipe = read_flags(Sweep, "experiments.sweep", args)
        check_flags(flags, seeds=1)
        if flags.runs == "":
            fail("--runs is empty; name a folder, or leave the flag away")
        check_json(flags.json)
        if flags.together and flags.seeds == 1:
            fail("--together is for several seeds of each combination; name how many, --seeds 3")
        by, *best = recipe.best_by if flags.order_by is None else flags.order_by or ("",)
        if not by or [*best] not in ([], ["min"], ["max"]):
            fail(
                f"--order-by must be a name, and min or max after it, not {' '.join(flags.order_by or ()) or 'nothing'}"
            )
        points = read_grid(flags.vary, recipe, args)
        varied = sorted(next(iter(points.values())).values)
        folder = Path(flags.runs or f"runs/sweeps/{'-'.join([folder_name(recipe, usual), *varied])}")
        keep_programs()
        start_devices()
        said = given(args)
        for name, (values, recipe) in points.items():
            check_options(recipe, 0, flags.options)
            points[name] = Point(values, for_data(recipe, usual, flags.options.data_dir, said | {*values}))
        order = (by, best == ["max"] if best else by in HIGHER)
        found = run_sweep(points, folder, flags.seeds, flags.options, flags.scored, order, flags.together)
        say(f"\n{sweep_results.table(found)}\n")
        if flags.json:
            write_json(flags.json, found)
    say(f"see {folder}/sweep.json and {folder}/sweep.png")
    if all(len(row["diverged"]) == flags.seeds for row in found["rows"]):
        fail("all runs diverged", 1)


def read_grid(vary: Sequence[Sequence[str]], recipe: Recipe, args: list[str]) -> dict[str, Point]:
    """The points of the grid, by what they are called.

    Each is read as the command line `args` with its settings as flags is; `vary` has a setting and its values each.

    Raises:
      SystemExit: a setting or a value is none.
      RecipeError: likewise; or those of a point do not go together.
    """
    if not vary:
        fail("--vary is missing: name a setting and its values, --vary gen_learning_rate 1e-4 3e-4")
    said = given(args)
    flags: dict[str, list[list[str]]] = {}  # of each setting that of each value
    fields = {f.name: f for kind in GROUPS.values() for f in dataclasses.fields(kind) if f.metadata["help"]}
    for name, *values in ((words or ("",)) for words in vary):
        setting = name.replace("-", "_")
        if setting not in fields:
            fail(f"--vary {name}: there is no such setting; there are {', '.join(n for n in fields if n not in DATA)}")
        flag = f"--{setting.replace('_', '-')}"
        if setting in DATA:
            fail(f"--vary {name}: scores against other real images cannot be compared; give {flag} to a sweep of each")
        if setting in flags:
            fail(f"--vary {name} is there twice; name its values once")
        if setting in said:
            fail(f"--vary {name} and {flag} are both there; leave one of them away")
        if not values:
            fail(f"--vary {name}: name its values after it")
        flags[setting] = [_as_flag(flag, fields[setting].type is bool, value) for value in values]
        read = [getattr(read_flags(Sweep, "experiments.sweep", [*args, *of])[2], setting) for of in flags[setting]]
        for i, value in enumerate(read):
            if value in read[:i]:
                fail(f"--vary {name}: {values[i]} is there twice; name it once")
    points = {}
    for chosen in itertools.product(*flags.values()):
        _, _, found = read_flags(Sweep, "experiments.sweep", [*args, *itertools.chain(*chosen)])
        values = {setting: getattr(found, setting) for setting in flags}
        points[_name(values)] = Point(values, found)
    return points


def _as_flag(flag: str, is_bool: bool, value: str) -> list[str]:
    """What says on a command line that a setting has this value."""
    if not is_bool:
        return [flag, value]
    if value.lower() not in ("true", "false"):
        fail(f"--vary {flag[2:]}: it is True or False, not {value}")
    return [flag if value.lower() == "true" else f"--no-{flag[2:]}"]


def _name(values: Mapping[str, Any]) -> str:
    """What a point is called, whatever the order of its settings: the name of its folder, too."""
    return re.sub(r"[^\w.=-]+", "_", "-".join(f"{name}={values[name]}" for name in sorted(values)))


def run_sweep(
    points: Mapping[str, Point],
    folder: Path,
    seeds: int = 1,
    options: Options = Options(),
    scored: Scored = Scored(),
    order_by: tuple[str, bool] = ("frechet_distance", False),
    together: bool = False,
) -> dict[str, Any]:
    """Trains and scores every point under so many seeds, the first seed of each, then the second; each is `run_seeds`.

    `order_by` is a score or a metric, and whether the higher is better.

    Returns:
      What sweep.json holds, as from `sweep_results.of_studies`.

    Raises:
      Exception: those of `run_seeds`.
    """
    studies: dict[str, dict[str, Any]] = {}
    diverged: dict[str, dict[int, str]] = {name: {} for name in points}
    values, found = {name: point.values for name, point in points.items()}, {}
    for count, name in _in_order(points, folder, seeds, together):
        say(f"\n{name}")
        study = run_seeds(points[name].recipe, folder / name, count, options, scored, diverged[name], together)
        studies[name] = study
        found = sweep_results.of_studies(folder, values, studies, *order_by)
        write_json(folder / "sweep.json", found)
        sweep_results.draw(folder / "sweep.png", found)
    return found


def _in_order(points: Mapping[str, Point], folder: Path, seeds: int, together: bool) -> Iterator[tuple[int, str]]:
    """How many seeds of which point, one after the other: finished points, then the first seed of each, and so on."""
    turns = []
    for place, (name, point) in enumerate(points.items()):
        summaries = [read_summary(folder / name / f"seed-{seed}") for seed in range(seeds)]
        missing = [k for k, summary in enumerate(summaries) if summary.get("step") != point.recipe.steps]
        counts = {seeds} if together else {seeds, *(k + 1 for k in missing)}
        turns += [(count if missing else 0, place, count, name) for count in counts]
    yield from ((count, name) for _, _, count, name in sorted(turns))


if __name__ == "__main__":
    main()
