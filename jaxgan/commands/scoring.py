"""How runs are scored: against which real images, with which features, and what is written of it.

A score is a dict that says all it depends on, so that two can be compared, or are refused to be:

    step, weights          which generator it is of
    samples                or which pictures: data, count, and the SHA-256 of those that were taken
    count, seed            how many samples, and what decides their latents
    features               the name and the SHA-256
    version                of how scores are computed
    reference              the real images: data, split, count, SHA-256
    scores, floor          by name, as in `jaxgan.evaluation`; the floor is that of as many held-out real images, with
                           the share of these that are copies of training images, `duplicates`

Of a GAN with a condition, samples are made of held-out conditions. Where these have targets of their own, the distances
to them are scores besides; and the only ones of data that no features can compare.
"""

import dataclasses
from typing import Any

import jax
import numpy as np

import jaxgan
from jaxgan import GAN, GANState
from jaxgan.commands.feature_files import choose
from jaxgan.commands.real_images import without_border
from jaxgan.commands.scorer import VERSION, Scorer, Split
from jaxgan.evaluation.features import Embedded, Track, untracked
from jaxgan.evaluation.scores import HIGHER, LOWER
from jaxgan.recipes.settings import Recipe
from jaxgan.run.numerics import root_key
from jaxgan.sampling import sample_labels


@dataclasses.dataclass(frozen=True)
class ScorerOptions:
    """What samples are scored by."""

    reference: Split = "test"
    """The real images that samples are compared with; those of the other split make the floor."""
    features: str | None = None
    """A classifier of the package, inception, or a Python file that defines `features` (by default the data's own)."""
    inception_weights: str | None = None
    """The file of InceptionV3's weights, for --features inception (by default looked for where others keep it)."""


def scorer(
    recipe: Recipe,
    data_dir: str | None = None,
    options: ScorerOptions = ScorerOptions(),
    track: Track = untracked,
) -> Scorer:
    """What scores a recipe's runs, of data in `data_dir`.

    Raises:
      Exception: those of `features.choose`.
    """
    features = choose(options.features, options.inception_weights, recipe.data)
    return Scorer(recipe, features, options.reference, data_dir, track)


def draw(
    by: Scorer, gan: GAN, state: GANState, key: jax.Array, count: int, averaged: bool = True
) -> tuple[np.ndarray, np.ndarray | None]:
    """Samples, uint8 [count, H, W, C], without the recipe's border; and the labels that they were asked for."""
    given = by.conditions.given(count)
    labels = given.labels if given else sample_labels(gan, key, count)
    images = np.asarray(jaxgan.sample(gan, state, key, count, averaged, labels=labels))
    return without_border(by.recipe, images), None if labels is None or given else np.asarray(labels)


def score_state(
    scorer: Scorer, gan: GAN, state: GANState, count: int, weights: str = "averaged", seed: int = 0
) -> dict[str, Any]:
    """The score of `count` samples of a state's generator, with all that it depends on and its floor.

    `weights` is `last`, or what else the averaged generator is called; `seed` decides the samples' latents.

    Raises:
      Exception: those of `Scorer.score`.
    """
    images, labels = draw(scorer, gan, state, root_key(seed), count, weights != "last")
    return of_state(state, weights, count, seed) | score_images(scorer, images, labels)


def of_state(state: GANState, weights: str, count: int, seed: int) -> dict[str, Any]:
    """Which samples of which generator a score is of."""
    return {"step": int(state.step), "weights": weights, "count": count, "seed": seed}


def score_images(
    scorer: Scorer, images: np.ndarray, labels: np.ndarray | None = None, seen: Embedded | None = None
) -> dict[str, Any]:
    """The score of images, with what it can be compared by and its floor; of the arguments of `Scorer.score`.

    Raises:
      Exception: those of `Scorer.score`.
    """
    scores = scorer.score(images, labels, seen)
    return kind(scorer, len(images)) | {"scores": scores, "floor": scorer.floor(len(images))}


def kind(scorer: Scorer, count: int) -> dict[str, Any]:
    """What two scores must have in common to be compared: `differences` looks at it."""
    features, real = scorer.features, scorer.real
    name, digest = ("none", "") if scorer.not_by_features else (features.name, features.sha256)
    return {
        "count": count,
        "features": {"name": name, "sha256": digest},
        "reference": {"data": real.data, "split": real.split, "count": len(real.images), "sha256": real.sha256},
        "version": VERSION,
    }


def unit(kind: dict[str, Any]) -> str:
    """What `kind` gives as text, the same for scores that may be compared, wherever their data and features lie."""
    reference = kind["reference"]
    against = f"{reference['count']:,} real images ({reference['sha256'][:8]})"
    return f"{kind['count']:,} samples, {seen_with(kind['features'])}, {against}, version {kind['version']}"


def seen_with(features: dict[str, str]) -> str:
    """The features of a score as text."""
    return f"features {features['name']}" + (f" ({features['sha256'][:8]})" if features["sha256"] else "")


def differences(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """Why two scores must not be compared, as text; nothing where they may be.

    They may be where the latents' seeds or the weights differ: those say which samples, and of what they are.
    """

    def fields(score: dict[str, Any]) -> dict[str, tuple[Any, Any]]:  # what is compared, and what is shown of it
        features, reference = (score["features"]["name"], score["features"]["sha256"][:8]), score["reference"]
        return {
            "samples": (score["count"], score["count"]),
            "features": (features, features),
            "reference": (reference.get("sha256"), tuple(str(value)[:12] for value in reference.values())),
            "version": (score.get("version", 1), score.get("version", 1)),  # older scores do not say it
        }

    both = zip(fields(one).items(), fields(other).values(), strict=True)
    return [f"{name}: {shown} and {its}" for (name, (a, shown)), (b, its) in both if a != b]


def of_floor(least: dict[str, Any]) -> str:
    """What a floor is of."""
    return f"the floor is of {least['count']:,} other real images" if least["count"] else "there is no floor"


def duplicates(least: dict[str, Any]) -> list[str]:
    """A line on how many held-out images are copies of training images, where any are."""
    share = least.get("duplicates") or 0
    return [f"{share:.2%} of the held-out real images are copies of training images"] if share else []


def table(score: dict[str, Any]) -> str:
    """A score as lines of text, beside its floor."""
    reference, scores, least = score["reference"], score["scores"], score["floor"]
    against = f"{reference['count']:,} real images ({reference['data']}, {reference['split']})"
    few = ", too few to compare distances with" if 0 < least["count"] < score["count"] else ""
    if "samples" in score:
        of = f"{score['count']:,} of {score['samples']['count']:,} pictures of {score['samples']['data']}"
    else:
        of = f"step {score['step']:,}, {score['weights']} weights: {score['count']:,} samples"
    lines = [
        f"{of} against {against}, features {score['features']['name']}",
        f"{'':<24}{'samples':>11}{'floor':>12}   {of_floor(least)}{few}",
        *duplicates(least),
    ]
    better = dict.fromkeys(LOWER, "lower is better") | dict.fromkeys(HIGHER, "higher is better")
    better |= {"psnr": "higher is better, in dB"}
    for name, value in scores.items():
        beside = f"{least[name]:>12.4g}" if name in least else f"{'-':>12}"
        lines.append(f"{name:<24}{value:>11.4g}{beside}   {better.get(name, '')}".rstrip())
    return "\n".join(lines)
