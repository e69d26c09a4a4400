"""Scores the images of a trained generator: `python -m experiments.evaluate WORKDIR [--weights best] …`."""

import dataclasses
import time
from pathlib import Path
from typing import Annotated

import tyro

from jaxgan import recipes
from jaxgan.commands import scoring
from jaxgan.commands.cli import check_json, fail, keep_programs, one_line_errors, parse
from jaxgan.commands.feature_files import choose
from jaxgan.commands.finished import Weights, check_seed, check_workdir, read_state
from jaxgan.run.numerics import fixed_numerics, start_devices
from jaxgan.run.screen import say
from jaxgan.run.workdir import read_config, write_json


@dataclasses.dataclass(frozen=True)
class Evaluate:
    """Scores samples of a run's newest checkpoint, or of its best, against real images, beside the floor."""

    workdir: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="WORKDIR")]
    """The run's folder."""
    count: int | None = None
    """How many samples (by default 10,000, or as many as there are real images for the floor)."""
    seed: int = 0
    """Decides the samples' latents."""
    weights: Weights = "averaged"
    """Which generator: the average over training, the one of the last step, or the average at the best score."""
    reference: scoring.Split = "test"
    """The real images that samples are compared with; those of the other split make the floor."""
    features: str | None = None
    """A classifier of the package, inception, or a Python file that defines `features` (by default the data's own)."""
    inception_weights: str | None = None
    """The file of InceptionV3's weights, for --features inception (by default looked for where others keep it)."""
    json: Path | None = None
    """Where to save the scores, with all that they depend on."""
    data_dir: str | None = None
    """Where TensorFlow Datasets keeps its data (by default ~/tensorflow_datasets)."""
    data: str | None = None
    """Where the run's data is now (by default where it was)."""
    recipe: Path | None = None
    """The Python file that defines the run's recipe, where a file of yours does."""
    accept_changed_file: bool = False
    """Take that file as it is, though it has been changed since the run began."""
    traceback: bool = False
    """Show the whole traceback of an error."""


def main(args: list[str] | None = None) -> None:
    """Parses the flags, draws samples, scores them, and says how they do."""
    flags = parse(Evaluate, "experiments.evaluate", args)
    _check(flags)
    begin = time.perf_counter()
    with one_line_errors(flags.traceback), fixed_numerics():
        start_devices()
        recipe = recipes.of_run(flags.workdir, flags.recipe, flags.accept_changed_file)
        recipe = recipe.replace(data=flags.data) if flags.data else recipe
        gan = recipe.build()
        keep_programs()
        state = read_state(flags.workdir, gan, flags.weights)
        features = choose(flags.features, flags.inception_weights)
        by = scoring.yardstick(recipe, flags.data_dir, flags.reference, features, scoring.shown)
        config = read_config(flags.workdir)
        known = config.get("data_sha256")
        if known is not None and by.trained.known_as() != known:
            fail(f"{by.trained.data} does not hold the images of this run; --data says where they are now")
        count = flags.count or by.default_count()
        say(f"drawing {count:,} samples")
        try:
            found = scoring.score_state(by, gan, state, count, by.floor(count), flags.weights, flags.seed)
        except ValueError as error:
            fail(error)
        found = {"recipe": recipe.name, "run_seed": config.get("seed"), **found}
        say(scoring.table(found))
        if flags.json:
            write_json(flags.json, found)
    say(f"{time.perf_counter() - begin:.1f} s" + (f"; {flags.json}" if flags.json else ""))


def _check(flags: Evaluate) -> None:
    """Ends the program where the flags are wrong."""
    if flags.count is not None and flags.count < scoring.LEAST:
        fail(f"--count must be at least {scoring.LEAST}, not {flags.count}")
    check_seed(flags.seed)
    check_json(flags.json)
    check_workdir(flags.workdir)


if __name__ == "__main__":
    main()
