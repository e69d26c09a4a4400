"""Modes of Stacked MNIST: known values, loops, real images, and generators that fail."""

from math import comb, log

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_data import TFDS, needs_tfds

from jaxgan import data
from jaxgan.evaluation.modes import MODES, SAMPLES, digits_in, expected_divergence, modes, modes_of_points

ALL = np.stack(np.unravel_index(np.arange(MODES), (10, 10, 10)), axis=1)


@pytest.mark.parametrize(
    ("digits", "found", "divergence"),
    [
        (ALL, 1000, 0),
        (np.repeat(ALL, 7, axis=0)[::-1], 1000, 0),
        (ALL[[123]], 1, log(1000)),
        (ALL[[5] * 90], 1, log(1000)),
        (ALL[:500], 500, log(2)),
        (ALL[[0, 0, 0, 999]], 2, log(1000) + 0.75 * log(0.75) + 0.25 * log(0.25)),
    ],
    ids=["each once", "each 7 times", "one", "one 90 times", "half", "uneven"],
)
def test_modes_that_are_known(digits, found, divergence):
    result = modes(digits)
    assert (result.found, result.floor) == (found, expected_divergence(len(digits)))
    assert result.divergence == pytest.approx(divergence, abs=1e-12)


@given(st.integers(0, 2**32 - 1), st.integers(1, 3000), st.integers(1, 10))
def test_modes_by_loops_and_in_any_order(seed, count, high):
    rng = np.random.default_rng(seed)
    digits = rng.integers(0, high, (count, 3)).astype(np.uint8)
    counts = {}
    for a, b, c in digits.tolist():
        counts[a, b, c] = counts.get((a, b, c), 0) + 1
    divergence = sum(n / count * log(n / count * 1000) for n in counts.values())
    result = modes(digits)
    assert result.found == len(counts)
    assert result.divergence == pytest.approx(divergence, rel=1e-12)
    assert modes(digits[rng.permutation(count)]) == result


@given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.integers(1, 6))
def test_modes_of_points_by_loops(seed, count, of):
    rng = np.random.default_rng(seed)
    points, centres, deviation = rng.normal(size=(count, 2)), rng.normal(size=(of, 2)), 0.2
    good = {}
    for x, y in points.tolist():
        apart = [((x - a) ** 2 + (y - b) ** 2) ** 0.5 for a, b in centres.tolist()]
        if min(apart) < 3 * deviation:
            nearest = apart.index(min(apart))
            good[nearest] = good.get(nearest, 0) + 1
    result, total = modes_of_points(points, centres, deviation), sum(good.values())
    assert (result.found, result.good) == (len(good), total / count)
    divergence = sum(n / total * log(n / total * of) for n in good.values()) if good else np.nan
    assert result.divergence == pytest.approx(divergence, rel=1e-9, abs=1e-12, nan_ok=True)


def test_modes_of_points_that_are_known():
    """The edge of three standard deviations, on a line of centres."""
    centres = np.array([[0.0, 0], [10, 0], [20, 0], [30, 0]])
    result = modes_of_points([[0.2, 0], [9.71, 0], [10, 0.31], [5, 5], [20, 0]], centres, 0.1)
    assert (result.found, result.good) == (3, 0.6)
    assert result.divergence == pytest.approx(log(4 / 3))
    with pytest.raises(ValueError, match=r"points must be \[N, 2\] with N above 0, not \[5, 3\]"):
        modes_of_points(np.zeros((5, 3)), centres, 0.1)


@given(st.integers(1, 40), st.integers(2, 12))
def test_the_floor_by_the_sum_over_binomial_counts(count, of):
    terms = ((comb(count, n) / of**n * (1 - 1 / of) ** (count - n), n / count) for n in range(1, count + 1))
    expected = sum(of * chance * share * log(of * share) for chance, share in terms)
    assert expected_divergence(count, of) == pytest.approx(expected, rel=1e-9)


def test_the_floor_is_what_perfect_samples_have():
    assert expected_divergence(1) == pytest.approx(log(1000))
    assert expected_divergence(100, of=1) == 0
    assert expected_divergence(SAMPLES) == pytest.approx(999 / (2 * SAMPLES), rel=0.01)
    rng = np.random.default_rng(0)
    drawn = [modes(rng.integers(0, 10, (SAMPLES, 3))) for _ in range(30)]
    assert {of.found for of in drawn} == {1000}
    assert np.mean([of.divergence for of in drawn]) == pytest.approx(drawn[0].floor, rel=0.02)


@pytest.mark.parametrize(
    ("call", "given", "message"),
    [
        (modes, ALL[:0], r"N above 0, not int64 \[0, 3\]"),
        (modes, ALL[:, :2], r"not int64 \[1000, 2\]"),
        (modes, ALL / 1, "not float64"),
        (modes, ALL + 1, "from 0 to 9, not from 1 to 10"),
        (modes, ALL - 1, "not from -1 to 8"),
        (digits_in, np.zeros((4, 28, 28, 1), np.uint8), r"uint8 \[N, H, W, 3\]"),
        (digits_in, np.zeros((28, 28, 3), np.uint8), r"uint8 \[N, H, W, 3\]"),
    ],
)
def test_what_are_no_digits_is_an_error(call, given, message):
    with pytest.raises(ValueError, match=message):
        call(given)


@pytest.fixture(scope="module")
def real():
    """Stacked MNIST's test images: 10,000, with their digits."""
    dataset = data.load("stacked_mnist", str(TFDS), split="test")
    return dataset.images, ALL[dataset.labels]


@needs_tfds
def test_the_digits_of_real_images_are_their_labels(real):
    """The classifier is right on 99.57 % of the test digits, so on 98.7 % of three."""
    images, digits = real
    seen = digits_in(images[:1000])
    assert (seen == digits[:1000]).mean() > 0.99
    assert (seen == digits[:1000]).all(1).mean() > 0.97
    np.testing.assert_array_equal(digits_in(images[300:307]), seen[300:307])  # however many at once
    # A collapsed generator has few modes.
    kept = [int(np.flatnonzero((digits == digit).all(1))[0]) for digit in ([0, 0, 0], [1, 2, 3], [7, 7, 7])]
    found, divergence, _ = modes(digits_in(np.tile(images[kept], (20, 1, 1, 1))))
    assert (found, divergence) == (3, pytest.approx(log(1000 / 3)))


@needs_tfds
def test_the_modes_of_real_images_are_those_of_sampling(real):
    """10,000 of 1,000 modes miss 0.05 of them; the digits are not all as frequent, which adds three times their own."""
    found, divergence, floor = modes(real[1])
    assert found >= 998
    shares = np.bincount(real[1][:, 0]) / len(real[1])
    uneven = 3 * np.sum(shares * np.log(10 * shares))
    assert divergence == pytest.approx(floor + uneven, abs=0.006)
