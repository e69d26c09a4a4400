"""Small image files and folders, and the message of a dataset that is refused."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxgan import data

NOISE = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)


TFDS = Path(__file__).parents[2] / "shared/data/tfds"
needs_tfds = pytest.mark.skipif(not TFDS.is_dir(), reason=f"no prepared TensorFlow datasets in {TFDS}")


def opened(path):
    """The image in a file, which does not stay open."""
    return Image.open(io.BytesIO(Path(path).read_bytes()))


def encoded(pixels, kind="PNG", **options):
    """An array, or a Pillow image, as the bytes of an image file."""
    file = io.BytesIO()
    (Image.fromarray(pixels) if isinstance(pixels, np.ndarray) else pixels).save(file, kind, **options)
    return file.getvalue()


def png(rows, width, depth, colour, *chunks):
    """A PNG file of rows of bytes, written by the PNG specification and without Pillow."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, len(rows), depth, colour, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows)))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunk(*c) for c in chunks) + pixels + chunk(b"IEND", b"")


def folder_of(path, images):
    """Writes arrays, or bytes as they are, under the names given; the dataset's name."""
    for name, image in images.items():
        file = path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(image if isinstance(image, bytes) else encoded(image))
    return f"folder:{path}"


def error_of(*args, **kwargs):
    """What `data.load` refuses, in one line."""
    with pytest.raises(data.DataError) as caught:
        data.load(*args, **kwargs)
    message = str(caught.value)
    assert message.splitlines() == [message], "not one line"
    assert message.isprintable()
    return message
