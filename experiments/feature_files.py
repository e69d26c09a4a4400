"""The features that a command line names: a classifier of the package, InceptionV3, or a function in a file."""

import hashlib
import importlib.util
from pathlib import Path

from experiments.recipes import RecipeError
from experiments.settings import Recipe
from jaxgan.evaluation import Features, classifier, shipped
from jaxgan.evaluation.features import inception

INCEPTION = "inception"


def choose(name: str | None, inception_weights: str | None, recipe: Recipe) -> Features | None:
    """The features that `--features` names; None where it names none, for those of the data.

    Args:
      name: what `--features` says.
      inception_weights: what `--inception-weights` says.
      recipe: of the run that is scored; the border of its images is cut off.

    Raises:
      RecipeError: there are none of that name, or the file does not define them.
      WeightsError: InceptionV3's weights cannot be had.
    """
    if name is None:
        return None
    if name == INCEPTION:
        return inception(inception_weights)
    if name.endswith(".py"):
        return from_file(Path(name))
    if name not in shipped.index():
        known = ", ".join([*shipped.index(), INCEPTION])
        raise RecipeError(f"--features {name}: there are {known}, or a Python file that defines `features`")
    return classifier(name, recipe.border)


def from_file(path: Path) -> Features:
    """The function `features` of a Python file: uint8 [B, H, W, C] -> [B, D], or with logits [B, K] as a pair."""
    if not path.is_file():
        raise RecipeError(f"--features {path}: there is no such file")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise RecipeError(f"--features {path}: {type(error).__name__}: {error}") from error
    function = getattr(module, "features", None)
    if not callable(function):
        raise RecipeError(f"--features {path} must define a function `features` of images, uint8 [B, H, W, C]")
    return Features(path.stem, hashlib.sha256(path.read_bytes()).hexdigest(), function)
