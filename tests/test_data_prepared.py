"""A prepared folder is read as the folder of images that it was made of, and damage is named."""

import concurrent.futures
import json
import shutil

import numpy as np
import pytest
from PIL import Image
from small_data import encoded, error_of, folder_of

from jaxgan import data
from jaxgan.commands import prepare as script
from jaxgan.data import prepared

RANDOM = np.random.default_rng(5)
SHAPE = (8, 12, 3)


def picture(i):
    height, width = RANDOM.integers(9, 40, 2)
    return RANDOM.integers(0, 256, (height, width, 3)[: 2 if i % 5 == 0 else 3], np.uint8)


FILES = {f"{'cat' if i % 3 else 'dog'}/{i:03}.jpg": encoded(picture(i), "JPEG") for i in range(150)}


def made(folder, out, *flags, size="8x12"):
    """The folder `out` of images prepared, by one process."""
    script.prepare(script.parse(script.Prepare, "", [str(folder), "--size", size, "--out", str(out), *flags]))
    return f"prepared:{out}"


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """The same images as a folder of files and prepared: their names."""
    root = tmp_path_factory.mktemp("both")
    name = folder_of(root / "files", FILES)
    return name, made(name, root / "out")


@pytest.fixture
def copy(both, tmp_path):
    """The prepared folder, to be damaged."""
    shutil.copytree(both[1].partition(":")[2], tmp_path / "out")
    return tmp_path / "out"


def test_it_holds_what_the_files_hold(both):
    """In several shards of raw pixels."""
    files, found = data.open_source(both[0], image_shape=SHAPE), data.open_source(both[1])
    assert (found.size, found.shape, found.classes) == (150, SHAPE, ("cat", "dog"))
    whole = files.load()
    for which in (np.random.default_rng(0).permutation(150), np.array([3, 149, 3, 0]), np.array([], int)):
        some = found.read(which)
        np.testing.assert_array_equal(some.images, whole.images[which])
        np.testing.assert_array_equal(some.labels, whole.labels[which])
        assert (some.images.dtype, some.labels.dtype) == (np.uint8, np.int32)
    assert whole.sha256(labels=True) == data.load(both[1]).sha256(labels=True)
    folder = both[1].partition(":")[2]
    assert [shard["images"] for shard in prepared.read_about(folder).shards.values()] == [64, 64, 22]
    assert prepared._reader(f"{folder}/images-00001.array_record").read([6]) == [whole.images[70].tobytes()]


def test_several_threads_read_at_once(both):
    found = data.open_source(both[1])
    images = found.load().images

    def agree(seed):
        which = np.random.default_rng(seed).integers(0, 150, 40)
        np.testing.assert_array_equal(found.read(which).images, images[which])

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(agree, range(200)))


def test_another_shape_is_made_of_the_stored_pixels(both, tmp_path):
    stored = data.load(both[1]).images
    for shape, fit in (((4, 4, 3), "crop"), ((4, 4, 1), "pad"), ((8, 12, 1), "crop")):
        found = data.load(both[1], image_shape=shape, fit=fit).images
        expected = [data.pixels.fit(Image.fromarray(image), shape, fit) for image in stored]
        np.testing.assert_array_equal(found, expected)
    name = made(both[0], tmp_path / "grey", "--channels", "1", "--fit", "pad")
    grey = data.load(both[0], image_shape=(8, 12, 1), fit="pad").images
    np.testing.assert_array_equal(data.load(name).images, grey)
    np.testing.assert_array_equal(data.load(name, image_shape=SHAPE).images, np.repeat(grey, 3, -1))


def test_a_folder_without_classes_has_no_labels(tmp_path):
    name = made(folder_of(tmp_path / "files", dict(list(FILES.items())[:3]) | {"x.png": picture(1)}), tmp_path / "out")
    found = data.open_source(name)
    assert (found.classes, found.read(np.array([1])).labels) == ((), None)
    assert not (tmp_path / "out" / "labels.npy").exists()
    assert len(found.digest()) == 64


def test_the_digest_is_of_the_content_and_not_of_the_place(both, copy, monkeypatch):
    first = data.open_source(both[1]).digest()
    monkeypatch.setenv("HOME", str(copy.parent))
    assert data.open_source(f"prepared:{copy}").digest() == data.open_source("prepared:~/out").digest() == first
    assert data.open_source("prepared:~/out", image_shape=(12, 16, 3), border=2).shape == (12, 16, 3)
    assert data.splits("prepared:~/out") == ()
    np.save(copy / "labels.npy", 1 - np.load(copy / "labels.npy"))
    assert data.open_source(f"prepared:{copy}").digest() != first


def flipped(file, place):
    content = bytearray(file.read_bytes())
    content[place] ^= 1
    file.write_bytes(content)


def about_with(folder, **others):
    file = folder / "prepared.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | others))


SECOND = "images-00001.array_record"
DAMAGE = {
    "gone": (lambda d: (d / SECOND).unlink(), [SECOND, "it is gone); prepare it again"]),
    "cut": (lambda d: (d / SECOND).write_bytes((d / SECOND).read_bytes()[:-9]), [SECOND, "bytes, not", "remove it"]),
    "changed": (lambda d: flipped(d / SECOND, 1_000), [SECOND, "hash mismatch", "remove it and prepare it again"]),
    "empty": (lambda d: (d / SECOND).write_bytes(bytes((d / SECOND).stat().st_size)), [SECOND, "remove it"]),
    "labels gone": (lambda d: (d / "labels.npy").unlink(), ["labels.npy", "prepare it again"]),
    "labels cut": (lambda d: (d / "labels.npy").write_bytes(b"\x93NUMPY"), ["labels.npy", "prepare it again"]),
    "few labels": (lambda d: np.save(d / "labels.npy", np.zeros(3, np.int32)), ["labels.npy", "must be 150 integers"]),
    "other labels": (lambda d: np.save(d / "labels.npy", np.full(150, 2, np.int32)), ["labels.npy", "from 0 to 1"]),
    "no json": (lambda d: (d / "prepared.json").write_text("{"), ["prepared.json", "remove it and prepare it again"]),
    "other json": (lambda d: (d / "prepared.json").write_text('{"a": 1}'), ["prepared.json", "not what"]),
    "another format": (lambda d: about_with(d, format=2), ["prepared.json", "its format is 2, not 1"]),
    "another size": (lambda d: about_with(d, size=[8, 8, 3]), ["images-00000.array_record", "of another size"]),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_damage_is_one_line_with_the_file_and_what_would_help(copy, case):
    damage, words = DAMAGE[case]
    damage(copy)
    message = error_of(f"prepared:{copy}")
    assert message.startswith(f"prepared:{copy}: {copy}/")
    assert all(word in message for word in words), message


def test_what_is_no_prepared_folder_is_one_line(both, tmp_path):
    name, path = both[0], both[0].partition(":")[2]
    assert f"use {name} if it holds image files" in error_of(f"prepared:{path}")
    assert "there is no folder '/no/such'; python -m experiments.prepare" in error_of("prepared:/no/such")
    assert "there is no folder ''" in error_of("prepared:")
    assert f"use {both[1]}" in error_of(f"folder:{both[1].partition(':')[2]}")
    (tmp_path / "unfinished.jsonl").write_text('{"command": "python -m x --out y"}\n')
    assert "it is unfinished; python -m x --out y goes on with it" in error_of(f"prepared:{tmp_path}")


def test_what_cannot_be_written_is_one_line(tmp_path):
    with pytest.raises(data.DataError, match=f"{tmp_path}/no/x cannot be written: "):
        prepared.write(str(tmp_path / "no" / "x"), iter([np.zeros(SHAPE, np.uint8)]))
    with pytest.raises(data.DataError, match=r"/dev/full cannot be written: .*No space left on device"):
        prepared.write("/dev/full", iter([np.zeros((64, 64, 3), np.uint8)] * 99))
