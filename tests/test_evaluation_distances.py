"""Fréchet, kernel and sliced distances: against closed forms, loops, SciPy and torch-fidelity."""

import fidelity
import numpy as np
import pytest
import scipy.linalg
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from jaxgan.evaluation import distances
from jaxgan.evaluation.distances import (
    Moments,
    frechet_distance,
    frechet_infinity,
    gaussian_mmd,
    kernel_distance,
    moments,
)
from jaxgan.evaluation.sliced import sliced_wasserstein

SEEDS = st.integers(0, 2**32 - 1)


def gaussian(mean, covariance):
    return Moments(np.asarray(mean, float), np.asarray(covariance, float), 100)


def drawn(seed, n=40, d=5):
    """Two sets that differ in mean and covariance."""
    rng = np.random.default_rng(seed)
    draw = lambda n: rng.normal(size=(n, d)) @ rng.normal(size=(d, d))  # noqa: E731
    return draw(n), draw(n + 3) + 0.5


def rotation(seed, d):
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(d, d)))[0]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_moments_are_numpys_whatever_the_pieces(dtype, monkeypatch):
    x = (np.random.default_rng(0).normal(size=(50, 4)) + 1000).astype(dtype)
    whole = moments(x)
    monkeypatch.setattr(distances, "ROWS", 7)
    for got in (whole, moments(x)):
        np.testing.assert_allclose(got.mean, x.astype(np.float64).mean(0), rtol=1e-12)
        np.testing.assert_allclose(got.covariance, np.cov(x.astype(np.float64), rowvar=False), rtol=1e-9, atol=1e-12)
        assert got.count == 50
        assert got.mean.dtype == got.covariance.dtype == np.float64


ROTATED = rotation(0, 3)
A, B = np.diag([4.0, 9.0, 0.25]), np.diag([1.0, 16.0, 1.0])


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        (gaussian([0, 0], np.eye(2)), gaussian([0, 0], np.eye(2)), 0),
        (gaussian([0, 0], np.eye(2)), gaussian([3, 4], np.eye(2)), 25),
        (gaussian([0] * 3, A), gaussian([0] * 3, 9 * A), 4 * 13.25),  # (3 - 1)^2 tr A
        (gaussian([0] * 3, A), gaussian([0, 2, 0], B), 4 + 1 + 1 + 0.25),
        (gaussian([0] * 3, ROTATED @ A @ ROTATED.T), gaussian([0] * 3, ROTATED @ B @ ROTATED.T), 2.25),
        (gaussian([1], [[4]]), gaussian([3], [[25]]), 4 + 9),
        (gaussian([1], [[0]]), gaussian([1], [[0]]), 0),
        (gaussian([0, 0], np.zeros((2, 2))), gaussian([0, 0], np.diag([2, 3])), 5),
        # Singular: in one direction each; the same; turned; a line against the whole, whose root is that of the line.
        (gaussian([0, 0], np.diag([4, 0])), gaussian([0, 0], np.diag([0, 9])), 13),
        (gaussian([0, 0], np.diag([4, 0])), gaussian([0, 0], np.diag([9, 0])), 1),
        (gaussian([0, 0], [[2, 2], [2, 2]]), gaussian([0, 0], [[2, -2], [-2, 2]]), 8),
        (gaussian([0, 0], [[2, 2], [2, 2]]), gaussian([0, 0], np.eye(2)), 4 + 2 - 2 * 2),
    ],
)
def test_frechet_distances_of_gaussians_that_are_known(a, b, expected):
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-12, abs=1e-13)
    assert frechet_distance(b, a) == pytest.approx(expected, rel=1e-12, abs=1e-13)


def test_fewer_samples_than_features_on_a_line():
    """Two sets on the lines of u and v: with variances s and t the root's trace is sqrt(s t) |u.v|."""
    rng = np.random.default_rng(0)
    u, v = (x / np.linalg.norm(x) for x in rng.normal(size=(2, 30)))
    x, y = rng.normal(size=(2, 8))
    s, t = x.var(ddof=1), y.var(ddof=1)
    shift = np.sum((x.mean() * u - y.mean() * v) ** 2)
    got = frechet_distance(moments(np.outer(x, u)), moments(np.outer(y, v)))
    assert got == pytest.approx(shift + s + t - 2 * np.sqrt(s * t) * abs(u @ v), rel=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_the_frechet_distance_is_that_with_scipys_root_and_torch_fidelitys(seed):
    x, y = drawn(seed)
    a, b = moments(x), moments(y)
    root = scipy.linalg.sqrtm(a.covariance @ b.covariance).real
    expected = np.sum((a.mean - b.mean) ** 2) + np.trace(a.covariance + b.covariance - 2 * root)
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-9)

    fid, torch = fidelity.torch_fidelity().metric_fid, pytest.importorskip("torch")
    theirs = [fid.fid_features_to_statistics(torch.from_numpy(z)) for z in (x, y)]
    expected = fid.fid_statistics_to_metric(*theirs, verbose=False)[fid.KEY_METRIC_FID]
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-9)


@given(SEEDS, st.sampled_from([(40, 5), (6, 9), (2, 3), (12, 1)]))
def test_the_frechet_distance_is_symmetric_0_to_itself_and_the_same_when_turned(seed, shape):
    x, y = drawn(seed, *shape)
    a, b = moments(x), moments(y)
    scale = np.trace(a.covariance) + np.trace(b.covariance)
    got = frechet_distance(a, b)
    assert got >= 0
    assert frechet_distance(b, a) == pytest.approx(got, abs=1e-12 * scale)
    assert 0 <= frechet_distance(a, a) < 1e-12 * scale
    turn, order = rotation(seed, x.shape[1]), np.random.default_rng(seed).permutation(len(x))
    turned = frechet_distance(moments(x[order] @ turn + 3), moments(y @ turn + 3))
    assert turned == pytest.approx(got, abs=1e-9 * scale)


def kernel_by_loops(x, y):
    """Bińkowski et al. 2018, equation 4."""
    kernel = lambda u, v: (sum(p * q for p, q in zip(u, v, strict=True)) / len(u) + 1) ** 3  # noqa: E731
    own = lambda s: [kernel(u, v) for i, u in enumerate(s) for j, v in enumerate(s) if i != j]  # noqa: E731
    return np.mean(own(x)) + np.mean(own(y)) - 2 * np.mean([kernel(u, v) for u in x for v in y])


@pytest.mark.parametrize("subsets", [1, 3])
def test_a_subset_as_large_as_both_sets_is_mmd_by_loops(subsets):
    x, y = drawn(0, n=12)
    y = y[:12]
    got = kernel_distance(x, y, subsets)
    assert got.mean == pytest.approx(kernel_by_loops(x, y), rel=1e-10)
    # All subsets are the same, and yet the sets are samples: the jackknife over x and over y says how far off.
    jackknife = 0
    for take in (lambda i: (np.delete(x, i, 0), y), lambda i: (x, np.delete(y, i, 0))):
        without = np.array([kernel_by_loops(*take(i)) for i in range(12)])
        jackknife += 11 / 12 * np.sum((without - without.mean()) ** 2)
    assert got.standard_error == pytest.approx(np.sqrt(jackknife), rel=0.15)


@pytest.mark.parametrize(("subsets", "size"), [(20, 10), (7, 40), (1, 30)])
def test_the_kernel_distance_is_torch_fidelitys_with_the_same_seed(subsets, size):
    kid, torch = fidelity.torch_fidelity().metric_kid, pytest.importorskip("torch")
    x, y = drawn(1)
    theirs = kid.kid_features_to_metric(
        *map(torch.from_numpy, (x, y)), kid_subsets=subsets, kid_subset_size=size, rng_seed=5, verbose=False
    )
    assert kernel_distance(x, y, subsets, size, seed=5).mean == pytest.approx(theirs[kid.KEY_METRIC_KID_MEAN], rel=1e-9)


@pytest.mark.parametrize(
    ("shift", "subsets", "size", "low", "high"),
    [(0.7, 10, 120, 0.8, 1.25), (0.7, 20, 30, 0.8, 1.25), (0.7, 4, 30, 0.8, 1.25), (0, 20, 30, 1, 2.2)],
)
def test_the_standard_error_is_how_far_the_mean_scatters(shift, subsets, size, low, high):
    """Over many pairs of new sets, with subsets that are all of a set, that overlap, and that do not."""
    rng = np.random.default_rng(0)
    found = [
        kernel_distance(rng.normal(size=(120, 4)), rng.normal(size=(150, 4)) + shift, subsets, size, seed)
        for seed in range(250)
    ]
    mean, error = np.array(found).T
    assert low < np.sqrt(np.mean(error**2)) / mean.std() < high


@given(SEEDS)
def test_the_kernel_distance_is_the_same_when_turned_and_about_0_of_equal_distributions(seed):
    x, y = drawn(seed, n=30)
    got, turned = kernel_distance(x, y, 5, 20), kernel_distance(x @ rotation(seed, 5), y @ rotation(seed, 5), 5, 20)
    np.testing.assert_allclose(turned, got, rtol=1e-8, atol=1e-8)
    same = np.random.default_rng(seed).normal(size=(2, 200, 3))
    mean, error = kernel_distance(*same, 20, 50)
    assert abs(mean) < 5 * error


def test_the_distance_of_infinitely_many_is_that_of_the_gaussians_themselves():
    """The paper's own check: what is known of the distributions, and not of the samples."""
    rng, deviations, true = np.random.default_rng(0), np.linspace(0.5, 2, 16), gaussian(np.zeros(16), np.eye(16))
    known = frechet_distance(gaussian(np.full(16, 0.1), np.diag(deviations**2)), true)
    assert known == pytest.approx(16 * 0.01 + np.sum((deviations - 1) ** 2), rel=1e-12)
    for expected, draw in (
        (known, lambda: 0.1 + deviations * rng.normal(size=(400, 16))),
        (0, lambda: rng.normal(size=(400, 16))),  # equal distributions
    ):
        sets = [draw() for _ in range(200)]
        finite, infinite = (np.array([of(x, true) for x in sets]) for of in (frechet_distance, frechet_infinity))
        error = infinite.std() / np.sqrt(len(sets))
        assert abs(infinite.mean() - expected) < 3 * error < 0.35 * (finite.mean() - expected)


def test_it_is_where_scipys_line_through_the_distances_of_parts_begins():
    x, y = drawn(0, n=101)
    draws, sizes = np.random.RandomState(3), [50, 62, 75, 88, 101]
    found = [frechet_distance(x[draws.permutation(101)[:size]], y) for size in sizes]
    line = scipy.stats.linregress([1 / size for size in sizes], found)
    assert line.slope > 0
    assert frechet_infinity(x, y, points=5, seed=3) == pytest.approx(line.intercept, rel=1e-9)
    assert frechet_infinity(x, moments(y), points=5, seed=3) == frechet_infinity(x, y, points=5, seed=3)
    assert frechet_infinity(x[:, :1], x[:, :1]) == pytest.approx(0, abs=0.5)


def gaussian_mmd_by_loops(x, y, sigma, scale):
    """Jayasumana et al. 2024, equation 4, unbiased: without the pairs of an image and itself."""
    x, y = ([v / np.sqrt(sum(v * v)) if v.any() else v for v in z] for z in (x, y))
    kernel = lambda u, v: np.exp(-sum((p - q) ** 2 for p, q in zip(u, v, strict=True)) / (2 * sigma**2))  # noqa: E731
    own = lambda s: np.mean([kernel(u, v) for i, u in enumerate(s) for j, v in enumerate(s) if i != j])  # noqa: E731
    return scale * (own(x) + own(y) - 2 * np.mean([kernel(u, v) for u in x for v in y]))


@pytest.mark.parametrize(("sigma", "scale"), [(10, 1000), (0.5, 1), (2, 7)])
def test_the_gaussian_mmd_is_that_by_loops(sigma, scale, monkeypatch):
    x, y = drawn(0, n=12)
    x[3] = 0  # without a direction
    expected = gaussian_mmd_by_loops(x, y, sigma, scale)
    given = () if sigma == 10 else (sigma, scale)
    assert gaussian_mmd(x, y, *given) == pytest.approx(expected, rel=1e-9)
    monkeypatch.setattr("jaxgan.evaluation.pairs.BLOCK", 7)
    assert gaussian_mmd(y, x, *given) == pytest.approx(expected, rel=1e-9)
    assert gaussian_mmd(3 * x, y / 5, *given) == pytest.approx(expected, rel=1e-9)  # of directions alone


def test_the_gaussian_mmd_is_unbiased_and_with_its_wide_kernel_sees_the_means():
    rng = np.random.default_rng(0)
    same = np.array([gaussian_mmd(*rng.normal(size=(2, 30, 6))) for _ in range(200)])
    assert abs(same.mean()) < 3 * same.std() / np.sqrt(200)
    assert same.mean() < 0.05 * 2 * 1000 / 30 / 100  # about what the diagonals would add
    x, y = rng.normal(size=(2, 2000, 6)) + np.eye(6)[:2, None]
    of_means = np.sum((np.mean(unit(x), axis=0) - np.mean(unit(y), axis=0)) ** 2)
    assert gaussian_mmd(x, y) == pytest.approx(10 * of_means, rel=0.02)
    both_ways = np.concatenate([x[:1000], -x[:1000]])
    wide = np.concatenate([np.eye(6)[:1], -np.eye(6)[:1]]).repeat(500, axis=0)
    assert abs(gaussian_mmd(both_ways, wide)) < 0.05  # as different as can be, but for the mean
    assert gaussian_mmd(both_ways, wide, sigma=0.5) > 100


def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


@pytest.mark.parametrize(("n", "m"), [(7, 7), (12, 8), (9, 4), (1, 5), (6, 1)])
def test_on_a_line_the_sliced_distance_is_wassersteins(n, m):
    rng = np.random.default_rng(n)
    x, y = rng.normal(size=n), 2 * rng.normal(size=m) + 1
    many = np.lcm(n, m)  # each point as often as makes both sets as large
    squared = np.mean((np.sort(np.repeat(x, many // n)) - np.sort(np.repeat(y, many // m))) ** 2)
    got = sliced_wasserstein(x[:, None], y[:, None], directions=3)
    assert got == pytest.approx(np.sqrt(squared), rel=1e-12)
    assert got >= scipy.stats.wasserstein_distance(x, y) - 1e-12  # of order 1, by Jensen's inequality
    assert sliced_wasserstein(x[:, None] + 5, x[::-1, None], directions=3) == pytest.approx(5, rel=1e-12)


def test_sliced_distances_of_gaussians_that_are_known(monkeypatch):
    """A shift by s is |s| / sqrt(D), another scale the difference of both; along a direction u both are seen."""
    rng, shift = np.random.default_rng(0), np.array([3.0, 0, 0, 4])
    x = rng.normal(size=(2000, 4))
    assert sliced_wasserstein(x, x + shift, directions=2000) == pytest.approx(5 / 2, rel=0.03)
    assert sliced_wasserstein(x, x[rng.permutation(2000)]) == pytest.approx(0, abs=1e-12)
    other = 3 * rng.normal(size=(1600, 4)) + shift
    assert sliced_wasserstein(x, other, directions=2000) == pytest.approx(np.sqrt(25 / 4 + (3 - 1) ** 2), rel=0.03)
    got = sliced_wasserstein(x, other)
    assert got == sliced_wasserstein(x, other) != sliced_wasserstein(x, other, seed=1)
    assert sliced_wasserstein(other, x) == pytest.approx(got, rel=1e-12)
    monkeypatch.setattr("jaxgan.evaluation.sliced.AT_ONCE", 7)
    assert sliced_wasserstein(x, other) == pytest.approx(got, rel=1e-12)


GOOD = np.zeros((4, 3)) + np.arange(4)[:, None]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: moments(GOOD[0]), r"features are \[N, D\]"),
        (lambda: moments(GOOD[:, :0]), r"features are \[N, D\]"),
        (lambda: moments(GOOD[:1]), "there are 1 samples, and 2 are needed"),
        (lambda: moments(np.where(GOOD == 3, np.nan, GOOD)), "not finite"),
        (lambda: frechet_distance(moments(GOOD), moments(GOOD[:, :2])), "of 3 features, the second of 2"),
        (lambda: frechet_distance(gaussian([0, 0], np.eye(3)), moments(GOOD)), r"mean \[2\] and covariance \[3, 3\]"),
        (lambda: frechet_distance(gaussian([0, np.inf], np.eye(2)), moments(GOOD)), "the first moments: some values"),
        (lambda: kernel_distance(GOOD, GOOD[:, :2]), "a has 3 features and b has 2"),
        (lambda: kernel_distance(GOOD, GOOD[:1]), "b: there are 1 samples"),
        (lambda: kernel_distance(GOOD, GOOD + np.inf), "b: some features are not finite"),
        (lambda: kernel_distance(GOOD, GOOD, subsets=0), "subsets is 0"),
        (lambda: kernel_distance(GOOD, GOOD, size=1), "size is 1"),
        (lambda: frechet_infinity(GOOD, GOOD), "a: of 3 features 8 samples are needed, not 4"),
        (lambda: frechet_infinity(np.tile(GOOD, (3, 1)), GOOD, points=1), "points is 1"),
        (lambda: frechet_infinity(np.tile(GOOD, (3, 1)), GOOD[:, :2]), "of 3 features, the second of 2"),
        (lambda: gaussian_mmd(GOOD, GOOD[:1]), "b: there are 1 samples"),
        (lambda: gaussian_mmd(GOOD, GOOD, sigma=0), "sigma is 0"),
        (lambda: gaussian_mmd(GOOD, GOOD, scale=-1), "scale is -1"),
        (lambda: sliced_wasserstein(GOOD[:0], GOOD), "a: there are 0 samples"),
        (lambda: sliced_wasserstein(GOOD, GOOD[:, :2]), "a has 3 features and b has 2"),
        (lambda: sliced_wasserstein(GOOD, GOOD, directions=0), "directions is 0"),
    ],
)
def test_what_does_not_fit_is_an_error_in_one_line(call, message):
    with pytest.raises(ValueError, match=message) as error:
        call()
    assert "\n" not in str(error.value)
