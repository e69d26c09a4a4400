"""A recipe by its name, by its file, or of a run. A recipe says what is trained, on what, and how.

Those of the package are in `systems` and `modern`, `pictures` for any pictures, and `points` for points in the plane;
games of another shape in a file each, as a recipe of one's own is; and all together in `RECIPES`.

A recipe of your own is a file that defines `RECIPE`: `python -m experiments.train my_idea.py` (docs/extending.md).
"""

import json
from pathlib import Path
from typing import Any

from jaxgan.recipes import bigan, cyclegan, infogan, pictures, pix2pix, user_files
from jaxgan.recipes.modern import MODERN
from jaxgan.recipes.points import POINTS
from jaxgan.recipes.settings import FORMAT, Recipe
from jaxgan.recipes.stylegan2 import STYLEGAN2
from jaxgan.recipes.systems import SYSTEMS

CHANGED = (
    "{file}, or a file that it imports, is not what the run began with, or an older version began it, and its numbers "
    "may be others; `accept_changed_file` takes it as it is"
)
GAMES = {game.RECIPE.name: game.RECIPE for game in (bigan, infogan, pix2pix, cyclegan)}
RECIPES = SYSTEMS | MODERN | STYLEGAN2 | {"pictures": pictures.RECIPE} | GAMES | POINTS


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
        known = f"{', '.join(RECIPES)}, or name a Python file that defines RECIPE"
        raise RecipeError(f"no recipe is named {name!r}; there are {known}")
    return RECIPES[name]


def load_file(path: Path) -> Recipe:
    """The `RECIPE` of a Python file, under the file's name. The file is run.

    What stands beside the file can be imported by it, and a relative path of another recipe's file is looked up there
    first. The recipe's `file_sha256` is that of `user_files.load`.

    Raises:
      RecipeError: there is no such file, or no recipe in it.
      Exception: what the file itself raises.
    """
    file = user_files.find(path)
    try:
        file.open().close()
    except OSError as error:
        why = f"cannot be read ({error.strerror}); name a Python file that defines RECIPE"
        raise RecipeError(f"{path} {why}") from error
    module, digest = user_files.load(file)
    recipe = getattr(module, "RECIPE", None)
    if not isinstance(recipe, Recipe):
        raise RecipeError(f"{path} must define RECIPE, a recipe such as recipes.get('digits').replace(…)")
    return recipe.replace(name=path.stem, file_sha256=digest)


def changed_since(config: dict[str, Any], recipe: Recipe) -> bool:
    """Whether the file of a recipe has changed since the run of that config began."""
    digest = config.get("recipe_file_sha256")
    return digest is not None and recipe.file_sha256 not in (None, digest)


def in_changed_file(recipe: Recipe) -> tuple[str, ...]:
    """The fields of a run's config that may differ after the recipe's file has been changed."""
    built = recipe.built_otherwise()
    return ("recipe_file_sha256", *built, *recipe.replaced_settings(built))


def of_run(workdir: Path, file: Path | None = None, accept_changed_file: bool = False) -> Recipe:
    """The recipe of a run, from the `config.json` in its folder.

    Where a Python file defines it, `file` is that one, as a workdir never makes code run by itself; with
    `accept_changed_file` it may be another than the run began with.

    Raises:
      RecipeError: the config cannot be read, or does not fit the recipe.
    """
    path = workdir / "config.json"
    try:
        config = json.loads(path.read_text())
        name, digest = str(config["recipe"]), config.get("recipe_file_sha256")
        is_newer = config.get("format", 1) > FORMAT
    except OSError as error:
        raise RecipeError(f"{path} cannot be read ({error.strerror}); make it readable") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RecipeError(f"{path} is not the config.json of a run; mend it, or name another workdir") from error
    if is_newer:
        raise RecipeError(f"{path} is of a newer version, whose format is {config['format']}; upgrade jaxgan")
    if digest and file is None:
        raise RecipeError(f"{workdir} is a run of {name}.py, a file of your own; name it with `recipe` FILE")
    if file and not digest:
        raise RecipeError(f"`recipe` {file}: {workdir} is a run of the package's own {name}; leave it away")
    recipe = load_file(file) if file else get(name)
    if changed_since(config, recipe) and not accept_changed_file:
        raise RecipeError(CHANGED.format(file=file))
    try:
        return recipe.with_config(config)
    except (ValueError, TypeError) as error:
        raise RecipeError(f"{path} does not fit {name}: {error}") from error
