"""The same networks in the same seconds, then and now: `python -m experiments.studies.equal_time`.

`keras_dcgan` as its document has it, and `keras_dcgan_modern`: times the updates of both, trains both under several
seeds, scores them, and draws their samples side by side. Started again, it goes on where it was stopped.
"""

from pathlib import Path

import numpy as np

import jaxgan
from jaxgan import images, recipes
from jaxgan.commands import scoring, study
from jaxgan.commands.cli import run_script
from jaxgan.commands.scoring import Scorer
from jaxgan.recipes.settings import Recipe
from jaxgan.run import checkpoint
from jaxgan.run.numerics import fixed_numerics, root_key
from jaxgan.sampling import grid_labels

THEN, NOW = "keras_dcgan", "keras_dcgan_modern"
COLUMNS, COLOURS = 8, 256  # of the picture
SCORES = ("frechet_distance", "precision", "recall")
STUDY = study.Study(
    "equal_time",
    "recipe",
    {name: f"`{name}`" for name in (THEN, NOW)},
    {
        "ms": lambda of: f"{of['milliseconds']:.1f}",
        "updates": lambda of: f"{of['steps']:,}",
        "seconds": lambda of: f"{of['milliseconds'] * of['steps'] / 1e3:.0f}",
        "seeds": lambda of: len(study.values(of, "frechet_distance")),
        "Fréchet distance": "frechet_distance",
        "floor": lambda of: study.values(of, "floor")[0],
        "precision": "precision",
        "recall": "recall",
    },
)


def compared(name: str, steps: int) -> Recipe:
    """The recipe of the document, with so many updates; or the modern one, whose number of updates is its own."""
    return recipes.get(name).replace(**{"steps": steps} if name == THEN else {})


def of_seed(recipe: Recipe, workdir: Path, ended: study.Record, by: Scorer) -> study.Record:
    """The scores of the last generator, what they are scored by, and their floor."""
    if not (final := ended.get("final")):
        return {}
    scores = {name: final["scores"][name] for name in SCORES}
    return scores | {"scored_by": scoring.unit(final), "floor": final["floor"]["frechet_distance"]}


def draw(flags: study.Flags, results: dict[str, study.Record]) -> None:
    """Real images, and samples of each recipe's first seed; where there are labels, a row of each class."""
    if not all((flags.runs / name / "seed-0" / "checkpoints").is_dir() for name in STUDY.rows):
        return
    data = recipes.get(NOW).load_data(flags.data_dir)
    rows = [np.flatnonzero(data.labels == label)[:COLUMNS] for label in range(recipes.get(NOW).classes)]
    pictures = {"real": data.images[np.concatenate(rows)]}
    for name in STUDY.rows:
        gan, key = compared(name, flags.steps).build(), root_key(0)
        state = checkpoint.read(flags.runs / name / "seed-0" / "checkpoints", jaxgan.init(gan, key))
        with fixed_numerics():
            samples = jaxgan.sample(gan, state, key, sum(map(len, rows)), labels=grid_labels(gan, COLUMNS))
        pictures[name] = np.asarray(samples)
    picture = images.beside({name: images.grid(picture, columns=COLUMNS) for name, picture in pictures.items()})
    images.save_png(flags.out / "equal_time.png", images.png(picture, COLOURS))


def main(args: list[str] | None = None) -> None:
    """Times both, then trains and scores the first seed of each, the second of each, and so on."""
    page = Path("docs/methods.md")
    study.command(STUDY, compared, of_seed, 4, draw, args, rows=(THEN, NOW), steps=8_000, rounds=8, page=page)


if __name__ == "__main__":
    run_script(main)
