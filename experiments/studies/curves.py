"""The healthy and sick runs of docs/curves.md: `python -m experiments.studies.curves`.

Their curves, their samples, and the signs of a dead game that each run tells. Started again, those that have ended are
not trained again.
"""

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from jaxgan import recipes
from jaxgan.commands.cli import keep_programs, one_line_errors, parse, run_script
from jaxgan.commands.study import Record, Study, make_folder, read_results, write_table
from jaxgan.recipes.settings import Recipe
from jaxgan.run import Event, Options, Snapshot, run
from jaxgan.run.health import Watch, spread
from jaxgan.run.loop import COLUMNS
from jaxgan.run.metrics import each_line
from jaxgan.run.report import grids
from jaxgan.run.screen import say
from jaxgan.run.workdir import write_json

STEPS = 3000
# By name: what the table calls it, its recipe, and the settings that it changes.
RUNS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "healthy": ("`digits`", "digits", {}),
    "strong-discriminator": ("D too strong", "digits", {"gen_learning_rate": 1e-5}),
    "weak-discriminator": ("D too weak", "digits", {"disc_learning_rate": 1e-5}),
    "sure-hinge": ("hinge, D too strong", "digits", {"loss": "hinge", "gen_learning_rate": 1e-6}),
    "large-rates": ("rates of 1", "digits", {"gen_learning_rate": 1.0, "disc_learning_rate": 1.0}),
    "hinge": ("`digits`, hinge", "digits", {"loss": "hinge"}),
    "least-squares": ("`digits`, least squares", "digits", {"loss": "least_squares"}),
    "relativistic": ("`digits`, relativistic", "digits", {"loss": "relativistic"}),
    "conditional": ("`digits_conditional`", "digits_conditional", {}),
}
DRAWN = "healthy", "strong-discriminator", "weak-discriminator"
STUDY = Study(
    "curves",
    "run",
    {name: title for name, (title, _, _) in RUNS.items()},
    {
        "D's loss at first": lambda of: f"{of['first']:.3g}",
        "at the end": lambda of: f"{of['last']:.3g}",
        "spread of the samples": lambda of: f"{of['spread']:.3g}" if of["spread"] is not None else "-",
        "told, at update": lambda of: (
            ", ".join(f"*{sign}* {step:,}" for sign, step in of["signs"].items()) or "nothing"
        ),
    },
)


@dataclasses.dataclass(frozen=True)
class Curves:
    """Trains the runs of docs/curves.md."""

    runs: Path = Path("runs/curves")
    """Where the runs are kept, a folder each."""
    out: Path = Path("docs/curves")
    """Where the pictures are written."""
    results: Path = Path("experiments/results")
    """Where what was found is written, as JSON; what is there is not measured again."""
    also: tuple[Path, ...] = ()
    """Workdirs of other runs, of whose losses the signs are noted in the results, too."""
    page: Path = Path("docs/curves.md")
    """The page that the table is written into."""


def main(args: list[str] | None = None) -> None:
    """Trains one run after the other, and copies its pictures."""
    flags = parse(Curves, "experiments.studies.curves", args)
    make_folder(flags.out)
    keep_programs()
    with one_line_errors():
        results = read_results(flags.results / "curves.json")
        for name, (_, recipe, changes) in RUNS.items():
            if name not in results or (name in DRAWN and not (flags.runs / name).exists()):
                results[name] = trained(recipes.get(recipe).replace(steps=STEPS, **changes), flags.runs / name)
                write_json(flags.results / "curves.json", results)
            if name in DRAWN:
                shutil.copy(flags.runs / name / "losses.png", flags.out / f"{name}-losses.png")
                shutil.copy(grids(flags.runs / name)[-1], flags.out / f"{name}.png")
        others = {"/".join(workdir.parts[-3:]): of_losses(workdir).signs for workdir in flags.also}
        if others:
            write_json(flags.results / "curves.json", results | {"others": results.get("others", {}) | others})
        write_table(STUDY, results, flags.page)
    print(f"see {flags.page}")


def trained(recipe: Recipe, workdir: Path) -> Record:
    """Trains a run from the start, and gives D's losses, the last spread of its samples, and the signs that it told."""
    watch, drawn, every = Watch(), [], STEPS // 8

    def look(snapshot: Snapshot) -> None:
        drawn.append(np.asarray(snapshot.device_samples))
        watch.grid(snapshot.step, drawn[-1], COLUMNS)

    shutil.rmtree(workdir, ignore_errors=True)
    try:
        run(recipe.replace(events=(Event("look", every, look),)), workdir, 0, Options(log_every=20, sample_every=every))
    except FloatingPointError as error:
        say(f"{workdir}: {error}", "stderr")
    lines = [line for line in each_line(workdir) if "loss_disc" in line]
    return {
        "first": lines[0]["loss_disc"],
        "last": lines[-1]["loss_disc"],
        "spread": round(spread(drawn[-1], COLUMNS), 1) if drawn else None,
        "signs": watch.signs | of_losses(workdir).signs,
    }


def of_losses(workdir: Path) -> Watch:
    """What the lines of a run's metrics make clear."""
    watch = Watch()
    for line in each_line(workdir):
        watch.line(line)
    return watch


if __name__ == "__main__":
    run_script(main)
