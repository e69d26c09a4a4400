"""Trains the six reference systems and draws the README's results: `python -m experiments.reproduce [RECIPE …]`.

Started again, it goes on where it was stopped; what is finished is only drawn again.
"""

import dataclasses
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

import jaxgan
from experiments import recipes
from experiments.cli import check_names, fail, keep_programs, one_line_errors, parse
from experiments.settings import Recipe
from jaxgan import images
from jaxgan.run import Options, checkpoint, run
from jaxgan.run.metrics import read_metrics
from jaxgan.run.numerics import root_key
from jaxgan.run.report import grids as sample_grids
from jaxgan.run.workdir import write_json

# Updates on two CPU cores. Where None, the document's own number takes less than 40 minutes; for tf2_dcgan it is
# the number after which the document shows its samples.
UPDATES = {
    "tf2_gan": None,
    "gan_elements": None,
    "tf2_dcgan": 3_000,
    "keras_mnist": 300,
    "canton_lsgan": 6_000,
    "keras_dcgan": 10_000,
}


@dataclasses.dataclass(frozen=True)
class Reproduce:
    """Trains the reference systems on their own data, and draws their results."""

    recipes: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="[RECIPE …]")] = tuple(UPDATES)
    """Which ones."""
    runs: Path = Path("runs/results")
    """Where the runs are kept, a folder each."""
    out: Path = Path("experiments/results")
    """Where the pictures and results.json are written."""
    data_dir: str | None = None
    """Where TensorFlow Datasets keeps its data (by default ~/tensorflow_datasets)."""
    full: bool = False
    """The documents' own numbers of updates, for a GPU."""


def main() -> None:
    """Trains and draws one recipe after the other; one that fails does not keep the others from it."""
    flags = parse(Reproduce, "experiments.reproduce")
    check_names(flags.recipes, UPDATES, "reference system")
    try:
        flags.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        fail(f"--out {flags.out} cannot be made ({error.strerror}); name another")
    failed = []
    keep_programs()
    with one_line_errors():
        results = _read_results(flags.out)
        for name in flags.recipes:
            try:
                results[name] = _reproduce(name, flags)
            except FloatingPointError as error:
                print(f"{name}: {error}", file=sys.stderr)
                failed.append(name)
            write_json(flags.out / "results.json", dict(sorted(results.items())))
    print(f"see {flags.out}")
    if failed:
        fail(f"{', '.join(failed)} did not reach the last step", 1)


def _read_results(out: Path) -> dict[str, Any]:
    path = out / "results.json"
    try:
        return dict(json.loads(path.read_text())) if path.exists() else {}
    except ValueError:
        fail(f"{path} is not what this script has written; move it away")


def _reproduce(name: str, flags: Reproduce) -> dict[str, Any]:
    """Trains a recipe as far as it has to go, and draws it: what the README's table says of it."""
    recipe, workdir = recipes.get(name), flags.runs / name
    steps = recipe.steps if flags.full else UPDATES[name] or recipe.steps
    recipe = recipe.replace(steps=max(steps, *_saved(workdir), 1))
    print(f"{name}: {recipe.steps:,} updates", flush=True)
    every = max(1, recipe.steps // 10)
    options = Options(flags.data_dir, log_every=20, sample_every=every, checkpoint_every=min(every, 250))
    summary = run(recipe, workdir, 0, options)
    _draw(recipe, workdir, flags)
    metrics = read_metrics(workdir)
    late = metrics[-max(1, len(metrics) // 20) :]
    device = summary["devices"][0]
    return {
        "updates": summary["step"],
        "minutes": round(metrics[-1]["seconds"] / 60, 1),
        "machine": f"{os.cpu_count()} CPU cores" if device == "cpu" else device,
        "loss_gen": round(float(np.mean([m["loss_gen"] for m in late])), 3),
        "loss_disc": round(float(np.mean([m["loss_disc"] for m in late])), 3),
        "state_sha256": summary["state_sha256"],
    }


def _saved(workdir: Path) -> list[int]:
    """The steps of a run's checkpoints: one that has gone further, with --full say, is not cut short."""
    folders = (workdir / "checkpoints").glob("*")
    return [int(p.name) for p in folders if p.name.isdecimal()]


def _draw(recipe: Recipe, workdir: Path, flags: Reproduce) -> None:
    """The pictures of a finished run."""
    gan, key = recipe.build(), root_key(0)
    state = checkpoint.read(workdir / "checkpoints", jaxgan.init(gan, key))

    def save(kind: str, picture: np.ndarray) -> None:
        images.save_png(flags.out / f"{recipe.name}{kind}.png", picture)

    samples = images.grid(np.asarray(jaxgan.sample(gan, state, key, 64)))
    save("", samples)
    shutil.copy(workdir / "losses.png", flags.out / f"{recipe.name}-losses.png")
    if recipe.name == "keras_mnist":
        save("-evolution", _evolution(workdir))
    if recipe.name == "canton_lsgan":
        save("-patch", images.grid(np.asarray(jaxgan.sample(gan, state, key, 1, latent_grid=(8, 8)))))
    if recipe.name == "gan_elements":
        real = recipe.load_data(flags.data_dir).batch(key, 0, 64).images
        save("-beside-real", images.beside({"real": images.grid(real), "generated": samples}))
        paths = np.asarray(jaxgan.sampling.interpolate(gan, state, key, 6, 11))
        save("-interpolation", images.grid(paths.reshape(-1, *paths.shape[2:]), columns=11))


def _evolution(workdir: Path, count: int = 6) -> np.ndarray:
    """The sample grids nearest to `count` equally spaced steps, under their steps."""
    from PIL import Image

    grids = {int(path.stem): path for path in sample_grids(workdir)}
    wanted = np.linspace(0, max(grids), count)
    chosen = sorted({min(grids, key=lambda step, at=at: abs(step - at)) for at in wanted})
    small = {f"step {step:,}": np.asarray(Image.open(grids[step]).reduce(2)) for step in chosen}
    return images.beside({name: picture.reshape(*picture.shape[:2], -1) for name, picture in small.items()})


if __name__ == "__main__":
    main()
