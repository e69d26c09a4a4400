"""Draws images from a trained generator: `python -m experiments.sample WORKDIR [--count N] …`."""

import dataclasses
import json
from pathlib import Path
from typing import Annotated, Literal

import jax
import numpy as np
import tyro

import jaxgan
from experiments import recipes
from experiments.cli import fail, one_line_errors, parse
from jaxgan import checkpoint, images


@dataclasses.dataclass(frozen=True)
class Sample:
    """Draws images from the newest checkpoint of a run."""

    workdir: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="WORKDIR")]
    """The run's folder."""
    count: int = 64
    """How many images."""
    seed: int = 0
    """Decides the latents: image i is the same for every count."""
    out: Path | None = None
    """Where to save the grid, as PNG (by default WORKDIR/samples-seedSEED.png; none if --npz is given)."""
    npz: Path | None = None
    """Where to save the images: `images`, uint8 [N, H, W, C]."""
    weights: Literal["averaged", "last"] = "averaged"
    """Which generator: the average over training, or the one of the last step."""


def main() -> None:
    """Parses the flags, draws, saves, and says where."""
    flags = parse(Sample, "experiments.sample")
    if flags.count < 1:
        fail(f"--count must be at least 1, not {flags.count}")
    if not 0 <= flags.seed < 2**32:
        fail(f"--seed must be from 0 to {2**32 - 1}, not {flags.seed}")
    if not (flags.workdir / "config.json").is_file():
        fail(f"{flags.workdir} holds no run (there is no config.json); give the workdir of a run of experiments.train")
    if flags.out and flags.out.suffix != ".png":
        fail(f"--out {flags.out} must end in .png")
    if flags.npz and flags.npz.suffix != ".npz":
        fail(f"--npz {flags.npz} must end in .npz")
    out = flags.out or (None if flags.npz else flags.workdir / f"samples-seed{flags.seed}.png")
    for path in filter(None, (out, flags.npz)):
        if not path.parent.is_dir():
            fail(f"{path}: there is no folder {path.parent}; make it first")
        if path.is_dir():
            fail(f"{path} is a folder; name a file")
    with one_line_errors():
        samples = _draw(flags)
        if out:
            images.save_png(out, images.grid(samples))
            print(f"{flags.count} images: {out}")
        if flags.npz:
            np.savez_compressed(flags.npz, images=samples)
            print(f"{flags.count} images: {flags.npz}")


def _draw(flags: Sample) -> np.ndarray:
    path = flags.workdir / "config.json"
    try:
        gan = recipes.from_config(json.loads(path.read_text())).build()
    except (json.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        fail(f"{path} is not the config.json of a run ({error!r}); mend it, or name another workdir")
    if not (flags.workdir / "checkpoints").is_dir():
        fail(f"{flags.workdir} holds no checkpoint; train first")
    like = jaxgan.init(gan, jax.random.key(0))
    state = checkpoint.restore(checkpoint.open_manager(flags.workdir / "checkpoints"), like)
    key = jax.random.key(flags.seed)
    return jaxgan.sample(gan, state, key, flags.count, averaged=flags.weights == "averaged")


if __name__ == "__main__":
    main()
