"""Datasets: the order of the data, what loading gives, and what it says when it cannot."""

import importlib.util
import io
import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from jaxgan import data
from jaxgan.gan import Purpose

TFDS = Path(__file__).parents[2] / "shared/data/tfds"
needs_tfds = pytest.mark.skipif(not TFDS.is_dir(), reason=f"no prepared TensorFlow datasets in {TFDS}")
KEY = jax.random.key(7)
NOISE = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)


def numbered(size):
    """A dataset whose image i holds the number i."""
    return data.Dataset("numbered", np.arange(size, dtype=np.uint8).reshape(-1, 1, 1, 1))


def order(size, key, steps, batch_size):
    return np.concatenate([numbered(size).batch(key, t, batch_size).ravel() for t in range(steps)])


def folder_of(tmp_path, images):
    """Writes arrays, or bytes as they are, under the names given."""
    for name, image in images.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(image, bytes):
            path.write_bytes(image)
        else:
            Image.fromarray(image).save(path)
    return f"folder:{tmp_path}"


def half(image, kind):
    file = io.BytesIO()
    Image.fromarray(image).save(file, kind)
    return file.getvalue()[: file.tell() // 2]


def error_of(*args):
    with pytest.raises(data.DataError) as caught:
        data.load(*args)
    message = str(caught.value)
    assert message.splitlines() == [message], "not one line"
    return message


def test_a_batch_depends_on_key_and_step_alone():
    dataset = numbered(20)
    forward = [dataset.batch(KEY, t, 8) for t in range(12)]
    data._permutation.cache_clear()
    backward = [numbered(20).batch(jax.random.key(7), t, 8) for t in reversed(range(12))][::-1]
    np.testing.assert_array_equal(forward, backward)
    dataset.batch(KEY, 5, 8)[:] = 255  # a copy
    np.testing.assert_array_equal(forward[5], dataset.batch(KEY, 5, 8))


@settings(deadline=None)
@given(parts=st.integers(1, 5), share=st.integers(1, 4), step=st.integers(0, 6))
def test_the_parts_of_a_batch_are_the_batch(parts, share, step):
    dataset = numbered(20)
    split = [dataset.batch(KEY, step, parts * share, (i, parts)) for i in range(parts)]
    np.testing.assert_array_equal(np.concatenate(split), dataset.batch(KEY, step, parts * share))
    assert {len(part) for part in split} == {share}


@given(size=st.integers(1, 12), batch_size=st.integers(1, 30), steps=st.integers(1, 8))
def test_every_image_is_used_once_per_epoch(size, batch_size, steps):
    used = order(size, KEY, steps, batch_size)
    assert len(used) == steps * batch_size
    for start in range(0, len(used), size):
        epoch = used[start : start + size]
        assert len(set(epoch.tolist())) == len(epoch)
        assert set(epoch.tolist()) <= set(range(size))


@pytest.mark.parametrize("batch_size", [1, 7, 50, 100, 130])
def test_the_order_is_a_permutation_keyed_by_purpose_and_epoch(batch_size):
    base = jax.random.fold_in(KEY, data.ORDER)
    # Python's own integers and its own sort.
    draws = (np.asarray(jax.random.bits(jax.random.fold_in(base, epoch), (2, 100))).tolist() for epoch in range(3))
    expected = [i for high, low in draws for i in sorted(range(100), key=lambda i: 2**32 * high[i] + low[i])]
    actual = order(100, KEY, 260 // batch_size, batch_size)
    np.testing.assert_array_equal(actual, expected[: len(actual)])


def test_epochs_and_keys_and_their_kinds_have_orders_of_their_own():
    keys = [KEY, jax.random.key(8), jax.random.key(7, impl="rbg")]
    orders = {tuple(epoch) for key in keys for epoch in order(100, key, 2, 100).reshape(2, 100).tolist()}
    assert len(orders) == 6
    assert tuple(range(100)) not in orders


def test_the_purpose_of_the_order_is_no_other_draws_purpose():
    assert data.ORDER not in list(Purpose)


def test_digits_are_scikit_learns():
    from sklearn.datasets import load_digits

    images = data.load("digits").images
    assert images.shape == (1797, 8, 8, 1)
    assert images.dtype == np.uint8
    np.testing.assert_array_equal(images[..., 0], np.round(load_digits().images * 255 / 16))
    np.testing.assert_array_equal(data.load("digits", image_shape=(8, 8, 1)).images, images)


@pytest.mark.parametrize("shape", [(28, 28, 1), (32, 32, 3)])
def test_digits_resized_are_the_same_digits(shape):
    images = data.load("digits", image_shape=shape).images
    assert images.shape == (1797, *shape)
    assert images.dtype == np.uint8
    assert (images == images[..., :1]).all()
    small = [np.asarray(Image.fromarray(i[..., 0]).resize((8, 8), Image.Resampling.BOX)) for i in images[:50]]
    for image, expected in zip(small, data.load("digits").images[:50, ..., 0], strict=True):
        assert np.corrcoef(image.ravel(), expected.ravel())[0, 1] > 0.95


@pytest.fixture(scope="module")
def mnist():
    if not TFDS.is_dir():
        pytest.skip(f"no prepared TensorFlow datasets in {TFDS}")
    return data.load("mnist", str(TFDS))


def test_mnist_is_mnist(mnist):
    import tensorflow_datasets as tfds

    assert mnist.images.shape == (60_000, 28, 28, 1)
    assert mnist.images.dtype == np.uint8
    histogram = np.bincount(mnist.images.ravel(), minlength=256) / mnist.images.size
    values = np.arange(256) / 255
    mean = histogram @ values
    assert mean == pytest.approx(0.1307, abs=1e-4)
    assert np.sqrt(histogram @ (values - mean) ** 2) == pytest.approx(0.3081, abs=1e-4)
    source = tfds.data_source("mnist", split="train", data_dir=str(TFDS))
    for i in (0, 511, 512, 59_999):
        np.testing.assert_array_equal(mnist.images[i], source[i]["image"])


@needs_tfds
def test_splits_can_be_chosen_cut_and_joined():
    test = data.load("mnist", str(TFDS), split="test").images
    assert test.shape == (10_000, 28, 28, 1)
    joined = data.load("mnist", str(TFDS), split="test[:700]+test[9990:]").images
    np.testing.assert_array_equal(joined, np.concatenate([test[:700], test[9990:]]))
    resized = data.load("mnist", str(TFDS), image_shape=(32, 16, 3), split="test[:2]").images
    assert resized.shape == (2, 32, 16, 3)


@needs_tfds
def test_cifar10_is_in_colour():
    images = data.load("cifar10", str(TFDS), split="test").images
    assert images.shape == (10_000, 32, 32, 3)
    assert images.dtype == np.uint8
    assert (images[..., 0] != images[..., 2]).any()


def test_a_folder_is_read_in_the_order_of_its_paths_without_hidden_files(tmp_path):
    flat = {"a/z.png": 10, "b.png": 20, "c/d/a.png": 30, "c/e.png": 40}
    files = {name: np.full((4, 6), value, np.uint8) for name, value in reversed(flat.items())}
    dataset = data.load(folder_of(tmp_path, files | {".DS_Store": b"no image", "a/.hidden.png": NOISE}))
    assert dataset.images.shape == (4, 4, 6, 1)
    assert dataset.images[:, 0, 0, 0].tolist() == list(flat.values())


def test_png_files_are_read_exactly_and_jpeg_files_nearly(tmp_path):
    smooth = np.asarray(Image.fromarray(NOISE[:4, :4]).resize((40, 40)))
    first, second = data.load(folder_of(tmp_path, {"a.png": NOISE, "b.jpg": smooth})).images
    np.testing.assert_array_equal(first, NOISE)
    assert np.abs(second.astype(int) - smooth).mean() < 8


def test_colour_becomes_grey_and_grey_becomes_colour(tmp_path):
    name = folder_of(tmp_path, {"a.png": NOISE, "b.png": NOISE[..., 0]})
    grey = data.load(name, image_shape=(40, 40, 1)).images
    np.testing.assert_allclose(grey[0, ..., 0], NOISE @ [0.299, 0.587, 0.114], atol=1)
    colour = data.load(name, image_shape=(40, 40, 3)).images
    np.testing.assert_array_equal(colour, [NOISE, np.repeat(NOISE[..., :1], 3, axis=-1)])


@pytest.mark.parametrize("tall", [False, True])
def test_images_are_cropped_around_the_centre(tmp_path, tall):
    image = np.concatenate([np.full_like(NOISE, 255), NOISE, np.full_like(NOISE, 255)], axis=0 if tall else 1)
    images = data.load(folder_of(tmp_path, {"a.png": image}), image_shape=(40, 40, 3)).images
    np.testing.assert_array_equal(images, [NOISE])


def test_images_are_resized_to_height_and_width(tmp_path):
    quadrants = np.kron(np.array([[0, 80], [160, 240]], np.uint8), np.ones((32, 64), np.uint8))
    images = data.load(folder_of(tmp_path, {"a.png": quadrants}), image_shape=(8, 16, 1)).images
    expected = np.kron([[0, 80], [160, 240]], np.ones((4, 8)))
    assert images.shape == (1, 8, 16, 1)
    assert (np.abs(images[0, ..., 0] - expected) < 30).all()


SMALL, GREY = NOISE[:20], NOISE[..., 0]
BAD_FOLDERS = {
    "no files": ({".hidden": b""}, ["put PNG or JPEG images"]),
    "text": ({"a.png": NOISE, "notes.txt": b"not an image"}, ["notes.txt", "remove or mend"]),
    "empty file": ({"a.png": NOISE, "void.png": b""}, ["void.png", "remove or mend"]),
    "half a png": ({"half.png": half(NOISE, "PNG")}, ["half.png", "remove or mend"]),
    "half a jpeg": ({"half.jpg": half(NOISE, "JPEG")}, ["half.jpg", "remove or mend"]),
    "broken header": ({"odd.ppm": b"P6 4x 4 255\n" + bytes(48)}, ["odd.ppm", "remove or mend"]),
    "two sizes": ({"a.png": NOISE, "b.png": SMALL}, ["a.png", "40x40", "b.png", "40x20", "resize"]),
    "grey and colour": ({"a.png": GREY, "b.png": NOISE}, []),
    "16 bits": ({"a.png": GREY, "deep.png": GREY.astype(np.uint16) * 257}, ["deep.png", "8 bits", "convert"]),
}


@pytest.mark.parametrize("case", BAD_FOLDERS)
def test_a_bad_folder_is_refused_with_what_would_help(tmp_path, case):
    files, words = BAD_FOLDERS[case]
    message = error_of(folder_of(tmp_path, files))
    assert all(word in message for word in [str(tmp_path), *words]), message


@pytest.mark.parametrize("path", ["", "/no/such/folder", __file__, "~nobody-of-this-name/images"])
def test_a_missing_folder_is_refused(path):
    message = error_of(f"folder:{path}")
    assert f"folder:{path}" in message
    assert "give the path of a folder" in message


def test_an_empty_name_is_refused(tmp_path):
    """Named by its flag, for there is no name to say."""
    message = error_of("", str(tmp_path))
    assert message.startswith("--data is empty")
    assert "folder:PATH" in message


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("no_such_dataset", ["digits", "folder:PATH", "tensorflow.org/datasets/catalog"]),
        ("ag_news_subset", ["no images", "title", "description"]),
        ("mnist", ["no network", "--data-dir", "array_record"]),
        ("mnist:9.9.9", []),
    ],
)
def test_a_dataset_that_cannot_be_had_is_named(tmp_path, monkeypatch, name, words):
    monkeypatch.setattr(data, "_online", lambda: False)
    message = error_of(name, str(tmp_path))
    assert message.startswith(f"{name}: ")
    assert all(word in message for word in words), message
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ImportError("Failed importing tensorflow.\nPlease install it."), ["pip install tensorflow"]),
        (OSError("No space left on device\nat all"), ["No space left on device"]),
    ],
)
def test_preparing_that_fails_says_why(tmp_path, monkeypatch, error, words):
    import tensorflow_datasets as tfds

    def fail(*args, **kwargs):
        raise error

    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "tensorflow" else find(name, *a))
    monkeypatch.setattr(data, "_online", lambda: True)
    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", fail)
    message = error_of("mnist", str(tmp_path))
    assert message.startswith("mnist: ")
    assert all(word in message for word in [*words, str(tmp_path / "mnist"), "--data-dir"]), message


@needs_tfds
@pytest.mark.parametrize("split", ["tset", "test+", "", "test[:0]"])
def test_an_unknown_split_is_named(split):
    message = error_of("mnist", str(TFDS), None, split)
    assert message.startswith(f"mnist: split {split!r}: ")
    assert split != "tset" or "['train', 'test']" in message


@needs_tfds
def test_data_prepared_in_another_format_is_refused(tmp_path):
    folder = tmp_path / "mnist/3.0.1"
    folder.mkdir(parents=True)
    shutil.copy(TFDS / "mnist/3.0.1/features.json", folder)
    info = json.loads((TFDS / "mnist/3.0.1/dataset_info.json").read_text())
    (folder / "dataset_info.json").write_text(json.dumps(info | {"fileFormat": "tfrecord"}))
    message = error_of("mnist", str(tmp_path))
    assert all(word in message for word in [str(folder), "array_record", "download_and_prepare"]), message


@needs_tfds
def test_a_split_can_join_two():
    assert len(data.load("mnist", str(TFDS), split="train+test").images) == 70_000


@needs_tfds
def test_a_border_pads_mnist_and_does_not_resize_it():
    plain = data.load("mnist", str(TFDS), split="test")
    padded = data.load("mnist", str(TFDS), (32, 32, 1), "test", border=2)
    assert padded.images.shape == (10_000, 32, 32, 1)
    np.testing.assert_array_equal(padded.images[:, 2:-2, 2:-2], plain.images)
    assert padded.images.sum(dtype=np.int64) == plain.images.sum(dtype=np.int64)


def test_a_border_around_images_that_are_resized():
    plain, padded = data.load("digits", None, (28, 28, 1)), data.load("digits", None, (32, 32, 1), border=2)
    np.testing.assert_array_equal(padded.images[:, 2:-2, 2:-2], plain.images)
    assert not padded.images[:, [0, 1, -2, -1]].any()
    assert not padded.images[:, :, [0, 1, -2, -1]].any()


def test_a_border_wider_than_the_image_is_refused():
    assert "--border 4 leaves nothing of an image of 8x8" in error_of("digits", None, (8, 8, 1), "train", 4)
