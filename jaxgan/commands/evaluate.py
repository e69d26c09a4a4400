"""Scores the images of a trained generator: `python -m experiments.evaluate WORKDIR [--weights best] …`."""

import dataclasses
import time
from pathlib import Path
from typing import Annotated

import tyro

from jaxgan.commands import scoring
from jaxgan.commands.cli import check_json, fail, one_line_errors, parse
from jaxgan.commands.trained import Trained, check, check_data, load
from jaxgan.run.numerics import fixed_numerics
from jaxgan.run.screen import say, shown
from jaxgan.run.workdir import read_config, write_json


@dataclasses.dataclass(frozen=True)
class Evaluate:
    """Scores samples of a run's newest checkpoint, or of its best, against real images, beside the floor."""

    run: Annotated[Trained, tyro.conf.OmitArgPrefixes, tyro.conf.arg(name="run")]
    scores: Annotated[scoring.ScorerOptions, tyro.conf.OmitArgPrefixes, tyro.conf.arg(name="scores")] = (
        scoring.ScorerOptions()
    )
    count: int | None = None
    """How many samples (by default 10,000, or as many as there are real images for the floor)."""
    json: Path | None = None
    """Where to save the scores, with all that they depend on."""


def main(args: list[str] | None = None) -> None:
    """Parses the flags, draws samples, scores them, and says how they do."""
    flags = parse(Evaluate, "experiments.evaluate", args)
    if flags.count is not None and flags.count < scoring.LEAST:
        fail(f"--count must be at least {scoring.LEAST}, not {flags.count}")
    check_json(flags.json)
    check(flags.run)
    begin = time.perf_counter()
    with one_line_errors(flags.run.traceback), fixed_numerics():
        recipe, gan, state = load(flags.run)
        scorer = scoring.scorer(recipe, flags.run.data_dir, flags.scores, shown)
        check_data(flags.run, scorer.trained.data, scorer.trained.known_as)
        count = flags.count or scorer.default_count()
        if scorer.not_by_features:
            say(f"scored by targets alone: {scorer.not_by_features}", "stderr")
        say(f"drawing {count:,} samples")
        try:
            found = scoring.score_state(scorer, gan, state, count, flags.run.weights, flags.run.seed)
        except ValueError as error:
            fail(error)
        found = {"recipe": recipe.name, "run_seed": read_config(flags.run.workdir).get("seed"), **found}
        say(scoring.table(found))
        if flags.json:
            write_json(flags.json, found)
    say(f"{time.perf_counter() - begin:.1f} s" + (f"; {flags.json}" if flags.json else ""))
