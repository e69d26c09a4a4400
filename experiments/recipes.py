"""All recipes of the package, in one table. A recipe says what is trained, on what, and how.

A recipe of your own is a file that defines `RECIPE`: `python -m experiments.train my_idea.py` (docs/extending.md).
"""

import hashlib
import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

from experiments.groups import Data, Objective, Optimization, Schedule
from experiments.settings import FORMER, Recipe
from jaxgan import networks

CHANGED = (
    "{file}, or a file that it imports, has changed since the run began, and its numbers may be others; "
    "--accept-changed-file takes it as it is"
)
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


_SYSTEMS = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            name="digits",
            about="a small DCGAN on the embedded handwritten digits; a minute on two cores",
            gen=networks.DigitsGen(),
            disc=networks.DigitsDisc(),
            source=Data(batch_size=64),
            objective=Objective(z_size=64),
            optimization=Optimization(gen_learning_rate=2e-3, disc_learning_rate=1e-3, beta1=0.0),
            schedule=Schedule(steps=3000),
        ),
        Recipe(
            name="keras_dcgan",
            about='"Fast DCGAN in Keras": both networks from one pass, CIFAR-10',
            gen=networks.KerasDCGANGen(),
            disc=networks.KerasDCGANDisc(),
            source=Data(data="cifar10", batch_size=32),
            objective=Objective(real_label=0.9),
            optimization=Optimization(beta1=0.2),
            schedule=Schedule(steps=40_000),
        ),
        Recipe(
            name="keras_mnist",
            about='"GAN by Example using Keras on Tensorflow Backend", MNIST',
            gen=networks.KerasMNISTGen(),
            disc=networks.KerasMNISTDisc(),
            image_range=(0.0, 1.0),
            source=Data(data="mnist", batch_size=256),
            objective=Objective(prior="uniform", disc_loss_scale=0.5),
            optimization=Optimization(
                optimizer="rmsprop",
                gen_learning_rate=4e-4,
                disc_learning_rate=8e-4,
                gen_time_decay=3e-8,
                disc_time_decay=6e-8,
                beta1=0.0,
                beta2=0.9,
                clip=1.0,
            ),
            schedule=Schedule(steps=10_000, update="alternating"),
        ),
        Recipe(
            name="canton_lsgan",
            about='"Fast LSGAN in Canton", CIFAR-10',
            gen=networks.CantonLSGANGen(),
            disc=networks.CantonLSGANDisc(),
            source=Data(data="cifar10", batch_size=32),
            objective=Objective(loss="least_squares", gen_l2=1e-7, instance_noise=0.1, instance_noise_decay=0.999),
            optimization=Optimization(beta1=0.5),
            schedule=Schedule(steps=40_000),
        ),
        Recipe(
            name="tf2_gan",
            about='"GAN and DCGAN in Tensorflow", first half: dense networks, MNIST',
            gen=networks.TF2GANGen(),
            disc=networks.TF2GANDisc(),
            source=Data(data="mnist"),
            objective=Objective(disc_loss_scale=0.5),
            optimization=Optimization(gen_learning_rate=2e-4, disc_learning_rate=2e-4, beta1=0.5),
            schedule=Schedule(steps=2_220),
        ),
        Recipe(
            name="tf2_dcgan",
            about='"GAN and DCGAN in Tensorflow", second half: a DCGAN, MNIST',
            gen=networks.TF2DCGANGen(),
            disc=networks.TF2DCGANDisc(),
            source=Data(data="mnist"),
            objective=Objective(disc_loss_scale=0.5),
            schedule=Schedule(steps=20_000),
        ),
        Recipe(
            name="gan_elements",
            about='"The Elements of GANs, Part 1", MNIST at 32x32',
            gen=networks.GANElementsGen(),
            disc=networks.GANElementsDisc(),
            source=Data(data="mnist", split="train+test", border=2, batch_size=32),
            objective=Objective(z_size=64),
            optimization=Optimization(beta1=0.5, beta2=0.9),
            schedule=Schedule(steps=4_000, update="alternating"),
        ),
    )
}

_VARIANTS = (
    _SYSTEMS["digits"].replace(
        name="digits_conditional",
        about="digits with labels: a row of each class",
        gen=networks.DigitsGen(classes=10),
        disc=networks.DigitsDisc(classes=10),
        classes=10,
    ),
    _SYSTEMS["canton_lsgan"].replace(
        name="canton_lsgan_subpixel",
        about="canton_lsgan, enlarging by sub-pixel convolutions (ESPCN), which its document recommends",
        gen=networks.CantonLSGANGen(subpixel=True),
    ),
)

RECIPES = _SYSTEMS | {recipe.name: recipe for recipe in _VARIANTS}
