"""The healthy and sick runs of docs/curves.md, their curves and samples: `python -m experiments.studies.curves`.

Started again, it goes on where it was stopped.
"""

import dataclasses
import shutil
import sys
from pathlib import Path

from jaxgan import recipes
from jaxgan.commands.cli import keep_programs, one_line_errors, parse, run_script
from jaxgan.commands.study import make_folder
from jaxgan.run import Options, run
from jaxgan.run.report import grids

STEPS = 2000
# The settings of the recipe `digits` that each changes.
RUNS = {
    "healthy": {},
    "strong-discriminator": {"gen_learning_rate": 1e-5},
    "weak-discriminator": {"disc_learning_rate": 1e-5},
}


@dataclasses.dataclass(frozen=True)
class Curves:
    """Trains the runs of docs/curves.md."""

    runs: Path = Path("runs/curves")
    """Where the runs are kept, a folder each."""
    out: Path = Path("docs/curves")
    """Where the pictures are written."""


def main(args: list[str] | None = None) -> None:
    """Trains one run after the other, and copies its pictures."""
    flags = parse(Curves, "experiments.studies.curves", args)
    make_folder(flags.out)
    keep_programs()
    with one_line_errors():
        for name, changes in RUNS.items():
            workdir = flags.runs / name
            recipe = recipes.get("digits").replace(steps=STEPS, **changes)
            try:
                run(recipe, workdir, 0, Options(log_every=10, sample_every=STEPS // 4))
            except FloatingPointError as error:
                print(f"{name}: {error}", file=sys.stderr)
                continue
            shutil.copy(workdir / "losses.png", flags.out / f"{name}-losses.png")
            shutil.copy(grids(workdir)[-1], flags.out / f"{name}.png")
    print(f"see {flags.out}")


if __name__ == "__main__":
    run_script(main)
