"""Generators that fail in known ways: each is told from a good one by the score that is meant for it.

Run as a program, this writes the table of docs/evaluation.md: `python tests/test_evaluation_faults.py`.
"""

import functools
import re
from pathlib import Path

import numpy as np
import pytest
import scipy.ndimage
from small_data import TFDS, needs_tfds

from jaxgan import data, evaluation

PAGE = Path(__file__).parents[1] / "docs/evaluation.md"
COUNT = 2_000
SCORES = ["frechet_distance", "frechet_infinity", "kernel_distance", "gaussian_mmd", "sliced_wasserstein"]
SCORES += ["inception_score", "classes_covered", "precision", "recall", "density", "coverage", "realism"]
SCORES += ["nearest_train", "memorized", "authpct"]


pytestmark = [pytest.mark.nightly, needs_tfds]


@functools.cache
def table():
    """The scores of each generator, by name."""
    train, test = (data.load("mnist", str(TFDS), split=split) for split in ("train", "test"))
    order = np.random.default_rng(0).permutation(len(train.images))
    good, seen = train.images[order[:COUNT]], train.images[order[COUNT : COUNT + 10_000]]
    noise = np.random.default_rng(1).normal(0, 60, good.shape)
    few = good[np.isin(train.labels[order[:COUNT]], [1, 7])][:20]
    moved = np.roll(seen[:COUNT], 1, axis=2)
    generators = {
        "good": good,
        "collapsed": few[np.arange(COUNT) % 20],
        "memorising": seen[:COUNT],
        "memorising, moved": moved,
        "blurred": scipy.ndimage.gaussian_filter(good, (0, 1.2, 1.2, 0)),
        "noisy": np.clip(good + noise, 0, 255).astype(np.uint8),
    }
    features = evaluation.classifier("mnist")
    reference, seen = evaluation.embed(features, test.images), evaluation.embed(features, seen)
    unseen, found = evaluation.nearest(reference.features, seen.features), {}
    for name, images in generators.items():
        samples = evaluation.embed(features, images)
        found[name] = evaluation.score(samples, reference) | evaluation.memorizing(samples, seen, unseen.closeness)
    return found


def markdown():
    """The table as the page has it: a row of each score, a column of each generator."""
    lines = ["| score | " + " | ".join(table()) + " |", "|---" * (len(table()) + 1) + "|"]
    for score in SCORES:
        lines.append(f"| {score} | " + " | ".join(f"{scores[score]:.3g}" for scores in table().values()) + " |")
    return "\n".join(lines)


def test_each_fault_is_told_by_the_score_that_is_meant_for_it():
    good, collapsed, memorising, moved, blurred, noisy = table().values()
    # What is good is near the reference in every respect.
    assert min(good[name] for name in ("precision", "recall", "coverage")) > 0.85
    assert good["classes_covered"] == 10
    assert good["memorized"] < 0.02
    assert abs(good["frechet_infinity"]) < good["frechet_distance"]
    # All that fail but the memorising one are further from the reference.
    for bad in (collapsed, blurred, noisy):
        assert bad["frechet_distance"] > 5 * good["frechet_distance"]
        assert bad["frechet_infinity"] > 5 * good["frechet_distance"]
        for name in ("kernel_distance", "gaussian_mmd", "sliced_wasserstein"):
            assert bad[name] > 5 * abs(good[name])
    # Few images, but good ones.
    assert collapsed["recall"] < 0.05
    assert collapsed["coverage"] < 0.1
    assert collapsed["classes_covered"] == 2
    assert collapsed["precision"] > 0.75
    assert collapsed["memorized"] < 0.2  # none of its images is one of the training images
    # Copies are as good as real images in every other respect.
    assert memorising["memorized"] > 0.99
    assert memorising["frechet_distance"] < 3 * good["frechet_distance"]  # other 2,000 real images differ as much
    assert moved["memorized"] > 0.2
    assert memorising["authpct"] < 1
    assert moved["authpct"] < 0.5 * good["authpct"]
    # All kinds of images, but none of them good.
    for bad in (blurred, noisy):
        assert bad["precision"] < good["precision"] - 0.15
        assert bad["density"] < 0.6 * good["density"]
        assert bad["realism"] < 0.6 * good["realism"]
        assert bad["recall"] < 0.1
        assert bad["authpct"] > good["authpct"]  # which is no praise
        assert bad["inception_score"] < good["inception_score"]
        assert bad["classes_covered"] == 10


def test_the_page_shows_this_table():
    rows = [line.split("|")[1:-1] for line in markdown().splitlines()[2:]]
    page = PAGE.read_text()
    for name, *values in rows:
        line = next(line for line in page.splitlines() if line.startswith(f"|{name}|"))
        assert [float(x) for x in line.split("|")[2:-1]] == pytest.approx(
            [float(x) for x in values], rel=0.02, abs=0.002
        )


if __name__ == "__main__":
    between = re.compile(r"(?<=<!-- faults -->\n).*?(?=<!-- end -->)", re.DOTALL)
    PAGE.write_text(between.sub(lambda _: f"{markdown()}\n", PAGE.read_text()))
