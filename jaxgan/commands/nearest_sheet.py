"""A sheet of samples, each beside the training pictures that are nearest to it by the features of a score."""

import numpy as np

from jaxgan import evaluation
from jaxgan.commands.scorer import Scorer
from jaxgan.evaluation.features import Embedded
from jaxgan.evaluation.pairs import nearest_few, shifted
from jaxgan.evaluation.scores import CLOSE, choice
from jaxgan.images import grid, named

ROWS = 5  # of the first samples, and as many of those closest to a training picture
BESIDE = 6  # pictures beside each


def sheet(by: Scorer, images: np.ndarray, seen: Embedded) -> np.ndarray:
    """A row of each of some samples: the sample, a gap, and the training pictures nearest to it, the nearest first.

    The first samples come first, as they were drawn; then those of `CLOSE` samples that are closest to a training
    picture, the closest first. Each row is named by its closeness, as `evaluation.nearest` gives it: 0 of a copy, and
    small of what is nearer to a training picture than training pictures are to one another.

    Args:
      by: what scores the samples.
      images: the samples, uint8 [N, H, W, C], C being 1 or 3.
      seen: their features, as from `Scorer.see`.

    Returns:
      uint8 [H', W', C].
    """
    real = by.embed(by.trained).features
    looked_at = np.union1d(np.arange(min(ROWS, len(images))), choice(np.arange(len(images)), CLOSE))
    closeness = np.full(len(images), np.inf)
    closeness[looked_at] = evaluation.nearest(seen.features[looked_at], real).closeness
    rows = np.concatenate([np.arange(min(ROWS, len(images))), np.argsort(closeness, kind="stable")])
    rows = list(dict.fromkeys(rows.tolist()))[: 2 * ROWS]
    b, a = shifted(b=(real, 1), a=(seen.features[rows], 1))
    near = nearest_few(a, b, min(BESIDE, len(real)))
    gap = np.full_like(images[:1], 255)
    tiles = [
        np.concatenate([images[[row]], gap, by.trained.images[some]]) for row, some in zip(rows, near, strict=True)
    ]
    names = [f"{'first' if i < ROWS else 'closest'} {closeness[row]:.2f}" for i, row in enumerate(rows)]
    return named(grid(np.concatenate(tiles), columns=2 + near.shape[1]), names)
