"""Which real images are held out: halves and choices by no order of the data, and copies among them."""

import numpy as np
import pytest
from small_run import few_subsets, recipe

from jaxgan import data
from jaxgan.commands import real_images, scoring
from jaxgan.data import Dataset


@pytest.fixture(scope="module", autouse=True)
def few_subsets_and_an_empty_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        few_subsets(patch)
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


def test_which_images_are_held_out():
    by = scoring.scorer(recipe())
    assert (len(by.trained.images), len(by.train.images), len(by.test.images)) == (1797, 899, 898)
    both = np.concatenate([by.train.images, by.test.images])
    assert {x.tobytes() for x in both} == {x.tobytes() for x in by.trained.images}
    # Of each class one half.
    of_class = [np.bincount(half.labels, minlength=10) for half in (by.train, by.test)]
    assert np.abs(np.subtract(*of_class)).max() <= 1
    # All copies are found, of whichever half; and none among images that were not trained on.
    digits = by.trained.images
    assert by.score(digits[:400])["memorized"] == 1
    floor = by.floor(899)
    assert floor["memorized"] == pytest.approx(0.01, abs=0.02)
    assert floor["duplicates"] == 0
    assert scoring.duplicates(floor) == []


def two_kinds():
    """A digit, its negative, the next digit, …: as files x_a, x_b, y_a, y_b would be."""
    digits = data.load("digits").images[:600]
    return Dataset("kinds", np.stack([digits, 255 - digits], axis=1).reshape(-1, 8, 8, 1))


@pytest.mark.slow
def test_halves_and_choices_have_no_order_of_the_data_in_them(monkeypatch):
    by = scoring.scorer(recipe(data=two_kinds))
    images = by.trained.images
    dark = [np.mean(real.images.mean((1, 2, 3)) < 128) for real in (by.train, by.test)]
    np.testing.assert_allclose(dark, 0.5, atol=0.05)
    assert by.score(images[np.random.default_rng(0).permutation(1200)[:600]])["precision"] > 0.85
    assert by.score(images[::2])["recall"] < 0.6  # one kind alone
    # Those in memory, of data that take too much of it: every second one would be one kind.
    items = [*images]
    monkeypatch.setattr(real_images, "WHOLE", images.nbytes - 1)
    chosen = real_images._in_memory(data.of_items("kinds", items)).images
    assert len(chosen) in (599, 600)
    assert np.mean(chosen.mean((1, 2, 3)) < 128) == pytest.approx(0.5, abs=0.05)


@pytest.mark.slow
def test_copies_are_told_where_the_data_have_duplicates():
    digits = data.load("digits").images[:1000]
    twice = Dataset("twice", np.concatenate([digits, digits[::33]]))
    by = scoring.scorer(recipe(data=lambda: twice))
    floor, images = by.floor(500), by.trained.images
    copied = {x.tobytes() for x in by.train.images}
    share = np.mean([x.tobytes() in copied for x in by.test.images])
    assert share > 0.01
    assert floor["duplicates"] == pytest.approx(share)
    assert floor["memorized"] < 0.1
    assert scoring.duplicates(floor) == [f"{share:.2%} of the held-out real images are copies of training images"]
    moved = np.clip(images[:300].astype(int) + 1, 0, 255).astype(np.uint8)
    assert by.score(np.concatenate([images[300:600], moved]))["memorized"] > 0.9
