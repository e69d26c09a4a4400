"""Datasets: the order of the data, arrays of one's own, digits, and what `load` says of its arguments."""

import hashlib
import sys

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from small_data import NOISE, error_of

from jaxgan import data
from jaxgan.data.order import permutation
from jaxgan.gan import Batch
from jaxgan.randomness import Purpose

KEY = jax.random.key(7)


def numbered(size):
    """A dataset whose image i holds the number i, and has it for its label."""
    return data.Dataset("numbered", np.arange(size, dtype=np.uint8).reshape(-1, 1, 1, 1), np.arange(size))


def order(size, key, steps, batch_size):
    return np.concatenate([numbered(size).batch(key, t, batch_size).images.ravel() for t in range(steps)])


def test_a_batch_is_images_and_their_own_labels_by_key_and_step_alone():
    dataset = numbered(20)
    forward = [dataset.batch(KEY, t, 8) for t in range(12)]
    permutation.cache_clear()
    backward = [numbered(20).batch(jax.random.key(7), t, 8) for t in reversed(range(12))][::-1]
    jax.tree.map(np.testing.assert_array_equal, forward, backward)
    batch = dataset.batch(KEY, 5, 8)
    assert isinstance(batch, Batch)
    assert (batch.images.shape, batch.images.dtype, batch.labels.dtype) == ((8, 1, 1, 1), np.uint8, np.int32)
    np.testing.assert_array_equal(batch.labels, batch.images.ravel())
    for array in (batch.images, batch.labels):
        array[:] = 19  # a copy
    jax.tree.map(np.testing.assert_array_equal, forward[5], dataset.batch(KEY, 5, 8))
    assert data.Dataset("unlabelled", NOISE[None]).batch(KEY, 0, 3).labels is None


@given(parts=st.integers(1, 5), share=st.integers(1, 4), step=st.integers(0, 6))
def test_the_parts_of_a_batch_are_the_batch(parts, share, step):
    dataset = numbered(20)
    split = [dataset.batch(KEY, step, parts * share, (i, parts)) for i in range(parts)]
    joined = jax.tree.map(lambda *arrays: np.concatenate(arrays), *split)
    jax.tree.map(np.testing.assert_array_equal, joined, dataset.batch(KEY, step, parts * share))
    assert {len(part.images) for part in split} == {share}


@given(size=st.sampled_from([1, 2, 7, 30, 100]), batch_size=st.integers(1, 40), steps=st.integers(1, 4))
def test_the_order_is_a_permutation_keyed_by_purpose_and_epoch(size, batch_size, steps):
    """By Python's own integers and its own sort: every image once in each epoch."""
    base, epochs = jax.random.fold_in(KEY, 100), -(-steps * batch_size // size)
    draws = (np.asarray(jax.random.bits(jax.random.fold_in(base, i), (2, size))).tolist() for i in range(epochs))
    expected = [i for high, low in draws for i in sorted(range(size), key=lambda i: 2**32 * high[i] + low[i])]
    assert order(size, KEY, steps, batch_size).tolist() == expected[: steps * batch_size]


def test_epochs_and_keys_and_their_kinds_have_orders_of_their_own():
    keys = [KEY, jax.random.key(8), jax.random.key(7, impl="rbg")]
    orders = {tuple(epoch) for key in keys for epoch in order(100, key, 2, 100).reshape(2, 100).tolist()}
    assert len(orders) == 6
    assert tuple(range(100)) not in orders


def test_the_order_is_what_it_has_always_been():
    """Recorded: runs that were begun before must go on as they would have."""
    expected = [[2, 8, 4, 7, 0, 1, 5, 3], [6, 9, 8, 7, 5, 4, 9, 1], [6, 3, 2, 0, 5, 7, 9, 1]]
    assert numbered(10).batches(KEY, 0, 3, 8).tolist() == expected
    many = data.Dataset("many", np.zeros((60_000, 1, 1, 1), np.uint8)).batches(jax.random.key(0), 0, 1000, 128)
    digest = "b02c87916a15c13735826323d285a3386178c312e709754838c83d32bd4530b2"
    assert hashlib.sha256(many.astype("<i4")).hexdigest() == digest


@pytest.mark.parametrize(
    ("step", "batch_size", "part", "words"),
    [
        (-1, 8, (0, 1), "step must be at least 0, not -1"),
        (0, 0, (0, 1), "batch_size must be at least 1, not 0"),
        (0, 8, (-1, 2), r"part must be \(i, n\) with i from 0 to n - 1, where n divides 8, not \(-1, 2\)"),
        (0, 8, (2, 2), r"not \(2, 2\)"),
        (0, 8, (0, 3), r"not \(0, 3\)"),
    ],
)
def test_batches_that_cannot_be_are_refused_in_memory_and_streamed(step, batch_size, part, words):
    with pytest.raises(ValueError, match=words):
        numbered(20).batch(KEY, step, batch_size, part)
    source = data.Source("numbered", 20, (1, 1, 1), lambda which: Batch(numbered(20).images[which]), str)
    with pytest.raises(ValueError, match=words):
        next(data.stream(source, KEY, step, batch_size, part))


def test_every_purpose_of_a_draw_has_a_number_of_its_own():
    assert Purpose.ORDER == 100
    assert len(Purpose) == len(Purpose.__members__), "a second name for the same number"


GREY = np.zeros((3, 4, 5, 1), np.uint8)


def test_a_dataset_is_made_of_arrays():
    dataset = data.Dataset("mine", jax.numpy.asarray(GREY), [2, 0, 1])
    assert isinstance(dataset.images, np.ndarray)
    assert (dataset.labels.tolist(), dataset.labels.dtype) == ([2, 0, 1], np.int32)
    assert dataset.classes == ("0", "1", "2")
    named = data.Dataset("mine", GREY, np.array([1, 0, 1], np.uint64), ["cat", "dog", "elk"])
    assert (named.labels.tolist(), named.classes) == ([1, 0, 1], ("cat", "dog", "elk"))
    assert (data.Dataset("mine", GREY).labels, data.Dataset("mine", GREY).classes) == (None, ())


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ((GREY.astype(bool),), ["uint8 (0 to 255)", "floats [N, ...]", "bool"]),
        ((GREY.astype(np.int8),), ["uint8", "int8"]),
        ((GREY[..., 0],), ["[N, H, W, C]", "[3, 4, 5]"]),
        ((GREY[:0],), ["at least one", "[0, 4, 5, 1]"]),
        ((GREY[:, :0],), ["at least one pixel"]),
        ((GREY, [0, 1]), ["3 integers", "[2]"]),
        ((GREY, [[0], [1], [1]]), ["3 integers", "[3, 1]"]),
        ((GREY, [0.0, 1.0, 0.0]), ["3 integers", "float64"]),
        ((GREY, [0, 1, 2], ("cat", "dog")), ["from 0 to 1", "from 0 to 2"]),
        ((GREY, [-1, 0, 1]), ["from 0 to", "from -1 to 1"]),
        ((GREY, [0, 0, 2**40]), ["from 0 to 65535"]),
        ((GREY, None, ("cat",)), ["no labels"]),
    ],
)
def test_arrays_that_do_not_fit_are_refused_in_one_line(arrays, words):
    with pytest.raises(data.DataError) as caught:
        data.Dataset("mine", *arrays)
    message = str(caught.value)
    assert message.startswith("mine: ")
    assert "\n" not in message
    assert all(word in message for word in words), message


@given(st.text())
def test_a_message_is_one_printable_line_whatever_is_named_in_it(name):
    message = str(data.DataError(name))
    assert message.isprintable()
    assert len(message.splitlines()) <= 1
    if name.isprintable():
        assert message == name


def test_the_digest_is_that_of_the_bytes():
    dataset = data.Dataset("mine", np.stack([NOISE, NOISE[::-1]]), [0, 1])
    assert dataset.sha256() == hashlib.sha256(dataset.images.tobytes()).hexdigest()
    spread = data.Dataset("other", np.repeat(dataset.images, 2, axis=0)[::2], [0, 1], ("cat", "dog"))
    assert not spread.images.flags.c_contiguous
    assert spread.sha256() == dataset.sha256()
    both = hashlib.sha256(dataset.images.tobytes() + bytes([0, 0, 0, 0, 1, 0, 0, 0])).hexdigest()
    assert dataset.sha256(labels=True) == spread.sha256(labels=True) == both
    unlabelled = data.Dataset("mine", dataset.images)
    assert unlabelled.sha256(labels=True) == dataset.sha256()


def test_digits_are_scikit_learns():
    from sklearn.datasets import load_digits

    dataset = data.load("digits")
    images = dataset.images
    assert dataset.sha256(labels=True) == "ed5d0ee6d5a61b611d6cad96c6bd69386d32550c51b259a59996b65ad132fa6c"
    np.testing.assert_array_equal(dataset.labels, load_digits().target)
    assert dataset.classes == tuple("0123456789")
    assert images.shape == (1797, 8, 8, 1)
    assert images.dtype == np.uint8
    np.testing.assert_array_equal(images[..., 0], np.round(load_digits().images * 255 / 16))
    np.testing.assert_array_equal(data.load("digits", image_shape=(8, 8, 1)).images, images)


def test_data_that_need_an_extra_say_which(monkeypatch, tmp_path):
    for module in ("tensorflow_datasets", data.prepared.RECORDS):
        monkeypatch.setitem(sys.modules, module, None)
    assert error_of("mnist") == 'mnist: there is no tensorflow_datasets here; pip install "jaxgan[tfds]"'
    with pytest.raises(data.DataError, match=r"there is no array_record.* here; pip install \"jaxgan\[tfds\]\""):
        data.prepared.write(str(tmp_path / "shard"), [NOISE])


@pytest.mark.parametrize("shape", [(28, 28, 1), (32, 32, 3)])
def test_digits_resized_are_the_same_digits_and_a_border_is_around_them(shape):
    images = data.load("digits", image_shape=shape).images
    assert images.shape == (1797, *shape)
    assert images.dtype == np.uint8
    assert (images == images[..., :1]).all()
    small = [np.asarray(Image.fromarray(i[..., 0]).resize((8, 8), Image.Resampling.BOX)) for i in images[:50]]
    for image, expected in zip(small, data.load("digits").images[:50, ..., 0], strict=True):
        assert np.corrcoef(image.ravel(), expected.ravel())[0, 1] > 0.95
    padded = data.load("digits", None, (shape[0] + 4, shape[1] + 4, shape[2]), border=2)
    np.testing.assert_array_equal(padded.images, np.pad(images, ((0, 0), (2, 2), (2, 2), (0, 0))))
    np.testing.assert_array_equal(padded.labels, data.load("digits").labels)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("",), ["`data` is empty", "folder:PATH"]),
        (("digits", None, (8, 8, 2)), ["8x8x2", "C being 1, 3 or 4"]),
        (("digits", None, (0, 8, 1)), ["0x8x1", "at least 1x1"]),
        (("digits", None, None, "train", -1), ["`border` must be at least 0, not -1"]),
        (("digits", None, (8, 8, 1), "train", 4), ["`border` 4 leaves nothing of an image of 8x8"]),
    ],
)
def test_arguments_that_cannot_be_are_refused(arguments, words):
    message = error_of(*arguments)
    assert all(word in message for word in words), message
