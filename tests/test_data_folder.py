"""A folder of images: which files are read, in which order, with which labels, and what is said of the others."""

import io
import os
import resource
import shutil
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from small_data import NOISE, encoded, error_of, folder_of

from jaxgan import data
from jaxgan.commands import prepare as script
from jaxgan.data import digests, progress


def flat(value):
    return np.full((2, 3), value, np.uint8)


def values(dataset):
    """What the images of `flat` hold, in the order of the dataset."""
    assert dataset.images.shape[1:] == (2, 3, 1)
    return dataset.images[:, 0, 0, 0].tolist()


def half(image, kind):
    file = encoded(image, kind)
    return file[: len(file) // 2]


def test_a_folder_is_read_in_the_order_of_its_paths_without_hidden_files(tmp_path, capsys):
    shown = {"a/z.png": 10, "a.png": 20, "b.png": 30, "c/d/a.png": 40, "c/e.png": 50}
    hidden = {".DS_Store": b"no image", "a/.git/config": b"text"}
    name = folder_of(tmp_path, hidden | {name: flat(shown[name]) for name in reversed(shown)})
    assert values(data.load(name)) == list(shown.values())
    assert capsys.readouterr() == ("", "")
    folder_of(tmp_path, {"a/.hidden.png": flat(1), ".thumbs/a.JPG": flat(2)})
    assert values(data.load(name)) == list(shown.values())
    assert capsys.readouterr().err == f"{name}: 2 hidden image files (.*) were left out\n"


NAMES = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=20).filter(
    lambda name: not name.startswith(".")
)


@given(st.lists(st.lists(NAMES, min_size=1, max_size=3), min_size=1, max_size=6))
def test_names_of_any_script_and_kind_are_read_in_the_order_of_their_bytes(tmp_path_factory, paths):
    root = tmp_path_factory.mktemp("names")
    written = {}
    for value, parts in enumerate(paths):
        file = root.joinpath(*parts[:-1], parts[-1])
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(encoded(flat(value)))
        except OSError:  # a file and a folder of one name
            continue
        written[tuple(part.encode() for part in parts)] = value
    assert values(data.load(f"folder:{root}")) == [written[parts] for parts in sorted(written)]
    shutil.rmtree(root)


def test_the_digest_does_not_depend_on_where_the_folder_is_or_how_it_is_named(tmp_path, monkeypatch):
    files = {
        name: flat(i) for i, name in enumerate(["b/1.png", "a/2.png", "a/10.png", "Z/x.png", "é.png", "\udc80.png"])
    }
    folder_of(tmp_path / "pics", files)
    folder_of(tmp_path / "elsewhere" / "z", dict(reversed(files.items())))
    monkeypatch.chdir(tmp_path)
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: sorted(scandir(path), key=lambda entry: entry.name))
    names = ["pics", "./pics", "pics/", "pics//", "elsewhere/../pics", str(tmp_path / "pics"), "elsewhere/z"]
    first = {data.load(f"folder:{name}").sha256(labels=True) for name in names}
    monkeypatch.setattr(os, "scandir", lambda path: sorted(scandir(path), key=lambda entry: entry.name)[::-1])
    assert {data.load(f"folder:{name}").sha256(labels=True) for name in names} == first
    assert len(first) == 1
    assert values(data.load("folder:pics")) == [3, 2, 1, 0, 5, 4]  # the byte 80 is before the bytes C3 A9 of an é


def test_the_folders_directly_in_it_are_the_classes(tmp_path):
    files = {"dog/1.png": flat(1), "cat/2.png": flat(2), "cat/1.png": flat(3), "Elk [x]/1.png": flat(4)}
    (tmp_path / "empty").mkdir()
    dataset = data.load(folder_of(tmp_path, files | {".hidden/1.png": flat(5), "cat/.1.png": flat(6)}))
    assert values(dataset) == [4, 3, 2, 1]
    assert dataset.classes == ("Elk [x]", "cat", "dog")
    assert dataset.labels.tolist() == [0, 1, 1, 2]


TWO = {"cat/1.png": 1, "cat/2.png": 2, "dog/1.png": 3, "dog/2.png": 4}
IN_THE_WAY = {
    "a stray picture": (TWO | {"new.png": 5}, (), "of 5 files, new.png lies not directly in one of its 2 folders"),
    "several": ({**TWO, "a.png": 5, "cat/x/b.png": 6}, (), "of 6 files, 2 (a.png, …) lie not directly in one of"),
    "one too deep": (TWO | {"cat/young/1.png": 5}, (), "cat/young/1.png lies not directly in one of its 2 folders of"),
    "splits": (
        {f"{split}/{name}": value for split in ("train", "val") for name, value in TWO.items() if split != name[:4]}
        | {"train/cat/9.png": 9, "train/LICENSE.png": 8},
        (),
        "its images lie 2 folders deep; name {name}/train for folders of classes",
    ),
    "no folders": ({"1.png": 1, "2.png": 2}, (), "its images do not lie in folders; make one in it for each class"),
    "an empty folder": (TWO, ("elk",), "elk: no images there, and so no class"),
    "hidden folders": (TWO, (".git",), ""),
}


@pytest.mark.parametrize("case", IN_THE_WAY)
def test_what_is_in_the_way_of_labels_is_named(case, tmp_path):
    """The source says it, in memory too, and so does what was prepared of the same folder."""
    files, empty, words = IN_THE_WAY[case]
    for name in empty:
        (tmp_path / "pics" / name).mkdir(parents=True)
    name = folder_of(tmp_path / "pics", {file: flat(value) for file, value in files.items()})
    script.prepare(script.parse(script.Prepare, "", [name, "--size", "2x3", "--out", str(tmp_path / "out")]))
    for found in (data.open_source(name), data.load(name), data.load(f"prepared:{tmp_path / 'out'}")):
        assert words.format(name=name) in found.labels_note
        assert bool(found.labels_note) == bool(words)
        assert found.classes == (("cat", "dog") if files is TWO else ())
    assert (data.load(name).labels is None) == (files is not TWO)


def test_links_are_followed_and_loops_are_not(tmp_path):
    folder_of(tmp_path / "pics", {"own/1.png": flat(1), "own/2.png": flat(2)})
    folder_of(tmp_path / "far", {"3.png": flat(3), "deep/4.png": flat(4)})
    (tmp_path / "pics" / "linked").symlink_to(tmp_path / "far")
    (tmp_path / "pics" / "own" / "5.png").symlink_to(tmp_path / "far" / "3.png")
    (tmp_path / "pics" / "own" / "up").symlink_to(tmp_path / "pics")
    (tmp_path / "far" / "again").symlink_to(".")
    (tmp_path / "link").symlink_to("pics")
    for name in ("pics", "link"):
        assert values(data.load(f"folder:{tmp_path}/{name}")) == [3, 4, 1, 2, 3]


@pytest.mark.parametrize(
    "name", ["a[b]", "*", "a?b", "{x}", "%s", "#", "a:b", " a b ", "a\nb", "x" * 255, "$HOME", "-", "~"]
)
def test_the_name_of_a_folder_is_only_a_name(tmp_path, monkeypatch, name):
    """And `~` is the home directory where no folder is named so."""
    folder_of(tmp_path / "home" / "pics", {"1.png": flat(3)})
    folder_of(tmp_path / "ab", {"1.png": flat(2), "2.png": b"no image"})
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    assert values(data.load("folder:~/pics")) == [3]
    folder_of(tmp_path / name / "pics", {"1.png": flat(1)})
    assert values(data.load(f"folder:{name}/pics")) == values(data.load(f"folder:{name}")) == [1]
    (tmp_path / name / "notes.txt").write_text("")
    assert "notes.txt" in error_of(f"folder:{name}")


SMALL, GREY = NOISE[:20], NOISE[..., 0]
BAD_FOLDERS = {
    "no files": ({".hidden": b""}, ["put PNG or JPEG images"]),
    "text": ({"a.png": NOISE, "notes.txt": b"not an image"}, ["notes.txt", "remove or mend"]),
    "empty file": ({"a.png": NOISE, "void.png": b""}, ["void.png", "remove or mend"]),
    "half a png": ({"half.png": half(NOISE, "PNG")}, ["half.png", "remove or mend"]),
    "half a jpeg": ({"half.jpg": half(NOISE, "JPEG")}, ["half.jpg", "remove or mend"]),
    "two sizes": ({"a.png": NOISE, "b.png": SMALL}, ["a.png", "40x40", "b.png", "20x40x3", "resize"]),
    "grey and colour": ({"a.png": GREY, "b.png": NOISE}, ["a.png is 40x40x1", "b.png is 40x40x3"]),
    "16 bits": ({"a.png": GREY, "deep.png": GREY.astype(np.uint16) * 257}, ["deep.png", "8 bits", "convert"]),
    "odd names": ({"a\nb\x1b[31m.txt": b""}, [r"a\nb\x1b[31m.txt"]),
    "bytes of no text": ({"\udcff.txt": b""}, [r"\udcff.txt"]),
}


@pytest.mark.parametrize("case", BAD_FOLDERS)
def test_a_bad_folder_is_refused_with_what_would_help(tmp_path, case):
    files, words = BAD_FOLDERS[case]
    message = error_of(folder_of(tmp_path, files))
    assert all(word in message for word in [str(tmp_path), *words]), message


@pytest.mark.parametrize(
    "path", ["", "/no/such/folder", __file__, "~nobody-of-this-name/images", "x" * 5000, "\0", "a\nb"]
)
def test_a_missing_folder_is_refused(path):
    message = error_of(f"folder:{path}")
    assert message.startswith("folder:")
    assert "give the path of a folder" in message


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (os.mkfifo, "no regular file"),  # to open it would wait for a writer
        (lambda file: file.symlink_to("gone.png"), "a broken link (No such file"),
        (lambda file: file.symlink_to(file), "a broken link (Too many"),
    ],
)
def test_what_is_neither_a_file_nor_a_folder_is_named_and_not_opened(tmp_path, make, words):
    name, file = folder_of(tmp_path, {"1.png": flat(1)}), tmp_path / "odd.png"
    make(file)
    assert f"{file} is {words}" in error_of(name)
    file.rename(tmp_path / ".odd.png")
    assert values(data.load(name)) == [1]


def test_what_may_not_be_read_is_named(tmp_path, monkeypatch):
    name = folder_of(tmp_path, {"1.png": flat(1), "closed/2.png": flat(2), ".closed/3.png": flat(3)})
    scandir = os.scandir

    def refuse(path):
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)  # for root, no folder is closed
    assert f"{tmp_path}/closed cannot be read (Permission denied); make it readable" in error_of(name)
    shutil.rmtree(tmp_path / "closed")
    assert values(data.load(name)) == [1]
    monkeypatch.setattr(Image, "open", lambda _: refuse("closed"))
    assert f"{tmp_path}/1.png cannot be read; make it readable" in error_of(name)


def test_many_files_are_not_open_at_once(tmp_path):
    name = folder_of(tmp_path, {f"{i:03}.png": flat(i) for i in range(200)})
    data.load(name)  # what is imported opens files too
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = max(int(number) for number in os.listdir("/proc/self/fd"))
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most + 10, limits[1]))
        assert values(data.load(name)) == list(range(200))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_images_of_several_kinds_are_brought_to_a_shape_each_as_alone(tmp_path):
    files = {"a.png": NOISE, "b.png": SMALL, "c.png": NOISE[:, :20], "d.png": GREY}
    name = folder_of(tmp_path, files)
    grey = data.load(name, image_shape=(40, 40, 1)).images
    np.testing.assert_allclose(grey[0, ..., 0], NOISE @ [0.299, 0.587, 0.114], atol=1)
    colour = data.load(name, image_shape=(40, 40, 3)).images
    np.testing.assert_array_equal(colour[[0, 3]], [NOISE, np.repeat(GREY[..., None], 3, axis=-1)])
    for fit in ("crop", "pad"):
        together = data.load(name, image_shape=(8, 8, 3), fit=fit).images
        alone = [data.pixels.fit(Image.fromarray(image), (8, 8, 3), fit) for image in files.values()]
        np.testing.assert_array_equal(together, alone)


def test_images_are_cropped_around_the_centre_and_resized_to_height_and_width(tmp_path):
    for axis in (0, 1):
        image = np.concatenate([np.full_like(NOISE, 255), NOISE, np.full_like(NOISE, 255)], axis)
        images = data.load(folder_of(tmp_path, {"a.png": image}), image_shape=(40, 40, 3)).images
        np.testing.assert_array_equal(images, [NOISE])
    quadrants = np.kron(np.array([[0, 80], [160, 240]], np.uint8), np.ones((32, 64), np.uint8))
    images = data.load(folder_of(tmp_path, {"a.png": quadrants}), image_shape=(8, 16, 1)).images
    expected = np.kron([[0, 80], [160, 240]], np.ones((4, 8)))
    assert images.shape == (1, 8, 16, 1)
    assert (np.abs(images[0, ..., 0] - expected) < 30).all()


def test_images_that_memory_does_not_hold_are_refused():
    with pytest.raises(data.DataError, match=r"x: 1,125,899,906,842,624 images take 6291456\.0 GiB"):
        data.Source("x", 2**50, (2, 3, 1), None, None).load()


@pytest.mark.parametrize(
    ("is_terminal", "count", "environment", "shown"),
    [
        (True, 30, {"TERM": "xterm"}, True),
        (True, 10, {"TERM": "xterm"}, False),
        (True, 30, {"TERM": "dumb"}, False),
        (False, 30, {"TERM": "xterm"}, False),
        (False, 30, {"TERM": "xterm", "FORCE_COLOR": "1", "TTY_COMPATIBLE": "1"}, False),
    ],
)
def test_progress_is_shown_on_a_terminal_alone(monkeypatch, is_terminal, count, environment, shown):
    for name in ("TERM", "FORCE_COLOR", "TTY_COMPATIBLE", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"COLUMNS": "120", **environment}.items():
        monkeypatch.setenv(name, value)
    terminal = io.StringIO()
    terminal.isatty = lambda: is_terminal
    monkeypatch.setattr(sys, "stderr", terminal)
    assert list(progress.progress(range(count), count, "folder:pics[bold]\n:smile:")) == list(range(count))
    assert (r"loading folder:pics[bold]\n:smile:" in terminal.getvalue()) == shown
    assert bool(terminal.getvalue()) == shown


def test_a_digest_is_of_what_is_read_from_files_and_of_large_ones_all_over(tmp_path, monkeypatch):
    """What else decides what is read counts; in files beyond the limit, bytes at even distances, to the end."""
    file = tmp_path / "x"
    file.write_bytes(bytes(100_000))
    listed = [("x", str(file))]
    assert digests.of_files(listed, "train") != digests.of_files(listed, "train[:50%]")
    for limit in (digests.WHOLE, 1_000):
        monkeypatch.setattr(digests, "WHOLE", limit)
        before = digests.of_files(listed)
        for place in (0, 50_000, 99_990):
            changed = bytearray(100_000)
            changed[place] = 1
            file.write_bytes(changed)
            assert digests.of_files(listed) != before, (limit, place)
        file.write_bytes(bytes(100_000))
