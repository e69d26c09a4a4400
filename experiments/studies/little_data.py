"""Few pictures, and what helps: `python -m experiments.studies.little_data [ROW …]`.

`pictures`, and in one row `stylegan2_small`, at 64 pixels on the emoji that `experiments.studies.emoji` arranges, in
three folders: all training pictures, 500 of them, and the rest. All have the same held-out pictures, which samples are
compared with. Started again, it goes on where it was stopped; seeds that the results have are not trained again.

    python -m experiments.studies.emoji PACKAGE --out runs/emoji/all
    python -m experiments.studies.emoji PACKAGE --out runs/emoji/few --pictures 500
    python -m experiments.studies.emoji PACKAGE --out runs/emoji/rest --but 500
"""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from jaxgan import images, recipes
from jaxgan.commands import scoring, study
from jaxgan.commands.cli import run_script
from jaxgan.commands.scoring import Scorer, ScorerOptions
from jaxgan.commands.train import for_data
from jaxgan.recipes.settings import Recipe
from jaxgan.run.metrics import comparable, unit
from jaxgan.run.workdir import read_summary
from jaxgan.transforms import DIFF_AUGMENT

BY = ScorerOptions(features="efficientnet")
PICTURES, RUNS = Path("runs/emoji"), Path("runs/little_data")
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
LONGER = {"as_it_is": 4, "stylegan2": 3}  # times the updates of the others
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


def row(name: str, steps: int) -> Recipe:
    """The recipe of a row, as `experiments.train` makes it for the row's pictures."""
    _, folder, changes = ROWS[name]
    usual = recipes.get(changes.get("recipe", "pictures"))
    changes = {key: value for key, value in changes.items() if key != "recipe"}
    if "init_from" in changes:
        changes = changes | {"init_from": str(RUNS / changes["init_from"] / "seed-0")}
    steps *= LONGER.get(name, 1)
    recipe = usual.replace(data=f"folder:{PICTURES / folder}", steps=steps, **changes)
    return for_data(recipe, usual, None, changes)


def of_seed(recipe: Recipe, workdir: Path, ended: study.Record, by: Scorer) -> study.Record:
    """The last scores of a run, by as many samples as there are held-out pictures, and the share of copies."""
    measured = [scores for scores in comparable(workdir) if "frechet_distance" in scores]
    summary = read_summary(workdir)
    scores, final = measured[-1], summary["final"]
    all_pictures = scoring.scorer(recipe.replace(data=f"folder:{PICTURES / 'all'}"), None, BY)  # the floor is of these
    return {
        **{name: scores[name] for name in ("frechet_distance", "precision", "recall")},
        "floor": all_pictures.floor(len(by.real.images))["frechet_distance"],
        "memorized": final["scores"]["memorized"],
        "memorized_floor": final["floor"]["memorized"],
        "distances": {str(at["step"]): at["frechet_distance"] for at in measured},
        "scored_by": unit(workdir),
        "minutes": round(scores["seconds"] / 60, 1),
        "machine": study.machine(summary["devices"][0]),
        "state_sha256": summary["state_sha256"],
    }


def draw(flags: study.Flags, results: dict[str, study.Record]) -> None:
    """Keeps the last grid of each row's first seed beside the results."""
    for name in flags.rows:
        grids = sorted((flags.runs / name / "seed-0" / "samples").glob("*.png"))
        if grids:
            picture = images.png(np.asarray(Image.open(grids[-1])), COLOURS)
            images.save_png(flags.out / f"emoji-{name.replace('_', '-')}.png", picture)


def main(args: list[str] | None = None) -> None:
    """Trains and scores the first seed of each row, the second of each, and so on."""
    page = Path("docs/little-data.md")
    study.command(STUDY, row, of_seed, 4, draw, args, BY, rows=tuple(ROWS), steps=1_000, seeds=1, page=page)


if __name__ == "__main__":
    run_script(main)
