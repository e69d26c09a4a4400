"""The script that prepares a folder once: what it writes, how it goes on, and what it refuses."""

import fcntl
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from common import at_night
from small_data import encoded, folder_of

from jaxgan import data
from jaxgan.commands import prepare as script
from jaxgan.commands import shards
from jaxgan.data import prepared

ROOT = Path(__file__).parents[1]
RANDOM = np.random.default_rng(3)
SHAPE = (6, 6, 3)


@pytest.fixture
def call(monkeypatch, capfd, tmp_path):
    """`python -m experiments.prepare …` in this process, into tmp_path/out; its lines on stdout and on stderr."""
    monkeypatch.setattr("os._exit", sys.exit)
    handler = signal.getsignal(signal.SIGTERM)

    def call(images, *flags, out="out", size="6", status=None):
        capfd.readouterr()
        args = [str(images), "--size", size, "--out", str(tmp_path / out), *map(str, flags)]
        if status is None:
            script.main(args)
        else:
            with pytest.raises(SystemExit) as end:
                script.main(args)
            assert end.value.code == status
        return [text.splitlines() for text in capfd.readouterr()]

    yield call
    signal.signal(signal.SIGTERM, handler)


def pictures(count, start=0):
    """Small images in two classes."""
    return {
        f"{'ab'[i % 2]}/{i:04}.png": RANDOM.integers(0, 256, (8, 8, 3), np.uint8) for i in range(start, start + count)
    }


def contents(folder):
    """The digest of each file of a folder."""
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.iterdir()}


def times(folder):
    """When each shard of a folder was written."""
    return {file.name: file.stat().st_mtime_ns for file in folder.glob("*.array_record")}


def test_a_folder_is_prepared_once_and_a_shard_that_is_damaged_again(call, tmp_path):
    name, out = folder_of(tmp_path / "in", pictures(130)), tmp_path / "out"
    (line,), err = call(name)
    assert line.startswith(f"{out}: 130 images in 2 classes, 0.")
    assert line.endswith(f" images/s, none skipped; --data prepared:{out}")
    assert err == []
    written, before = contents(out), times(out)
    assert sorted(written) == [*(f"images-0000{i}.array_record" for i in range(3)), "labels.npy", "prepared.json"]
    found = data.load(f"prepared:{out}")
    assert found.sha256(labels=True) == data.load(name, image_shape=SHAPE).sha256(labels=True)
    (line,), _ = call(name, "--strict")
    assert ", all there before, none skipped" in line
    assert (contents(out), times(out)) == (written, before)
    shard = out / "images-00001.array_record"
    for damage in (shard.unlink, lambda: shard.write_bytes(shard.read_bytes()[:-1])):
        damage()
        call(name)
        assert contents(out) == written
        assert before.keys() - {shard.name} == {file for file, at in times(out).items() if at == before[file]}


def test_odd_files_are_named_and_the_rest_is_as_without_them(call, tmp_path):
    name = folder_of(tmp_path / "in", pictures(140))
    expected = data.load(name, image_shape=SHAPE)
    odd = {"README.txt": b"text", "a/void.png": b"", "c/half.jpg": encoded(np.zeros((99, 99), np.uint8), "JPEG")[:99]}
    odd |= {"a/deep.png": np.zeros((9, 9), np.uint16), "b/new\nline.png": b"", "z.png": b""}
    folder_of(tmp_path / "in", odd)
    out, err = call(name, "--strict", status=2)
    end = " is not an image that can be read; mend or remove it, or go without --strict"
    # The first that a worker has come upon: of two that begin at once either.
    deep = "a/deep.png must have 8 bits a channel, in grey or RGB, not 16 bits"
    assert out == []
    assert err[0] in (f"error: {name}: README.txt{end}", f"error: {name}: {deep}{end[end.index(';') :]}")
    message = f"prepared:{tmp_path}/out: it is unfinished; python -m experiments.prepare {name} --size 6 --out "
    with pytest.raises(data.DataError, match=re.escape(f"{message}{tmp_path}/out goes on")):
        data.load(f"prepared:{tmp_path}/out")
    shutil.rmtree(tmp_path / "out")

    (tmp_path / "in" / "a" / "gone.png").symlink_to("nowhere")
    (line,), err = call(name)
    assert ": 140 images in 2 classes, " in line
    assert ", 7 skipped; " in line
    assert err[0].startswith("skipped: a/gone.png is a broken link (No such file")
    assert err[1] == "skipped: README.txt is not an image that can be read"
    assert err[2].startswith("skipped: a/deep.png must have 8 bits a channel")
    assert err[4] == "skipped: b/new\\nline.png is not an image that can be read"
    assert err[5:] == [
        f"skipped: 2 more; {tmp_path}/out/prepared.json names all",
        "labels: c: no images there, and so no class",
    ]
    assert {name for name, _ in prepared.read_about(str(tmp_path / "out")).skipped} == {*odd, "a/gone.png"}
    found = data.load(f"prepared:{tmp_path}/out")
    assert found.sha256(labels=True) == expected.sha256(labels=True)
    assert found.classes == expected.classes

    _, (error,) = call(name, "--strict", status=2)
    assert error.startswith(f"error: {name}: ")
    assert "a/gone.png is a broken link" in error


def test_a_shard_without_an_image_is_empty(call, tmp_path):
    """64 files of the second of three shards are odd."""
    files = {f"{i:03}.png": pictures(1)["a/0000.png"] for i in range(150)}
    name = folder_of(tmp_path / "in", files | {f"{i:03}.png": b"" for i in range(64, 128)})
    call(name)
    for i in range(64, 128):
        (tmp_path / "in" / f"{i:03}.png").unlink()
    found = data.load(f"prepared:{tmp_path}/out")
    np.testing.assert_array_equal(found.images, data.load(name, image_shape=SHAPE).images)


def test_one_that_is_stopped_twice_keeps_all_that_it_has_written(call, tmp_path, monkeypatch):
    name, written = folder_of(tmp_path / "in", pictures(130)), script.written

    def one_shard(missing, processes):
        yield from written(missing[:1], processes)
        raise KeyboardInterrupt

    monkeypatch.setattr(script, "written", one_shard)
    kept = {}
    for i in (1, 2):
        assert call(name, status=130) == [[], ["stopped; the same command goes on with it"]]
        kept |= times(tmp_path / "out")
        assert len(kept) == i
    monkeypatch.setattr(script, "written", written)
    call(name)
    assert times(tmp_path / "out").items() > kept.items()


def test_another_listing_or_setting_is_refused_in_one_line(call, tmp_path):
    name = folder_of(tmp_path / "in", pictures(10))
    call(name)
    before = contents(tmp_path / "out")
    start = f"error: --out {tmp_path}/out was begun with "
    end = "; name another, or remove it"
    assert call(name, size="6x5", status=2)[1] == [f"{start}images of 6x6x3, not 6x5x3{end}"]
    assert call(name, "--channels", 1, status=2)[1] == [f"{start}images of 6x6x3, not 6x6x1{end}"]
    assert call(name, "--fit", "pad", status=2)[1] == [f"{start}--fit crop, not pad{end}"]
    file = tmp_path / "in" / "b" / "0001.png"
    file.write_bytes(bytes(file.stat().st_size))
    assert call(name, status=2)[1] == [f"{start}files of {name} of other names, sizes or times{end}"]
    folder_of(tmp_path / "in", pictures(1, 99))
    assert call(name, status=2)[1] == [f"{start}10 files of {name}, which has 11 now{end}"]
    assert contents(tmp_path / "out") == before


def test_what_cannot_be_prepared_is_one_line(call, tmp_path, monkeypatch):
    name = folder_of(tmp_path / "in", pictures(2))
    folder_of(tmp_path / "bad", {"a.png": b"", "b.png": b"x"})
    folder_of(tmp_path / "other", {"notes.txt": b""})
    (tmp_path / "empty").mkdir()
    cases = [
        ([f"folder:{tmp_path}/bad"], "none of 2 files is an image that can be used: a.png is not an image"),
        ([f"folder:{tmp_path}/no"], "there is no folder"),
        ([f"folder:{tmp_path}/empty"], "the folder holds no files"),
        ([f"{tmp_path}/in"], f"only folder:PATH, pairs:PATH and domains:PATH can be prepared; give {name}"),
        (["mnist"], "only folder:PATH, pairs:PATH and domains:PATH can be prepared"),
        ([name, "--processes", 0], "--processes must be at least 1, not 0"),
    ]
    for args, words in cases:
        out, err = call(*args, status=2)
        assert (out, len(err)) == ([], 1)
        assert words in err[0], err
    for size in ("0", "64x", "-1", "6 4", "64x48x3", "٣"):
        assert "it must be one number, or HEIGHTxWIDTH" in call(name, "--size=" + size, status=2)[1][0]
    assert "--out " in call(name, out="other", status=2)[1][0]
    assert "is within folder:" in call(name, out="in/out", status=2)[1][0]
    assert "cannot be made (" in call(name, out="other/notes.txt", status=2)[1][0]
    monkeypatch.setattr(script.shutil, "disk_usage", lambda _: script.shutil._ntuple_diskusage(9, 9, 2**17))
    (error,) = call(name, out="full", status=2)[1]
    assert "0.00 GiB are to be written, and 0.00 GiB are free there" in error


def test_two_do_not_prepare_into_one_folder(call, tmp_path):
    name = folder_of(tmp_path / "in", pictures(2))
    (tmp_path / "out").mkdir()
    held = os.open(tmp_path / "out", os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_SH)
    assert "another process is preparing into it" in call(name, status=2)[1][0]
    os.close(held)
    assert ": 2 images" in call(name)[0][0]


def test_the_help_names_the_flags(call, capfd):
    with pytest.raises(SystemExit) as end:
        script.main(["--help"])
    assert end.value.code == 0
    out = capfd.readouterr().out
    assert all(flag in out for flag in ("folder:PATH", "--size", "--out", "--fit", "--channels", "--strict"))


@pytest.mark.parametrize(
    ("images", "nbytes", "expected"),
    [(1, 100, 64), (5_000, 12_288, 79), (70_000, 12_288, 1_094), (1_281_167, 12_288, 5_461), (10**7, 196_608, 19_532)],
)
def test_shards_are_many_enough_to_share_and_few_enough_to_keep_open(images, nbytes, expected):
    assert script.images_of_a_shard(images, nbytes) == expected


def test_a_shard_is_not_finished_where_the_machine_is_wrong_or_it_is_no_longer_wanted(tmp_path, monkeypatch):
    folder_of(tmp_path / "in", pictures(2))
    files = [("a", "0000.png"), ("no.png",)]
    shard = shards.Shard(str(tmp_path), 0, "folder:x", str(tmp_path / "in"), files, SHAPE, "crop")
    with pytest.raises(data.DataError, match=r"folder:x: .*/no\.png cannot be read \(No such file"):
        shards._write(shard)
    monkeypatch.setattr(shards, "_stop", threading.Event())
    shards._stop.set()
    with pytest.raises(data.DataError, match="it is no longer wanted"):
        shards._write(shard)
    assert [file.name for file in tmp_path.iterdir()] == ["in"]


def started(name, out):
    command = [sys.executable, "-m", "experiments.prepare", name, "--size", "32x24", "--out", str(out)]
    return subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """Large images: the name of their folder, and what a process that is let be prepares of them."""
    root = tmp_path_factory.mktemp("many")
    large = encoded(RANDOM.integers(0, 256, (500, 500, 3), np.uint8), "JPEG")
    files = {f"{'ab'[i % 2]}/{i:04}.jpg": large for i in range(390)} | {"b/void.jpg": b"", "a/void.jpg": b""}
    name = folder_of(root / "in", files)
    process = started(name, root / "whole")
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert [line.partition(":")[0] for line in err.splitlines()] == ["skipped"] * 2
    line = out.splitlines()[-1]  # before it, where that takes long, how far it is
    assert line.startswith(f"{root}/whole: 390 images in 2 classes")
    return name, contents(root / "whole")


def of_session(process):
    """The processes of its session that are there, zombies aside."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == process.pid and fields[0] != "Z":
            found.append(int(stat.parent.name))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, *at_night([signal.SIGTERM, signal.SIGINT])])
def test_one_that_is_stopped_goes_on_and_writes_the_same_bytes(call, many, tmp_path, how):
    name, out = many[0], tmp_path / "out"
    process = started(name, out)
    deadline = time.monotonic() + 60
    while not (out / "images-00000.array_record").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(-process.pid if how == signal.SIGINT else process.pid, how)  # Ctrl-C goes to all of them
    _, err = process.communicate(timeout=30)
    if how == signal.SIGKILL:
        assert process.returncode == -how
    else:
        assert (process.returncode, err) == (130, "stopped; the same command goes on with it\n")
    while of_session(process) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert of_session(process) == [], "processes that decode outlived the one that started them"
    assert not (out / "prepared.json").exists()
    kept = {json.loads(line)["shard"] for line in (out / "unfinished.jsonl").read_text().splitlines()[1:]}
    before = times(out)
    with (out / "unfinished.jsonl").open("a") as file:
        file.write('{"shard": 5, "by')  # half a line

    (*_, line), _ = call(name, size="32x24")
    assert ": 390 images in 2 classes" in line
    assert ", 2 skipped" in line
    for shard in (f"images-{i:05d}.array_record" for i in kept):
        assert times(out)[shard] == before[shard]
    assert contents(out) == many[1]
