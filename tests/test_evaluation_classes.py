"""Scores from class probabilities: against known values, loops and torch-fidelity."""

import fidelity
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxgan.evaluation.classes import classes_covered, inception_score, label_agreement

SEEDS = st.integers(0, 2**32 - 1)


def softmax(logits):
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def drawn(seed, n=97, classes=7, scale=3):
    return scale * np.random.default_rng(seed).normal(size=(n, classes))


@pytest.mark.parametrize(
    ("probabilities", "expected"),
    [
        (np.full((40, 5), 0.2), 1),  # nothing is recognised
        (np.eye(5)[np.zeros(40, int)], 1),  # one class
        (np.eye(5)[np.arange(40) % 5], 5),  # each class as often, and surely
        (np.eye(5)[np.arange(40) % 2], 2),
    ],
)
def test_inception_scores_that_are_known(probabilities, expected):
    assert inception_score(probabilities, 1) == pytest.approx((expected, 0), abs=1e-12)


def test_an_inception_score_and_the_label_agreement_by_loops():
    p = softmax(drawn(0))
    q = [sum(row[c] for row in p) / len(p) for c in range(7)]
    divergence = sum(row[c] * np.log(row[c] / q[c]) for row in p for c in range(7)) / len(p)
    assert inception_score(p, 1).mean == pytest.approx(np.exp(divergence), rel=1e-12)
    labels = np.arange(97) % 7
    right = sum(max(range(7), key=row.__getitem__) == label for row, label in zip(p, labels, strict=True))
    assert 0 < right < 97
    assert label_agreement(p, labels) == right / 97
    assert label_agreement(p, p.argmax(1).astype(np.int32)) == 1
    assert label_agreement(p.astype(np.float32), (p.argmax(1) + 1) % 7) == 0


@pytest.mark.parametrize("splits", [1, 3, 10])
def test_the_inception_score_is_torch_fidelitys(splits):
    """97 samples: the splits are not all as large."""
    isc, torch = fidelity.torch_fidelity().metric_isc, pytest.importorskip("torch")
    logits = drawn(1)
    theirs = isc.isc_features_to_metric(torch.from_numpy(logits), splits)
    expected = theirs[isc.KEY_METRIC_ISC_MEAN], theirs[isc.KEY_METRIC_ISC_STD]
    assert inception_score(softmax(logits), splits) == pytest.approx(expected, rel=1e-10)


def test_samples_in_the_order_of_their_classes_score_as_in_any():
    assert inception_score(np.eye(10)[np.arange(1000) // 100]).mean > 9


@given(SEEDS, st.integers(1, 10), st.sampled_from([0.1, 3, 1000]))
def test_scores_are_in_range_and_the_same_in_any_order_that_does_not_matter(seed, splits, scale):
    """With a scale of 1000 most probabilities are 0."""
    rng, p = np.random.default_rng(seed), softmax(drawn(seed, scale=scale))
    labels, order = rng.integers(7, size=97), rng.permutation(97)
    mean, std = inception_score(p, splits)
    assert 1 - 1e-12 <= mean <= 7 + 1e-12
    assert std >= 0
    assert inception_score(p[:, rng.permutation(7)], splits) == pytest.approx((mean, std), rel=1e-9, abs=1e-12)
    assert 1 <= classes_covered(p) == classes_covered(p[order]) <= 7
    assert 0 <= label_agreement(p, labels) == label_agreement(p[order], labels[order]) <= 1


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ([100, 100, 100, 100], 4),
        ([400, 0, 0, 0], 1),
        ([380, 10, 10, 0], 3),  # a tenth of 100 is enough
        ([382, 9, 9, 0], 1),
        ([2, 1, 0, 0], 2),  # a tenth of an even share is less than one sample, and one is enough
    ],
)
def test_classes_covered_that_are_known(counts, expected):
    likeliest = np.repeat(np.arange(4), counts)
    assert classes_covered(0.6 * np.eye(4)[likeliest] + 0.1) == expected


GOOD = np.full((4, 2), 0.5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        *[
            (lambda call=call, p=p: call(p), message)
            for call in (inception_score, classes_covered, lambda p: label_agreement(p, [0] * len(p)))
            for p, message in [
                (GOOD[0], r"not \[2\]"),
                (GOOD[:0], r"not \[0, 2\]"),
                (GOOD * np.nan, "not finite"),
                (GOOD * 3, "logits"),
                (np.array([[1.5, -0.5]]), "logits"),
            ]
        ],
        (lambda: inception_score(GOOD, 5), "splits is 5 and must be from 1 to the 4 samples"),
        (lambda: inception_score(GOOD, 0), "splits is 0"),
        (lambda: label_agreement(GOOD, [0, 1]), r"4 integers, .* not int64 of shape \[2\]"),
        (lambda: label_agreement(GOOD, [0.0] * 4), "not float64"),
        (lambda: label_agreement(GOOD, [0, 1, 2, 0]), "must be from 0 to 1, .* not from 0 to 2"),
        (lambda: label_agreement(GOOD, [0, 1, -1, 0]), "from -1 to 1"),
    ],
)
def test_what_does_not_fit_is_an_error(call, message):
    with pytest.raises(ValueError, match=message):
        call()
