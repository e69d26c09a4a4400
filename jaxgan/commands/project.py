"""Finds the latents of pictures: `python -m experiments.project WORKDIR PICTURE … [--steps N]`."""

import dataclasses
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from jaxgan import evaluation, images
from jaxgan.commands.cli import check_flags, fail, one_line_errors, parse
from jaxgan.commands.trained import Trained, check, load
from jaxgan.data import DataError, pixels
from jaxgan.evaluation import for_data, shipped
from jaxgan.evaluation.features import OTHER
from jaxgan.files import save_npz
from jaxgan.gan import GAN, image_shape
from jaxgan.projection import Projected, project
from jaxgan.run.numerics import fixed_numerics, root_key
from jaxgan.run.screen import say, shown


@dataclasses.dataclass(frozen=True)
class Targets:
    """Of which pictures."""

    pictures: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="PICTURE …")] = ()
    """Files of the size of the run's images; or one .npz with `images`, as experiments.sample writes it."""


@dataclasses.dataclass(frozen=True)
class Project:
    """Finds the latents whose images are nearest to some pictures, in the newest checkpoint of a run."""

    run: Annotated[Trained, tyro.conf.OmitArgPrefixes, tyro.conf.arg(name="run")]
    targets: Annotated[Targets, tyro.conf.OmitArgPrefixes, tyro.conf.arg(name="targets")] = Targets()
    steps: int = 500
    """Of the descent."""
    each_layer: bool = False
    """Each layer gets a w of its own: nearer to the picture, and less like what the generator makes."""
    features: str | None = None
    """A classifier of the package, whose maps are compared (by default the data's own, or that of cifar10)."""
    out: Path | None = None
    """Where to save the strip of picture, path and result, as PNG (by default projected.png in WORKDIR)."""
    npz: Path | None = None
    """Where to save `latents`, for experiments.sample --npz-latents (by default projected.npz in WORKDIR)."""


FRAMES = 6  # of the path, in a strip


def main(args: list[str] | None = None) -> None:
    """Parses the flags, descends, saves, and says how near each came."""
    flags = parse(Project, "experiments.project", args)
    check(flags.run)
    paths = flags.targets.pictures
    check_flags(flags, steps=FRAMES)
    out, npz = flags.out or flags.run.workdir / "projected.png", flags.npz or flags.run.workdir / "projected.npz"
    for flag, path, suffix in (("out", out, ".png"), ("npz", npz, ".npz")):
        if path.suffix != suffix or not path.parent.is_dir():
            fail(f"--{flag} {path} must end in {suffix}, in a folder that exists")
    if flags.features is not None and flags.features not in shipped.index():
        fail(f"--features {flags.features}: there are {', '.join(shipped.index())}")
    begin = time.perf_counter()
    with one_line_errors(flags.run.traceback), fixed_numerics():
        recipe, gan, state = load(flags.run)
        targets = read(paths, gan)
        seen_with = flags.features or (for_data(recipe.data) if isinstance(recipe.data, str) else OTHER)
        try:
            found = project(
                gan,
                state,
                targets,
                evaluation.perceptual(seen_with),
                root_key(flags.run.seed),
                flags.steps,
                FRAMES,
                flags.each_layer,
                flags.run.weights != "last",
                shown,
            )
        except ValueError as error:
            fail(error)
    images.save_png(out, strip(targets, found))
    arrays: dict[str, Any] = {
        "latents": found.latents,
        "images": found.images,
        "targets": targets,
        "distances": found.distances,
    }
    arrays |= {} if found.labels is None else {"labels": found.labels}
    save_npz(npz, arrays)
    for i, (first, last) in enumerate(found.distances[[0, -1]].T):
        name = paths[i] if len(paths) == len(targets) else f"{paths[0]} [{i}]"
        say(f"{name}: distance {last:.4g}, {first:.4g} at the start")
    say(f"{time.perf_counter() - begin:.1f} s; each row a picture, the way to it, and what was found: {out}; {npz}")


def strip(targets: np.ndarray, found: Projected) -> np.ndarray:
    """A row for each target: itself, the start, and the way to what was found; uint8 [H', W', C]."""
    rows = [np.stack([target, *found.path[:, i]]) for i, target in enumerate(targets)]
    return images.grid(np.concatenate(rows), columns=len(rows[0]))


def read(paths: tuple[Path, ...], gan: GAN) -> np.ndarray:
    """Pictures of the size and the channels of a generator's images: uint8 [N, H, W, C].

    Raises:
      DataError: one cannot be read, or is of another size.
    """
    shape = image_shape(gan)
    if len(paths) == 1 and paths[0].suffix == ".npz":
        try:
            with np.load(paths[0], allow_pickle=False) as file:
                found = file["images"]
        except (OSError, ValueError, KeyError, EOFError) as error:
            raise DataError(f"{paths[0]} is no npz with an array `images` ({str(error).splitlines()[0]})") from error
        if found.dtype != np.uint8 or found.shape[1:] != shape or not len(found):
            raise DataError(f"{paths[0]}: `images` must be uint8 [N, {', '.join(map(str, shape))}]")
        return found
    if not paths:
        raise DataError("name a PICTURE, or several, after the WORKDIR")
    read = []
    for path in paths:
        try:
            picture = pixels.read(str(path), None)
            fitted = pixels.read(str(path), (shape[0], shape[1], shape[2]))
        except DataError as error:
            raise DataError(f"{path} {error}") from error
        if picture.shape[:2] != shape[:2]:
            sizes = [f"{h}x{w}" for h, w in (picture.shape[:2], shape[:2])]
            raise DataError(f"{path} is {sizes[0]} pixels, and the run's images are {sizes[1]}; bring it to that size")
        read.append(fitted)
    return np.stack(read)
