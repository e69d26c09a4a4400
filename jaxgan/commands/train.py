"""Trains a recipe: `python -m experiments.train [RECIPE] [--steps N] …`, all flags with `--help`."""

import contextlib
import dataclasses
import re
import shlex
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any, get_args

import jax
import tyro
from tyro.conf import OmitArgPrefixes, arg
from tyro.constructors import ConstructorRegistry, StructConstructorSpec, StructFieldSpec, StructTypeInfo

from jaxgan import recipes
from jaxgan.commands.cli import Cluster, keep_programs, one_line_errors, parse, run_script
from jaxgan.commands.scored_run import Scored, run_scored
from jaxgan.data import DataError
from jaxgan.recipes import RecipeError
from jaxgan.recipes.description import describe, is_plain
from jaxgan.recipes.fields import plain_kind
from jaxgan.recipes.groups import GROUPS
from jaxgan.recipes.settings import Recipe
from jaxgan.run import Options, processes
from jaxgan.run.screen import say
from jaxgan.run.workdir import read_config

DEFAULT = "digits_conditional"
Settings = Annotated[Recipe, OmitArgPrefixes, arg(name="")]  # a script's flags for them: see `_plain_settings`
TITLES = {"source": "data", "optimization": "optimiser"}  # of groups, in --help, where they are not their names


@dataclasses.dataclass(frozen=True)
class Train:
    """Trains a GAN. Started again with the same flags, a run goes on where it stopped."""

    recipe: Annotated[str, tyro.conf.Positional, arg(metavar="[RECIPE]")] = DEFAULT
    """One of the recipes below, or a Python file that defines RECIPE; it decides the defaults, and comes first."""
    seed: int = 0
    """Of the root key: all randomness comes from it."""
    workdir: str | None = None
    """Where everything is written (by default runs/RECIPE, with the flags that make it another run)."""
    accept_changed_file: bool = False
    """Go on with a run whose recipe's file has been changed since."""
    traceback: bool = False
    """Show the whole traceback of an error."""
    cluster: Annotated[Cluster, OmitArgPrefixes, arg(name="several processes")] = Cluster()
    options: Annotated[Options, OmitArgPrefixes, arg(name="run")] = Options()
    scored: Annotated[Scored, OmitArgPrefixes, arg(name="scores")] = Scored()
    settings: Settings = recipes.RECIPES[DEFAULT]


def main(args: list[str] | None = None) -> None:
    """Parses the flags, trains, and says where the results are."""
    args = sys.argv[1:] if args is None else args
    with one_line_errors("--traceback" in args):
        keep_programs()
        # Processes join before a user's file is run, as it may use devices, and after the flags are known to be right.
        is_file = _name(args).endswith(".py")
        found = None if is_file else read_flags(Train, "experiments.train", args)
        if not (is_file and {"-h", "--help"} & {*args}):
            of_any = _plain_settings(recipes.RECIPES["digits"])  # which has all flags
            flags = found[0] if found else parse(Train, "experiments.train", args, registry=of_any)
            processes.join(**vars(flags.cluster))
        together = processes.synchronized() if jax.distributed.is_initialized() else contextlib.nullcontext()
        with processes.exit_together(), together:
            flags, recipe, chosen = found or read_flags(Train, "experiments.train", args)
            name, workdir = flags.recipe, flags.workdir or f"runs/{folder_name(chosen, recipe, flags.seed)}"
            config = read_config(Path(workdir))
            if not flags.accept_changed_file and recipes.changed_since(config, chosen):
                raise RecipeError(recipes.CHANGED.format(file=name))
            accepted = recipes.in_changed_file(chosen) if flags.accept_changed_file else ()
            chosen = for_data(chosen, recipe, flags.options.data_dir, given(args))
        summary = run_scored(chosen, workdir, flags.seed, flags.options, accepted, flags.scored)
    if not processes.is_leader():
        return
    file = f" --recipe {shlex.quote(name)}" if recipe.file_sha256 else ""
    if recipe.condition and flags.options.data_dir:  # where the conditions are
        file += f" --data-dir {shlex.quote(flags.options.data_dir)}"
    say(
        f"step {summary['step']} reached; see {workdir}/samples.gif, {workdir}/losses.png and {workdir}/samples\n"
        f"more samples: {'jaxgan sample' if sys.argv[0].startswith('jaxgan') else 'python -m experiments.sample'} "
        f"{shlex.quote(workdir)}{file}"
    )


def _name(args: list[str]) -> str:
    """The recipe that is asked for: it comes first, since it decides the defaults of the flags."""
    return args[0] if args and not args[0].startswith("-") else DEFAULT


def read_flags(script: type, module: str, args: list[str]) -> tuple[Any, Recipe, Recipe]:
    """Parses the flags of a script that trains a recipe, whose module's name is `module`.

    `script` has its own flags, `recipe` among them, and its docstring is what `--help` says first. In `args` the recipe
    comes first, since it decides the defaults of the others.

    Returns:
      The flags, the recipe that is named, and the recipe with the settings that the flags give.

    Raises:
      RecipeError: a flag does not fit the recipe.
    """
    name = _name(args)
    recipe = recipes.get(name)
    _check_plain(recipe, args)
    width = max(map(len, recipes.RECIPES))
    about = [f"  {name:<{width}}  {recipe.about}" for name, recipe in recipes.RECIPES.items()]
    description = "\n".join([script.__doc__ or "", "", "Recipes:", *about])
    flags = parse(script, module, args, description=description, registry=_plain_settings(recipe))
    if flags.recipe != name:
        raise RecipeError(f"the recipe comes first: python -m {module} {flags.recipe} …")
    if getattr(flags, "workdir", None) == "":
        raise RecipeError("--workdir is empty; name a folder, or leave the flag away")
    given = {name: value for group in flags.settings.values() for name, value in group.items()}
    changed = {name: value for name, value in given.items() if value != getattr(recipe, name)}
    try:
        chosen = recipe.replace(**changed)
        _ = chosen.freeze_disc and chosen.build()  # which knows how many layers there are
    except ValueError as error:
        raise RecipeError(error) from error
    for setting, value in changed.items():
        if why := chosen.without_effect(setting, getattr(recipe, setting)):
            raise RecipeError(f"{_flag(setting)} {value} has no effect in {recipe.name}: {why}; leave it away")
    return flags, recipe, chosen


def _flag(setting: str) -> str:
    return f"--{setting.replace('_', '-')}"


def given(args: Collection[str]) -> set[str]:
    """The settings that are given on a command line, by name."""
    flags = (arg.partition("=")[0] for arg in args if arg.startswith("--"))
    return {flag.removeprefix("--").removeprefix("no-").replace("-", "_") for flag in flags}


def for_data(recipe: Recipe, usual: Recipe, data_dir: str | None, said: Collection[str]) -> Recipe:
    """A recipe as the flags make it, with as many classes as its data have, if these are not those of `usual`.

    One that follows its data gets all that the flags have not `said`.

    Raises:
      DataError: the data cannot be had, or have no labels.
      RecipeError: the networks cannot have another number of classes, or have no such size.
    """
    if recipe.by_data:
        try:
            return recipe.by_data(recipe, data_dir, said)
        except ValueError as error:
            raise error if isinstance(error, DataError) else RecipeError(error) from error
    if not recipe.classes or recipe.data == usual.data:
        return recipe
    found = recipe.open_data(data_dir)
    if not found.classes:
        note = f" ({found.labels_note})" if found.labels_note else ""
        raise DataError(
            f"{found.name} has no labels{note}, and {recipe.name} has {recipe.classes} classes; a recipe for any "
            f"pictures takes them: python -m experiments.train pictures --data {shlex.quote(str(recipe.data))}"
        )
    try:
        return recipe.with_classes(len(found.classes))
    except ValueError as error:
        raise recipes.RecipeError(f"{found.name} has {len(found.classes)} classes: {error}") from error


def _check_plain(recipe: Recipe, args: list[str]) -> None:
    """Refuses the flag of a setting that is an object in this recipe, for which there is no such flag."""
    said = given(args)
    for field in (field for kind in GROUPS.values() for field in dataclasses.fields(kind)):
        flag, value = _flag(field.name), getattr(recipe, field.name)
        if field.name in said and not is_plain(value):
            kind = "a schedule" if float in get_args(field.type) else "no plain value"
            raise RecipeError(
                f"{flag}: in {recipe.name} it is {kind}, {describe(value)}; change it in a recipe file of your own"
            )


def _plain_settings(recipe: Recipe) -> ConstructorRegistry:
    """How tyro is to read a recipe: as flags for its plain settings, with their values; it gives a dict of dicts."""
    registry = ConstructorRegistry()

    @registry.struct_rule
    def of(info: StructTypeInfo) -> StructConstructorSpec | None:
        if info.type is Recipe:
            titled: dict[str, Any] = {
                group: Annotated[kind, arg(name=TITLES.get(group, group))] for group, kind in GROUPS.items()
            }
            fields = [StructFieldSpec(group, kind, getattr(recipe, group)) for group, kind in titled.items()]
        elif info.type in GROUPS.values():
            fields = [
                StructFieldSpec(field.name, plain_kind(field), value, field.metadata["help"])
                for field in dataclasses.fields(info.type)
                if field.metadata["help"] and is_plain(value := getattr(info.default, field.name))
            ]
        else:
            return None
        return StructConstructorSpec(dict, tuple(fields))

    return registry


def folder_name(recipe: Recipe, usual: Recipe, seed: int = 0) -> str:
    """RECIPE, and whatever else makes this another run than the recipe's own; networks follow from their settings."""
    here, there = {"seed": seed} | recipe.config(), {"seed": 0} | usual.config()
    changed = [name for name in here if here[name] != there[name] and name not in ("gen", "disc")]
    changes = [f"{name}={here[name]}" for name in changed]
    return re.sub(r"[^\w.=-]+", "_", "-".join([recipe.name, *changes]))


if __name__ == "__main__":
    run_script(main)
