"""A run that is scored: during training, as an event, and at its end, its last state and its best.

The best checkpoint is chosen by the scores during training, of few samples. What is reported of it is measured on
other, more samples, so that it is not the luck of the choice.
"""

import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import jax

import jaxgan
from experiments import scoring
from experiments.scoring import Yardstick
from experiments.settings import Recipe
from jaxgan import GAN, evaluation
from jaxgan.evaluation.neighbours import neighbour_scores
from jaxgan.evaluation.scores import choice
from jaxgan.gan import Purpose
from jaxgan.run import CheckpointError, Event, Moment, Options, RunError, checkpoint, processes, run
from jaxgan.run.numerics import fixed_numerics, root_key
from jaxgan.run.screen import say
from jaxgan.run.workdir import read_summary, write_json

EVERY = 1_000  # steps between scores, by default
COUNT = 2_000  # samples of each


def run_scored(
    recipe: Recipe,
    workdir: str | os.PathLike,
    seed: int = 0,
    options: Options = Options(),
    accepted: Collection[str] = (),
    every: int = EVERY,
) -> dict[str, Any]:
    """Trains as `jaxgan.run.run` does, and scores; a finished run that has not been scored yet is scored.

    Args:
      recipe: what to train.
      workdir: the run's folder.
      seed: of the root key.
      options: as in `run`.
      accepted: as in `run`.
      every: steps between scores during training; 0 scores neither then nor at the end.

    Returns:
      The summary, with the scores of the last state as `final`, and of the best scored one as `best`.

    Raises:
      Exception: those of `run`.
    """
    if every < 0:
        raise RunError(f"--evaluate-every must be at least 1, or 0 for none, not {every}")
    if not every:
        return run(recipe, workdir, seed, options, accepted)
    by = scoring.yardstick(recipe, options.data_dir)
    summary = run(recipe.replace(events=(*recipe.events, event(by, every))), workdir, seed, options, accepted)
    with processes.together():
        if processes.is_leader() and summary.get("final", {}).get("step") != summary["step"]:
            with fixed_numerics():
                summary |= _conclusion(recipe.build(), by, Path(workdir))
            write_json(Path(workdir) / "summary.json", summary)
    return read_summary(Path(workdir))


def event(by: Yardstick, every: int = EVERY) -> Event:
    """Scores the averaged generator during training, by `COUNT` samples of the same latents each time."""
    return Event("evaluate", every, lambda moment: _scores_at(by, moment))


def _scores_at(by: Yardstick, moment: Moment) -> Mapping[str, float]:
    """The scores that make curves. The others take longer, and are measured at the end."""
    state, (real, reference) = moment.state, by.real("test")
    key = jax.random.fold_in(state.key, Purpose.SCORES)
    images, labels = scoring.draw(moment.gan, state, key, min(COUNT, len(reference.features)), averaged=True)
    samples = evaluation.embed(by.features, images)
    distance = evaluation.frechet_distance(evaluation.moments(samples.features), evaluation.moments(reference.features))
    near = neighbour_scores(choice(reference.features, len(images)), samples.features)
    found = {"frechet_distance": distance, **near._asdict()}
    if samples.probabilities is not None:
        found["inception_score"] = evaluation.inception_score(samples.probabilities)[0]
        if labels is not None and real.classes == by.features.classes:
            found["label_agreement"] = evaluation.label_agreement(samples.probabilities, labels)
    return found


def _conclusion(gan: GAN, by: Yardstick, workdir: Path) -> dict[str, Any]:
    """The scores of the last checkpoint, and of the best where there is one."""
    say("scoring the last and the best generator")
    like, count = jaxgan.init(gan, root_key(0)), by.default_count()
    least, found = scoring.floor(by, count), {}
    for which in ("final", "best"):
        try:
            state = checkpoint.read(workdir / "checkpoints", like, best=which == "best")
        except CheckpointError:
            if which == "final":
                raise
            continue  # the run was not scored while it was trained
        step = int(state.step)
        if which == "best" and step == found["final"]["step"]:
            found["best"] = found["final"]
            continue
        images, labels = scoring.draw(gan, state, root_key(0), count, averaged=True)
        scores = scoring.score_samples(by, images, labels)
        found[which] = scoring.described(by, step, "averaged", 0, count, scores, least)
        say(scoring.table(found[which]))
    return found
