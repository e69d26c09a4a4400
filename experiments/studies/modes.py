"""How many modes of Stacked MNIST each method covers: `python -m experiments.studies.modes [METHOD …]`.

All methods train the same networks, and D sees as many real images in each: a method with five updates of D for one of
G has a fifth of the updates of G. Started again, it goes on where it was stopped.
"""

from pathlib import Path
from typing import Any

import numpy as np

import jaxgan
from experiments.studies import methods
from experiments.studies.methods import R1_R2
from jaxgan import images
from jaxgan.commands import scoring, study
from jaxgan.commands.cli import run_script
from jaxgan.commands.scoring import Scorer
from jaxgan.evaluation import modes
from jaxgan.networks import PlainGen
from jaxgan.penalties import R1, R2, WGANGP
from jaxgan.recipes.settings import Recipe
from jaxgan.run import checkpoint
from jaxgan.run.numerics import fixed_numerics, root_key
from jaxgan.run.screen import say, shown
from jaxgan.run.workdir import read_summary, write_json

BASE = methods.BASE.replace(gen=PlainGen(), data="stacked_mnist", beta2=0.999)
SLOWER = {"gen_learning_rate": 1e-4, "disc_learning_rate": 1e-4, "beta1": 0.0, "beta2": 0.9}
ZERO_CENTRED = {"penalties": R1_R2, "beta1": 0.0, "beta2": 0.99}
PAIRS = {**ZERO_CENTRED, "loss": "relativistic"}
R1_ALONE = {"penalties": R1_R2[:1]}
# By name, what the table calls each, and its own settings, those of its source: DCGAN (arXiv:1511.06434), SNGAN
# (arXiv:1802.05957) but for its five updates of D, WGAN-GP (arXiv:1704.00028), and R3GAN (arXiv:2501.05441). The
# learning rate of all but WGAN-GP's is 2e-4.
METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "non_saturating": ("non-saturating", {"beta1": 0.5}),
    "hinge": ("hinge", {"loss": "hinge", "beta1": 0.0, "beta2": 0.9}),
    "wgan_gp": ("WGAN-GP", {"loss": "wasserstein", "penalties": (WGANGP(),), "training_ratio": 5, **SLOWER}),
    "non_saturating_r1": ("non-saturating + R1", ZERO_CENTRED | R1_ALONE),
    "relativistic_r1": ("relativistic + R1", PAIRS | R1_ALONE),
    "relativistic_r1_weaker": ("relativistic + R1 (gamma 0.1)", PAIRS | {"penalties": (R1(0.1),)}),
    "non_saturating_r1_r2": ("non-saturating + R1 + R2", ZERO_CENTRED),
    "relativistic_r1_r2": ("relativistic + R1 + R2", PAIRS),
    "relativistic_r1_r2_weaker": (
        "relativistic + R1 + R2 (gamma 0.1)",
        PAIRS | {"penalties": (R1(0.1), R2(0.1))},
    ),
}
COLOURS = 128  # of the picture of all methods, which is kept beside the results
REAL = "real"  # what modes.json has of real images
STUDY = study.Study(
    "modes",
    "method",
    {name: title for name, (title, _) in METHODS.items()} | {REAL: "real images"},
    {
        "updates of G": lambda of: f"{of['steps']:,}",
        "of D": lambda of: f"{of['steps'] * of['config']['training_ratio']:,}",
        "seeds": lambda of: len(of["seeds"]),
        "diverged": lambda of: sum("diverged" in seed for seed in of["seeds"]),
        "modes of 1,000": "found",
        "KL": "divergence",
        "floor": lambda of: study.values(of, "floor")[0],
        "ms per update": "milliseconds",
        "minutes": "minutes",
    },
)


def method(name: str, steps: int) -> Recipe:
    """The recipe of a method, with so many updates of D, or what whole updates of G leave of them."""
    recipe = BASE.replace(name=name, **METHODS[name][1])
    return recipe.replace(steps=steps // recipe.training_ratio)


def of_seed(recipe: Recipe, workdir: Path, ended: study.Record, by: Scorer) -> study.Record:
    """Counts the modes of a run, and keeps the record in its folder, so that they are counted once."""
    known = study.read_results(workdir / "modes.json")
    if known.get("step") == recipe.steps:
        return known
    gan, key, summary = recipe.build(), root_key(0), read_summary(workdir)
    state = checkpoint.read(workdir / "checkpoints", jaxgan.init(gan, key))
    with fixed_numerics():
        samples, _ = scoring.draw(by, gan, state, key, modes.SAMPLES)
        counted = _counted(samples)
    images.save_png(workdir / "modes.png", images.grid(samples[:64], columns=8))
    rate = summary["images_per_second"] / (recipe.batch_size * recipe.training_ratio)  # updates of G
    found = {
        "step": recipe.steps,
        **counted,
        "milliseconds": round(1e3 / rate, 1) if rate else None,
        "minutes": round(ended["seconds"] / 60, 1),
        "machine": study.machine(summary["devices"][0]),
        "state_sha256": summary["state_sha256"],
    }
    write_json(workdir / "modes.json", found)
    say(f"{found['found']} modes, KL {found['divergence']:.3f} (floor {found['floor']:.3f})")
    return found


def _counted(some: np.ndarray) -> dict[str, Any]:
    return {"samples": len(some), **modes.modes(modes.digits_in(some, shown))._asdict()}


def finish(flags: study.Flags, results: dict[str, study.Record]) -> None:
    """Draws the samples of each method's first seed beside one another, and counts as many real images once."""
    from PIL import Image

    if REAL not in results:
        results[REAL] = _counted(BASE.load_data(flags.data_dir).images[: modes.SAMPLES])
    grids = {title: flags.runs / name / "seed-0" / "modes.png" for name, (title, _) in METHODS.items()}
    pictures = {title: np.asarray(Image.open(path)) for title, path in grids.items() if path.exists()}
    if pictures:
        images.save_png(flags.out / "modes.png", images.png(images.beside(pictures), COLOURS))


def main(args: list[str] | None = None) -> None:
    """Trains and counts the first seed of each, the second of each, and so on."""
    study.command(STUDY, method, of_seed, 0, finish, args, rows=tuple(METHODS), steps=6_250)


if __name__ == "__main__":
    run_script(main)
