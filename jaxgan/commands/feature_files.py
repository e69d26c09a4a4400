"""The features that a command line names: a classifier of the package, InceptionV3, or a function in a file."""

import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jaxgan.evaluation import Features, classifier, efficientnet_lite0, for_data, inception_v3, shipped
from jaxgan.evaluation.features import OTHER
from jaxgan.recipes import RecipeError, user_files

INCEPTION, EFFICIENTNET = "inception", "efficientnet"


def choose(name: str | None, inception_weights: str | None, data: object) -> Features:
    """The features that `--features NAME` means; without a name those of the classifier that fits a recipe's data.

    Raises:
      RecipeError: there are none of that name, or the file does not define them.
      WeightsError: the weights of InceptionV3 or of EfficientNet cannot be had.
    """
    if inception_weights and name != INCEPTION:
        raise RecipeError("--inception-weights belongs to --features inception; say both")
    if name is None:
        return classifier(for_data(data) if isinstance(data, str) else OTHER)
    if name == INCEPTION:
        return inception_v3(inception_weights)
    if name == EFFICIENTNET:
        return efficientnet_lite0()
    if name.endswith(".py"):
        return from_file(Path(name))
    if name not in shipped.index():
        known = ", ".join([*shipped.index(), INCEPTION, EFFICIENTNET])
        raise RecipeError(f"--features {name}: there are {known}, or a Python file that defines features")
    return classifier(name)


def from_file(path: Path) -> Features:
    """The function `features` of a Python file: uint8 [B, H, W, C] -> [B, D], or with logits [B, K] as a pair.

    What stands beside the file can be imported by it, and is part of the features' digest. What else decides their
    numbers, such as a file that it reads, is not known, so nothing is kept on disk.

    Raises:
      RecipeError: there is no such file or function, or it raises something.
    """
    if not user_files.find(path).is_file():
        raise RecipeError(f"--features {path}: there is no such file")
    module, digest = _one_line(path, user_files.load, path)
    function = getattr(module, "features", None)
    if not callable(function):
        raise RecipeError(f"--features {path} must define features, a function of images, uint8 [B, H, W, C]")
    return Features(path.name, digest, lambda images: _one_line(path, function, images), kept=False)


def _one_line(path: Path, function: Callable[[Any], Any], argument: Any) -> Any:
    """function(argument), where what the file raises is one line with its number."""
    try:
        return function(argument)
    except Exception as error:
        file = str(user_files.find(path))
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
        where = f", line {lines[-1]}" if lines else ""
        raise RecipeError(f"--features {path}{where}: {type(error).__name__}: {error}") from error
