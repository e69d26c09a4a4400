"""Images in an .npz file, as `experiments.sample --npz` writes one."""

import os
from typing import Any

import numpy as np

from jaxgan.data.dataset import DataError, Dataset, first_line


def npz(path: str) -> Dataset:
    """The images of an .npz file, with their labels and the names of their classes where it has them.

    Nothing in it is unpickled: a file can do no harm.

    Args:
      path: of the file, with `images`, uint8 [N, H, W, C], and perhaps `labels`, integers [N], and `class_names`, [K].

    Raises:
      DataError: there is none, it is damaged, or it holds something else.
    """
    if not os.path.isfile(path):
        raise DataError(f"{path}: there is no such file")
    names, found = ("images", "labels", "class_names"), dict[str, np.ndarray]()
    try:
        with open(path, "rb") as opened:
            file: Any = np.load(opened, allow_pickle=False)
            held = getattr(file, "files", [])
            for name in names:
                if name in held:
                    found[name] = file[name]
    except Exception as error:  # of a damaged file NumPy raises many kinds
        if "allow_pickle" in str(error):
            raise DataError(f"{path} holds Python objects, or is no .npz; only arrays of numbers are read") from error
        raise DataError(f"{path} is no .npz file that can be read ({first_line(error)})") from error
    if "images" not in found:
        raise DataError(f"{path} holds {', '.join(held[:5]) or 'no arrays by name'}, and no array named images")
    images, labels = found["images"], found.get("labels")
    if images.dtype != np.uint8:
        raise DataError(f"{path}: images must be uint8 (0 to 255) of shape [N, H, W, C], not {images.dtype}")
    classes = () if labels is None else tuple(map(str, found.get("class_names", ())))
    return Dataset(path, images, labels, classes)
