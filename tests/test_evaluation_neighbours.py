"""Scores by nearest neighbours: against loops over pairs, scikit-learn and torch-fidelity."""

import fidelity
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxgan.evaluation import pairs
from jaxgan.evaluation.neighbours import (
    authpct,
    density_coverage,
    memorized,
    nearest,
    neighbour_scores,
    precision_recall,
    realism,
)

SEEDS = st.integers(0, 2**32 - 1)


def drawn(seed, n=40, m=33, d=3):
    """Two sets that overlap in part."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)), 1.2 * rng.normal(size=(m, d)) + 1


def on_a_grid(seed):
    """Whole numbers: many distances are equal, and many points are copies."""
    rng = np.random.default_rng(seed)
    return rng.integers(-2, 3, size=(30, 2)), rng.integers(-1, 4, size=(25, 2))


def distance(u, v):
    return float(np.sqrt(sum((p - q) ** 2 for p, q in zip(u.tolist(), v.tolist(), strict=True))))


def scores_by_loops(real, fake, k=3, wide_k=5):
    """Kynkäänniemi et al. 2019, equations 1 and 2; Naeem et al. 2020, equations 3 and 4."""
    radii = lambda x, k: [sorted(distance(u, v) for j, v in enumerate(x) if j != i)[k - 1] for i, u in enumerate(x)]  # noqa: E731
    of_real, of_fake, wide = radii(real, k), radii(fake, k), radii(real, wide_k)
    inside = lambda point, points, radii: [distance(point, u) <= r for u, r in zip(points, radii, strict=True)]  # noqa: E731
    return (
        np.mean([any(inside(y, real, of_real)) for y in fake]),
        np.mean([any(inside(x, fake, of_fake)) for x in real]),
        np.mean([sum(inside(y, real, wide)) for y in fake]) / wide_k,
        np.mean([any(distance(x, y) <= r for y in fake) for x, r in zip(real, wide, strict=True)]),
    )


def again_and_again(seed):
    """Balls of radius 0: a collapsed generator covers the real image that it copies, by its own measure no other."""
    real, _ = drawn(seed)
    return real, np.tile(real[3], (20, 1))


def apart(seed):
    real, fake = drawn(seed)
    return real, fake + 100


KNOWN = {apart: (0, 0, 0, 0), again_and_again: (1, 1 / 40)}  # the first of the scores


@pytest.mark.parametrize("sets", [drawn, on_a_grid, again_and_again, apart])
@pytest.mark.parametrize(("seed", "k", "wide_k"), [(0, 3, 5), (1, 1, 2), (2, 7, 1)])
def test_scores_are_those_by_loops(sets, seed, k, wide_k):
    real, fake = sets(seed)
    expected = scores_by_loops(real, fake, k, wide_k)
    assert sets is not drawn or 0.1 < min(expected[:2]) <= max(expected[:2]) < 1
    known = KNOWN.get(sets, ())
    assert expected[: len(known)] == known
    assert neighbour_scores(real, fake, k, wide_k) == pytest.approx(expected, rel=1e-12)
    assert precision_recall(real, fake, k) == pytest.approx(expected[:2], rel=1e-12)
    assert precision_recall(fake, real, k) == precision_recall(real, fake, k)[::-1]
    assert density_coverage(real, fake, wide_k) == pytest.approx(expected[2:], rel=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_precision_and_recall_are_torch_fidelitys(seed):
    prc, torch = fidelity.torch_fidelity().metric_prc, pytest.importorskip("torch")
    real, fake = drawn(seed, 400, 300, 8)
    theirs = prc.prc_features_to_metric(torch.from_numpy(fake), torch.from_numpy(real), verbose=False)
    expected = theirs[prc.KEY_METRIC_PRECISION], theirs[prc.KEY_METRIC_RECALL]
    assert max(expected) < 1
    assert precision_recall(real, fake) == pytest.approx(expected, rel=1e-6)  # their means are float32


@given(SEEDS, st.sampled_from([drawn, on_a_grid]), st.sampled_from([1, 17, 100, 500]))
def test_scores_are_in_range_and_the_same_in_any_order_and_in_pieces(seed, sets, piece):
    real, fake = sets(seed)
    got = neighbour_scores(real, fake)
    assert all(0 <= score <= 1 for score in (got.precision, got.recall, got.coverage))
    assert 0 <= got.density <= len(real) / 5
    rng = np.random.default_rng(seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pairs, "BLOCK", piece)
        in_pieces = neighbour_scores(rng.permutation(real), rng.permutation(fake))
        assert in_pieces == pytest.approx(got, rel=1e-12)
        distances = nearest(fake, real).distances
    np.testing.assert_array_equal(distances, nearest(fake, real).distances)


@given(SEEDS, st.sampled_from([0, 1e4]))
def test_of_copies_of_all_images_every_score_is_known(seed, offset):
    """Each ball has its centre and k neighbours. The k-th is on the surface, where rounding would decide."""
    x = np.random.default_rng(seed).normal(size=(60, 20)).astype(np.float32) + np.float32(offset)
    copies = np.random.default_rng(seed).permutation(x)
    assert neighbour_scores(x, copies) == pytest.approx((1, 1, 6 / 5, 1), rel=1e-12)


def test_a_ball_of_radius_0_holds_copies_and_not_what_is_close_by():
    """Ten images, each many times: the distance to the close one is less than a matrix product can tell from 0."""
    real = np.repeat(np.random.default_rng(0).normal(size=(10, 20)), 6, axis=0)
    copy, close = real[:1], real[:1] + 1e-9
    assert density_coverage(real, np.concatenate([copy, close])) == pytest.approx((6 / 5 / 2, 1 / 10))
    assert density_coverage(real, close) == (0, 0)


@given(SEEDS, st.sampled_from([1, 50, 2**22]))
def test_nearest_is_that_by_loops(seed, piece):
    a, b = drawn(seed, 20, 15)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pairs, "BLOCK", piece)
        got = nearest(a, b)
    which = [min(range(len(b)), key=lambda j, u=u: distance(u, b[j])) for u in a]
    distances = [distance(u, b[j]) for u, j in zip(a, which, strict=True)]
    spacing = [min(distance(b[i], b[j]) for j in range(len(b)) if j != i) for i in which]
    np.testing.assert_allclose(got.distances, distances, rtol=1e-12)
    np.testing.assert_allclose(got.closeness, np.divide(distances, spacing), rtol=1e-12)
    assert {x.dtype for x in got} == {np.dtype(np.float64)}


@pytest.mark.parametrize("offset", [0, 100])
def test_copies_are_at_distance_0_and_near_copies_as_far_as_they_are(offset):
    rng = np.random.default_rng(0)
    train = (rng.normal(size=(300, 64)) + offset).astype(np.float32)
    copies, near = train[:50], train[50:100].astype(np.float64)
    near[:, 0] += 1e-6
    np.testing.assert_array_equal(nearest(copies, train), np.zeros((2, 50)))
    np.testing.assert_allclose(nearest(near, train).distances, 1e-6, rtol=1e-4)


def test_a_generator_that_memorises_is_told_from_one_that_does_not():
    rng = np.random.default_rng(0)
    train, held_out, honest = (rng.normal(size=(n, 6)) for n in (800, 2000, 2000))
    unseen = nearest(held_out, train).closeness
    assert memorized(nearest(honest, train).closeness, unseen) == pytest.approx(0.01, abs=0.01)
    assert memorized(nearest(train[rng.integers(800, size=500)], train).closeness, unseen) == 1
    half = np.concatenate([honest[:1000], train])
    assert memorized(nearest(half, train).closeness, unseen) == pytest.approx(800 / 1800, abs=0.01)
    # What is far from all training images, where these are far from one another, is not told by its distance.
    assert memorized(nearest(np.tile(honest[:1], (500, 1)), train).closeness, unseen) == 0


def test_copies_are_told_where_images_are_dense_and_where_they_are_not():
    """Two kinds of images, of which one is a hundred times as dense, and near copies of either."""
    rng = np.random.default_rng(0)
    kinds = np.array([[0.0] * 6, [50.0] * 6])
    draw = lambda n: np.concatenate([kinds[i] + rng.normal(size=(n, 6)) * (0.01, 1.0)[i] for i in (0, 1)])  # noqa: E731
    train, held_out, honest = draw(1000), draw(1000), draw(1000)
    near = train + rng.normal(size=train.shape) * np.repeat([[0.0005], [0.05]], 1000, axis=0)
    unseen = nearest(held_out, train).closeness
    for kind in (slice(None, 1000), slice(1000, None)):
        assert memorized(nearest(honest[kind], train).closeness, unseen) < 0.03
        assert memorized(nearest(near[kind], train).closeness, unseen) > 0.9


@pytest.mark.parametrize("rounding", [0, 1e-7])
def test_copies_among_the_training_images_change_no_closeness(rounding):
    """What is near a training image is near it, however often that is there; rounding may have parted its copies."""
    rng = np.random.default_rng(0)
    train, samples = rng.normal(size=(500, 6)), rng.normal(size=(40, 6))
    samples[:10] = train[:10]
    twice = np.concatenate([train, train + rounding * rng.normal(size=train.shape)])
    once, found = nearest(samples, train).closeness, nearest(samples, twice).closeness
    np.testing.assert_allclose(found, once, rtol=1e-4)
    np.testing.assert_array_equal(found == 0, np.arange(40) < 10)
    np.testing.assert_array_equal(nearest([[1.0], [2.0]], np.ones((3, 1))).closeness, [0, np.inf])


def test_memorized_is_the_share_below_the_percentile_of_unseen_images_and_of_copies():
    assert memorized([0, 0.5, 1, 1.5], np.arange(101.0)) == 0.5  # whose 1st percentile is 1
    # Of unseen images 3 % are copies. What is close, the others say.
    unseen = np.concatenate([np.zeros(3), np.linspace(0.5, 1, 97)])
    assert memorized(np.zeros(5), unseen) == 1
    assert memorized([0, 0.4, 0.6, 2], unseen) == 0.5
    assert memorized([0, 0.4], np.zeros(9)) == 0.5


def realism_by_scikit_learn(real, fake, k):
    """Kynkäänniemi et al. 2019, equation 3, with half of the balls."""
    neighbors = pytest.importorskip("sklearn.neighbors")
    radii = neighbors.NearestNeighbors(n_neighbors=k + 1).fit(real).kneighbors(real)[0][:, k]
    some = radii <= np.median(radii)
    return np.array([max(r / distance(y, x) for x, r in zip(real[some], radii[some], strict=True)) for y in fake])


@pytest.mark.parametrize(("seed", "k"), [(0, 3), (3, 1), (2, 7)])
@pytest.mark.parametrize("piece", [17, 2**22])
def test_realism_is_that_by_scikit_learns_neighbours(seed, k, piece, monkeypatch):
    monkeypatch.setattr(pairs, "BLOCK", piece)
    real, fake = drawn(seed, 41)
    got = realism(real, fake, k)
    np.testing.assert_allclose(got, realism_by_scikit_learn(real, fake, k), rtol=1e-10)
    assert 0 < np.mean(got >= 1) < precision_recall(real, fake, k).precision  # inside of half of the balls


def test_realism_that_is_known():
    """A square of side 1, whose balls reach to a corner beside it (k = 1), and an outlier, whose ball is left out."""
    real = np.array([[0.0, 0], [0, 1], [1, 0], [1, 1], [9, 9]])
    fake = np.array([[0.5, 0.5], [0, 0.25], [1, 3], [1, 1], [8, 8]])
    for scale in (1, 1e6, 1e-6):
        expected = [np.sqrt(2), 4, 0.5, np.inf, np.sqrt(1 / 98)]
        np.testing.assert_allclose(realism(scale * real, scale * fake, 1), expected)
    assert precision_recall(real, np.tile(fake[4:], (5, 1)), 1).precision == 1  # which takes the outlier's word


def authpct_by_loops(train, fake):
    """Stein et al. 2023: whether the nearest training image has another one that is nearer than the sample."""
    authentic = []
    for y in fake:
        i = min(range(len(train)), key=lambda i, y=y: distance(y, train[i]))
        others = min(distance(train[i], x) for j, x in enumerate(train) if j != i)
        authentic.append(distance(y, train[i]) > others)
    return 100 * sum(authentic) / len(fake)


def test_authpct_is_that_by_loops():
    for seed in range(3):
        train, fake = drawn(seed)
        expected = authpct_by_loops(train, fake)
        assert 20 < expected < 100
        assert authpct(nearest(fake, train).closeness) == pytest.approx(expected)
        half = np.concatenate([fake, train[: len(fake)]])  # copies are none
        assert authpct(nearest(half, train).closeness) == pytest.approx(expected / 2)
        # Each training image twice: by the authors' count all but copies would be authentic.
        twice = np.concatenate([train, train])
        assert authpct_by_loops(twice, fake) == 100
        assert authpct(nearest(fake, twice).closeness) == pytest.approx(expected)


GOOD = np.random.default_rng(0).normal(size=(8, 3))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: precision_recall(GOOD[:3], GOOD), "real: there are 3 samples, and 4 are needed"),
        (lambda: precision_recall(GOOD, GOOD[:3]), "fake: there are 3 samples, and 4 are needed"),
        (lambda: precision_recall(GOOD, GOOD, k=0), "k is 0"),
        (lambda: density_coverage(GOOD[:5], GOOD), "real: there are 5 samples, and 6 are needed"),
        (lambda: density_coverage(GOOD, GOOD[:0]), "fake: there are 0 samples, and 1 are needed"),
        (lambda: neighbour_scores(GOOD[:5], GOOD), "real: there are 5 samples, and 6 are needed"),
        (lambda: neighbour_scores(GOOD, GOOD[:3]), "fake: there are 3 samples, and 4 are needed"),
        (lambda: neighbour_scores(GOOD, GOOD, density_k=-1), "k is -1"),
        (lambda: neighbour_scores(GOOD, GOOD[:, :2]), "real has 3 features and fake has 2"),
        (lambda: neighbour_scores(GOOD[0], GOOD), r"real: features are \[N, D\]"),
        (lambda: neighbour_scores(GOOD, GOOD * np.nan), "fake: some features are not finite"),
        (lambda: nearest(GOOD, GOOD[:0]), "b: there are 0 samples, and 2 are needed"),
        (lambda: nearest(GOOD, GOOD[:, :1]), "b has 1 features and a has 3"),
        (lambda: realism(GOOD[:3], GOOD), "real: there are 3 samples, and 4 are needed"),
        (lambda: realism(GOOD, GOOD[:0]), "fake: there are 0 samples, and 1 are needed"),
        (lambda: realism(GOOD, GOOD, k=0), "k is 0"),
        (lambda: authpct([]), "samples: must be"),
        (lambda: authpct([-1.0]), "samples: must be"),
        (lambda: memorized([], [1.0]), "samples: must be"),
        (lambda: memorized([1.0], [[1.0]]), "unseen: must be"),
        (lambda: memorized([1.0], [np.nan]), "unseen: must be"),
        (lambda: memorized([-1.0], [1.0]), "samples: must be"),
    ],
)
def test_what_does_not_fit_is_an_error_in_one_line(call, message):
    with pytest.raises(ValueError, match=message) as error:
        call()
    assert "\n" not in str(error.value)
