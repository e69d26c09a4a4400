"""Trains the six reference systems and draws the README's results: `python -m experiments.reproduce [RECIPE …]`.

Started again, it goes on where it was stopped; what is finished is only drawn again.
"""

import dataclasses
import json
import os
import shutil
from pathlib import Path
from typing import Annotated, Any

import jax
import numpy as np
import tyro

import jaxgan
from experiments import recipes
from experiments.cli import fail, one_line_errors, parse
from jaxgan import checkpoint, data, images, report, training
from jaxgan.gan import image_shape

# Updates, where the document's own number would take more than 40 minutes on two CPU cores.
SHORTER = {"tf2_dcgan": 3_000, "keras_mnist": 300, "canton_lsgan": 6_000, "keras_dcgan": 10_000}


@dataclasses.dataclass(frozen=True)
class Reproduce:
    """Trains the reference systems on their own data, and draws their results."""

    recipes: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="[RECIPE …]")] = (
        "tf2_gan",
        "gan_elements",
        "tf2_dcgan",
        "keras_mnist",
        "canton_lsgan",
        "keras_dcgan",
    )
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
    """Trains and draws one recipe after the other."""
    flags = parse(Reproduce, "experiments.reproduce")
    for name in flags.recipes:
        if name not in recipes.RECIPES:
            fail(f"no recipe is named {name!r}; there are {', '.join(recipes.RECIPES)}")
    for name in flags.recipes:
        recipe = recipes.get(name)
        if not flags.full:
            recipe = dataclasses.replace(recipe, steps=SHORTER.get(name, recipe.steps))
        every = max(1, recipe.steps // 10)
        options = training.Options(flags.data_dir, log_every=20, sample_every=every, checkpoint_every=min(every, 250))
        print(f"{name}: {recipe.steps:,} updates", flush=True)
        with one_line_errors():
            summary = training.run(recipe, flags.runs / name, 0, options)
            flags.out.mkdir(parents=True, exist_ok=True)
            _draw(recipe, flags.runs / name, flags)
            _note(flags.out / "results.json", name, _result(flags.runs / name, summary))
    print(f"see {flags.out}")


def _draw(recipe: recipes.Recipe, workdir: Path, flags: Reproduce) -> None:
    """The pictures of a finished run."""
    gan = recipe.build()
    like = jaxgan.init(gan, jax.random.key(0))
    state = checkpoint.restore(checkpoint.open_manager(workdir / "checkpoints"), like)
    key = jax.random.key(0)

    def save(kind: str, picture: np.ndarray) -> None:
        images.save_png(flags.out / f"{recipe.name}{kind}.png", picture)

    samples = images.grid(jaxgan.sample(gan, state, key, 64))
    save("", samples)
    shutil.copy(workdir / "losses.png", flags.out / f"{recipe.name}-losses.png")
    if recipe.name == "keras_mnist":
        save("-evolution", _evolution(workdir))
    if recipe.name == "canton_lsgan":
        save("-patch", images.grid(jaxgan.sample(gan, state, key, 1, latent_grid=(8, 8))))
    if recipe.name == "gan_elements":
        dataset = data.load(recipe.data, flags.data_dir, image_shape(gan), recipe.split, recipe.border)
        save("-beside-real", images.beside({"real": images.grid(dataset.batch(key, 0, 64)), "generated": samples}))
        paths = jaxgan.sampling.interpolate(gan, state, key, 6, 11)
        save("-interpolation", images.grid(paths.reshape(-1, *paths.shape[2:]), columns=11))


def _evolution(workdir: Path, count: int = 6) -> np.ndarray:
    """The sample grids of `count` steps, the first and the last among them, under their steps."""
    from PIL import Image

    grids = report.grids(workdir)
    chosen = [grids[round(i)] for i in np.linspace(0, len(grids) - 1, min(count, len(grids)))]
    small = {f"step {int(p.stem):,}": np.asarray(Image.open(p).reduce(2)) for p in chosen}
    return images.beside({name: picture.reshape(*picture.shape[:2], -1) for name, picture in small.items()})


def _result(workdir: Path, summary: dict[str, Any]) -> dict[str, Any]:
    """What the README's table says of a run."""
    metrics = report.read_metrics(workdir)
    late = metrics[-max(1, len(metrics) // 20) :]
    device = summary["devices"][0]
    return {
        "updates": summary["step"],
        "minutes": round(_seconds(metrics) / 60, 1),
        "machine": f"{os.cpu_count()} CPU cores" if device == "cpu" else device,
        "loss_gen": round(float(np.mean([m["loss_gen"] for m in late])), 3),
        "loss_disc": round(float(np.mean([m["loss_disc"] for m in late])), 3),
        "state_sha256": summary["state_sha256"],
    }


def _seconds(metrics: list[dict[str, Any]]) -> float:
    """All the time that training took; the clock of a resumed run begins anew."""
    seconds = [m["seconds"] for m in metrics]
    return sum(a for a, b in zip(seconds, [*seconds[1:], 0.0], strict=True) if b < a)


def _note(path: Path, name: str, result: dict[str, Any]) -> None:
    results = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(dict(sorted({**results, name: result}.items())), indent=2) + "\n")


if __name__ == "__main__":
    main()
