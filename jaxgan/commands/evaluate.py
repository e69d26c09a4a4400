"""Scores a trained generator, or any pictures: `python -m experiments.evaluate WORKDIR [--weights best] …`."""

import dataclasses
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from jaxgan.commands import pictures, scoring
from jaxgan.commands.cli import check_file, check_json, fail, keep_programs, one_line_errors, parse
from jaxgan.commands.feature_files import choose
from jaxgan.commands.nearest_sheet import sheet
from jaxgan.commands.real_images import LEAST
from jaxgan.commands.scorer import Scorer
from jaxgan.commands.trained import Trained, check, check_data, load
from jaxgan.images import save_png
from jaxgan.run.numerics import fixed_numerics, root_key, start_devices
from jaxgan.run.screen import say, shown
from jaxgan.run.workdir import read_config, write_json

OF_RUNS = ("seed", "weights", "data", "recipe", "accept_changed_file")  # flags that mean nothing of pictures


@dataclasses.dataclass(frozen=True)
class Evaluate:
    """Scores samples of a run's newest checkpoint, or of its best, against real images, beside the floor.

    Or, without a WORKDIR, scores any pictures: --samples A --against B.
    """

    run: Annotated[Trained, tyro.conf.OmitArgPrefixes, tyro.conf.arg(name="run")] = Trained()
    scores: Annotated[scoring.ScorerOptions, tyro.conf.OmitArgPrefixes, tyro.conf.arg(name="scores")] = (
        scoring.ScorerOptions()
    )
    samples: str | None = None
    """Pictures to score, in place of a run's: folder:PATH, or an .npz file with `images`, as of experiments.sample."""
    against: str | None = None
    """The real pictures that --samples are compared with: an .npz file, or as --data of experiments.train."""
    floor: bool = True
    """Halve --against, where it is in one piece: one half is compared with, the other makes the floor."""
    count: int | None = None
    """How many samples (by default 10,000, or as many as there are real images for the floor, or of --samples)."""
    json: Path | None = None
    """Where to save the scores, with all that they depend on."""
    nearest: Path | None = None
    """Where to save a picture of some samples, as PNG, each beside the training pictures nearest to it."""


def main(args: list[str] | None = None) -> None:
    """Parses the flags, draws or reads samples, scores them, and says how they do."""
    flags = parse(Evaluate, "experiments.evaluate", args)
    _check(flags)
    begin = time.perf_counter()
    with one_line_errors(flags.run.traceback), fixed_numerics():
        by, of, images, labels = _pictures(flags) if flags.samples else _drawn(flags)
        try:
            seen = None if by.not_by_features else by.see(images)
            found = of | scoring.score_images(by, images, labels, seen)
        except ValueError as error:
            fail(error)
        say(scoring.table(found))
        if flags.json:
            write_json(flags.json, found)
        if flags.nearest and seen:
            save_png(flags.nearest, sheet(by, images, seen))
    files = "".join(f"; {path}" for path in (flags.json, flags.nearest) if path)
    say(f"{time.perf_counter() - begin:.1f} s{files}")


def _check(flags: Evaluate) -> None:
    """Ends the program where a flag is wrong, or means nothing beside the others."""
    if flags.count is not None and flags.count < LEAST:
        fail(f"--count must be at least {LEAST}, not {flags.count}")
    check_json(flags.json)
    check_file("--nearest", flags.nearest, ".png")
    if bool(flags.run.folder) == bool(flags.samples or flags.against):
        fail("name either the WORKDIR of a run of experiments.train, or pictures: --samples A --against B")
    if flags.run.folder:
        if not flags.floor:
            fail("--no-floor belongs to --samples")
        return check(flags.run)
    if not (flags.samples and flags.against):
        fail("--samples and --against belong together: the pictures to score, and the real ones")
    for name in OF_RUNS:
        if getattr(flags.run, name) != getattr(Trained(), name):
            fail(f"--{name.replace('_', '-')} belongs to a run, and --samples are pictures")


Scored = tuple[Scorer, dict[str, Any], np.ndarray, np.ndarray | None]  # by what, of what, the images, their labels


def _drawn(flags: Evaluate) -> Scored:
    """Samples of a run's generator."""
    recipe, gan, state = load(flags.run)
    by = scoring.scorer(recipe, flags.run.data_dir, flags.scores, shown)
    check_data(flags.run, by.trained.data, by.trained.known_as)
    count = flags.count or by.default_count()
    if by.not_by_features and flags.nearest:
        fail(f"--nearest {flags.nearest} goes by features, and there are none: {by.not_by_features}")
    if by.not_by_features:
        say(f"scored by targets alone: {by.not_by_features}", "stderr")
    say(f"drawing {count:,} samples")
    of = {"recipe": recipe.name, "run_seed": read_config(flags.run.workdir).get("seed")}
    weights, seed = flags.run.weights, flags.run.seed
    images, labels = scoring.draw(by, gan, state, root_key(seed), count, weights != "last")
    return by, of | scoring.of_state(state, weights, count, seed), images, labels


def _pictures(flags: Evaluate) -> Scored:
    """The pictures of `--samples`."""
    start_devices()
    keep_programs()
    name, against, where = str(flags.samples), str(flags.against), flags.run.data_dir
    samples, real = pictures.opened(name, where), pictures.opened(against, where)
    if several := pictures.splits(name, where):
        fail(f"--samples {name} has the splits {', '.join(several)}; name one set of pictures, a folder or an .npz")
    pictures.check_alike(samples, real)
    few = samples if samples.size < LEAST else real
    if few.size < LEAST:
        fail(f"{few.name}: {few.size} pictures are too few to be compared; {LEAST} are needed")
    if flags.count and flags.count > samples.size:
        fail(f"--count {flags.count}: {name} has {samples.size:,} pictures")
    of_real = pictures.Pictures(against, classes=len(real.classes) * (samples.classes == real.classes))
    apart = of_real.keeps_apart(where)
    if apart and not flags.floor:
        fail(f"--no-floor: {against} has the splits train and test, and --reference says which is compared with")
    whole = not apart and (not flags.floor or real.size < 2 * LEAST)
    if whole and flags.scores.reference == "train":
        fail(f"--reference train: there is no floor, and all of {against} is compared with")
    if whole and flags.floor:
        say(f"note: the {real.size} pictures of {against} are too few to be halved, and there is no floor")
    data = None if pictures.is_npz(against) else against
    features = choose(flags.scores.features, flags.scores.inception_weights, data)
    by = Scorer(of_real, features, flags.scores.reference, where, shown, whole)
    count = flags.count or min(by.default_count(), samples.size)
    chosen = pictures.chosen(samples, count)
    of = {"samples": {"data": name, "count": samples.size, "sha256": chosen.sha256()}}
    return by, of, chosen.images, chosen.labels if of_real.classes else None
