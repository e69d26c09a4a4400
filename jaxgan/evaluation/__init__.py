"""Scores of images: features, distances, precision and recall, classes, memorising; and distances to targets.

    features = evaluation.classifier("mnist")
    real = evaluation.embed(features, test.images)
    evaluation.score(evaluation.embed(features, images), real)

Features come from a network in JAX; the scores are functions of them in NumPy, in float64.
"""

from jaxgan.evaluation.classes import classes_covered, inception_score, label_agreement
from jaxgan.evaluation.distances import frechet_distance, frechet_infinity, gaussian_mmd, kernel_distance, moments
from jaxgan.evaluation.features import (
    Embedded,
    Features,
    classifier,
    efficientnet_lite0,
    embed,
    for_data,
    inception_v3,
    perceptual,
)
from jaxgan.evaluation.neighbours import (
    Nearest,
    authpct,
    density_coverage,
    memorized,
    nearest,
    precision_recall,
    realism,
)
from jaxgan.evaluation.paired import paired
from jaxgan.evaluation.scores import memorizing, score
from jaxgan.evaluation.sliced import sliced_wasserstein

__all__ = [
    "Embedded",
    "Features",
    "Nearest",
    "authpct",
    "classes_covered",
    "classifier",
    "density_coverage",
    "efficientnet_lite0",
    "embed",
    "for_data",
    "frechet_distance",
    "frechet_infinity",
    "gaussian_mmd",
    "inception_score",
    "inception_v3",
    "kernel_distance",
    "label_agreement",
    "memorized",
    "memorizing",
    "moments",
    "nearest",
    "paired",
    "perceptual",
    "precision_recall",
    "realism",
    "score",
    "sliced_wasserstein",
]
