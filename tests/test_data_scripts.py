"""The scripts that measure how data are read: `experiments.bench.reading` and `experiments.bench.streaming`."""

import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from experiments.bench import reading, streaming


@pytest.mark.nightly
def test_reading_shows_every_way_beside_pillow_and_refuses_too_few_images():
    command = [sys.executable, "-m", "experiments.bench.reading", "--rounds", "1", "--side", "32", "--images"]
    table = subprocess.run([*command, "640"], capture_output=True, text=True, check=True).stdout
    rows = dict(re.findall(r"^\| ([^|]+) \| [\d,]+ \| (\d+\.\d\d) \|$", table, re.MULTILINE))
    first, *others = rows
    assert first.startswith("Pillow alone")
    assert rows[first] == "1.00"
    assert {"prepare", "prepare, the start of Python included"} < set(others)
    assert {name.partition(":")[0] for name in others} > {"prepared", "folder"}
    found = subprocess.run([*command, "10"], capture_output=True, text=True)
    assert found.returncode == 2
    assert found.stderr.strip() == "error: --images must be at least 640, and --rounds and --side at least 1"


@pytest.mark.nightly
def test_streaming_makes_images_once_and_watches_a_run(tmp_path):
    """Its memory is that of the whole tree of processes, and its first update comes before its end."""
    folder = tmp_path / "images"
    with ThreadPoolExecutor() as pool:
        made = reading.files(folder, 70, streaming.SIDE, pool)
        times = {str(path): path.stat().st_mtime_ns for path in folder.rglob("*.jpg")}
        assert times.keys() == set(made)
        reading.files(folder, 70, streaming.SIDE, pool)
    assert times == {str(path): path.stat().st_mtime_ns for path in folder.rglob("*.jpg")}
    options = ["--stream", "--steps", "3", "--evaluate-every", "0", "--workdir", str(tmp_path / "run")]
    begin = time.perf_counter()
    peak, first = streaming.watched(["tf2_gan", "--data", f"folder:{folder}", *options])
    assert 100 < peak < 4_000
    assert 1 < first < time.perf_counter() - begin


@pytest.mark.slow
def test_streaming_counts_the_memory_of_processes_below():
    """A process that has 200 MiB in one of its own is seen to have them."""
    below = "x = bytearray(200 * 2**20); x[::4096] = b'1' * len(x[::4096]); print(flush=True); input()"
    above = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {below!r}])"
    with subprocess.Popen([sys.executable, "-c", above], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        found = sum(map(streaming._memory, streaming._tree(process.pid)))
        process.communicate(b"\n")
    assert 200 * 2**20 < found < 300 * 2**20
