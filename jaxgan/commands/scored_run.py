"""A run that is scored: during training, as an event, and at its end, its last state and its best.

The best checkpoint is chosen by the scores during training, of few samples. Its reported scores are those of other,
more samples, since the lowest of many distances is partly luck.
"""

import contextlib
import dataclasses
import itertools
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Any

import jax
import numpy as np
import tyro

import jaxgan
from jaxgan import GAN, GANState, evaluation
from jaxgan.commands import scoring
from jaxgan.commands.scorer import Scorer
from jaxgan.commands.scoring import ScorerOptions, scorer
from jaxgan.data import DataError
from jaxgan.evaluation.neighbours import neighbour_scores
from jaxgan.evaluation.scores import choice
from jaxgan.randomness import Purpose
from jaxgan.recipes.settings import Recipe
from jaxgan.run import Event, Options, RunError, Snapshot, checkpoint, processes, run, run_together
from jaxgan.run.metrics import SCORES, UNIT
from jaxgan.run.numerics import fixed_numerics, root_key
from jaxgan.run.screen import say, shown
from jaxgan.run.workdir import read_summary, write_json

COUNT = 2_000  # samples of a score during training


@dataclasses.dataclass(frozen=True)
class Scored:
    """How a run is scored."""

    evaluate_every: int | None = None
    """Steps between scores (by default 1,000, or a tenth of a longer run); 0 scores none, and not at the end either."""
    by: Annotated[ScorerOptions, tyro.conf.arg(name="")] = ScorerOptions()

    def every(self, recipe: Recipe) -> int:
        """Steps between scores; 0 for none, as by default of what are no images."""
        usual = max(1_000, recipe.steps // 10) if recipe.image_range else 0
        return usual if self.evaluate_every is None else self.evaluate_every


def run_scored(
    recipe: Recipe,
    workdir: str | os.PathLike[str],
    seed: int = 0,
    options: Options = Options(),
    accepted: Collection[str] = (),
    scored: Scored = Scored(),
) -> dict[str, Any]:
    """Trains as `jaxgan.run.run` does, whose arguments it takes, and scores as `scored` says.

    A finished run that has no such score yet is scored. Where a run cannot be scored, a line says why, and it goes on
    without scores: there are too few real images to compare with, say, or features of one's own raise an error.

    Returns:
      The summary, with the scores of the last state as `final`, and of the best scored one as `best`.

    Raises:
      Exception: those of `run`, and those of `scorer`.
    """
    workdir, every = Path(workdir), scored.every(recipe)
    if every < 0:
        raise RunError(f"--evaluate-every must be at least 1, or 0 for none, not {every}")
    if not every:
        return run(recipe, workdir, seed, options, accepted)
    by = scorer(recipe, options.data_dir, scored.by)
    summary = run(recipe.replace(events=(event(by, every), *recipe.events)), workdir, seed, options, accepted)
    with processes.exit_together(), processes.synchronized(), fixed_numerics():
        missing = processes.is_leader()
        with contextlib.suppress(DataError):
            missing = missing and not is_scored(summary, by)
        if missing:
            states, chosen_by = _states(recipe, workdir)
            _conclude(dataclasses.replace(by, track=shown), recipe.build(), workdir, states, chosen_by, summary)
    return read_summary(workdir)


def train_together(
    recipe: Recipe,
    workdirs: Mapping[int, Path],
    options: Options = Options(),
    scored: Scored = Scored(),
) -> dict[int, str]:
    """Trains several seeds as `jaxgan.run.run_together` does; they are scored on the way, but not at their end."""
    every = scored.every(recipe)
    events = (event(scorer(recipe, options.data_dir, scored.by), every),) if every else ()
    return run_together(recipe.replace(events=(*events, *recipe.events)), workdirs, options)


def event(by: Scorer, every: int) -> Event:
    """Scores the averaged generator during training, by `COUNT` samples of the same latents each time.

    Where that fails, a line says why, once, and the run goes on without scores at that step.
    """
    failures = itertools.count()

    def scores(snapshot: Snapshot) -> Mapping[str, float | str]:
        try:
            return _scores_at(by, snapshot)
        except Exception as error:
            if not next(failures):
                say(f"not scored: {_reason(error)}", "stderr")
            return {}

    return Event("evaluate", every, scores, SCORES)


def _reason(error: Exception) -> str:
    """What an error says, in one line; with its kind, where it is not written for a user."""
    text = (str(error).strip() or "no reason is given").splitlines()[0]
    return text if isinstance(error, ValueError) else f"{type(error).__name__}: {text}"


def is_scored(summary: Mapping[str, Any], by: Scorer) -> bool:
    """Whether a run's last state has been scored, in the way that is asked for.

    Raises:
      DataError: the real images cannot be had, or are too few.
    """
    final = summary.get("final")
    if final and by.conditions.pairs and "l1" not in final["scores"]:
        return False  # by an older version
    return bool(final) and not scoring.differences(final, scoring.kind(by, by.default_count()))


def _scores_at(by: Scorer, snapshot: Snapshot) -> Mapping[str, float | str]:
    """The scores that make curves, and what they are scored by. The others take longer, and are measured at the end."""
    key, state = jax.random.fold_in(snapshot.state.key, Purpose.SCORES), snapshot.state
    count = min(COUNT, len(by.real.images))
    images, labels = scoring.draw(by, snapshot.gan, state, key, count)
    found = by.conditions.distances(images) | ({} if by.not_by_features else _by_features(by, images, labels))
    return found | {UNIT: scoring.unit(scoring.kind(by, count))}


def _by_features(by: Scorer, images: np.ndarray, labels: np.ndarray | None) -> dict[str, float]:
    reference, samples = by.embed(by.real), evaluation.embed(by.features, images)
    found = {"frechet_distance": evaluation.frechet_distance(samples.features, reference.features)}
    found |= neighbour_scores(choice(reference.features, len(images)), samples.features)._asdict()
    if samples.probabilities is not None:
        found["inception_score"] = evaluation.inception_score(samples.probabilities).mean
        if labels is not None and by.real.classes == by.features.classes:
            found["label_agreement"] = evaluation.label_agreement(samples.probabilities, labels)
    return found


def _states(recipe: Recipe, workdir: Path) -> tuple[dict[str, GANState], str | None]:
    """The last checkpoint's state, and that of the best where the run was scored while it was trained; and by what."""
    like = jaxgan.init(recipe.build(), root_key(0))
    with contextlib.closing(checkpoint.open_folder(workdir / "checkpoints", read_only=True)) as checkpoints:
        states, best = {"final": checkpoint.restore(checkpoints, like)}, checkpoints.best()
        if best:
            states["best"] = checkpoint.restore(checkpoints, like, best=True)
    return states, best and best.score.unit


def _conclude(
    by: Scorer,
    gan: GAN,
    workdir: Path,
    states: Mapping[str, GANState],
    chosen_by: str | None,
    summary: Mapping[str, Any],
) -> None:
    """Scores the states, and adds what is found to summary.json: of the best also what it was chosen by."""
    say(f"scoring the {' and the '.join('last' if which == 'final' else which for which in states)} generator")
    found = {}
    try:
        count = by.default_count()
        if by.not_by_features:
            say(f"scored by targets alone: {by.not_by_features}", "stderr")
        for which, state in states.items():
            if which == "best" and int(state.step) == int(states["final"].step):
                found["best"] = found["final"]
                continue
            found[which] = scoring.score_state(by, gan, state, count)
            say(scoring.table(found[which]))
    except Exception as error:  # as in `event`
        say(f"no final scores: {_reason(error)}", "stderr")
    if not found:
        return
    if "best" in states:
        chosen = {name: value for name, value in summary.get("best", {}).items() if name in ("step", "value")}
        found["best"] = chosen | found.get("best", {}) | {"chosen_by": chosen_by}
    rest = {name: value for name, value in summary.items() if name not in ("final", "best")}
    write_json(workdir / "summary.json", rest | found)
