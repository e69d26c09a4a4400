"""Datasets of TensorFlow Datasets: small ones made here, MNIST and CIFAR-10 where they are, and what is refused."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import small_tfds
import tensorflow_datasets as tfds
from small_data import NOISE, TFDS, encoded, error_of, needs_tfds

from jaxgan import data
from jaxgan.data import tfds as room

IMAGES = np.random.default_rng(1).integers(0, 256, (12, 5, 7, 3), np.uint8)
CLASSES = {"label": tfds.features.ClassLabel(names=["cat", "dog", "elk"])}


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    monkeypatch.setattr(room, "_online", lambda: False)


def write(data_dir, files=None, labels=None, **options):
    """A dataset named `small` of image files (the PNG of IMAGES by default); its folder."""
    files = [encoded(image) for image in IMAGES] if files is None else files
    examples = [{"image": file} for file in files]
    if labels is not None:
        examples = [{**e, "label": label} for e, label in zip(examples, labels, strict=True)]
        options.setdefault("others", CLASSES)
    return Path(small_tfds.write(data_dir, examples, **options))


def edit(file, change):
    """Changes a JSON file by a function of its content."""
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def test_images_and_labels_are_those_that_were_written(tmp_path):
    """Whatever the format of their files."""
    kinds, labels = ("WEBP", "BMP", "PNG", "TIFF"), [0, 1, 1] * 4
    options = {"WEBP": {"lossless": True}}
    files = [encoded(image, kinds[i % 4], **options.get(kinds[i % 4], {})) for i, image in enumerate(IMAGES)]
    write(tmp_path, files, labels, splits=("train", "test"))
    dataset = data.load("small", str(tmp_path))
    np.testing.assert_array_equal(dataset.images, IMAGES)
    assert (dataset.labels.tolist(), dataset.labels.dtype) == (labels, np.int32)
    assert dataset.classes == ("cat", "dog", "elk")
    part = data.load("small", str(tmp_path), (5, 7, 1), "train[4:6]+test[:1]")
    assert part.images.shape == (3, 5, 7, 1)
    assert part.labels.tolist() == [labels[i] for i in (4, 5, 0)]
    padded = data.load("small", str(tmp_path), (9, 11, 3), border=2)
    np.testing.assert_array_equal(padded.images, np.pad(IMAGES, ((0, 0), (2, 2), (2, 2), (0, 0))))
    assert padded.labels.tolist() == labels


@pytest.mark.parametrize(
    ("feature", "labels", "expected", "classes", "note"),
    [
        (tfds.features.ClassLabel(num_classes=4), [3] * 12, [3] * 12, tuple("0123"), ""),
        (CLASSES["label"], [-1] * 12, None, (), "12 of 12 examples have none, the first of them example 0"),
        # TFDS writes -1 where there is no label
        (CLASSES["label"], [0, -1] * 6, None, (), "6 of 12 examples have none, the first of them example 1"),
        (np.int64, [0, 1] * 6, None, (), "it has no feature named label that is a class, but image, label"),
        (tfds.features.Text(), ["é"] * 12, None, (), "it has no feature named label that is a class"),
    ],
    ids=["numbers for names", "no label", "one label missing", "integers", "text"],
)
def test_labels_are_those_of_a_class(tmp_path, feature, labels, expected, classes, note):
    write(tmp_path, labels=labels, others={"label": feature})
    dataset = data.load("small", str(tmp_path))
    assert (dataset.labels if expected is None else dataset.labels.tolist()) == expected
    assert dataset.classes == classes
    assert note in dataset.labels_note
    assert bool(note) == bool(dataset.labels_note)


def test_of_several_images_the_one_named_image_is_read_and_no_other(tmp_path):
    others = {"a": tfds.features.Image(), "clip": tfds.features.Sequence(tfds.features.Image())}
    examples = [{"image": encoded(i), "a": b"no image", "clip": [b"no image"]} for i in IMAGES]
    small_tfds.write(tmp_path, examples, others=others)
    found = data.load("small", str(tmp_path))
    np.testing.assert_array_equal(found.images, IMAGES)
    assert (found.labels, found.classes) == (None, ())
    for names in (("a", "image"), ("image", "a")):  # a dataset's files give them in any order
        features = tfds.features.FeaturesDict({name: tfds.features.Image() for name in names})
        assert room._image_feature("small", features) == "image"


@pytest.mark.parametrize(
    ("file", "words"),
    [(encoded(IMAGES[7])[:60], "is not an image that can be read"), (encoded(NOISE), "is 40x40x3")],
    ids=["truncated", "another size"],
)
def test_a_bad_example_is_named_by_its_number(tmp_path, file, words):
    """Where a shape is given, one of another size is none."""
    write(tmp_path, [file if i == 7 else encoded(image) for i, image in enumerate(IMAGES)])
    message = error_of("small", str(tmp_path))
    assert message.startswith("small: ")
    assert f"example 7 {words}" in message
    if file == encoded(NOISE):
        assert "example 0 is 5x7x3" in message
        assert data.load("small", str(tmp_path), (8, 8, 3)).images.shape == (12, 8, 8, 3)


@pytest.mark.parametrize(("dtype", "channels"), [("float32", 1), ("uint16", 4)])
def test_images_of_other_numbers_are_refused(tmp_path, dtype, channels):
    """TFDS keeps a float image as a PNG whose four channels are the bytes of each float."""
    floats = np.random.default_rng(0).normal(size=(5, 7, 1)).astype("<f4")
    folder = write(
        tmp_path, [encoded(floats.view(np.uint8))], image=tfds.features.Image(shape=(5, 7, 4), encoding_format="png")
    )

    def change(features):
        image = features["featuresDict"]["features"]["image"]["image"]
        image["dtype"], image["shape"]["dimensions"] = dtype, ["5", "7", str(channels)]

    edit(folder / "features.json", change)
    message = error_of("small", str(tmp_path))
    assert message.startswith(f"small: its images are {dtype}, not uint8")


def shard(change):
    """Changes the bytes of the one shard."""

    def damage(folder):
        (file,) = folder.glob("*.array_record-*")
        file.write_bytes(change(file.read_bytes()))

    return damage


def info(**changes):
    """Changes dataset_info.json, or its only split by a field of that."""

    def change(content):
        for of in (content, *content["splits"]):
            of.update((name, value) for name, value in changes.items() if name in of)

    return lambda folder: edit(folder / "dataset_info.json", change)


DAMAGES = {
    "bytes changed": (shard(lambda b: b[:200] + bytes(200) + b[400:]), ["example 0 cannot be read", "small-train.arr"]),
    "cut off": (shard(lambda b: b[:500]), ["example 0 cannot be read", "small-train.array_record"]),
    "no shard": (lambda f: [x.unlink() for x in f.glob("*.array_record-*")], ["cannot be read", "No such file"]),
    "too few": (info(shardLengths=["20"]), ["examples 0 to 15 cannot be read", "small-train.array_record"]),
    "none": (info(shardLengths=["0"]), ["split 'train'", "no examples"]),
    "no split": (info(splits=[]), ["split 'train'"]),
    "no features": (lambda f: (f / "features.json").unlink(), ["features.json"]),
    "no info": (lambda f: (f / "dataset_info.json").unlink(), ["dataset_info.json"]),
    "features of no JSON": (lambda f: (f / "features.json").write_text("{"), ["cannot open it"]),
    "info of no JSON": (lambda f: (f / "dataset_info.json").write_text("{"), ["cannot open it"]),
    "another format": (info(fileFormat="tfrecord"), ["small/1.0.0 is not in the array_record", "download_and_prepare"]),
}


@pytest.mark.parametrize("case", DAMAGES)
def test_damaged_data_are_refused_in_one_line(tmp_path, capfd, caplog, case):
    damage, words = DAMAGES[case]
    folder = write(tmp_path, labels=[0] * 12)
    damage(folder)
    capfd.readouterr()
    caplog.clear()
    message = error_of("small", str(tmp_path))
    assert message.startswith("small: ")
    assert all(word in message for word in words), message
    assert capfd.readouterr() == ("", "")
    assert caplog.messages == []  # else they are on stderr in a program


@pytest.mark.parametrize("name", ["a[b]", "*", "{x}", "%s", "~", "a b", "é"])
def test_the_folder_of_the_data_is_only_a_name(tmp_path, monkeypatch, name):
    (tmp_path / name).mkdir()
    write(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    for data_dir in (name, str(tmp_path / name)):
        assert len(data.load("small", data_dir).images) == 12


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("no_such_dataset", ["digits", "folder:PATH", "tensorflow.org/datasets/catalog"]),
        ("ag_news_subset", ["no images", "title", "description"]),
        ("mnist", ["no network", "`data_dir`", "array_record"]),
        ("mnist:3.*.*", ["no network"]),
        *[(name, []) for name in ("mnist:9.9.9", "mnist/3.0.1", "mnist:3.0.1:1", "mnist/split=1,other=2")],
        *[(name, []) for name in ("mnist[bold]", "../x", "/abs", "~", " ", "{x}%s*", "ns:set", "x" * 5000)],
        *[(name, []) for name in ("a\nb", "\0", "\x1b[31m")],
    ],
)
def test_a_dataset_that_cannot_be_had_is_named(tmp_path, capfd, name, words):
    message = error_of(name, str(tmp_path))
    assert message.startswith(f"{name}: " if name.isprintable() else ascii(name)[1:-1])
    assert all(word in message for word in words), message
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ImportError("Failed importing tensorflow.\nPlease install it."), ["pip install tensorflow"]),
        (OSError("No space left on device\nat all"), ["No space left on device"]),
    ],
)
def test_preparing_that_fails_says_why(tmp_path, monkeypatch, error, words):
    def fail(*args, **kwargs):
        raise error

    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "tensorflow" else find(name, *a))
    monkeypatch.setattr(room, "_online", lambda: True)
    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", fail)
    message = error_of("mnist", str(tmp_path))
    assert message.startswith("mnist: ")
    assert all(word in message for word in [*words, str(tmp_path / "mnist"), "`data_dir`"]), message


@pytest.mark.parametrize("split", ["tset", "train+", "", "train[:0]"])
def test_an_unknown_split_is_named(tmp_path, split):
    write(tmp_path, splits=("train", "test"))
    message = error_of("small", str(tmp_path), None, split)
    assert message.startswith(f"small: split {split!r}: ")
    assert split != "tset" or "['train', 'test']" in message


@needs_tfds
@pytest.mark.parametrize(
    ("name", "shape", "first"), [("mnist", (28, 28, 1), "0"), ("cifar10", (32, 32, 3), "airplane")]
)
def test_mnist_and_cifar10_are_as_tfds_decodes_them(name, shape, first):
    found = data.load(name, str(TFDS), split="test[:40]")
    source = tfds.data_source(name, split="test[:40]", data_dir=str(TFDS))
    np.testing.assert_array_equal(found.images, np.stack([example["image"] for example in source]))
    assert found.labels.tolist() == [example["label"] for example in source]
    assert (found.images.shape, found.classes[0], len(found.classes)) == ((40, *shape), first, 10)
