"""From an image file to uint8 pixels, with all that gives the file's numbers their meaning.

What is done with an image, in this order:

- Of an animation, or a file of several pages, the first picture is taken.
- It is turned upright, as its EXIF orientation says.
- Colours become sRGB: an embedded ICC profile is applied, a palette looked up, CMYK and YCbCr converted. A broken
  profile or broken EXIF data count as none, as in a browser. Other hints (PNG's gAMA) are not used.
- What is transparent shows white behind it. Half transparent pixels are mixed with white in proportion. Where images of
  four channels are asked for, they are RGBA.
- More than 8 bits a channel, floats and CIELAB are refused: what in them is black and what white is not known.
"""

import contextlib
import functools
import io
import re
from typing import TYPE_CHECKING, BinaryIO, Literal, cast

import numpy as np

from jaxgan.data.dataset import DataError, first_line
from jaxgan.images import pillow

if TYPE_CHECKING:
    from PIL.Image import Image as Picture
    from PIL.ImageCms import ImageCmsTransform

Shape = tuple[int, int, int]
Fit = Literal["crop", "pad"]  # what is done with an image of another aspect ratio
GREY = ("1", "L", "LA", "La")  # Pillow's modes without colour
REFUSED = ("F", "I", "LAB")  # and any that begin with "I;"


def read(file: str | BinaryIO, shape: Shape | None, how: Fit = "crop") -> np.ndarray:
    """An image file as uint8 [H, W, C], cropped and resized to `shape` where one is given.

    Args:
      file: a path, or an open binary file.
      shape: as for `fit`.
      how: as for `fit`.

    Raises:
      DataError: what is wrong with it, as a sentence that lacks its subject.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with contextlib.ExitStack() as stack:
            # Pillow would leave a file open that fails while it is looked at.
            source = stack.enter_context(open(file, "rb")) if isinstance(file, str) else file
            image = upright_srgb(stack.enter_context(Image.open(source)), bool(shape) and shape[2] == 4)
        return fit(image, shape, how)
    except DataError:
        raise
    except PermissionError as error:
        raise DataError("cannot be read; make it readable") from error
    except UnidentifiedImageError as error:
        raise DataError("is not an image that can be read; remove or mend it") from error
    except Exception as error:  # a broken file can make Pillow raise almost any kind
        if isinstance(error, OSError) and error.errno is not None:  # the system's own, such as those of a bad disk
            raise DataError(f"cannot be read ({error.strerror}); bring it back, or remove it") from error
        raise DataError(f"is not an image that can be read ({first_line(error)}); remove or mend it") from error


def upright_srgb(image: "Picture", keep_alpha: bool = False) -> "Picture":
    """An image as it is meant to be seen, in mode L where it is grey, RGB where not, RGBA with `keep_alpha`."""
    from PIL import Image, ImageOps

    tile = getattr(image, "tile", None)  # of a file that is not read yet
    raw_mode = str(tile[0].args) if tile else ""
    deep = re.search(r"\b(?!BGR)[A-Za-z]+;16", raw_mode)  # BGR;16 has 16 bits for all three
    if deep or image.mode in REFUSED or image.mode.startswith("I;"):
        kind = "16 bits" if deep else f"Pillow's mode {image.mode!r}"
        raise DataError(f"must have 8 bits a channel, in grey or RGB, not {kind}; convert it first")
    image.load()
    if raw_mode in ("L;2", "L;4") and "transparency" in image.info:  # Pillow scales the pixels, and not this
        image.info["transparency"] *= {"L;2": 85, "L;4": 17}[raw_mode]
    with contextlib.suppress(Exception):  # broken EXIF data make it raise almost any kind
        ImageOps.exif_transpose(image, in_place=True)
    mode, profile, alpha = "L" if image.mode in GREY else "RGB", image.info.get("icc_profile"), None
    if image.has_transparency_data:
        image = image.convert("RGBA")
        alpha = image.getchannel("A")
    if profile:
        image = _apply(profile, image if image.mode == "CMYK" else image.convert(mode))
    image = image.convert(mode)
    if keep_alpha:
        image = image.convert("RGB")
        image.putalpha(alpha or Image.new("L", image.size, "white"))
        return image
    return Image.composite(image, Image.new(mode, image.size, "white"), alpha) if alpha else image


def _apply(profile: bytes, image: "Picture") -> "Picture":
    """An image of mode L, RGB or CMYK as sRGB, by its ICC profile; unchanged where the profile is broken."""
    from PIL import ImageCms

    transform = _to_srgb(profile, image.mode)
    return cast("Picture", ImageCms.applyTransform(image, transform)) if transform else image


@functools.lru_cache(maxsize=4)  # a pure function, and the images of a folder often have one profile
def _to_srgb(profile: bytes, mode: str) -> "ImageCmsTransform | None":
    from PIL import ImageCms

    try:
        return ImageCms.buildTransform(io.BytesIO(profile), ImageCms.createProfile("sRGB"), mode, "RGB")
    except (ImageCms.PyCMSError, OSError):
        return None


def fit(image: "Picture", shape: Shape | None, how: Fit = "crop") -> np.ndarray:
    """An image of mode L or RGB as uint8 [H, W, C].

    Where a `shape` is given, the image is brought to the aspect ratio of H x W, cropped around its centre or, with
    "pad", with black beside it; resized (Lanczos), and converted to grey (C = 1), RGB (C = 3) or RGBA (C = 4).
    """
    from PIL import Image, ImageOps

    if shape:
        mode = {1: "L", 4: "RGBA"}.get(shape[2], "RGB")
        image = image.convert(mode)
        if image.size != (shape[1], shape[0]):
            bring = {"crop": ImageOps.fit, "pad": ImageOps.pad}[how]
            # Of RGBA, colours are weighed by their alpha, so that those that are not seen do not show at the edges.
            image = image.convert("RGBa") if mode == "RGBA" else image
            image = bring(image, (shape[1], shape[0]), Image.Resampling.LANCZOS).convert(mode)
    pixels = np.asarray(image)
    return pixels[..., None] if pixels.ndim == 2 else pixels


def fit_all(images: np.ndarray, shape: Shape | None, how: Fit = "crop") -> np.ndarray:
    """`fit` of each of some images, uint8 [N, H, W, C]; as they are where they have the shape."""
    if shape in (None, images.shape[1:]):
        return images
    return np.array([fit(pillow(image), shape, how) for image in images], np.uint8).reshape(-1, *shape)
