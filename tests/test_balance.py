"""Classes that take turns: each comes equally often, in one order for any number of parts, in memory and streamed."""

import collections
import dataclasses
import itertools

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_run import OPTIONS, recipe

from jaxgan import data, recipes
from jaxgan.data import DataError, Dataset, of_items, stream
from jaxgan.data.order import Classes, in_turn, key_of, permutation
from jaxgan.randomness import Purpose
from jaxgan.recipes.settings import Recipe
from jaxgan.run import Event, run

pytestmark = pytest.mark.usefixtures("shared_programs")
KEY = jax.random.key(3)


def labelled(sizes):
    """Labels of so many examples of each class, mixed; a class may have none."""
    return np.random.RandomState(0).permutation(np.repeat(np.arange(len(sizes)), sizes)).astype(np.int32)


def by_hand(labels, count):
    """The first `count` examples, by Python's own loops and sort: rounds of all classes, each with a queue."""
    named = sorted(set(labels.tolist()))
    most = max(collections.Counter(labels.tolist()).values())
    together = max(1, 4096 // len(named))
    key, found = jax.random.fold_in(key_of(KEY, "classes"), Purpose.ORDER), []
    seed = np.asarray(jax.random.key_data(KEY))
    for n in itertools.count():
        if n % most == 0:
            order = permutation(seed.tobytes(), seed.shape, str(jax.random.key_impl(KEY)), n // most, len(labels))
            queues = {c: itertools.cycle([int(i) for i in order if labels[i] == c]) for c in named}
        if n % together == 0:
            bits = jax.random.bits(jax.random.fold_in(key, n // together), (2, together * len(named)), np.uint32)
            high, low = np.asarray(bits).tolist()
        first = n % together * len(named)
        ranks = [(high[first + i] << 32) + low[first + i] for i in range(len(named))]
        found += [next(queues[named[i]]) for i in sorted(range(len(named)), key=ranks.__getitem__)]
        if len(found) >= count:
            return found[:count]


SIZES = st.lists(st.integers(0, 9), min_size=1, max_size=6).filter(any)


@pytest.mark.slow
@given(sizes=SIZES, start=st.integers(0, 60), count=st.integers(1, 80))
def test_the_order_is_that_by_hand_wherever_it_begins(sizes, start, count):
    labels = labelled(sizes)
    found = in_turn(KEY, start, start + count, Classes(labels))
    assert found.dtype == np.int32
    assert found.tolist() == by_hand(labels, start + count)[start:]


@given(sizes=SIZES, parts=st.integers(1, 3), share=st.integers(1, 5), steps=st.integers(1, 12))
def test_each_class_comes_equally_often_and_each_of_its_examples_too(sizes, parts, share, steps):
    """To within one: classes in any number of batches, a class's examples in an epoch; and parts are the batch."""
    labels = labelled(sizes)
    dataset = Dataset("mine", np.arange(len(labels), dtype=np.uint8)[:, None, None, None], labels, balance=True)
    whole = dataset.batches(KEY, 0, steps, parts * share)
    joined = np.concatenate([dataset.batches(KEY, 0, steps, parts * share, (i, parts)) for i in range(parts)], axis=1)
    np.testing.assert_array_equal(whole, joined)
    present = np.flatnonzero(sizes)
    seen = np.bincount(labels[whole.ravel()], minlength=len(sizes))[present]
    assert np.ptp(seen) <= 1
    epoch = max(sizes) * len(present)
    for which in range(2):
        examples = np.bincount(in_turn(KEY, which * epoch, (which + 1) * epoch, Classes(labels)), minlength=len(labels))
        for label in present:
            of_class = examples[labels == label]
            assert of_class.sum() == max(sizes)
            assert np.ptp(of_class) <= 1
    batch = dataset.batch(KEY, steps - 1, parts * share)
    np.testing.assert_array_equal(batch.labels, labels[whole[-1]])


class Items:
    """Sixty images of the digits, a third of them noughts, one a nine; labels are known once they are read."""

    classes = tuple("0123456789")

    def __init__(self):
        digits = data.load("digits", image_shape=(28, 28, 1))
        chosen = np.concatenate([np.flatnonzero(digits.labels == c)[:n] for c, n in enumerate((20, *[5] * 7, 4, 1))])
        self.images, self.labels = digits.images[chosen], digits.labels[chosen]

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        return self.images[i], int(self.labels[i])


def in_memory():
    items = Items()
    return Dataset("mine", items.images, items.labels, items.classes)


@pytest.mark.nightly
def test_a_run_is_the_same_streamed_and_resumed(tmp_path):
    small = recipe(data=in_memory, balance=True, steps=5)
    whole = run(small, tmp_path / "whole", 0, OPTIONS)
    stop = Event("stop", 3, lambda moment: 1 / 0 if moment.step == 3 else None)
    with pytest.raises(ZeroDivisionError):
        run(small.replace(events=(stop,)), tmp_path / "resumed", 0, OPTIONS)
    again = run(small, tmp_path / "resumed", 0, OPTIONS)
    assert (again["steps_resumed_from"], again["state_sha256"]) == (3, whole["state_sha256"])
    streamed = dataclasses.replace(OPTIONS, stream=True)
    of_items = run(small.replace(data=Items), tmp_path / "streamed", 0, streamed)
    assert of_items["state_sha256"] == whole["state_sha256"]
    plain = run(small.replace(balance=False), tmp_path / "plain", 0, OPTIONS)
    assert plain["state_sha256"] != whole["state_sha256"]


def test_streams_share_the_order_of_memory_and_know_what_labels_they_lack(monkeypatch):
    monkeypatch.setattr(data.streaming, "BUFFER", 2**16)
    source = dataclasses.replace(of_items("mine", Items()), balance=True)
    memory = source.load()
    assert memory.balance
    for part in ((0, 1), (1, 2)):
        found = stream(source, KEY, 4, 20, part, labels=True)
        for step in (4, 5):
            jax.tree.map(np.testing.assert_array_equal, next(found), memory.batch(KEY, step, 20, part))
        found.close()
    chosen = np.arange(3, 40)
    known = dataclasses.replace(source, labels=Items().labels).part(chosen)
    np.testing.assert_array_equal(
        known.batches(KEY, 0, 3, 8), in_turn(KEY, 0, 24, Classes(Items().labels[chosen])).reshape(3, 8)
    )
    lacking = dataclasses.replace(source, labels=np.where(np.arange(60) == 7, -1, Items().labels))
    with pytest.raises(DataError, match=r"mine: example 7 has no label, and `balance` is of classes"):
        lacking.batches(KEY, 0, 1, 8)


def test_data_without_labels_cannot_be_balanced(tmp_path):
    unlabelled = Recipe(**vars(recipes.get("tf2_gan"))).replace(
        data=lambda: Dataset("plain", np.zeros((4, 28, 28, 1), np.uint8)), balance=True
    )
    with pytest.raises(DataError, match="plain has no labels, and `balance` is of classes; leave it away"):
        run(unlabelled, tmp_path / "w", 0, OPTIONS)
    assert not (tmp_path / "w").exists()
