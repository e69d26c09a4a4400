"""Pictures of latents that are chosen: by seeds or from a file, truncated, mixed, along directions of w, on a loop."""

import dataclasses
import importlib
import re
import shutil
import subprocess
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tyro

import jaxgan
from jaxgan import GAN, GANState, images, styles
from jaxgan.commands.cli import fail
from jaxgan.files import atomic_write
from jaxgan.randomness import draw_z
from jaxgan.run.numerics import root_key
from jaxgan.run.screen import say
from jaxgan.sampling import between, sample_labels

RATE = 25  # frames a second of a video
REACH = 2.0  # deviations, to either side, of a sheet of directions
COLUMNS = 7  # of it


@dataclasses.dataclass(frozen=True)
class Latents:
    """Which latents, and what is done with them."""

    seeds: str | None = None
    """Image k is the first that --seed k draws: 3,7,12-20."""
    npz_latents: Path | None = None
    """The images of latents in a file, as --npz and experiments.project write it: `latents`, z or w, and `labels`."""
    truncation: Annotated[tuple[float, ...] | None, tyro.conf.arg(metavar="PSI [PSI …]")] = None
    """Brings w nearer to its mean: 1 leaves it, 0 is the mean. Several make a strip."""
    mix: Annotated[str | None, tyro.conf.arg(metavar="SEEDS")] = None
    """A sheet: the coarse half of the styles of these seeds, a row each, in those of --seeds."""
    directions: Annotated[int | None, tyro.conf.arg(metavar="K")] = None
    """A sheet: one image along the first K principal directions of w, a row each, by -2 to 2 deviations."""
    video: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """A loop through the images, as .mp4 or .gif, --interpolate frames from each to the next (by default 25)."""

    def any(self) -> bool:
        """Whether anything is asked for here."""
        return any(value is not None for value in vars(self).values())


class Drawn(NamedTuple):
    """Images [N, H, W, C], of how many columns a sheet of them has; their labels; and the latents of each."""

    images: np.ndarray
    columns: int | None
    labels: np.ndarray | None
    latents: np.ndarray


def check(flags: Latents) -> None:
    """Ends the program where a flag is wrong."""
    for name in ("seeds", "mix"):
        if (value := getattr(flags, name)) is not None:
            seeds_of(value, name)
    sheets = [name for name in ("mix", "directions", "video") if getattr(flags, name) is not None]
    sheets += ["truncation"] * (flags.truncation is not None and len(flags.truncation) > 1)
    if len(sheets) > 1:
        fail(f"--{sheets[0]} and --{sheets[1]} are different pictures; ask for one at a time")
    if flags.seeds and flags.npz_latents:
        fail("--seeds and --npz-latents both say which latents; give one")
    if flags.mix and not (flags.seeds or flags.npz_latents):
        fail("--mix SEEDS puts styles into those of --seeds; give these too")
    if flags.directions is not None and flags.directions < 1:
        fail(f"--directions must be at least 1, not {flags.directions}")
    if flags.truncation is not None and not np.isfinite(flags.truncation).all():
        fail("--truncation must be numbers, such as 0.7")
    if flags.video and flags.video.suffix not in (".mp4", ".gif"):
        fail(f"--video {flags.video} must end in .mp4 or .gif")
    if flags.npz_latents and not flags.npz_latents.is_file():
        fail(f"--npz-latents {flags.npz_latents}: there is no such file")


def seeds_of(text: str, name: str = "seeds") -> list[int]:
    """The numbers of a list such as 3,7,12-20."""
    found: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d+)(?:-(\d+))?\s*", part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if not match or last < first or last >= 2**32 or last - first > 10_000:
            fail(f"--{name} must be numbers and ranges of them, such as 3,7,12-20, not {text!r}")
        found += range(first, last + 1)
    return found


def draw(
    flags: Latents, gan: GAN, state: GANState, count: int | None, seed: int, label: int | None, averaged: bool
) -> Drawn:
    """The images that are asked for, but for a video's; ends the program where the generator cannot make them."""
    z, w, labels = _chosen(flags, gan, state, count, seed, label, averaged)
    psi, columns = flags.truncation or (), None
    of_styles = [name for name in ("truncation", "mix", "directions") if getattr(flags, name) is not None]
    if of_styles and not styles.has_styles(gan):
        fail(f"--{of_styles[0]} needs a generator with styles, such as stylegan2's; this one makes images of z alone")
    if not styles.has_styles(gan):
        made = jaxgan.generate(gan, state, z, labels, averaged)
        return Drawn(np.asarray(made), None, _numbers(labels), np.asarray(z))
    if psi and z is not None:
        w = jnp.stack([styles.styles(gan, state, z, labels, p, averaged) for p in psi], axis=1)
        columns = len(psi) if len(psi) > 1 else None
        w, labels = w.reshape(-1, *w.shape[2:]), _repeated(labels, len(psi))
    elif psi:
        fail("--truncation is of latents z; those of --npz-latents are w")
    if flags.mix:
        others = _of_seeds(gan, seeds_of(flags.mix, "mix"), label)
        coarse = styles.styles(gan, state, *others, psi[0] if psi else 1.0, averaged)
        both = styles.mixed(coarse, w, w.shape[1] // 2)
        # The images themselves stand above and at the left.
        corner = jnp.broadcast_to(w[:1], (1, *w.shape[1:]))
        sheet = jnp.concatenate([jnp.concatenate([corner, w])[None], jnp.concatenate([coarse[:, None], both], 1)])
        made = np.asarray(styles.synthesize(gan, state, sheet.reshape(-1, *w.shape[1:]), averaged)).copy()
        made[0] = 255
        return Drawn(made, 1 + len(w), None, np.asarray(sheet.reshape(-1, *w.shape[1:])))
    if flags.directions:
        vectors, deviations = styles.directions(gan, state, root_key(seed))
        if flags.directions > len(vectors):
            fail(f"--directions must be at most {len(vectors)}, the length of w, not {flags.directions}")
        steps = jnp.linspace(-REACH, REACH, COLUMNS)[None, :, None] * deviations[: flags.directions, None, None]
        moved = w[0][None, None] + (steps * vectors[: flags.directions, None])[:, :, None]
        w, columns, labels = moved.reshape(-1, *w.shape[1:]), COLUMNS, None
    made = np.asarray(styles.synthesize(gan, state, w, averaged))
    return Drawn(made, columns, _numbers(labels), np.asarray(w))


def video(
    flags: Latents,
    gan: GAN,
    state: GANState,
    drawn: Drawn,
    steps: int | None,
    averaged: bool,
) -> Path:
    """Writes the loop through the images, and gives its path: a GIF where there is no encoder."""
    assert flags.video
    if len(drawn.latents) < 2:
        fail("--video is a loop through at least two images; give more --seeds, or a larger --count")
    path = between(drawn.latents, steps or RATE, "straight" if drawn.latents.ndim > 2 else gan.prior)
    frames = path.reshape(-1, *path.shape[2:])
    if styles.has_styles(gan):
        made = styles.synthesize(gan, state, frames, averaged)
    else:
        labels = None if drawn.labels is None else jnp.repeat(jnp.asarray(drawn.labels), steps or RATE)
        made = jaxgan.generate(gan, state, frames, labels, averaged)
    pictures = [images.grid(image[None]) for image in np.asarray(made)]
    return write_video(flags.video, pictures)


def write_video(path: Path, pictures: list[np.ndarray]) -> Path:
    """Writes pictures, uint8 [H, W, C], as .mp4 or .gif; as .gif where there is no encoder, which a line says."""
    encoder = _encoder() if path.suffix == ".mp4" else None
    if path.suffix == ".mp4" and encoder is None:
        other = path.with_suffix(".gif")
        say(f'there is no ffmpeg for {path} (pip install "jaxgan[video]"): a GIF instead, {other}')
        path = other
    if encoder is None:
        images.save_gif(path, pictures, len(pictures) / RATE, rest=0)
        return path
    height, width = (side - side % 2 for side in pictures[0].shape[:2])  # the format has even sides
    rgb = [np.broadcast_to(picture[:height, :width, :3], (height, width, 3)) for picture in pictures]
    given = f"-y -loglevel error -f rawvideo -pix_fmt rgb24 -s {width}x{height} -r {RATE} -i -"
    made = "-an -c:v libx264 -crf 18 -pix_fmt yuv420p -f mp4"
    with atomic_write(path) as partial:
        call = [encoder, *given.split(), *made.split(), str(partial)]
        ended = subprocess.run(call, input=b"".join(x.tobytes() for x in rgb), capture_output=True)
        if ended.returncode:
            fail(f"--video {path}: {encoder} failed ({ended.stderr.decode(errors='replace').strip()[-200:]})")
    return path


def _encoder() -> str | None:
    """The program ffmpeg: that of the package imageio-ffmpeg, or the system's."""
    try:
        return str(importlib.import_module("imageio_ffmpeg").get_ffmpeg_exe())
    except (ImportError, RuntimeError):
        return shutil.which("ffmpeg")


def _chosen(
    flags: Latents, gan: GAN, state: GANState, count: int | None, seed: int, label: int | None, averaged: bool
) -> tuple[Any, Any, Any]:
    """z, or None where a file has w; w where the generator has styles; and labels."""
    if flags.npz_latents:
        latents, labels = _read(flags.npz_latents, gan)
        is_z = latents.ndim == 2
        fits = latents.shape[1] == gan.z_size if is_z else styles.has_styles(gan)
        if not fits:
            fail(f"--npz-latents {flags.npz_latents}: its latents are {list(latents.shape[1:])}, not [{gan.z_size}]")
        if labels is None and gan.classes and is_z:
            labels = jnp.full(len(latents), label or 0, jnp.int32)
        z, w = (latents, None) if is_z else (None, latents)
    else:
        numbers = seeds_of(flags.seeds) if flags.seeds else None
        if numbers is not None:
            z, labels = _of_seeds(gan, numbers, label)
        else:
            key = root_key(seed)
            indices = jnp.arange(count or (1 if flags.directions else 8))
            z, labels = draw_z(gan, key, indices), sample_labels(gan, key, len(indices))
            labels = labels if labels is None or label is None else jnp.full_like(labels, label)
        w = None
    if z is not None and styles.has_styles(gan):
        w = styles.styles(gan, state, z, labels, 1.0, averaged)
    return z, w, labels


def _of_seeds(gan: GAN, seeds: list[int], label: int | None) -> tuple[jax.Array, jax.Array | None]:
    keys = [root_key(seed) for seed in seeds]
    z = jnp.concatenate([draw_z(gan, key, jnp.arange(1)) for key in keys])
    if not gan.classes:
        return z, None
    drawn = [sample_labels(gan, key, 1) for key in keys]
    labels = jnp.concatenate([x for x in drawn if x is not None])
    return z, labels if label is None else jnp.full_like(labels, label)


def _read(path: Path, gan: GAN) -> tuple[jax.Array, jax.Array | None]:
    try:
        with np.load(path, allow_pickle=False) as file:
            latents, labels = file["latents"], file.get("labels")
    except (OSError, ValueError, KeyError, EOFError) as error:
        fail(f"--npz-latents {path} is no npz with an array `latents` ({str(error).splitlines()[0]})")
    if not (np.issubdtype(latents.dtype, np.floating) and latents.ndim in (2, 3) and len(latents)):
        fail(f"--npz-latents {path}: `latents` must be floats [N, …], not {latents.dtype} {list(latents.shape)}")
    if labels is not None and (labels.shape != latents.shape[:1] or not gan.classes):
        fail(f"--npz-latents {path}: its `labels` do not fit its latents, or the run's GAN has no classes")
    return jnp.asarray(latents, jnp.float32), None if labels is None else jnp.asarray(labels, jnp.int32)


def _repeated(labels: jax.Array | None, times: int) -> jax.Array | None:
    return None if labels is None else jnp.repeat(labels, times)


def _numbers(labels: jax.Array | None) -> np.ndarray | None:
    return None if labels is None else np.asarray(labels, np.int32)
