"""The same networks in the same seconds, then and now: `python -m experiments.studies.equal_time`.

`keras_dcgan` as its document has it, and `keras_dcgan_modern`: times the update of both in turns, trains both under
several seeds, scores them, and lays their samples side by side. Started again, it goes on where it was stopped.
"""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

import jaxgan
from jaxgan import images, recipes
from jaxgan.benchmark import turns
from jaxgan.commands import results_page, scoring
from jaxgan.commands.cli import fail, keep_programs, one_line_errors, parse
from jaxgan.commands.results_page import mean_and_spread
from jaxgan.commands.scored_run import Scored
from jaxgan.commands.seeds import study
from jaxgan.recipes.settings import Recipe
from jaxgan.run import Options, checkpoint
from jaxgan.run.numerics import fixed_numerics, root_key
from jaxgan.run.screen import say
from jaxgan.run.workdir import write_json
from jaxgan.sampling import grid_labels

THEN, NOW = "keras_dcgan", "keras_dcgan_modern"
COLUMNS, COLOURS = 8, 256  # of the picture
SCORES = ("frechet_distance", "precision", "recall")


@dataclasses.dataclass(frozen=True)
class EqualTime:
    """Trains keras_dcgan as it was and as it could be today, for as many seconds, and compares them."""

    seeds: int = 3
    """How many seeds of each; 0 measures times alone."""
    steps: int = 8_000
    """How many updates of keras_dcgan; the other has a length of its own, and the table says the seconds of both."""
    rounds: int = 8
    """How many times each update is timed, for a second; 0 keeps the times that were measured before."""
    runs: Path = Path("runs/equal_time")
    """Where the runs are kept, a folder for each recipe."""
    out: Path = Path("experiments/results")
    """Where equal_time.json and equal_time.png are written."""
    page: Path = Path("docs/methods.md")
    """The page that the table is written into."""
    data_dir: str | None = None
    """Where TensorFlow Datasets keeps its data (by default ~/tensorflow_datasets)."""


def main() -> None:
    """Times both, then trains and scores the seeds of one, and of the other."""
    flags = parse(EqualTime, "experiments.studies.equal_time")
    for name, least in (("seeds", 0), ("steps", 10), ("rounds", 0)):
        if getattr(flags, name) < least:
            fail(f"--{name} must be at least {least}, not {getattr(flags, name)}")
    results_page.make_folder(flags.out)
    keep_programs()
    compared = {THEN: recipes.get(THEN).replace(steps=flags.steps), NOW: recipes.get(NOW)}
    with one_line_errors():
        results = results_page.read_results(flags.out / "equal_time.json")
        if flags.rounds:
            for name, times in turns.times(compared, flags.rounds).items():
                results[name] = results.get(name, {}) | times
            _write(flags, results)
        for name, recipe in compared.items() if flags.seeds else ():
            results[name] = results.get(name, {}) | _scores(recipe, flags)
            _write(flags, results)
        if flags.seeds:
            images.save_png(flags.out / "equal_time.png", images.png(_side_by_side(compared, flags), COLOURS))
    say(f"see {flags.out}/equal_time.json and {flags.page}")


def table(results: dict[str, Any]) -> str:
    """The results as a table in Markdown: means over the seeds, ± the standard deviation.

    Scores of `NOW` that are not measured as those of `THEN` are left out.
    """
    if len({results[name].get("scored_by") for name in (THEN, NOW) if "scores" in results.get(name, {})}) > 1:
        results = results | {NOW: {k: v for k, v in results[NOW].items() if k not in ("scores", "floor")}}
    columns = ["ms", "updates", "seconds", "seeds", "Fréchet distance", "floor", "precision", "recall"]
    lines = [f"| recipe | {' | '.join(columns)} |", "|---" * (1 + len(columns)) + "|"]
    for name in (name for name in (THEN, NOW) if name in results):
        found = results[name]
        ms, steps, scores = found.get("milliseconds"), found.get("steps"), found.get("scores", {})
        frechet, precision, recall = (mean_and_spread(scores.get(what, [])) for what in SCORES)
        cells = [
            f"`{name}`",
            f"{ms:.1f}" if ms else "-",
            f"{steps:,}" if steps else "-",
            f"{ms * steps / 1e3:.0f}" if ms and steps else "-",
            str(len(scores.get("frechet_distance", []))),
            frechet,
            f"{found['floor']:.3g}" if "floor" in found else "-",
            precision,
            recall,
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _scores(recipe: Recipe, flags: EqualTime) -> dict[str, Any]:
    """Trains and scores a recipe under the seeds: the scores of each one's last generator."""
    every = max(1, recipe.steps // 4)
    options = Options(flags.data_dir, log_every=100, sample_every=max(1, every // 2))
    found = study(recipe, flags.runs / recipe.name, flags.seeds, options, Scored(every))
    result = {"steps": recipe.steps, "config": recipe.config(), "diverged": found["diverged"]}
    if "final" in found:
        final = found["final"]
        result |= {"samples": final["count"], "floor": final["floor"]["frechet_distance"]}
        result |= {"scored_by": scoring.unit(final)}
        result |= {"scores": {name: final["scores"][name]["values"] for name in SCORES}}
    return result


def _side_by_side(compared: dict[str, Recipe], flags: EqualTime) -> np.ndarray:
    """Real images, and samples of each recipe's first seed; where there are labels, a row of each class."""
    data = compared[NOW].load_data(flags.data_dir)
    rows = [np.flatnonzero(data.labels == label)[:COLUMNS] for label in range(compared[NOW].classes)]
    pictures = {"real": data.images[np.concatenate(rows)]}
    for name, recipe in compared.items():
        gan, key = recipe.build(), root_key(0)
        state = checkpoint.read(flags.runs / name / "seed-0" / "checkpoints", jaxgan.init(gan, key))
        with fixed_numerics():
            samples = jaxgan.sample(gan, state, key, sum(map(len, rows)), labels=grid_labels(gan, COLUMNS))
        pictures[name] = np.asarray(samples)
    return images.beside({name: images.grid(picture, columns=COLUMNS) for name, picture in pictures.items()})


def _write(flags: EqualTime, results: dict[str, Any]) -> None:
    write_json(flags.out / "equal_time.json", {name: results[name] for name in (THEN, NOW) if name in results})
    results_page.show(flags.page, "equal_time", table(results))


if __name__ == "__main__":
    main()
