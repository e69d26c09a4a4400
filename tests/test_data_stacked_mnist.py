"""Stacked MNIST: which digits make up an image, against MNIST itself, and what is refused."""

import types

import numpy as np
import pytest
from small_data import TFDS, error_of, needs_tfds

from jaxgan import data, recipes
from jaxgan.commands import scorer, scoring
from jaxgan.data import Dataset
from jaxgan.data import tfds as room
from jaxgan.gan import image_shape

MNIST = Dataset(
    "mnist",
    np.random.default_rng(0).integers(0, 256, (50, 28, 28, 1), np.uint8),
    np.arange(50) % 10,
    tuple("0123456789"),
)


@pytest.fixture
def mnist(monkeypatch):
    """MNIST is 50 images of noise, of known labels."""
    monkeypatch.setattr(room, "source", lambda *_: types.SimpleNamespace(load=lambda: MNIST))
    monkeypatch.setattr(room, "splits", lambda name, data_dir: {"mnist": ("train", "test")}[name])


def places(images, channel):
    """Which image of MNIST each image has in a channel."""
    same = (images[:, None, ..., channel] == MNIST.images[None, ..., 0]).all((2, 3))
    assert (same.sum(1) == 1).all()
    return same.argmax(1)


def test_each_digit_is_once_in_each_channel_and_the_label_says_which(mnist):
    stacked = data.load("stacked_mnist")
    assert (stacked.name, stacked.images.shape) == ("stacked_mnist", (50, 28, 28, 3))
    found = [places(stacked.images, channel) for channel in range(3)]
    for channel, place in enumerate(found):
        np.testing.assert_array_equal(place, np.random.RandomState(channel).permutation(50))
    digits = [[int(digit) for digit in stacked.classes[label]] for label in stacked.labels]
    np.testing.assert_array_equal(digits, np.stack([MNIST.labels[place] for place in found], axis=1))
    assert (len(stacked.classes), stacked.classes[7], stacked.classes[-1]) == (1000, "007", "999")
    assert data.splits("stacked_mnist") == ("train", "test")


def test_images_are_resized_and_padded_as_those_of_other_data(mnist):
    whole = data.load("stacked_mnist").images
    np.testing.assert_array_equal(data.load("stacked_mnist", image_shape=(28, 28, 3)).images, whole)
    padded = data.load("stacked_mnist", image_shape=(32, 32, 3), border=2).images
    np.testing.assert_array_equal(padded, np.pad(whole, ((0, 0), (2, 2), (2, 2), (0, 0))))
    for shape in ((14, 14, 3), (28, 28, 1)):
        assert data.load("stacked_mnist", image_shape=shape).images.shape == (50, *shape)


def test_a_missing_mnist_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(room, "_online", lambda: False)
    message = error_of("stacked_mnist", str(tmp_path))
    assert all(word in message for word in ["mnist: ", "no network", "`data_dir`"]), message
    assert "split 'tset'" in error_of("stacked_mnist", str(TFDS), None, "tset") or not TFDS.is_dir()


@pytest.mark.slow
@needs_tfds
def test_the_test_split_is_that_of_mnist():
    """Whose pixels have the mean and the deviation that are known of them."""
    assert set(data.splits("stacked_mnist", str(TFDS))) == {"train", "test"}
    stacked = data.load("stacked_mnist", str(TFDS), split="test")
    assert stacked.images.shape == (10_000, 28, 28, 3)
    plain = data.load("mnist", str(TFDS), split="test")
    assert (plain.images / 255).mean() == pytest.approx(0.1325, abs=1e-4)
    assert (plain.images / 255).std() == pytest.approx(0.3105, abs=1e-4)
    assert np.bincount(plain.labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    for channel in range(3):
        order = np.random.RandomState(channel).permutation(10_000)
        np.testing.assert_array_equal(stacked.images[..., [channel]], plain.images[order])
    assert stacked.sha256(labels=True) == "0441e796c50c2930f8c5e6bf9016b0b826c352e562e0a98b2c690c074825e695"


@pytest.mark.slow
def test_a_run_on_it_is_scored_by_the_features_of_colour_images(mnist, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(scorer, "LEAST", 20)
    recipe = recipes.get("canton_lsgan").replace(data="stacked_mnist")
    images = recipe.load_data().images
    assert images.shape == (50, *image_shape(recipe.build())) == (50, 32, 32, 3)
    by = scoring.scorer(recipe)
    kind = scoring.kind(by, 20)
    assert (kind["features"]["name"], kind["reference"]["data"]) == ("cifar10", "stacked_mnist")
    assert np.isfinite(by.score(images[:20])["frechet_distance"])
