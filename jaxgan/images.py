"""Images as uint8 and as floats; grids of them, as PNG and as GIF."""

import io
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from jaxgan.files import atomic_write

if TYPE_CHECKING:
    from PIL import Image

WIDTH = 512  # pixels: grids of small images are enlarged by a whole factor to about this


def from_uint8(images: jax.Array, image_range: tuple[float, float]) -> jax.Array:
    """Scales uint8 images so that 0 and 255 become the ends of `image_range`."""
    if images.dtype != jnp.uint8:
        raise TypeError(f"images must be uint8 (0 to 255), not {images.dtype}")
    low, high = image_range
    return images.astype(jnp.result_type(float)) * ((high - low) / 255) + low


def to_uint8(images: jax.Array, image_range: tuple[float, float]) -> jax.Array:
    """The inverse of `from_uint8`, rounded to the nearest value and clipped."""
    low, high = image_range
    return jnp.round((images - low) * (255 / (high - low))).clip(0, 255).astype(jnp.uint8)


def drawn(
    samples: np.ndarray, columns: int | None = None, names: Sequence[str] = (), beside: Sequence[np.ndarray] = ()
) -> np.ndarray:
    """A picture of samples: a `grid` of images, or a scatter plot of points in the plane.

    Args:
      samples: uint8 [N, H, W, C], C being 1, 3 or 4; or floats [N, 2], or [N, 1], which are on a line.
      columns: as for `grid`.
      names: of the grid's rows; () for none.
      beside: what stands with each image, its condition before it and its target after it: one or two arrays like it.

    Returns:
      uint8 [H', W', C'].

    Raises:
      ValueError: the samples are neither images nor points.
    """
    samples = np.asarray(samples)
    if samples.dtype != np.uint8 and samples.ndim == 2 and samples.shape[1] in (1, 2):
        return scatter(np.pad(samples, ((0, 0), (0, 2 - samples.shape[1]))))
    if samples.dtype != np.uint8 or samples.ndim != 4 or samples.shape[-1] not in (1, 3, 4):
        what = f"samples of type {samples.dtype} and shape {list(samples.shape[1:])}"
        raise ValueError(f"{what} are not drawn, only images of 1, 3 or 4 channels and points in the plane")
    if beside:
        kinds = [beside[0], samples, *beside[1:]]
        most = max(x.shape[-1] for x in kinds)
        kinds = [np.repeat(x, most, axis=-1) if x.shape[-1] == 1 else x for x in kinds]
        samples, columns = (
            np.stack(kinds, axis=1).reshape(-1, *kinds[0].shape[1:]),
            len(kinds) * max(1, 8 // len(kinds)),
        )
    picture = grid(samples, columns)
    return named(picture, names) if names else picture


def scatter(points: np.ndarray) -> np.ndarray:
    """Points in the plane, floats [N, 2], as dots on white, uint8 [WIDTH, WIDTH, 1]; the axes reach to the farthest."""
    reach = 1.05 * np.abs(points).max(initial=1e-6)
    canvas = np.full((WIDTH, WIDTH, 1), 255, np.uint8)
    columns, rows = np.clip(((points * [1, -1] / reach + 1) / 2 * WIDTH).astype(int), 1, WIDTH - 2).T
    for i, j in np.ndindex(3, 3):
        canvas[rows + i - 1, columns + j - 1] = 60
    return canvas


def grid(images: np.ndarray, columns: int | None = None) -> np.ndarray:
    """Lays images out in rows, a thin line between them; small ones are enlarged, smoothly, to be seen.

    Args:
      images: uint8 [N, H, W, C], C being 1, 3 or 4; of NumPy or of JAX.
      columns: images in a row; by default about as many as there are rows.

    Returns:
      uint8 [H', W', C], at most about `WIDTH` pixels wide, or as wide as the images unenlarged.
    """
    from PIL import Image

    images = np.asarray(images)
    n, h, w, c = images.shape
    columns = int(min(n, columns or math.ceil(math.sqrt(n))))
    rows = -(-n // columns)
    scale = max(1, WIDTH // (columns * w))
    gap = max(1, scale // 4)
    tiles = [
        np.asarray(pillow(image).resize((w * scale, h * scale), Image.Resampling.BICUBIC)).reshape(h * scale, -1, c)
        for image in images
    ]
    canvas = np.full((rows * (h * scale + gap) + gap, columns * (w * scale + gap) + gap, c), 255, np.uint8)
    for i, tile in enumerate(tiles):
        top = gap + i // columns * (h * scale + gap)
        left = gap + i % columns * (w * scale + gap)
        canvas[top : top + h * scale, left : left + w * scale] = tile
    return canvas


def named(picture: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """A grid, uint8 [H, W, C], with the name of each of its rows at the left; as it is where rows are too low for that.

    Args:
      picture: as from `grid`.
      names: of all rows; long ones are cut.
    """
    from PIL import ImageDraw, ImageFont

    h, w, c = picture.shape
    size, gap = min(18, h // len(names) - 2), 8
    if size < 8:
        return picture
    font = ImageFont.load_default(size)
    shown = ["".join(x if x.isprintable() else "?" for x in name) for name in names]
    shown = [name if len(name) <= 20 else f"{name[:19]}…" for name in shown]
    left = 2 * gap + math.ceil(max(map(font.getlength, shown)))
    canvas = pillow(np.concatenate([np.full((h, left, c), 255, np.uint8), picture], axis=1))
    draw = ImageDraw.Draw(canvas)
    for i, name in enumerate(shown):
        draw.text((left - gap, (i + 0.5) * h / len(names)), name, "black", font, anchor="rm")
    return np.asarray(canvas).reshape(h, left + w, c)


def png(image: np.ndarray, colours: int | None = None, level: int = 6) -> bytes:
    """One uint8 image [H, W, C], C being 1 or 3, as the bytes of a PNG file.

    Args:
      image: the image.
      colours: of a palette that stands for all colours, at most 256, which makes a third of the file; None keeps all.
      level: how hard it is compressed, from 1 to 9. 1 takes a fraction of the time, and makes a file a tenth larger.
    """
    from PIL.Image import Dither

    file, picture = io.BytesIO(), pillow(image)
    picture = picture.quantize(colours, dither=Dither.NONE) if colours else picture
    picture.save(file, format="PNG", compress_level=level)
    return file.getvalue()


def save_png(path: str | os.PathLike[str], image: np.ndarray | bytes) -> None:
    """Writes one uint8 image [H, W, C], C being 1 or 3, or what `png` made of it; a reader never sees half of it."""
    with atomic_write(path) as partial:
        partial.write_bytes(image if isinstance(image, bytes) else png(image))


def pillow(image: np.ndarray) -> "Image.Image":
    """One uint8 image [H, W, C], C being 1 or 3, as Pillow's."""
    from PIL import Image

    image = np.asarray(image)
    return Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image)


def beside(pictures: dict[str, np.ndarray]) -> np.ndarray:
    """Lays pictures of one size, uint8 [H, W, C], side by side, each under its name."""
    from PIL import ImageDraw, ImageFont

    h, w, c = next(iter(pictures.values())).shape
    top, gap = 28, 12
    canvas = np.full((top + h, len(pictures) * (w + gap) - gap, c), 255, np.uint8)
    for i, picture in enumerate(pictures.values()):
        canvas[top:, i * (w + gap) : i * (w + gap) + w] = picture
    canvas = pillow(canvas)
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(18)
    for i, name in enumerate(pictures):
        draw.text((i * (w + gap) + w / 2, top / 2), name, "black", font, anchor="mm")
    return np.asarray(canvas).reshape(top + h, -1, c)


def save_gif(
    path: str | os.PathLike[str],
    frames: Sequence[Path | np.ndarray],
    seconds: float = 6.0,
    comment: str = "",
    rest: float = 2.0,
) -> None:
    """Writes pictures, uint8 [H, W, C] or PNG files, as one endless GIF of about `seconds`, `rest` on the last.

    Files are opened one at a time; a reader never sees half a GIF. `comment` stands in the file.
    """
    from PIL import Image

    def read(frame: Path | np.ndarray) -> Image.Image:
        if isinstance(frame, np.ndarray):
            return pillow(frame).convert("P", palette=Image.Palette.ADAPTIVE)
        with Image.open(frame) as picture:
            return picture.convert("P", palette=Image.Palette.ADAPTIVE)

    each = max(40, round(1000 * seconds / len(frames)))  # browsers slow anything faster down
    durations = [each] * (len(frames) - 1) + [max(each, round(1000 * rest))]
    first, *others = frames
    with atomic_write(path) as partial:
        read(first).save(
            partial,
            format="GIF",
            save_all=True,
            append_images=map(read, others),
            duration=durations,
            loop=0,
            comment=comment.encode(),
        )
