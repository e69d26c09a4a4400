"""Draws images from a trained generator: `python -m experiments.sample WORKDIR [--count N] …`."""

import dataclasses
import importlib.util
from collections import Counter
from pathlib import Path
from typing import Annotated

import jax
import numpy as np
import tyro

import jaxgan
from jaxgan import GAN, Batch, GANState, images, recipes
from jaxgan.commands.cli import fail, keep_programs, one_line_errors, parse
from jaxgan.commands.finished import Weights, check_seed, check_workdir, read_state
from jaxgan.data import DataError, Dataset, Source, identity
from jaxgan.data.dataset import one_line
from jaxgan.data.order import batches
from jaxgan.data.source import PIECE
from jaxgan.files import atomic_write
from jaxgan.recipes.settings import Recipe
from jaxgan.run.numerics import fixed_numerics, root_key, start_devices
from jaxgan.run.screen import say
from jaxgan.run.workdir import read_config
from jaxgan.sampling import export_generator, grid_labels, sample_labels

COLUMNS = 8
ROWS = 100  # of a picture with a row of each class, at most


@dataclasses.dataclass(frozen=True)
class Sample:
    """Draws images from the newest checkpoint of a run."""

    workdir: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="WORKDIR")]
    """The run's folder."""
    count: int | None = None
    """How many images (by default 64), patches (1) or paths (8)."""
    seed: int = 0
    """Decides the latents: image i is the same for every count."""
    label: str | None = None
    """The class to draw, by its number or its name (by default a row of each in the picture, or any with --count)."""
    out: Path | None = None
    """Where to save the picture, as PNG (by default a name in WORKDIR; none if only --npz or --gif is given)."""
    npz: Path | None = None
    """Where to save the images: `images`, uint8 [N, H, W, C]; where there are classes, `labels` and `class_names`."""
    weights: Weights = "averaged"
    """Which generator: the average over training, the one of the last step, or the average at the best score."""
    latent_grid: Annotated[tuple[int, int] | None, tyro.conf.arg(metavar="H W")] = None
    """Make each image of a grid of H x W latents: one large patch, from a fully convolutional generator."""
    interpolate: Annotated[int | None, tyro.conf.arg(metavar="STEPS")] = None
    """Draw paths, each of so many images, from one sample to the next; a row of the picture each."""
    gif: Path | None = None
    """Where to save the paths of --interpolate as a GIF."""
    export: Path | None = None
    """Where to save the generator as a program of jax.export, to be used without this package (see the README)."""
    beside_real: bool = False
    """Put as many real images of the run's data beside the generated ones, in the picture."""
    data_dir: str | None = None
    """Where TensorFlow Datasets keeps its data, for --beside-real (by default ~/tensorflow_datasets)."""
    data: str | None = None
    """Where the run's data is now, for --beside-real (by default where it was)."""
    recipe: Path | None = None
    """The Python file that defines the run's recipe, where a file of yours does."""
    accept_changed_file: bool = False
    """Take that file as it is, though it has been changed since the run began."""
    traceback: bool = False
    """Show the whole traceback of an error."""


def main(args: list[str] | None = None) -> None:
    """Parses the flags, draws, saves, and says where."""
    flags = parse(Sample, "experiments.sample", args)
    _check(flags)
    out = _out(flags)
    with one_line_errors(flags.traceback), fixed_numerics():
        start_devices()
        recipe = recipes.of_run(flags.workdir, flags.recipe, flags.accept_changed_file)
        gan = recipe.build()
        names = _class_names(flags.workdir, gan)
        label = _label(flags.label, gan, names)
        keep_programs()
        state = read_state(flags.workdir, gan, flags.weights)
        if flags.export:
            flags.export.write_bytes(export_generator(gan, state, flags.weights != "last"))
            say(f"the generator: {flags.export}")
        if not (out or flags.npz or flags.gif):
            return
        samples, labels = _draw(flags, gan, state, label)
        if out:
            images.save_png(out, _picture(flags, recipe, samples, labels, names))
        if flags.gif:
            frames = [images.grid(samples[:, t]) for t in range(flags.interpolate)]
            images.save_gif(flags.gif, [*frames, *frames[-2::-1]])  # there and back
        samples = samples.reshape(-1, *samples.shape[-3:])
        if flags.npz:
            _save_npz(flags.npz, samples, labels, names)
    of = "" if label is None else f" of class {label}" + (f", {one_line(names[label])}" if names else "")
    for path in filter(None, (out, flags.gif, flags.npz)):
        say(f"{len(samples)} images{of}: {path}")
    if _is_by_row(flags, gan) and gan.classes > ROWS:
        say(f"note: a row of each of the first {ROWS} of {gan.classes:,} classes; --count N draws any, --label one")


def _save_npz(path: Path, samples: np.ndarray, labels: np.ndarray | None, names: list[str]) -> None:
    """Writes the whole file or none."""
    of_classes = {"labels": labels} | ({"class_names": np.array(names)} if names else {})
    with atomic_write(path) as partial, partial.open("wb") as file:  # by its name NumPy would write to another
        np.savez_compressed(file, images=samples, **({} if labels is None else of_classes))


def _out(flags: Sample) -> Path | None:
    """Where the picture goes, if there is to be one; ends the program where a file cannot be written."""
    name = "samples"
    if flags.interpolate:
        name = "interpolation"
    elif flags.latent_grid:
        name = "patch"
    elif flags.beside_real:
        name = "beside-real"
    out = flags.out
    if flags.beside_real or not (flags.npz or flags.gif or flags.export):
        out = out or flags.workdir / f"{name}-seed{flags.seed}.png"
    for path in filter(None, (out, flags.npz, flags.gif, flags.export)):
        if not path.parent.is_dir():
            fail(f"{path}: there is no folder {path.parent}; make it first")
        if path.is_dir():
            fail(f"{path} is a folder; name a file")
    return out


def _check(flags: Sample) -> None:
    """Ends the program where the flags are wrong."""
    if flags.count is not None and flags.count < 1:
        fail(f"--count must be at least 1, not {flags.count}")
    check_seed(flags.seed)
    if flags.latent_grid and min(flags.latent_grid) < 1:
        fail(f"--latent-grid must be two numbers of at least 1, not {flags.latent_grid[0]} {flags.latent_grid[1]}")
    if flags.interpolate is not None and flags.interpolate < 2:
        fail(f"--interpolate must be at least 2, the ends of a path, not {flags.interpolate}")
    if bool(flags.latent_grid) + bool(flags.interpolate) + flags.beside_real > 1:
        fail("--latent-grid, --interpolate and --beside-real are different pictures; ask for one at a time")
    if flags.gif and not flags.interpolate:
        fail(f"--gif {flags.gif} shows the paths of --interpolate; say --interpolate STEPS too")
    for name in ("data", "data_dir"):
        if getattr(flags, name) and not flags.beside_real:
            flag = f"--{name.replace('_', '-')} {getattr(flags, name)}"
            fail(f"{flag} is where --beside-real finds its images; say --beside-real too")
    if flags.export and importlib.util.find_spec("flatbuffers") is None:
        fail(f'--export {flags.export}: there is no flatbuffers here; pip install "jaxgan[export]"')
    check_workdir(flags.workdir)
    for flag, suffix in (("out", ".png"), ("npz", ".npz"), ("gif", ".gif")):
        path = getattr(flags, flag)
        if path and path.suffix != suffix:
            fail(f"--{flag} {path} must end in {suffix}")


def _class_names(workdir: Path, gan: GAN) -> list[str]:
    """The names of a run's classes, by their numbers; none where it began before they were written down."""
    names = read_config(workdir).get("class_names", [])
    return names if len(names) == gan.classes else []


def _label(asked: str | None, gan: GAN, names: list[str]) -> int | None:
    """The number of the class that is asked for: what is the number of a class is that, and else a name."""
    if asked is None:
        return None
    if not gan.classes:
        fail(f"--label {asked}: the run's GAN has no classes")
    if asked.isdecimal() and int(asked) < gan.classes:
        number = int(asked)
        if asked in names and names.index(asked) != number:
            say(f"note: class {asked} is named {names[number]}; the one named {asked} is --label {names.index(asked)}")
        return number
    if asked in names:
        return names.index(asked)
    some = f", or a name: {', '.join(names[:10])}{', …' * (len(names) > 10)}" if names else ""
    fail(f"--label must be from 0 to {gan.classes - 1}{some}; not {asked!r}")


def _draw(flags: Sample, gan: GAN, state: GANState, label: int | None) -> tuple[np.ndarray, np.ndarray | None]:
    """The images, uint8 [count, H, W, C], with --interpolate [count, steps, H, W, C]; and the class of each image."""
    key, averaged = root_key(flags.seed), flags.weights != "last"
    count = flags.count or (8 if flags.interpolate else 1 if flags.latent_grid else 64)
    if flags.interpolate:
        labels = sample_labels(gan, key, count) if label is None else np.full(count, label, np.int32)
        samples = jaxgan.sampling.interpolate(gan, state, key, count, flags.interpolate, averaged, labels)
        labels = labels if labels is None else np.repeat(labels, flags.interpolate)
    else:
        labels = _labels(flags, gan, key, count, label)
        count = count if labels is None else len(labels)
        try:
            samples = jaxgan.sample(gan, state, key, count, averaged, flags.latent_grid, labels)
        except ValueError as error:
            if not flags.latent_grid:
                raise
            fail(f"--latent-grid: {error}, such as that of canton_lsgan or keras_dcgan")
    return np.asarray(samples), labels if labels is None else np.asarray(labels, np.int32)


def _labels(flags: Sample, gan: GAN, key: jax.Array, count: int, label: int | None) -> np.ndarray | jax.Array | None:
    """The class of each image: the one asked for; any of them for a given number of images; else a row of each."""
    if label is not None:
        return np.full(count, label, np.int32)
    return grid_labels(gan, COLUMNS, ROWS) if _is_by_row(flags, gan) else sample_labels(gan, key, count)


def _is_by_row(flags: Sample, gan: GAN) -> bool:
    """Whether the picture has a row of each class."""
    others = (flags.label, flags.count, flags.interpolate, flags.latent_grid)
    return bool(gan.classes) and all(flag is None for flag in others)


def _picture(
    flags: Sample, recipe: Recipe, samples: np.ndarray, labels: np.ndarray | None, names: list[str]
) -> np.ndarray:
    if flags.interpolate:
        return images.grid(samples.reshape(-1, *samples.shape[2:]), columns=flags.interpolate)
    by_row = labels is not None and flags.count is None
    of_rows = [names[label] for label in labels[::COLUMNS]] if by_row and names and flags.label is None else []

    def grid(samples: np.ndarray) -> np.ndarray:
        picture = images.grid(samples, columns=COLUMNS if by_row else None)
        return images.named(picture, of_rows) if of_rows else picture

    generated = grid(samples)
    if not flags.beside_real:
        return generated
    try:
        found = (recipe.replace(data=flags.data) if flags.data else recipe).open_data(flags.data_dir)
    except DataError as error:
        fail(f"{error}; --data says where the run's data are now" if not flags.data else error)
    known = read_config(flags.workdir).get("data_sha256")
    if known is not None and identity(found, bool(recipe.classes)) != known:
        fail(f"{found.name} does not hold the images of this run; --data says where they are now")
    try:
        real = _real(found, root_key(flags.seed), len(samples), labels if by_row else None)
    except DataError as error:
        fail(error)
    return images.beside({"real": grid(real), "generated": generated})


def _real(found: Source | Dataset, key: jax.Array, count: int, labels: np.ndarray | None) -> np.ndarray:
    """Which real images stand beside generated ones, in the order of a run: of their classes where labels are given.

    No more of a source is read than is needed.
    """

    def read(which: np.ndarray) -> Batch:
        if isinstance(found, Source):
            return found.read(which)
        return Batch(found.images[which], None if found.labels is None else found.labels[which])

    if labels is None:
        return read(batches(key, 0, 1, count, found.size)[0]).images
    order, wanted = batches(key, 0, 1, found.size, found.size)[0], Counter(labels.tolist())
    of_class: dict[int, list[np.ndarray]] = {label: [] for label in wanted}
    for start in range(0, len(order), PIECE):
        for image, label in zip(*read(order[start : start + PIECE]), strict=True):
            if len(of_class.get(int(label), ())) < wanted[int(label)]:
                of_class[int(label)].append(image)
        if all(len(of_class[label]) == number for label, number in wanted.items()):
            break
    missing = [label for label, those in of_class.items() if not those]
    if missing:
        raise DataError(f"{found.name}: no image has label {missing[0]}")
    return np.concatenate([np.resize(of_class[k], (n, *found.shape)) for k, n in wanted.items()])


if __name__ == "__main__":
    main()
