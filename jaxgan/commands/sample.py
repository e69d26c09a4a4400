"""Draws images from a trained generator: `python -m experiments.sample WORKDIR [--count N] …`."""

import dataclasses
import importlib.util
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro

import jaxgan
from jaxgan import GAN, Batch, GANState, images
from jaxgan.commands import latents
from jaxgan.commands.cli import fail, one_line_errors, parse
from jaxgan.commands.latents import Latents
from jaxgan.commands.trained import Trained, check, check_data, load
from jaxgan.data import DataError, Dataset, Source, identity
from jaxgan.data.dataset import one_line
from jaxgan.data.order import batches
from jaxgan.data.pairs import beside
from jaxgan.data.source import READ_AT_ONCE
from jaxgan.files import atomic_write, save_npz
from jaxgan.recipes.settings import Recipe
from jaxgan.run.numerics import fixed_numerics, root_key
from jaxgan.run.screen import say
from jaxgan.run.workdir import read_config
from jaxgan.sampling import export_generator, export_onnx, grid_labels, sample_labels

COLUMNS = 8
ROWS = 100  # of a picture with a row of each class, at most


@dataclasses.dataclass(frozen=True)
class Sample:
    """Draws images from the newest checkpoint of a run."""

    run: Annotated[Trained, tyro.conf.OmitArgPrefixes, tyro.conf.arg(name="run")]
    latents: Annotated[Latents, tyro.conf.OmitArgPrefixes, tyro.conf.arg(name="latents")] = Latents()
    count: int | None = None
    """How many images (by default 64), patches (1) or paths (8)."""
    label: str | None = None
    """The class to draw, by its number or its name (by default a row of each in the picture, or any with --count)."""
    out: Path | None = None
    """Where to save the picture, as PNG (by default a name in WORKDIR; none if only --npz or --gif is given)."""
    npz: Path | None = None
    """Where to save the images: `images`, uint8 [N, H, W, C]; where there are classes, `labels` and `class_names`."""
    latent_grid: Annotated[tuple[int, int] | None, tyro.conf.arg(metavar="H W")] = None
    """Make each image of a grid of H x W latents: one large patch, from a fully convolutional generator."""
    interpolate: Annotated[int | None, tyro.conf.arg(metavar="STEPS")] = None
    """Draw paths, each of so many images, from one sample to the next; a row of the picture each."""
    gif: Path | None = None
    """Where to save the paths of --interpolate as a GIF."""
    export: Path | None = None
    """Where to save the generator, to be used without this package: FILE.onnx for ONNX, else of jax.export (README)."""
    beside_real: bool = False
    """Put as many real images of the run's data beside the generated ones; --data and --data-dir are for this."""

    @property
    def averaged(self) -> bool:
        """Whether the averaged generator is meant."""
        return self.run.weights != "last"


def main(args: list[str] | None = None) -> None:
    """Parses the flags, draws, saves, and says where."""
    flags = parse(Sample, "experiments.sample", args)
    out = _check(flags)
    with one_line_errors(flags.run.traceback), fixed_numerics():
        recipe, gan, state = load(flags.run)
        for flag, where in (("--data", flags.run.data), ("--data-dir", flags.run.data_dir)):
            if where and not (flags.beside_real or gan.condition):
                fail(f"{flag} {where} is where --beside-real finds its images; say --beside-real too")
        names = read_config(flags.run.workdir).get("class_names", [])  # none in runs begun before they were written
        names = names if len(names) == gan.classes else []
        label = _label(flags.label, gan, names)
        if flags.export:
            export = export_onnx if _is_onnx(flags.export) else export_generator
            with atomic_write(flags.export) as partial:
                partial.write_bytes(export(gan, state, flags.averaged))
            say(f"the generator: {flags.export}")
        if flags.latents.any():
            _chosen_latents(flags, out, gan, state, label, names)
            return
        if not (out or flags.npz or flags.gif):
            return
        count = flags.count or (8 if flags.interpolate else 1 if flags.latent_grid else 64)
        given = recipe.held_out(count, flags.run.data_dir) if gan.condition else None
        samples, labels = _draw(flags, gan, state, label, count, given)
        if out and given:
            images.save_png(out, images.drawn(samples, beside=beside(given)))
        elif out:
            images.save_png(out, _picture(flags, recipe, samples, labels, names))
        if flags.gif:
            frames = [images.grid(samples[:, t]) for t in range(samples.shape[1])]
            images.save_gif(flags.gif, [*frames, *frames[-2::-1]])  # there and back
        samples = samples.reshape(-1, *samples.shape[2:]) if flags.interpolate else samples
        if flags.npz:
            arrays: dict[str, Any] = {"images": samples} | ({} if labels is None else {"labels": labels})
            if given:
                arrays |= {gan.condition: given.labels} | ({} if given.images is None else {"targets": given.images})
            arrays |= {"class_names": np.array(names)} if names else {}
            save_npz(flags.npz, arrays)
    of = "" if label is None else f" of class {label}" + (f", {one_line(names[label])}" if names else "")
    for path in filter(None, (out, flags.gif, flags.npz)):
        say(f"{len(samples)} images{of}: {path}")
    if _is_by_row(flags, gan) and gan.classes > ROWS:
        say(f"note: a row of each of the first {ROWS} of {gan.classes:,} classes; --count N draws any, --label one")


def _chosen_latents(
    flags: Sample, out: Path | None, gan: GAN, state: GANState, label: int | None, names: list[str]
) -> None:
    """Draws, saves and says what `latents` asks for."""
    if gan.condition:
        fail(f"the run's GAN makes each image of a {gan.condition}, not of a latent")
    drawn = latents.draw(flags.latents, gan, state, flags.count, flags.run.seed, label, flags.averaged)
    if out:
        images.save_png(out, images.drawn(drawn.images, drawn.columns))
    if flags.npz:
        arrays: dict[str, Any] = {"images": drawn.images, "latents": drawn.latents}
        arrays |= {} if drawn.labels is None else {"labels": drawn.labels}
        arrays |= {"class_names": np.array(names)} if names else {}
        save_npz(flags.npz, arrays)
    video = None
    if flags.latents.video:
        video = latents.video(flags.latents, gan, state, drawn, flags.interpolate, flags.averaged)
    for path in filter(None, (out, flags.npz, video)):
        say(f"{len(drawn.images)} images: {path}")


def _check(flags: Sample) -> Path | None:
    """Where the picture goes, if there is to be one; ends the program where a flag is wrong."""
    check(flags.run)
    if flags.count is not None and flags.count < 1:
        fail(f"--count must be at least 1, not {flags.count}")
    if flags.latent_grid and min(flags.latent_grid) < 1:
        fail(f"--latent-grid must be two numbers of at least 1, not {flags.latent_grid[0]} {flags.latent_grid[1]}")
    if flags.interpolate is not None and flags.interpolate < 2:
        fail(f"--interpolate must be at least 2, the ends of a path, not {flags.interpolate}")
    latents.check(flags.latents)
    video = flags.latents.video
    others = flags.latent_grid or flags.beside_real or flags.gif or (flags.interpolate and not video)
    if flags.latents.any() and others:
        fail("--latent-grid, --beside-real, --gif and --interpolate do not go with latents that are chosen")
    kinds = {"interpolation": flags.interpolate, "patch": flags.latent_grid, "beside-real": flags.beside_real}
    kinds = [name for name, asked in kinds.items() if asked]
    if len(kinds) > 1:
        fail("--latent-grid, --interpolate and --beside-real are different pictures; ask for one at a time")
    if flags.gif and not flags.interpolate:
        fail(f"--gif {flags.gif} shows the paths of --interpolate; say --interpolate STEPS too")
    if flags.export:
        package, extra = ("jax2onnx", "onnx") if _is_onnx(flags.export) else ("flatbuffers", "export")
        if importlib.util.find_spec(package) is None:
            fail(f'--export {flags.export}: there is no {package} here; pip install "jaxgan[{extra}]"')
    out = flags.out
    if flags.beside_real or not (flags.npz or flags.gif or flags.export or video):
        kinds = ["latents"] if flags.latents.any() else kinds
        out = out or flags.run.workdir / f"{(kinds or ['samples'])[0]}-seed{flags.run.seed}.png"
    for flag, path, suffix in (("out", out, ".png"), ("npz", flags.npz, ".npz"), ("gif", flags.gif, ".gif")):
        if path and path.suffix != suffix:
            fail(f"--{flag} {path} must end in {suffix}")
    for path in filter(None, (out, flags.npz, flags.gif, flags.export, video)):
        if not path.parent.is_dir():
            fail(f"{path}: there is no folder {path.parent}; make it first")
        if path.is_dir():
            fail(f"{path} is a folder; name a file")
    return out


def _is_onnx(path: Path) -> bool:
    return path.suffix == ".onnx"


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


def _draw(
    flags: Sample, gan: GAN, state: GANState, label: int | None, count: int, given: Batch | None
) -> tuple[np.ndarray, np.ndarray | None]:
    """The images, uint8 [count, H, W, C], with --interpolate [count, steps, H, W, C]; and the class of each image."""
    key = root_key(flags.run.seed)
    if given:
        if flags.interpolate or flags.latent_grid or flags.beside_real:
            fail(f"the run's GAN makes each image of a {gan.condition}, which --out and --npz show beside it")
        return np.asarray(jaxgan.sample(gan, state, key, count, flags.averaged, None, jnp.asarray(given.labels))), None
    if label is not None:
        labels = jnp.full(count, label, jnp.int32)
    else:
        labels = grid_labels(gan, COLUMNS, ROWS) if _is_by_row(flags, gan) else sample_labels(gan, key, count)
    if flags.interpolate:
        samples = jaxgan.sampling.interpolate(gan, state, key, count, flags.interpolate, flags.averaged, labels)
        labels = labels if labels is None else jnp.repeat(labels, flags.interpolate)
    else:
        count = count if labels is None else len(labels)
        try:
            samples = jaxgan.sample(gan, state, key, count, flags.averaged, flags.latent_grid, labels)
        except ValueError as error:
            if not flags.latent_grid:
                raise
            fail(f"--latent-grid: {error}, such as that of canton_lsgan or keras_dcgan")
    return np.asarray(samples), labels if labels is None else np.asarray(labels, np.int32)


def _is_by_row(flags: Sample, gan: GAN) -> bool:
    """Whether the picture has a row of each class."""
    others = (flags.label, flags.count, flags.interpolate, flags.latent_grid)
    return bool(gan.classes) and all(flag is None for flag in others)


def _picture(
    flags: Sample, recipe: Recipe, samples: np.ndarray, labels: np.ndarray | None, names: list[str]
) -> np.ndarray:
    if flags.interpolate:
        return images.grid(samples.reshape(-1, *samples.shape[2:]), columns=flags.interpolate)
    labels = labels if flags.count is None else None
    of_rows = [] if labels is None or flags.label else [names[label] for label in labels[::COLUMNS] if names]

    def grid(samples: np.ndarray) -> np.ndarray:
        return images.drawn(samples, None if labels is None else COLUMNS, of_rows)

    if not flags.beside_real:
        return grid(samples)
    try:
        found = recipe.open_data(flags.run.data_dir)
    except DataError as error:
        fail(error if flags.run.data else f"{error}; --data says where the run's data are now")
    check_data(flags.run, found.name, lambda: identity(found, bool(recipe.classes)))
    real = _real(found, root_key(flags.run.seed), len(samples), labels)
    return images.beside({"real": grid(real), "generated": grid(samples)})


def _real(found: Source | Dataset, key: jax.Array, count: int, labels: np.ndarray | None) -> np.ndarray:
    """Which real images stand beside generated ones, in the order of a run: of their classes where labels are given.

    No more of a source is read than is needed.
    """
    if labels is None:
        return found.read(found.batches(key, 0, 1, count)[0]).images
    order, wanted = batches(key, 0, 1, found.size, found.size)[0], Counter(labels.tolist())
    of_class: dict[int, list[np.ndarray]] = {label: [] for label in wanted}
    for start in range(0, len(order), READ_AT_ONCE):
        for image, label in zip(*found.read(order[start : start + READ_AT_ONCE])[:2], strict=True):
            if len(of_class.get(int(label), ())) < wanted[int(label)]:
                of_class[int(label)].append(image)
        if all(len(of_class[label]) == number for label, number in wanted.items()):
            break
    missing = [label for label, those in of_class.items() if not those]
    if missing:
        raise DataError(f"{found.name}: no image has label {missing[0]}")
    return np.concatenate([np.resize(of_class[k], (n, *found.shape)) for k, n in wanted.items()])
