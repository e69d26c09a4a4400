"""Data made of other data: `grey:` pairs and `inverse:` domains."""

import numpy as np
import pytest
import small_tfds
from PIL import Image

import jaxgan
from jaxgan import data, recipes
from jaxgan.data import derived
from jaxgan.data.dataset import Dataset

COLOURS = np.random.default_rng(0).integers(0, 256, (7, 5, 6, 3), np.uint8)


def test_grey_pairs_are_pillows():
    found = derived.grey(Dataset("mine", COLOURS, np.arange(7)))
    batch = found.read(np.array([3, 0]))
    np.testing.assert_array_equal(batch.images, COLOURS[[3, 0]])
    np.testing.assert_array_equal(batch.labels, [3, 0])
    want = [np.asarray(Image.fromarray(COLOURS[i]).convert("L"))[..., None] for i in (3, 0)]
    np.testing.assert_array_equal(batch.others["condition"], want)
    assert found.other_shapes == {"condition": (5, 6, 1)}
    assert len(found.load().others["condition"]) == 7
    other = Dataset("mine", COLOURS[::-1], np.arange(7))
    assert derived.grey(other).digest() != found.digest()


def test_domains_share_no_image():
    found = derived.inverse(Dataset("mine", COLOURS))
    np.testing.assert_array_equal(found.read(np.arange(found.size)).images, COLOURS[::2])
    other = found.unpaired["other"].read(np.arange(3)).images
    want = np.array([255, 220, 110]) * (1 - COLOURS[1::2] / 255) + np.array([30, 40, 150]) * (COLOURS[1::2] / 255)
    np.testing.assert_allclose(other, want, atol=0.5)
    black_and_white = np.stack([np.zeros((1, 1, 3)), np.full((1, 1, 3), 255)]).astype(np.uint8)
    np.testing.assert_array_equal(derived.in_ink(black_and_white)[:, 0, 0], [[255, 220, 110], [30, 40, 150]])


def test_they_are_opened_by_name():
    pairs = data.load("grey:digits", image_shape=(8, 8, 3))
    assert pairs.name == "grey:digits"
    assert pairs.images.shape == (1797, 8, 8, 3)
    assert pairs.others["condition"].shape == (1797, 8, 8, 1)
    domains = data.load("inverse:digits", image_shape=(8, 8, 3))
    assert (len(domains.images), len(domains.unpaired["other"].images)) == (899, 898)
    assert data.splits("grey:digits") == ()
    assert data.splits("inverse:pairs:x") == ("train", "test")
    for name, shape, why in (("inverse:digits", (8, 8, 1), "in RGB"), ("grey:", None, "is empty")):
        with pytest.raises(data.DataError, match=why):
            data.load(name, image_shape=shape)


def test_a_recipe_holds_the_test_split_out(tmp_path, monkeypatch):
    """Where the data that the domains are made of have one."""
    examples = [{"image": jaxgan.images.png(image)} for image in COLOURS]
    small_tfds.write(str(tmp_path), examples, splits=("train", "test"))
    asked = []

    def opened(name, data_dir, shape, split, *others):
        asked.append(split)
        return data.open_source(name, data_dir, shape, split, *others)

    monkeypatch.setattr("jaxgan.recipes.settings.open_source", opened)
    recipe = recipes.get("cyclegan").replace(data="inverse:small")
    found = recipe.open_data(str(tmp_path))
    held_out = recipe.held_out(2, str(tmp_path))
    assert asked == ["train", "test"]
    np.testing.assert_array_equal(held_out.labels, found.unpaired["other"].read(np.arange(2)).images)
    assert held_out.images is None
