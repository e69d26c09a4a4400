"""Trains a recipe: `python -m experiments.train [RECIPE] [--steps N] …`, all flags with `--help`."""

import dataclasses
import re
import sys
from typing import Annotated

import tyro

from experiments import recipes
from experiments.cli import Cluster, fail, keep_programs, one_line_errors, parse
from jaxgan import run
from jaxgan.run import processes


@dataclasses.dataclass(frozen=True)
class Train:
    """Trains a GAN. Started again with the same flags, a run goes on where it stopped."""

    recipe: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="[RECIPE]")] = "digits"
    """One of the recipes of experiments/recipes.py; it decides the defaults below."""
    seed: int = 0
    """Of the root key: all randomness comes from it."""
    workdir: str | None = None
    """Where everything is written (by default runs/RECIPE, with the flags that make it another run)."""
    cluster: Annotated[Cluster, tyro.conf.OmitArgPrefixes, tyro.conf.arg(name="several processes")] = Cluster()
    options: Annotated[run.Options, tyro.conf.OmitArgPrefixes, tyro.conf.arg(name="run")] = run.Options()
    settings: Annotated[recipes.Recipe, tyro.conf.OmitArgPrefixes, tyro.conf.arg(name="recipe")] = recipes.get("digits")


class _Unchecked(recipes.Recipe):
    """Any values at all, since it is not known yet for which recipe they are meant."""

    def __post_init__(self):
        pass


def main() -> None:
    """Parses the flags, trains, and says where the results are."""
    flags = _parse(sys.argv[1:])
    if flags.workdir == "":
        fail("--workdir is empty; name a folder, or leave the flag away")
    workdir = flags.workdir or _default_workdir(flags)
    keep_programs()
    with one_line_errors():
        processes.join(**vars(flags.cluster))
        summary = run.run(flags.settings, workdir, flags.seed, flags.options)
    if not processes.is_leader():
        return
    print(
        f"step {summary['step']} reached; see {workdir}/samples.gif, {workdir}/losses.png and {workdir}/samples\n"
        f"more samples: python -m experiments.sample {workdir}"
    )


def _parse(args: list[str]) -> Train:
    """Parses twice: which recipe it is decides the other flags' defaults, and what --help says."""
    without_help = [arg for arg in args if arg not in ("-h", "--help")]
    any_recipe = Train(settings=_Unchecked(**vars(recipes.get("digits"))))
    name = parse(Train, "experiments.train", without_help, any_recipe).recipe
    try:
        default = Train(name, settings=recipes.get(name))
    except ValueError as error:
        fail(error)
    return parse(Train, "experiments.train", args, default)


def _default_workdir(flags: Train) -> str:
    """runs/RECIPE, and whatever else makes this another run than the recipe's own."""
    here = {"seed": flags.seed} | flags.settings.config()
    usual = {"seed": 0} | recipes.get(flags.recipe).config()
    changes = [f"{name}={value}" for name, value in here.items() if value != usual[name]]
    return "runs/" + re.sub(r"[^\w.=-]+", "_", "-".join([flags.recipe, *changes]))


if __name__ == "__main__":
    main()
