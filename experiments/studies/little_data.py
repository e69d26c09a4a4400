"""Few pictures, and what helps: `python -m experiments.studies.little_data [ROW …]`.

`pictures`, and in one row `stylegan2_small`, at 64 pixels on the emoji that `experiments.studies.emoji` arranges, in
three folders: all training pictures, 500 of them, and the rest. All have the same held-out pictures, which samples are
compared with. Rows that are not named keep what was measured before; started again, a study goes on where it was
stopped, or to more `--steps`.

    python -m experiments.studies.emoji PACKAGE --out runs/emoji/all
    python -m experiments.studies.emoji PACKAGE --out runs/emoji/few --pictures 500
    python -m experiments.studies.emoji PACKAGE --out runs/emoji/rest --but 500
"""

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from jaxgan import images, recipes
from jaxgan.commands import scoring, study
from jaxgan.commands.cli import check_flags, check_names, one_line_errors, parse, run_script
from jaxgan.commands.scored_run import Scored
from jaxgan.commands.scoring import Scorer, ScorerOptions
from jaxgan.commands.seeds import run_seeds
from jaxgan.commands.train import for_data
from jaxgan.recipes.settings import Recipe
from jaxgan.run import Options
from jaxgan.run.metrics import comparable, unit
from jaxgan.run.workdir import read_summary
from jaxgan.transforms import DIFF_AUGMENT

BY = ScorerOptions(features="efficientnet")
ORIGIN, COLOURS = "rest", 128  # colours of the pictures that are kept beside the results
AUGMENTED, PLAIN = {"augment": 0.3, "augment_ramp": 0}, {"augment": 0.0, "augment_ramp": 0}
# By name: what the table calls it, the folder of its pictures, and its changes to `pictures`, or to another recipe.
# "Augmented" is with 0.3 from the start on.
ROWS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "augmented": ("2,990, augmented", "all", AUGMENTED),
    "plain": ("2,990", "all", PLAIN),
    "few_augmented": ("500, augmented", "few", AUGMENTED),
    "few_plain": ("500", "few", PLAIN),
    "diff_augment": ("2,990, DiffAugment", "all", {**PLAIN, "transforms": DIFF_AUGMENT}),
    ORIGIN: ("the other 2,490", "rest", PLAIN),
    "few_from_rest": ("500, from the weights of the row above", "few", {**PLAIN, "init_from": ORIGIN}),
    "as_it_is": ("2,990, as `pictures` is", "all", {}),
    "stylegan2": ("2,990, `stylegan2_small`", "all", {"recipe": "stylegan2_small"}),
}
SEEDS = {"augmented": 3, "plain": 3}  # of the others one


@dataclasses.dataclass(frozen=True)
class Flags:
    """Trains and scores rows of the table; started again, it goes on where it was stopped."""

    rows: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="[ROW …]")] = tuple(ROWS)
    """Which ones."""
    pictures: Path = Path("runs/emoji")
    """The folder of the three folders of pictures."""
    steps: int = 2_000
    """How many updates."""
    seeds: int | None = None
    """How many seeds of each (by default three of the first two rows, and one of the others)."""
    runs: Path = Path("runs/little_data")
    """Where the runs are kept, a folder for each row."""
    out: Path = Path("experiments/results")
    """Where pictures and the results are written, as JSON."""
    page: Path = Path("docs/little-data.md")
    """The page that the table is written into."""


STUDY = study.Study(
    "little_data",
    "pictures",
    {name: title for name, (title, _, _) in ROWS.items()},
    {
        "updates": lambda of: f"{of['steps']:,}",
        "seeds": lambda of: f"{len(of['seeds'])}",
        "Fréchet distance": "frechet_distance",
        "floor": lambda of: study.values(of, "floor")[0],
        "precision": "precision",
        "recall": "recall",
        "memorized": "memorized",
        "its floor": lambda of: study.values(of, "memorized_floor")[0],
        "minutes": "minutes",
    },
)


def row(name: str, flags: Flags) -> Recipe:
    """The recipe of a row, as `experiments.train` makes it for the row's pictures."""
    _, folder, changes = ROWS[name]
    usual = recipes.get(changes.get("recipe", "pictures"))
    changes = {key: value for key, value in changes.items() if key != "recipe"}
    if "init_from" in changes:
        changes = changes | {"init_from": str(flags.runs / changes["init_from"] / "seed-0")}
    recipe = usual.replace(data=f"folder:{flags.pictures / folder}", steps=flags.steps, **changes)
    return for_data(recipe, usual, None, changes)


def of_seed(recipe: Recipe, workdir: Path, by: Scorer) -> study.Record:
    """The last scores of a run, by as many samples as there are held-out pictures, and the share of copies."""
    measured = [scores for scores in comparable(workdir) if "frechet_distance" in scores]
    summary = read_summary(workdir)
    scores, final = measured[-1], summary["final"]
    return {
        **{name: scores[name] for name in ("frechet_distance", "precision", "recall")},
        "floor": by.floor(len(by.real.images))["frechet_distance"],
        "memorized": final["scores"]["memorized"],
        "memorized_floor": final["floor"]["memorized"],
        "distances": {str(at["step"]): at["frechet_distance"] for at in measured},
        "scored_by": unit(workdir),
        "minutes": round(scores["seconds"] / 60, 1),
        "machine": study.machine(summary["devices"][0]),
        "state_sha256": summary["state_sha256"],
    }


def main(args: list[str] | None = None) -> None:
    """Trains and scores the first seed of each row, then the second of each that has more."""
    flags = parse(Flags, "experiments.studies.little_data", args)
    check_names(flags.rows, tuple(ROWS), STUDY.heading)
    check_flags(flags, steps=10)
    with one_line_errors():
        all_pictures = scoring.scorer(row("augmented", flags), None, BY)  # the floor is of these in all rows

    def measure(name: str, seeds: int) -> study.Record:
        recipe, folder = row(name, flags), flags.runs / name
        options = Options(log_every=20, sample_every=max(1, flags.steps // 10))
        found = run_seeds(recipe, folder, seeds, options, Scored(max(1, flags.steps // 4), BY))["seeds"]
        for i, seed in enumerate(found):
            if "diverged" not in seed:
                found[i] = {"seed": seed["seed"]} | of_seed(recipe, folder / f"seed-{seed['seed']}", all_pictures)
        return {"steps": recipe.steps, "config": recipe.config(), "seeds": found}

    def finish(results: dict[str, study.Record]) -> None:
        from PIL import Image

        for name in flags.rows:
            grids = sorted((flags.runs / name / "seed-0" / "samples").glob("*.png"))
            if grids:
                picture = images.png(np.asarray(Image.open(grids[-1])), COLOURS)
                images.save_png(flags.out / f"emoji-{name.replace('_', '-')}.png", picture)

    seeds = {name: flags.seeds or SEEDS.get(name, 1) for name in flags.rows}
    study.carry_out(STUDY, flags.out, seeds, measure, finish, flags.page)


if __name__ == "__main__":
    run_script(main)
