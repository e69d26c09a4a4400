"""Draws images from a trained generator: `python -m experiments.sample WORKDIR [--count N] …`."""

import dataclasses
import json
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import tyro

import jaxgan
from experiments import recipes
from experiments.cli import fail, keep_programs, one_line_errors, parse
from jaxgan import GAN, data, images
from jaxgan.gan import image_shape
from jaxgan.run import checkpoint
from jaxgan.run.numerics import fixed_numerics, root_key, start_devices


@dataclasses.dataclass(frozen=True)
class Sample:
    """Draws images from the newest checkpoint of a run."""

    workdir: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="WORKDIR")]
    """The run's folder."""
    count: int | None = None
    """How many images (by default 64), patches (1) or paths (8)."""
    seed: int = 0
    """Decides the latents: image i is the same for every count."""
    out: Path | None = None
    """Where to save the picture, as PNG (by default a name in WORKDIR; none if only --npz or --gif is given)."""
    npz: Path | None = None
    """Where to save the images: `images`, uint8 [N, H, W, C]."""
    weights: Literal["averaged", "last"] = "averaged"
    """Which generator: the average over training, or the one of the last step."""
    latent_grid: Annotated[tuple[int, int] | None, tyro.conf.arg(metavar="H W")] = None
    """Make each image of a grid of H x W latents: one large patch, from a fully convolutional generator."""
    interpolate: Annotated[int | None, tyro.conf.arg(metavar="STEPS")] = None
    """Draw paths, each of so many images, from one sample to the next; a row of the picture each."""
    gif: Path | None = None
    """Where to save the paths of --interpolate as a GIF."""
    beside_real: bool = False
    """Put as many real images of the run's data beside the generated ones, in the picture."""
    data_dir: str | None = None
    """Where TensorFlow Datasets keeps its data, for --beside-real (by default ~/tensorflow_datasets)."""


def main() -> None:
    """Parses the flags, draws, saves, and says where."""
    flags = parse(Sample, "experiments.sample")
    _check(flags)
    name, count = "samples", 64
    if flags.interpolate:
        name, count = "interpolation", 8
    elif flags.latent_grid:
        name, count = "patch", 1
    elif flags.beside_real:
        name = "beside-real"
    out = flags.out
    if flags.beside_real or not (flags.npz or flags.gif):
        out = out or flags.workdir / f"{name}-seed{flags.seed}.png"
    for path in filter(None, (out, flags.npz, flags.gif)):
        if not path.parent.is_dir():
            fail(f"{path}: there is no folder {path.parent}; make it first")
        if path.is_dir():
            fail(f"{path} is a folder; name a file")
    recipe = _recipe(flags.workdir)
    gan = recipe.build()
    keep_programs()
    with one_line_errors(), fixed_numerics():
        start_devices()
        samples = _draw(flags, gan, flags.count or count)
        if out:
            images.save_png(out, _picture(flags, recipe, image_shape(gan), samples))
        if flags.gif:
            frames = [images.grid(samples[:, t]) for t in range(flags.interpolate)]
            images.save_gif(flags.gif, [*frames, *frames[-2::-1]])  # there and back
        samples = samples.reshape(-1, *samples.shape[-3:])
        if flags.npz:
            np.savez_compressed(flags.npz, images=samples)
    for path in filter(None, (out, flags.gif, flags.npz)):
        print(f"{len(samples)} images: {path}")


def _check(flags: Sample) -> None:
    """Ends the program where the flags are wrong."""
    if flags.count is not None and flags.count < 1:
        fail(f"--count must be at least 1, not {flags.count}")
    if not 0 <= flags.seed < 2**32:
        fail(f"--seed must be from 0 to {2**32 - 1}, not {flags.seed}")
    if flags.latent_grid and min(flags.latent_grid) < 1:
        fail(f"--latent-grid must be two numbers of at least 1, not {flags.latent_grid[0]} {flags.latent_grid[1]}")
    if flags.interpolate is not None and flags.interpolate < 2:
        fail(f"--interpolate must be at least 2, the ends of a path, not {flags.interpolate}")
    if bool(flags.latent_grid) + bool(flags.interpolate) + flags.beside_real > 1:
        fail("--latent-grid, --interpolate and --beside-real are different pictures; ask for one at a time")
    if flags.gif and not flags.interpolate:
        fail(f"--gif {flags.gif} shows the paths of --interpolate; say --interpolate STEPS too")
    if flags.data_dir and not flags.beside_real:
        fail(f"--data-dir {flags.data_dir} is where --beside-real finds its images; say --beside-real too")
    if not (flags.workdir / "config.json").is_file():
        fail(f"{flags.workdir} holds no run (there is no config.json); give the workdir of a run of experiments.train")
    for flag, suffix in (("out", ".png"), ("npz", ".npz"), ("gif", ".gif")):
        path = getattr(flags, flag)
        if path and path.suffix != suffix:
            fail(f"--{flag} {path} must end in {suffix}")


def _recipe(workdir: Path) -> recipes.Recipe:
    path = workdir / "config.json"
    try:
        return recipes.from_config(json.loads(path.read_text()))
    except OSError as error:
        fail(f"{path} cannot be read ({error.strerror}); make it readable")
    except (json.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        fail(f"{path} is not the config.json of a run ({error!r}); mend it, or name another workdir")


def _draw(flags: Sample, gan: GAN, count: int) -> np.ndarray:
    """The images, uint8 [count, H, W, C]; with --interpolate [count, steps, H, W, C]."""
    if not (flags.workdir / "checkpoints").is_dir():
        fail(f"{flags.workdir} holds no checkpoint; train first")
    state = checkpoint.read(flags.workdir / "checkpoints", jaxgan.init(gan, root_key(0)))
    key, averaged = root_key(flags.seed), flags.weights == "averaged"
    if flags.interpolate:
        return jaxgan.sampling.interpolate(gan, state, key, count, flags.interpolate, averaged)
    try:
        return jaxgan.sample(gan, state, key, count, averaged, flags.latent_grid)
    except ValueError as error:
        if not flags.latent_grid:
            raise
        fail(f"--latent-grid: {error}, such as that of canton_lsgan or keras_dcgan")


def _picture(flags: Sample, recipe: recipes.Recipe, shape: data.Shape, samples: np.ndarray) -> np.ndarray:
    if flags.interpolate:
        return images.grid(samples.reshape(-1, *samples.shape[2:]), columns=flags.interpolate)
    if not flags.beside_real:
        return images.grid(samples)
    dataset = data.load(recipe.data, flags.data_dir, shape, recipe.split, recipe.border)
    real = dataset.batch(root_key(flags.seed), 0, len(samples))
    return images.beside({"real": images.grid(real), "generated": images.grid(samples)})


if __name__ == "__main__":
    main()
