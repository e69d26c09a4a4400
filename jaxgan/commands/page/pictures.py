"""Sample grids as data that a page can hold."""

import base64
import io
from pathlib import Path
from typing import NamedTuple

LARGE = (640, 200_000)  # pixels wide and bytes, at most: a grid to look at
SMALL = (224, 24_000)  # one of a strip
CRISP = 200  # narrower grids are shown enlarged, pixel by pixel


class Picture(NamedTuple):
    """A picture as a page holds it."""

    uri: str
    width: int
    height: int

    @property
    def kind(self) -> str | None:
        """The style of an image that is shown enlarged."""
        return "crisp" if self.width < CRISP else None


def embedded(path: Path, limits: tuple[int, int] = LARGE) -> Picture:
    """A picture as it is or, where it is too large, smaller and then as JPEG.

    Raises:
      OSError: it cannot be read.
    """
    from PIL import Image

    width, size = limits
    try:
        with Image.open(path) as picture:
            picture.load()
            here = path.read_bytes()
            if picture.format == "PNG" and picture.width <= width and len(here) <= size:
                return Picture(_uri("png", here), *picture.size)
            picture = picture.convert("L" if picture.mode in ("1", "L") else "RGB")
    except (ValueError, SyntaxError, Image.DecompressionBombError) as error:  # of damaged files
        raise OSError(str(error)) from error
    if picture.width > width:
        height = max(1, round(picture.height * width / picture.width))
        picture = picture.resize((width, height), Image.Resampling.LANCZOS)
    for kind, options in (("png", {"optimize": True}), ("jpeg", {"quality": 88, "optimize": True})):
        file = io.BytesIO()
        picture.save(file, kind, **options)
        if file.tell() <= size:
            break
    return Picture(_uri(kind, file.getvalue()), *picture.size)


def _uri(kind: str, content: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
