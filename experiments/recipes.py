"""A recipe by its name, by its file, or of a run. A recipe says what is trained, on what, and how.

Those of the package are in `systems` and `modern`, and all together in `RECIPES`.

A recipe of your own is a file that defines `RECIPE`: `python -m experiments.train my_idea.py` (docs/extending.md).
"""

import hashlib
import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

from experiments.modern import MODERN
from experiments.settings import FORMER, Recipe
from experiments.systems import SYSTEMS
from jaxgan import networks

CHANGED = (
    "{file}, or a file that it imports, has changed since the run began, and its numbers may be others; "
    "--accept-changed-file takes it as it is"
)
RECIPES = SYSTEMS | MODERN
FILE_MODULE = "recipe_file"  # the module that a recipe's file becomes


class RecipeError(ValueError):
    """A recipe that cannot be had; the message says why."""


def get(name: str) -> Recipe:
    """The recipe of that name, or of the file at that path: a name that ends in .py is a path.

    Raises:
      RecipeError: there is none.
    """
    if name.endswith(".py"):
        return load_file(Path(name))
    if name not in RECIPES:
        raise RecipeError(
            f"no recipe is named {name!r}; there are {', '.join(RECIPES)}, or name a Python file that defines RECIPE"
        )
    return RECIPES[name]


def load_file(path: Path) -> Recipe:
    """The `RECIPE` of a Python file, under the file's name. The file is run.

    What stands beside the file can be imported by it. The recipe's `file_sha256` is of the file, and of all that it
    has imported from its own folder.

    Raises:
      RecipeError: there is no such file, or no recipe in it.
      Exception: what the file itself raises.
    """
    try:
        source = path.read_bytes()
    except OSError as error:
        raise RecipeError(
            f"{path} cannot be read ({error.strerror}); name a Python file that defines RECIPE"
        ) from error
    folder = str(path.absolute().parent)
    if folder not in sys.path:
        sys.path.append(folder)
    spec = importlib.util.spec_from_file_location(FILE_MODULE, path.absolute())
    module = sys.modules[FILE_MODULE] = importlib.util.module_from_spec(spec)
    exec(compile(source, str(path.absolute()), "exec"), module.__dict__)  # what was read, no cached bytecode
    recipe = getattr(module, "RECIPE", None)
    if not isinstance(recipe, Recipe):
        raise RecipeError(f"{path} must define RECIPE, a recipe such as recipes.get('digits').replace(…)")
    digest = hashlib.sha256(source)
    for beside in sorted(_imported_from(path.absolute().parent)):
        digest.update(beside.read_bytes())
    return recipe.replace(name=path.stem, file_sha256=digest.hexdigest())


def _imported_from(folder: Path) -> set[Path]:
    """The files below a folder that have been imported as modules."""
    files = (Path(file) for module in list(sys.modules.values()) if (file := getattr(module, "__file__", None)))
    own = {file for file in files if file.suffix == ".py" and folder in file.parents}
    packages = {Path(__file__).parent, Path(networks.__file__).parents[1]}  # of this project, not of the recipe
    return {file for file in own if "site-packages" not in file.parts and packages.isdisjoint(file.parents)}


def changed_since(config: dict[str, Any], recipe: Recipe) -> bool:
    """Whether the file of a recipe has changed since the run of that config began."""
    digest = config.get("recipe_file_sha256")
    return digest is not None and recipe.file_sha256 not in (None, digest)


def of_run(workdir: Path, file: Path | None = None, accept_changed_file: bool = False) -> Recipe:
    """The recipe of a run, from its `config.json`.

    Args:
      workdir: the run's folder.
      file: the Python file that defines the recipe, where a file does; a workdir never makes code run by itself.
      accept_changed_file: whether that file may be another than the run began with.

    Raises:
      RecipeError: the config cannot be read, or does not fit the recipe.
    """
    path = workdir / "config.json"
    try:
        config = json.loads(path.read_text())
        name, digest = str(config["recipe"]), config.get("recipe_file_sha256")
    except OSError as error:
        raise RecipeError(f"{path} cannot be read ({error.strerror}); make it readable") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RecipeError(f"{path} is not the config.json of a run; mend it, or name another workdir") from error
    if digest and file is None:
        raise RecipeError(f"{workdir} is a run of {name}.py, a file of your own; name it with --recipe FILE")
    if file and not digest:
        raise RecipeError(f"--recipe {file}: {workdir} is a run of the package's own {name}; leave the flag away")
    for former, value in FORMER.items():
        if config.get(former, value) != value:
            raise RecipeError(
                f"{path} says {former}, which is no setting any more; for canton_lsgan with subpixel, write "
                f'"recipe": "canton_lsgan_subpixel" there and take the line of {former} away'
            )
    recipe = load_file(file) if file else get(name)
    if changed_since(config, recipe) and not accept_changed_file:
        raise RecipeError(CHANGED.format(file=file))
    try:
        return recipe.with_config(config)
    except (ValueError, TypeError) as error:
        raise RecipeError(f"{path} does not fit {name}: {error}") from error
