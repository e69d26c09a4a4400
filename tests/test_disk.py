"""What a disk can do to a run: fill up, refuse, vanish. The run ends in one line, or goes on, and nothing is lost.

Real ones are small ones in memory, which the superuser mounts; other faults are raised where files are written.
"""

import contextlib
import errno
import json
import os
import shutil
import subprocess
import sys
import time

import pytest
from small_run import OPTIONS, metrics_of, recipe

from experiments.bench import slow_disk
from jaxgan.commands import sample
from jaxgan.run import CheckpointError, Event, WorkdirError, checkpoint, report, run

pytestmark = pytest.mark.usefixtures("shared_programs")
of_orbax = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of its threads, that fail
FILLED = {errno.ENOSPC, errno.EDQUOT}


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A finished run: its folder and its summary."""
    workdir = tmp_path_factory.mktemp("plain")
    return workdir, run(recipe(), workdir, 0, OPTIONS)


@pytest.fixture
def mount(tmp_path):
    """Mounts a disk of so many KiB in memory, or mounts it again with other options."""
    disk = tmp_path / "disk"
    disk.mkdir()

    def mount(options):
        again = "remount," if os.path.ismount(disk) else ""
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", again + options, "tmpfs", disk], check=False)
        if done.returncode and not again:
            pytest.skip("only the superuser may mount a disk")
        done.check_returncode()
        return disk

    yield mount
    if os.path.ismount(disk):
        subprocess.run(["umount", "-l", disk], check=True)


def test_no_room_for_pictures_events_and_metrics_does_not_change_a_run(plain, tmp_path, monkeypatch, capfd):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(report, "append", full)
        patch.setattr("jaxgan.images.save_png", full)
        summary = run(recipe(), tmp_path, 0, OPTIONS)
    assert summary["state_sha256"] == plain[1]["state_sha256"]
    assert len(capfd.readouterr().err.splitlines()) == 3  # samples, metrics.jsonl, tensorboard
    with monkeypatch.context() as patch:
        patch.setattr("jaxgan.images.save_gif", full)
        shutil.copytree(plain[0] / "samples", tmp_path / "samples", dirs_exist_ok=True)
        assert run(recipe(), tmp_path, 0, OPTIONS) == summary
    assert "samples.gif cannot be drawn (No space left on device)" in capfd.readouterr().err
    assert run(recipe(), tmp_path, 0, OPTIONS) == summary
    assert (tmp_path / "samples.gif").exists()  # drawn now


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.ESTALE, errno.EIO])
def test_a_checkpoint_that_cannot_be_written_ends_the_run_and_keeps_the_newest(plain, tmp_path, monkeypatch, number):
    """Full, over quota, mounted anew to be read alone, a stale handle of a network's file system, a failing device."""
    save, advice = checkpoint.save, "make room" if number in FILLED else "mend that"

    def save_or_fail(checkpoints, step, state, score):
        if step > 4:
            with checkpoint._saving(checkpoints, step):
                raise OSError(number, os.strerror(number))
        save(checkpoints, step, state, score)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save", save_or_fail)
        with pytest.raises(CheckpointError, match=rf"checkpoints/8 .*{os.strerror(number)}.*{advice}"):
            run(recipe(), tmp_path, 0, OPTIONS)
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["4"]
    assert run(recipe(), tmp_path, 0, OPTIONS)["state_sha256"] == plain[1]["state_sha256"]


@pytest.mark.slow
@of_orbax
def test_a_disk_that_fills_up(mount, tmp_path):
    """Without a checkpoint due a run goes on to its end, where it stops with the newest good one left."""
    disk = mount("size=16m")

    def fill(moment):
        if moment.step == 10:
            with open(disk / "fill", "wb", buffering=0) as file, contextlib.suppress(OSError):
                while file.write(b"0" * 4096):
                    pass

    with pytest.raises(CheckpointError, match=r"cannot be written .*make room"):
        run(recipe(steps=20, events=(Event("fill", 10, fill),)), disk / "w", 0, OPTIONS)
    assert checkpoint.open_folder(disk / "w" / "checkpoints").latest_step() in (4, 8)
    (disk / "fill").unlink()
    resumed = run(recipe(steps=20), disk / "w", 0, OPTIONS)
    assert resumed["state_sha256"] == run(recipe(steps=20), tmp_path / "w", 0, OPTIONS)["state_sha256"]
    assert [m["step"] for m in metrics_of(disk / "w")] == [1, *range(2, 21, 2)]


@pytest.mark.nightly
@of_orbax
def test_a_disk_may_fill_up_anywhere(plain, mount, capfd):
    """Of many sizes: it is full at every kind of write. With room again the same run comes to the same state."""
    whole = sum(p.stat().st_size for p in plain[0].rglob("*") if p.is_file()) // 1024
    ends = set()
    for size in (4, 64, 256, *range(whole // 8, 2 * whole, whole // 3)):
        disk, said = mount(f"size={size}k"), ""
        try:
            run(recipe(), disk / "w", 0, OPTIONS)
            ends.add("its end, without a word" if not capfd.readouterr().err else "its end")
        except (CheckpointError, WorkdirError) as error:
            ends.add(type(error).__name__)
            said = str(error)
        assert "\n" not in said
        assert not said or "No space left on device" in said
        mount("size=1g")
        summary = run(recipe(), disk / "w", 0, OPTIONS)
        assert summary["state_sha256"] == plain[1]["state_sha256"]
        assert summary == json.loads((disk / "w" / "summary.json").read_text())
        subprocess.run(["umount", disk], check=True)
    assert ends >= {"CheckpointError", "WorkdirError", "its end, without a word"}


def test_a_disk_that_may_be_read_alone(plain, mount):
    """A run on it is refused before it does anything, and can be sampled; it goes on where it may be written again."""
    disk = mount("size=1g")
    run(recipe(steps=4), disk / "w", 0, OPTIONS)
    mount("ro")
    with pytest.raises(WorkdirError, match=r"not writable|Read-only file system"):
        run(recipe(), disk / "w", 0, OPTIONS)
    sample.main([str(disk / "w"), "--out", str(picture := disk.parent / "samples.png")])
    assert picture.stat().st_size > 1_000
    mount("rw")
    assert run(recipe(), disk / "w", 0, OPTIONS)["state_sha256"] == plain[1]["state_sha256"]


@of_orbax
@pytest.mark.parametrize("then", ["moved", "replaced"])
def test_a_folder_that_is_moved_while_a_run_writes_there(plain, tmp_path, then):
    """Nothing is written into what has taken its place; it goes on where it is now."""
    here, there = tmp_path / "here", tmp_path / "there"

    def move(moment):
        if moment.step == 5:
            while not (here / "checkpoints" / "4").exists():
                time.sleep(0.01)
            here.rename(there)
            if then == "replaced":
                (here / "checkpoints").mkdir(parents=True)

    with pytest.raises(CheckpointError, match=r"here/checkpoints was moved, or removed.*name where it is now"):
        run(recipe(events=(Event("move", 5, move),)), here, 0, OPTIONS)
    assert not any(here.glob("checkpoints/*"))
    summary = run(recipe(), there, 0, OPTIONS)
    assert (summary["steps_resumed_from"], summary["state_sha256"]) == (4, plain[1]["state_sha256"])
    assert [m["step"] for m in metrics_of(there)] == [m["step"] for m in metrics_of(plain[0])]


@pytest.mark.nightly
@pytest.mark.skipif(not shutil.which("cc"), reason="needs a C compiler")
def test_a_slow_disk_changes_nothing(tmp_path):
    """Each write of a checkpoint waits for 50 ms; `experiments.bench.slow_disk` has two processes, and seconds."""
    functions, slow, quick = slow_disk.library(tmp_path), tmp_path / "slow", tmp_path / "quick"
    state, _ = slow_disk.train(slow, 1, slow_disk.slow(functions, slow / "checkpoints", 0.05))
    assert state == slow_disk.train(quick, 1, os.environ)[0]
    rename, begin = f"import os; os.rename({str(functions)!r}, {str(tmp_path / 'other')!r})", time.monotonic()
    subprocess.run([sys.executable, "-c", rename], env=slow_disk.slow(functions, tmp_path, 1), check=True)
    assert time.monotonic() - begin > 1  # it is as slow as it is said to be


def test_a_clock_that_jumps_changes_nothing(plain, tmp_path, monkeypatch):
    """A day forwards, then a day backwards, at each look: the times of a run are of a clock that only goes on."""
    clock, looks = time.time, [0]

    def jumping():
        looks[0] += 1
        return clock() + 86_400 * (-1) ** looks[0]

    monkeypatch.setattr(time, "time", jumping)
    summary = run(recipe(), tmp_path, 0, OPTIONS)
    assert looks[0]
    assert summary["state_sha256"] == plain[1]["state_sha256"]
    seconds = [m["seconds"] for m in metrics_of(tmp_path)]
    assert seconds == sorted(seconds)
    assert 0 <= seconds[-1] < 3_600
