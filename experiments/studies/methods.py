"""What each method costs and what it brings: `python -m experiments.studies.methods [METHOD …]`.

Every method is one change to the same small GAN on MNIST, with as many updates. Its cost is the time of an update,
measured in alternation with the plain one. What it brings is the Fréchet distance over seeds: after all updates, and
at the time at which the plain one would have ended. Started again, it goes on where it was stopped.
"""

from pathlib import Path
from typing import Any

from jaxgan.commands import scored_run, study
from jaxgan.commands.cli import run_script
from jaxgan.commands.scoring import Scorer
from jaxgan.networks import PlainDisc, PlainGen
from jaxgan.penalties import R1, R2, WGANGP, Lazy
from jaxgan.recipes.groups import Data, Objective, Optimization, Schedule
from jaxgan.recipes.settings import Recipe
from jaxgan.run.metrics import comparable, unit
from jaxgan.transforms import DIFF_AUGMENT

BASE = Recipe(
    name="plain",
    gen=PlainGen(channels=1),
    disc=PlainDisc(),
    source=Data(data="mnist", batch_size=64),
    objective=Objective(z_size=64),
    optimization=Optimization(gen_learning_rate=2e-4, disc_learning_rate=2e-4, beta1=0.0, beta2=0.99),
    schedule=Schedule(ema_decay=0.995),
)
R1_R2 = (R1(1.0), R2(1.0))
PAIRS = {"loss": "relativistic", "penalties": R1_R2}
# By name: what the table calls each, and its change to BASE, which is the non-saturating loss alone.
METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "plain": ("non-saturating", {}),
    "least_squares": ("least squares", {"loss": "least_squares"}),
    "hinge": ("hinge", {"loss": "hinge"}),
    "spectral": ("hinge, spectral normalisation", {"loss": "hinge", "disc": PlainDisc(spectral_norm=True)}),
    "wgan_gp": ("Wasserstein, WGAN-GP", {"loss": "wasserstein", "penalties": (WGANGP(),)}),
    "r1": ("non-saturating, R1", {"penalties": (R1(1.0),)}),
    "lazy_r1": ("non-saturating, R1 every 8th step", {"penalties": (Lazy(R1(1.0), 8),)}),
    "r1_r2": ("non-saturating, R1, R2", {"penalties": R1_R2}),
    "relativistic": ("relativistic", {"loss": "relativistic"}),
    "relativistic_r1_r2": ("relativistic, R1, R2", PAIRS),
    "relativistic_r1_r2_alternating": ("relativistic, R1, R2, alternating", PAIRS | {"update": "alternating"}),
    "diff_augment": ("relativistic, R1, R2, DiffAugment", PAIRS | {"transforms": DIFF_AUGMENT}),
    "labels": (
        "relativistic, R1, R2, labels",
        PAIRS | {"gen": PlainGen(1, 10), "disc": PlainDisc(10), "classes": 10, "generated_labels": "real"},
    ),
}


def distances(of: study.Record, step: float) -> list[float]:
    """Of each seed the last distance during training that was measured by that step."""
    known = [{int(at): distance for at, distance in by_step.items()} for by_step in study.values(of, "distances")]
    return [by_step[max((at for at in by_step if at <= step), default=min(by_step))] for by_step in known]


STUDY = study.Study(
    "methods",
    "method",
    {name: title for name, (title, _) in METHODS.items()},
    {
        "ms": lambda of: f"{of['milliseconds']:.1f}",
        "of plain": lambda of: f"{of['slower']:.2f}",
        "seeds": lambda of: f"{len(study.values(of, 'distances'))} of {len(of.get('seeds', []))}",
        "Fréchet distance": lambda of: distances(of, of["steps"]),
        "at equal time": lambda of: distances(of, of["steps"] / max(1, of["slower"])),
        "floor": lambda of: study.values(of, "floor")[0],
    },
)


def method(name: str, steps: int) -> Recipe:
    """The recipe of a method."""
    return BASE.replace(name=name, steps=steps, **METHODS[name][1])


def of_seed(recipe: Recipe, workdir: Path, ended: study.Record, by: Scorer) -> study.Record:
    """The distances by step, what they are scored by, and the floor, that of as many real images."""
    distances = {str(x["step"]): x["frechet_distance"] for x in comparable(workdir) if "frechet_distance" in x}
    if not distances:
        return {}
    floor = by.floor(scored_run.COUNT)["frechet_distance"]
    return {"distances": distances, "scored_by": unit(workdir), "floor": floor}


def main(args: list[str] | None = None) -> None:
    """Times all, then trains the first seed of each, the second of each, and so on."""
    page = Path("docs/methods.md")
    study.command(STUDY, method, of_seed, 10, args=args, rows=tuple(METHODS), steps=3_000, rounds=5, page=page)


if __name__ == "__main__":
    run_script(main)
