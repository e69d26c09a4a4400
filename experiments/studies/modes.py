"""How many modes of Stacked MNIST each method covers: `python -m experiments.studies.modes [METHOD …]`.

All methods are in the same networks, and D sees as many real images in each: a method with five updates of D for one
of G has a fifth of the updates of G. The first seed of each comes first, then the second of each. Started again, it
goes on where it was stopped; what is finished is only shown again.
"""

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

import jaxgan
from jaxgan import images
from jaxgan.commands import results_page, scoring
from jaxgan.commands.cli import check_names, fail, keep_programs, one_line_errors, parse
from jaxgan.commands.results_page import mean_and_spread
from jaxgan.evaluation import modes
from jaxgan.networks import PlainDisc, PlainGen
from jaxgan.penalties import R1, R2, WGANGP
from jaxgan.recipes.groups import Data, Objective, Optimization, Schedule
from jaxgan.recipes.settings import Recipe
from jaxgan.run import Options, RunError, WorkdirError, checkpoint, run
from jaxgan.run.metrics import read_metrics
from jaxgan.run.numerics import fixed_numerics, root_key
from jaxgan.run.prepare import config_of
from jaxgan.run.screen import say
from jaxgan.run.workdir import check, write_json

BASE = Recipe(
    name="modes",
    gen=PlainGen(),
    disc=PlainDisc(),
    source=Data(data="stacked_mnist", batch_size=64),
    objective=Objective(z_size=64),
    optimization=Optimization(gen_learning_rate=2e-4, disc_learning_rate=2e-4),
    schedule=Schedule(ema_decay=0.995),
)
GAMMA = 1.0  # of R1 and R2
ZERO_CENTRED = {"penalties": (R1(GAMMA), R2(GAMMA)), "beta1": 0.0, "beta2": 0.99}
# By name, what the table calls each, and its own settings, those of its source: DCGAN (arXiv:1511.06434), SNGAN
# (arXiv:1802.05957) but for its five updates of D, WGAN-GP (arXiv:1704.00028), and R3GAN (arXiv:2501.05441). The
# learning rate of all but WGAN-GP's is 2e-4.
METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "non_saturating": ("non-saturating", {"beta1": 0.5}),
    "hinge": ("hinge", {"loss": "hinge", "beta1": 0.0, "beta2": 0.9}),
    "wgan_gp": (
        "WGAN-GP",
        {
            "loss": "wasserstein",
            "penalties": (WGANGP(),),
            "training_ratio": 5,
            "gen_learning_rate": 1e-4,
            "disc_learning_rate": 1e-4,
            "beta1": 0.0,
            "beta2": 0.9,
        },
    ),
    "non_saturating_r1_r2": ("non-saturating + R1 + R2", ZERO_CENTRED),
    "relativistic_r1_r2": ("relativistic + R1 + R2", {"loss": "relativistic", **ZERO_CENTRED}),
}
COLOURS = 128  # of the picture of all methods, which is kept beside the results
REAL = "real"  # what modes.json has of real images


@dataclasses.dataclass(frozen=True)
class OfModes:
    """Trains each method on Stacked MNIST, and counts the modes that it covers."""

    methods: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="[METHOD …]")] = tuple(METHODS)
    """Which ones."""
    seeds: int = 3
    """How many seeds of each."""
    images: int = 400_000
    """How many real images D sees in each run."""
    runs: Path = Path("runs/modes")
    """Where the runs are kept, a folder for each method."""
    out: Path = Path("experiments/results")
    """Where modes.json and modes.png are written, and the table in README.md."""
    data_dir: str | None = None
    """Where TensorFlow Datasets keeps its data (by default ~/tensorflow_datasets)."""


def main() -> None:
    """Trains and counts, one run after the other; a run that diverges does not keep the others from it."""
    flags = parse(OfModes, "experiments.studies.modes")
    check_names(flags.methods, METHODS, "method")
    if flags.seeds < 1:
        fail(f"--seeds must be at least 1, not {flags.seeds}")
    least = max(map(images_of_an_update, flags.methods), default=1)
    if flags.images < least:
        fail(f"--images must be at least {least}, which is one update, not {flags.images}")
    results_page.make_folder(flags.out)
    keep_programs()
    with one_line_errors():
        results = results_page.read_results(flags.out / "modes.json")
        for seed in range(flags.seeds):
            for name in flags.methods:
                try:
                    found = count(name, seed, flags)
                except (RunError, WorkdirError) as error:
                    raise type(error)(_by_our_flags(str(error), name, flags)) from error
                results[name] = _with_seed(results.get(name), method(name, flags.images), found)
                if REAL not in results:
                    results[REAL] = _of_real_images(flags.data_dir)
                write_json(flags.out / "modes.json", results)
                _show(flags, results)
    say(f"see {flags.out}/modes.json and {flags.out}/modes.png")


def method(name: str, seen: int) -> Recipe:
    """The recipe of a method whose D sees so many real images, or what is left of them by whole updates."""
    return BASE.replace(name=name, **METHODS[name][1]).replace(steps=seen // images_of_an_update(name))


def images_of_an_update(name: str) -> int:
    """How many real images D sees for each update of G."""
    return BASE.batch_size * METHODS[name][1].get("training_ratio", BASE.training_ratio)


def count(name: str, seed: int, flags: OfModes) -> dict[str, Any]:
    """Trains a run and counts its modes, or reads what has been counted: what modes.json says of it.

    Returns:
      `seed` and either `diverged`, why, or `step`, `samples`, the `found` modes, `divergence` and `floor` of as many
      samples, `milliseconds` of an update, `minutes` of them all, the `machine` and the `state_sha256`.
    """
    recipe, workdir = method(name, flags.images), flags.runs / name / f"seed-{seed}"
    check(workdir, *config_of(recipe, seed))
    counted = workdir / "modes.json"
    known = results_page.read_results(counted)
    if known.get("step") == recipe.steps:
        return known
    say(f"\n{METHODS[name][0]}, seed {seed}")
    options = Options(flags.data_dir, log_every=20, sample_every=max(1, recipe.steps // 10))
    try:
        summary = run(recipe, workdir, seed, options)
    except FloatingPointError as error:
        say(f"{name}, seed {seed} diverged: {error}", "stderr")
        return {"seed": seed, "diverged": str(error)}
    gan, key = recipe.build(), root_key(0)
    state = checkpoint.read(workdir / "checkpoints", jaxgan.init(gan, key))
    with fixed_numerics():
        samples, _ = scoring.draw(recipe, gan, state, key, modes.SAMPLES)
        found = _counted(samples)
    images.save_png(workdir / "modes.png", images.grid(samples[:64], columns=8))
    rate = summary["images_per_second"]
    found = {"seed": seed, "step": recipe.steps, **found}
    found |= {"milliseconds": round(1e3 * images_of_an_update(name) / rate, 1) if rate else None}
    found |= {"minutes": round(read_metrics(workdir)[-1]["seconds"] / 60, 1)}
    found |= {"machine": results_page.machine(summary["devices"][0]), "state_sha256": summary["state_sha256"]}
    write_json(counted, found)
    say(f"{found['found']} modes, KL {found['divergence']:.3f} (floor {found['floor']:.3f})")
    return found


def table(results: dict[str, Any]) -> str:
    """The results as a table in Markdown: the mean and the standard deviation over the seeds."""
    lines = [
        "| method | updates of G | of D | seeds | diverged | modes of 1,000 | KL | floor | ms per update | minutes |",
        "|---" * 10 + "|",
    ]
    for name in [name for name in METHODS if name in results]:
        of, seeds = results[name], results[name]["seeds"]
        ended = [seed for seed in seeds if "diverged" not in seed]
        cells = [
            METHODS[name][0],
            f"{of['updates']:,}",
            f"{of['images'] // BASE.batch_size:,}",
            len(seeds),
            len(seeds) - len(ended),
            *(mean_and_spread([seed[what] for seed in ended]) for what in ("found", "divergence")),
            f"{ended[0]['floor']:.3g}" if ended else "-",
            *(mean_and_spread([s[what] for s in ended if s[what]]) for what in ("milliseconds", "minutes")),
        ]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    if REAL in results:
        found, divergence, least = (results[REAL][what] for what in ("found", "divergence", "floor"))
        lines.append(f"| real images | - | - | - | - | {found} | {divergence:.3g} | {least:.3g} | - | - |")
    return "\n".join(lines)


def _by_our_flags(message: str, name: str, flags: OfModes) -> str:
    """What `run` says of a run, by the flags of this script."""
    steps = method(name, flags.images).steps
    return message.replace("--workdir", "--runs").replace(f"--steps {steps}", f"--images {flags.images}")


def _of_real_images(data_dir: str | None) -> dict[str, Any]:
    """The same count of as many training images."""
    return _counted(BASE.replace(steps=1).load_data(data_dir).images[: modes.SAMPLES])


def _counted(some: np.ndarray) -> dict[str, Any]:
    return {"samples": len(some), **modes.modes(modes.digits_in(some, scoring.shown))._asdict()}


def _with_seed(before: dict[str, Any] | None, recipe: Recipe, found: dict[str, Any]) -> dict[str, Any]:
    """What modes.json says of a method with one more seed; seeds of another length or setting are dropped."""
    seen = recipe.steps * images_of_an_update(recipe.name)
    of = {"updates": recipe.steps, "images": seen, "config": recipe.config()}
    kept = before["seeds"] if before and all(before[name] == value for name, value in of.items()) else []
    seeds = {seed["seed"]: seed for seed in [*kept, found]}
    return of | {"seeds": [seeds[seed] for seed in sorted(seeds)]}


def _show(flags: OfModes, results: dict[str, Any]) -> None:
    """Draws the samples of each method's first seed beside one another, and puts the table into the page."""
    from PIL import Image

    first = {name: results[name]["seeds"][0] for name in METHODS if name in results}
    grids = {name: flags.runs / name / "seed-0" / "modes.png" for name in first if "diverged" not in first[name]}
    if grids and all(path.exists() for path in grids.values()):
        pictures = {METHODS[name][0]: np.asarray(Image.open(path)) for name, path in grids.items()}
        images.save_png(flags.out / "modes.png", images.png(images.beside(pictures), COLOURS))
    picture = '<img src="modes.png" alt="64 samples of each method">'
    text = f"{table(results)}\n\n{picture}" if (flags.out / "modes.png").exists() else table(results)
    results_page.show(flags.out / "README.md", "modes", text)


if __name__ == "__main__":
    main()
