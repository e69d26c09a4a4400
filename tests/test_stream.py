"""Streamed runs: the images of each step, and the same state as with the data on the device."""

import contextlib
import dataclasses
import itertools
import json
import threading

import jax
import numpy as np
import pytest
from small_data import encoded, folder_of
from small_run import OPTIONS, recipe, share_programs

from jaxgan import Batch, data, parallel
from jaxgan.commands import sample
from jaxgan.data import DataError, Source, order, source, streaming
from jaxgan.run import memory, run, turns
from jaxgan.run.numerics import root_key
from jaxgan.run.prepare import introduction, prepare

KEY = jax.random.key(3)
IMAGES = np.random.default_rng(0).integers(0, 256, (37, 28, 28, 1), np.uint8)
LABELS = np.arange(37, dtype=np.int32) % 10


@pytest.fixture(scope="module", autouse=True)
def shared_programs():
    with pytest.MonkeyPatch.context() as patch:
        share_programs(patch)
        patch.setattr(streaming, "BUFFER", 2**20)  # of small images it would hold thousands of steps
        yield


def numbered(asked=None, labels=LABELS):
    """A source of IMAGES, which notes what it is asked for."""

    def read(which):
        if asked is not None:
            asked.extend(which.tolist())
        return Batch(IMAGES[which], None if labels is None else labels[which])

    return Source("numbered", 37, (28, 28, 1), read, lambda: "d1", tuple("0123456789"))


@pytest.mark.parametrize("start", [0, 5])
@pytest.mark.parametrize("part", [(0, 1), (0, 2), (1, 2)])
def test_the_images_of_each_step_are_those_of_a_dataset_in_memory(start, part):
    """And its threads end with it."""
    dataset, before = numbered().load(), threading.active_count()
    with contextlib.closing(data.stream(numbered(), KEY, start, 8, part, True)) as found:
        for step, batch in enumerate(itertools.islice(found, 20), start):
            expected = dataset.batch(KEY, step, 8, part)
            np.testing.assert_array_equal(batch.images, expected.images)
            np.testing.assert_array_equal(batch.labels, expected.labels)
    assert threading.active_count() <= before


def test_a_part_reads_its_own_images_alone():
    """Of two parts each reads half: together one epoch, and no image twice."""
    asked = [[], []]
    for i in range(2):
        with contextlib.closing(data.stream(numbered(asked[i]), KEY, 0, 36, (i, 2))) as found:
            next(found)
    first = [set(part[:18]) for part in asked]
    assert len(first[0]) == len(first[1]) == 18
    assert not first[0] & first[1]


def test_no_more_is_read_ahead_than_the_buffer_holds(monkeypatch):
    step = 8 * 28 * 28
    monkeypatch.setattr(streaming, "BUFFER", 40 * step)
    monkeypatch.setattr(streaming, "threads", lambda: 2)
    asked = []
    with contextlib.closing(data.stream(numbered(asked), KEY, 0, 8)) as found:
        for _ in range(100):
            next(found)
    assert 800 <= len(asked) <= 800 + 8 * (40 + 5)  # what waits, and what the last piece had beyond the step taken


def test_a_missing_label_is_named_where_labels_are_needed():
    labels = LABELS.copy()
    labels[11] = -1
    for missing, number in ((labels, "11"), (None, r"\d+")):
        with pytest.raises(DataError, match=f"numbered: example {number} has no label"):
            list(itertools.islice(data.stream(numbered(labels=missing), KEY, 0, 8, labels=True), 10))
    with contextlib.closing(data.stream(numbered(labels=labels), KEY, 0, 8)) as found:
        assert all(batch.labels is None for batch in itertools.islice(found, 10))


@pytest.mark.parametrize("form", parallel.FORMS)
@pytest.mark.parametrize("count", [1, 2, 4])
def test_each_device_gets_the_images_of_its_own_share(form, count):
    """On any devices, the sums of the images of each update are those of a dataset that is whole on each of them."""
    devices = parallel.choose_devices(count)

    def sums(gan, state, dataset, batches, steps):
        del gan, steps
        mine = dataset.images[batches].astype(np.float32).sum((2, 3, 4))  # [capacity, share]
        weights = 1.0 + np.arange(mine.shape[0], dtype=np.float32)
        total = (mine * weights[:, None]).sum() + (dataset.labels[batches] * weights[:, None]).sum()
        return state, jax.lax.pmean(total, parallel.AXIS) if count > 1 else total

    dataset, gan = numbered().load(), recipe().build()
    capacity, taken = 3, [dataset.batch(KEY, step, 8) for step in range(3)]
    which = dataset.batches(KEY, 0, 3, 8)
    state = np.float32(0)
    split = {sums: (None, 1, None)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parallel, "SPLIT", parallel.SPLIT | split)
        whole = parallel.replicate(Batch(dataset.images, dataset.labels), devices)
        expected = parallel.on_devices(sums, gan, devices, form)(parallel.replicate(state, devices), whole, which, 3)[1]
        images, own = parallel.shard_images(taken, capacity, count)
        streamed = parallel.on_devices(sums, gan, devices, form, parallel.STREAMED)
        found = streamed(parallel.replicate(state, devices), images, own, 3)[1]
    assert float(found) == pytest.approx(float(expected), rel=1e-6)


@pytest.mark.slow
def test_a_streamed_run_ends_in_the_state_of_a_resident_one_and_either_goes_on_as_the_other(tmp_path, monkeypatch):
    def ended(name, *options):
        """The state of a run of four steps with the first options, which goes on with the second."""
        for steps, each in zip((9,) if len(options) == 1 else (4, 9), options, strict=True):
            summary = run(recipe(data=numbered, steps=steps), tmp_path / name, 0, each)
        return summary["state_sha256"]

    streamed = dataclasses.replace(OPTIONS, stream=True)
    whole = ended("resident", OPTIONS)
    assert ended("streamed", streamed) == whole
    assert ended("both", streamed, OPTIONS) == ended("either", OPTIONS, streamed) == whole
    # What is given to the device at once is bounded, and that leaves no trace.
    monkeypatch.setattr(turns, "TURN_BYTES", 2 * 16 * 28 * 28)
    sizes, shard_images = [], parallel.shard_images
    monkeypatch.setattr(
        parallel, "shard_images", lambda batches, *args: sizes.append(len(batches)) or shard_images(batches, *args)
    )
    assert ended("bounded", streamed) == whole
    assert max(sizes) <= 2
    assert sum(sizes) == 9


@pytest.mark.parametrize("devices", [1, 2])
def test_images_that_would_take_more_than_half_of_the_memory_are_streamed(tmp_path, monkeypatch, devices):
    options, most = dataclasses.replace(OPTIONS, devices=devices), 2 * (1 + devices) * 37 * 28 * 28
    for host in (most - 2, most):  # a copy, and that on each device
        monkeypatch.setattr(memory, "host_memory", lambda host=host: host)
        with contextlib.ExitStack() as stack:
            found = prepare(recipe(data=numbered), tmp_path / str(host), 0, options, (), stack)
            assert isinstance(found.dataset, Source) == (host < most)
            assert ("the images are streamed" in introduction(found)) == (host < most)


FAULTS = {
    "truncated": (lambda file: file.write_bytes(file.read_bytes()[:40]), "is not an image that can be read"),
    # Reading a process's memory at address 0 is the one I/O error that a healthy machine gives to anyone.
    "disk": (lambda file: (file.unlink(), file.symlink_to("/proc/self/mem")), r"cannot be read \(Input/output error\)"),
}


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_data_that_fail_in_mid_run_end_it_with_a_line_and_its_state_saved(tmp_path, fault):
    """What has been trained is kept, and once the file is mended the run ends in the state of one without a fault."""
    options = dataclasses.replace(OPTIONS, stream=True, checkpoint_every=None)
    path = folder_of(tmp_path / "images", {f"{i:02d}.png": encoded(image[..., 0]) for i, image in enumerate(IMAGES)})
    made = recipe(data=path)
    expected = run(made, tmp_path / "whole", 0, options)["state_sha256"]
    bad = int(order.batches(root_key(0), 6, 1, 16, 37)[0, 5])
    file = tmp_path / "images" / f"{bad:02d}.png"
    content = file.read_bytes()
    damage, words = FAULTS[fault]

    def broken(self, data_dir=None):
        found = original(self, data_dir)
        damage(file)  # after the digest's turn would be too late for the read ahead
        return dataclasses.replace(found, digest=lambda: digest)

    original, digest = type(made).open_data, data.open_source(path, image_shape=(28, 28, 1)).digest()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(made), "open_data", broken)
        patch.setattr(streaming, "READ_AT_ONCE", 16)
        with pytest.raises(DataError, match=f"{bad:02d}.png {words}"):
            run(made, tmp_path / "broken", 0, options)
    assert int(max(p.name for p in (tmp_path / "broken/checkpoints").iterdir() if p.name.isdigit())) >= 1
    file.unlink(missing_ok=True)
    file.write_bytes(content)
    summary = run(made, tmp_path / "broken", 0, options)
    assert summary["state_sha256"] == expected
    assert summary["steps_resumed_from"] >= 1


class Own:
    """A user's own images, with labels."""

    classes = tuple("0123456789")

    def __len__(self):
        return 37

    def __getitem__(self, i):
        return IMAGES[i], int(LABELS[i])


@pytest.mark.slow
def test_an_object_with_items_is_a_source(tmp_path):
    found = data.of_items("own", Own())
    loaded = found.load()
    np.testing.assert_array_equal(loaded.images, IMAGES)
    np.testing.assert_array_equal(loaded.labels, LABELS)
    options = dataclasses.replace(OPTIONS, stream=True)
    assert run(recipe(data=Own), tmp_path, 0, options)["step"] == 9
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["data_sha256"] == f"files:{found.digest()}"


@pytest.mark.parametrize(
    ("item", "words"),
    [
        (np.zeros((28, 28), np.uint8), "item 0 must be an image, uint8"),
        (np.zeros((28, 28, 1)), "not float64"),
        ((np.zeros((28, 28, 1), np.uint8), 10), "item 0 has label 10, and there are 10 classes"),
        ((np.zeros((28, 28, 1), np.uint8), 3.9), "item 0 has label 3.9, which is no whole number"),
        ((np.zeros((28, 28, 1), np.uint8), np.float32(3)), "no whole number"),
    ],
)
def test_items_that_are_no_images_are_refused(item, words):
    class Wrong(Own):
        def __getitem__(self, i):
            return item

    with pytest.raises(DataError, match=words):
        data.of_items("own", Wrong())


@pytest.mark.parametrize(
    ("images", "labels", "words"),
    [
        (IMAGES, LABELS + 0.9, "numbered: labels must be .* integers, one for each image, not float64"),
        (IMAGES, LABELS + 1, "numbered: labels must be from 0 to 9, .* not from .* to 10"),
        (IMAGES, LABELS - 2, "numbered: labels must be from 0 to 9"),
        (IMAGES / 255, LABELS, "numbered: images must be uint8 .* not float64"),
        (IMAGES[:, 1:], LABELS, r"numbered: images must be .*28, 28, 1\], not uint8 of shape"),
    ],
)
def test_what_a_source_of_ones_own_reads_is_checked_in_memory_and_streamed(images, labels, words):
    own = Source("numbered", 37, (28, 28, 1), lambda which: Batch(images[which], labels[which]), str, Own.classes)
    with pytest.raises(DataError, match=words):
        own.load()
    with pytest.raises(DataError, match=words):
        list(itertools.islice(data.stream(own, KEY, 0, 8, labels=True), 10))


def test_errors_come_in_order_and_at_their_turn():
    def function(item):
        if item == 3:
            raise DataError("three")
        return item

    found = source.ahead(function, range(10), 2)
    assert [next(found) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(DataError, match="three"):
        next(found)


def test_real_images_beside_generated_ones_are_read_as_they_are_needed(monkeypatch):

    monkeypatch.setattr(sample, "READ_AT_ONCE", 4)
    asked = []
    found = sample._real(numbered(asked), KEY, 5, None)
    np.testing.assert_array_equal(found, numbered().load().batch(KEY, 0, 5).images)
    assert len(asked) == 5
    asked.clear()
    found = sample._real(numbered(asked), KEY, 3, np.array([2, 2, 5]))
    numbers = [int(np.flatnonzero((image == IMAGES).all((1, 2, 3)))[0]) for image in found]
    assert LABELS[numbers].tolist() == [2, 2, 5]
    assert len(set(numbers)) == 3
    assert len(asked) < 37
    with pytest.raises(DataError, match="no image has label 11"):
        sample._real(numbered(), KEY, 1, np.array([11]))
