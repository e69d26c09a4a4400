"""Features: what images become, that nothing but the image decides them, and which real features are kept."""

import hashlib
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from small_run import few_subsets

from jaxgan import data, evaluation
from jaxgan.evaluation import Embedded, Features, cache, shipped
from jaxgan.evaluation.features import brought_to

MOST = 3 * 2**20  # bytes of all weights together


# The Fréchet distance of every second of the digits to the others, brought to each classifier's size. JAX 0.10.2 and
# 0.11.2 agree on it to 1e-11, and XLA's own convolutions on a CPU to 1e-7.
DISTANCES = {"digits": 0.19245734896605882, "mnist": 0.02521189104193411, "cifar10": 0.09307558245509107}


@pytest.fixture(autouse=True)
def quick_scores(monkeypatch):
    few_subsets(monkeypatch)


@pytest.fixture(scope="module")
def digits():
    return data.load("digits")


@pytest.fixture(scope="module")
def features():
    return evaluation.classifier("digits")


def test_the_weights_are_those_of_the_index_and_few():
    sizes = {path.stem: path.stat().st_size for path in shipped.FOLDER.glob("*.npz")}
    least = {"digits": 0.98, "mnist": 0.993, "cifar10": 0.85}
    assert sizes.keys() == shipped.index().keys() == least.keys()
    assert sum(sizes.values()) < MOST
    page = (Path(__file__).parents[1] / "docs/evaluation.md").read_text()
    for name, about in shipped.index().items():
        file = shipped.FOLDER / f"{name}.npz"
        assert hashlib.sha256(file.read_bytes()).hexdigest() == about["sha256"]
        with np.load(file) as arrays:
            assert {arrays[key].dtype for key in arrays.files} == {np.dtype(np.float16)}
            assert all(np.isfinite(arrays[key]).all() for key in arrays.files)
        assert about["test_accuracy"] >= least[name]
        (line,) = (line for line in page.splitlines() if line.startswith(f"| `{name}` |"))
        assert f"| {about['training']['widths'][-1]} | {about['test_accuracy']:.2%}".replace("%", " %") in line
        assert evaluation.for_data(name) == name
    assert evaluation.for_data("mnist:3.0.1") == "mnist"
    assert evaluation.for_data("celeb_a") == evaluation.for_data("folder:digits") == "cifar10"


def test_the_classifier_is_as_right_on_held_out_digits_as_the_index_says(digits, features):
    test = np.arange(len(digits.images)) % 5 == 0
    found = evaluation.embed(features, digits.images[test])
    right = (found.probabilities.argmax(1) == digits.labels[test]).mean()
    assert right == pytest.approx(shipped.index()["digits"]["test_accuracy"], abs=1e-4)
    np.testing.assert_allclose(found.probabilities.sum(1), 1, rtol=1e-6)
    assert found.features.shape == (test.sum(), 64)
    assert (found.features >= 0).all()


@pytest.mark.slow
@pytest.mark.parametrize("name", DISTANCES)
def test_a_score_of_these_images_is_this(digits, name):
    features = evaluation.classifier(name)
    halves = (evaluation.embed(features, digits.images[i::2]).features for i in range(2))
    distance = evaluation.frechet_distance(*map(evaluation.moments, halves))
    assert distance == pytest.approx(DISTANCES[name], rel=1e-4)


def test_an_images_features_depend_neither_on_the_other_images_nor_on_the_device(digits, features):
    whole = evaluation.embed(features, digits.images[:600])
    for part in (slice(0, 1), slice(3, 40), slice(240, 520)):
        alone = evaluation.embed(features, digits.images[:600][part])
        for name in Embedded._fields:
            np.testing.assert_allclose(getattr(alone, name), getattr(whole, name)[part], rtol=1e-5, atol=1e-6)
    with jax.default_device(jax.devices()[3]):
        there = evaluation.embed(features, digits.images[:600])
    np.testing.assert_array_equal(there.features, whole.features)


def test_a_changed_file_of_weights_is_refused(tmp_path):
    for path in shipped.FOLDER.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    assert shipped.load("digits", tmp_path)[0]["test_accuracy"] > 0.9
    file = tmp_path / "digits.npz"
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    with pytest.raises(ValueError, match=r"digits\.npz is not the file that came with the package"):
        shipped.load("digits", tmp_path)
    with pytest.raises(ValueError, match="no classifier is named 'x'; there are cifar10, digits, mnist"):
        shipped.load("x")


@pytest.mark.parametrize(("size", "wanted"), [((40, 56), 32), ((28, 28), 32), ((16, 20), 32), ((32, 32), 8)])
def test_images_of_another_size_are_resized_as_pillow_does(size, wanted):
    images = np.random.default_rng(0).integers(0, 256, (2, *size, 1), dtype=np.uint8)
    found = np.asarray(brought_to(jnp.asarray(images), (wanted, wanted, 1)))
    for image, ours in zip(images, found, strict=True):
        exact = Image.fromarray(image[..., 0].astype(np.float32)).resize((wanted, wanted), Image.Resampling.BILINEAR)
        np.testing.assert_allclose(ours[..., 0], np.asarray(exact), atol=0.01)


def test_colours_and_borders():
    images = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), dtype=np.uint8)
    grey = np.asarray(brought_to(jnp.asarray(images), (8, 8, 1)))
    exact = np.stack([np.asarray(Image.fromarray(image).convert("L")) for image in images])
    np.testing.assert_allclose(grey[..., 0], exact, atol=0.51)  # Pillow's are whole numbers
    colour = np.asarray(brought_to(jnp.asarray(images[..., :1]), (8, 8, 3)))
    np.testing.assert_array_equal(colour, np.repeat(images[..., :1], 3, -1))
    with pytest.raises(ValueError, match=r"images must be grey .* or RGB .*, not of 4 channels"):
        brought_to(jnp.zeros((1, 8, 8, 4), jnp.uint8), (8, 8, 3))


def test_what_changes_the_numbers_changes_the_digest(monkeypatch):
    digests = [evaluation.classifier(name).sha256 for name in ("digits", "mnist", "cifar10")]
    assert len(set(digests)) == 3
    assert evaluation.classifier("digits").sha256 == digests[0]
    monkeypatch.setattr("jaxgan.evaluation.features.VERSION", 2)
    assert evaluation.classifier("digits").sha256 != digests[0]
    monkeypatch.undo()
    about, variables = shipped.load("digits")
    monkeypatch.setattr(shipped, "load", lambda name: (about | {"sha256": "of other weights"}, variables))
    assert evaluation.classifier("digits").sha256 != digests[0]


def test_a_function_of_ones_own():
    images = np.random.default_rng(0).integers(0, 256, (600, 4, 4, 1), dtype=np.uint8)
    mine = Features("mine", "", lambda images: images.reshape(len(images), -1))
    found = evaluation.embed(mine, images)
    np.testing.assert_array_equal(found.features, images.reshape(600, -1))
    assert found.probabilities is None
    assert "inception_score" not in evaluation.score(found, found)


def mine(*shape, times=None):
    """Features that do not look at the images."""
    found = np.zeros(shape)
    return Features("mine", "", lambda images: (found,) * times if times else found)


@pytest.mark.parametrize(
    ("features", "images", "message"),
    [
        (mine(250, 2), np.zeros((3, 8, 8, 1)), "images must be uint8"),
        (mine(250, 2), np.zeros((8, 8, 1), np.uint8), r"not uint8 \[8, 8, 1\]"),
        (mine(250, 2), np.zeros((0, 8, 8, 1), np.uint8), "images must be"),
        (mine(250, 2, 2), np.zeros((4, 8, 8, 1), np.uint8), "mine must give features"),
        (mine(3, 2), np.zeros((4, 8, 8, 1), np.uint8), "mine must give features"),
        (mine(250, 2, times=3), np.zeros((4, 8, 8, 1), np.uint8), "mine must give features"),
    ],
)
def test_what_is_no_image_or_gives_no_features_is_refused(features, images, message):
    with pytest.raises(ValueError, match=message):
        evaluation.embed(features, images)


def test_what_is_kept_is_known_by_what_decides_it(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    made = []

    def kept(decided_by, value):
        def make():
            made.append(value)
            return {"features": np.full((2, 3), value, np.float32)}

        return cache.cached(decided_by, make)["features"][0, 0]

    assert kept(["images 1", "features 1"], 1) == 1
    assert kept(["images 1", "features 1"], 2) == 1
    assert kept(["images 2", "features 1"], 3) == 3
    assert kept(["images 1", "features 2"], 4) == 4
    folder = tmp_path / "jaxgan" / "scores"
    for path in folder.iterdir():
        path.write_bytes(path.read_bytes()[:50])
    assert kept(["images 1", "features 1"], 5) == 5  # damaged
    assert made == [1, 3, 4, 5]
    assert all(path.suffix == ".npz" for path in folder.iterdir())
    monkeypatch.setattr(cache, "MOST", 0)  # bytes: each new file is then the only one
    assert kept(["images 3"], 6) == 6
    assert len(list(folder.iterdir())) == 1


def test_a_score_is_the_same_again_and_of_the_right_images(digits, features):
    half = [evaluation.embed(features, digits.images[i::2]) for i in range(2)]
    scores = evaluation.score(half[0], half[1], digits.labels[0::2])
    assert scores == evaluation.score(half[0], half[1], digits.labels[0::2])
    assert scores["label_agreement"] > 0.98
    assert scores["classes_covered"] == 10
    assert scores["recall"] > 0.8
    wrong = evaluation.score(half[0], half[1], (digits.labels[0::2] + 1) % 10)
    assert wrong["label_agreement"] < 0.02
    black = evaluation.embed(features, np.zeros_like(digits.images))
    assert evaluation.score(black, half[1])["precision"] == 0
