"""Draws images from a trained generator: `python -m experiments.sample WORKDIR [--count N] …`."""

import dataclasses
import json
from pathlib import Path
from typing import Annotated, Any, Literal

import jax
import numpy as np
import tyro

import jaxgan
from experiments import recipes
from experiments.cli import fail, one_line_errors, parse
from jaxgan import GAN, GANState, checkpoint, data, images
from jaxgan.gan import image_shape


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
    """Where to save the picture, as PNG (by default WORKDIR/samples-seedSEED.png; none if --npz is given)."""
    npz: Path | None = None
    """Where to save the images: `images`, uint8 [N, H, W, C]."""
    weights: Literal["averaged", "last"] = "averaged"
    """Which generator: the average over training, or the one of the last step."""
    latent_grid: Annotated[tuple[int, int] | None, tyro.conf.arg(metavar="H W")] = None
    """Make each image of a grid of H x W latents: one large patch, from a fully convolutional generator."""
    interpolate: Annotated[int | None, tyro.conf.arg(metavar="STEPS")] = None
    """Draw paths, each of so many images, from one sample to the next; a row of the picture each."""
    gif: Path | None = None
    """Where to save the paths of --interpolate as a GIF, too."""
    beside_real: bool = False
    """Put as many real images of the run's data beside the generated ones."""
    data_dir: str | None = None
    """Where TensorFlow Datasets keeps its data, for --beside-real (by default ~/tensorflow_datasets)."""


def main() -> None:
    """Parses the flags, draws, saves, and says where."""
    flags = parse(Sample, "experiments.sample")
    _check(flags)
    kind = "path" if flags.interpolate else "patch" if flags.latent_grid else "beside" if flags.beside_real else ""
    count = flags.count or {"path": 8, "patch": 1}.get(kind, 64)
    name = {"path": "interpolation", "patch": "patch", "beside": "beside-real"}.get(kind, "samples")
    out = flags.out or (None if flags.npz or flags.gif else flags.workdir / f"{name}-seed{flags.seed}.png")
    for path in filter(None, (out, flags.npz, flags.gif)):
        if not path.parent.is_dir():
            fail(f"{path}: there is no folder {path.parent}; make it first")
        if path.is_dir():
            fail(f"{path} is a folder; name a file")
    config = _config(flags.workdir)
    with one_line_errors():
        gan, state = _load(flags.workdir, config)
        samples = _draw(flags, gan, state, count)
        if out:
            images.save_png(out, _picture(flags, config, gan, samples))
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
    if not (flags.workdir / "config.json").is_file():
        fail(f"{flags.workdir} holds no run (there is no config.json); give the workdir of a run of experiments.train")
    for flag, suffix in (("out", ".png"), ("npz", ".npz"), ("gif", ".gif")):
        path = getattr(flags, flag)
        if path and path.suffix != suffix:
            fail(f"--{flag} {path} must end in {suffix}")


def _config(workdir: Path) -> dict[str, Any]:
    path = workdir / "config.json"
    try:
        config = json.loads(path.read_text())
        recipes.from_config(config)
    except (json.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        fail(f"{path} is not the config.json of a run ({error!r}); mend it, or name another workdir")
    return config


def _load(workdir: Path, config: dict[str, Any]) -> tuple[GAN, GANState]:
    if not (workdir / "checkpoints").is_dir():
        fail(f"{workdir} holds no checkpoint; train first")
    gan = recipes.from_config(config).build()
    like = jaxgan.init(gan, jax.random.key(0))
    return gan, checkpoint.restore(checkpoint.open_manager(workdir / "checkpoints"), like)


def _draw(flags: Sample, gan: GAN, state: GANState, count: int) -> np.ndarray:
    key, averaged = jax.random.key(flags.seed), flags.weights == "averaged"
    if flags.interpolate:
        return jaxgan.sampling.interpolate(gan, state, key, count, flags.interpolate, averaged)
    try:
        return jaxgan.sample(gan, state, key, count, averaged, flags.latent_grid)
    except ValueError as error:
        fail(f"--latent-grid: {error}, such as that of canton_lsgan or keras_dcgan")


def _picture(flags: Sample, config: dict[str, Any], gan: GAN, samples: np.ndarray) -> np.ndarray:
    if flags.interpolate:
        return images.grid(samples.reshape(-1, *samples.shape[2:]), columns=flags.interpolate)
    if not flags.beside_real:
        return images.grid(samples)
    recipe = recipes.from_config(config)
    dataset = data.load(recipe.data, flags.data_dir, image_shape(gan), recipe.split, recipe.border)
    real = dataset.batch(jax.random.key(flags.seed), 0, len(samples))
    return images.beside({"real": images.grid(real), "generated": images.grid(samples)})


if __name__ == "__main__":
    main()
