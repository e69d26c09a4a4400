"""What streaming costs: `python -m experiments.bench.streaming --data-dir DIR` prints three tables.

Memory: a run on JPEG files of 128 pixels that it makes, of two numbers, beside the same recipe on the embedded digits.
Preparing: the whole command on the most of these files, to 64 pixels, beside Pillow alone, in turns.
Speed: `tf2_dcgan` on MNIST, streamed beside resident, in turns, and whether both end in the same state.
"""

import concurrent.futures
import dataclasses
import functools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from experiments.bench import reading
from jaxgan.commands.cli import fail, one_line_errors, parse
from jaxgan.commands.shards import forked
from jaxgan.run.metrics import read_metrics
from jaxgan.run.screen import say

SIDE = 128


@dataclasses.dataclass(frozen=True)
class Streaming:
    """Measures streamed runs: their memory, their first update, and their speed."""

    images: tuple[int, ...] = (10_000, 100_000)
    """How many JPEG files are made, for each row of the first table."""
    steps: int = 200
    """How many updates each run of the first table takes."""
    rounds: int = 3
    """How many turns the second and the third table take; 0 leaves them away."""
    updates: int = 300
    """How many updates each run of the third table takes."""
    folder: Path | None = None
    """Where the files are kept; by default they are removed at the end."""
    data_dir: str | None = None
    """Where TensorFlow Datasets keeps its data (by default ~/tensorflow_datasets)."""


def main() -> None:
    """Makes images, runs, and prints."""
    flags = parse(Streaming, "experiments.bench.streaming")
    if min((*flags.images, flags.steps, flags.updates)) < 1 or flags.rounds < 0:
        fail("--images, --steps and --updates must be at least 1, --rounds at least 0")
    with one_line_errors(), tempfile.TemporaryDirectory(prefix="jaxgan-streaming-") as made:
        folder = flags.folder or Path(made)
        lines = ["| keras_dcgan on | memory, MiB | above digits | first update, s |", "|---|---|---|---|"]
        least = None
        for count in (0, *sorted(flags.images)):
            source = f"folder:{files(folder / str(count), count)}" if count else "digits"
            name = f"{count:,} JPEG files, streamed" if count else "digits"
            say(f"keras_dcgan on {name}")
            args = ["keras_dcgan", "--data", source, "--steps", str(flags.steps), "--evaluate-every", "0"]
            with tempfile.TemporaryDirectory() as workdir:
                peak, first = watched([*args, *["--stream"] * bool(count), "--workdir", f"{workdir}/run"])
            least = least or peak
            lines.append(f"| {name} | {peak:,.0f} | {peak - least:,.0f} | {first:.1f} |")
        say("\n".join(lines))
        if flags.rounds:
            say(preparing(files(folder / str(max(flags.images)), max(flags.images)), flags.rounds))
            say(speeds(flags))


def files(folder: Path, count: int) -> Path:
    """A folder of so many JPEG files; what is there stays."""
    numbers = [n for n in range(count) if not (folder / f"{n % 100:02d}" / f"{n:06d}.jpg").exists()]
    if numbers:
        say(f"making {len(numbers):,} JPEG files in {folder}")
        with concurrent.futures.ProcessPoolExecutor(len(os.sched_getaffinity(0)), forked()) as pool:
            list(pool.map(make, [folder] * len(numbers), numbers, chunksize=500))
    return folder


def make(folder: Path, number: int) -> None:
    """A JPEG file of about 10 kB."""
    random = np.random.default_rng(number)
    coarse = Image.fromarray(random.integers(0, 256, (20, 20, 3), np.uint8))
    path = folder / f"{number % 100:02d}" / f"{number:06d}.jpg"
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse.resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(path, quality=95)


def watched(args: list[str]) -> tuple[float, float]:
    """Runs `experiments.train`: its greatest memory in MiB, shared pages once, and the seconds to its first update."""
    workdir, begin, peak, first = Path(args[-1]), time.perf_counter(), 0.0, None
    process = subprocess.Popen([sys.executable, "-m", "experiments.train", *args], stdout=subprocess.DEVNULL)
    while process.poll() is None:
        peak = max(peak, sum(map(_memory, _tree(process.pid))))
        if first is None and (workdir / "metrics.jsonl").exists() and (workdir / "metrics.jsonl").stat().st_size:
            first = time.perf_counter() - begin
        time.sleep(0.1)
    if process.returncode or first is None:
        fail(f"experiments.train {' '.join(args)} ended with status {process.returncode}")
    return peak / 2**20, first


def _tree(pid: int) -> list[int]:
    """A process and those that it has started."""
    try:
        tasks = Path(f"/proc/{pid}/task").iterdir()
        children = [int(child) for task in tasks for child in (task / "children").read_text().split()]
    except OSError:  # it has ended
        children = []
    return [pid, *(below for child in children for below in _tree(child))]


def _memory(pid: int) -> int:
    """Of a process, in bytes; a page that several share counts in proportion."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)


def preparing(folder: Path, rounds: int) -> str:
    """The second table: images per second of `experiments.prepare`, and of as many processes with Pillow alone."""
    paths = sorted(map(str, folder.rglob("*.jpg")))
    pieces = [paths[i : i + reading.BATCH] for i in range(0, len(paths), reading.BATCH)]
    rates: dict[str, list[float]] = {"Pillow alone": [], "prepare": []}
    for number in range(rounds):
        say(f"preparing {len(paths):,} files, round {number + 1} of {rounds}")
        with concurrent.futures.ProcessPoolExecutor(len(os.sched_getaffinity(0)), forked()) as pool:
            list(pool.map(reading.by_pillow, pieces[:2]))  # the processes are there, and have imported Pillow
            rates["Pillow alone"].append(reading.rate(lambda pool=pool: sum(pool.map(reading.by_pillow, pieces))))
        with tempfile.TemporaryDirectory(dir=folder.parent) as out:
            command = [sys.executable, "-m", "experiments.prepare", f"folder:{folder}", "--size", str(reading.SIZE)]
            run = functools.partial(subprocess.run, [*command, "--out", out], check=True, stdout=subprocess.DEVNULL)
            rates["prepare"].append(reading.rate(lambda run=run: run() and len(paths)))
    ratio = statistics.median(b / a for a, b in zip(*rates.values(), strict=True))
    rows = [f"| {name} | {statistics.median(found):,.0f} |" for name, found in rates.items()]
    return "\n".join([f"\n| {len(paths):,} files | images/s |", "|---|---|", *rows]) + (
        f"\n\nprepare, with its start, is {ratio:.2f} of Pillow, the median of {rounds} rounds"
    )


def speeds(flags: Streaming) -> str:
    """The third table."""
    rates, states = {"resident": [], "streamed": []}, set()
    args = ["tf2_dcgan", "--steps", str(flags.updates), "--evaluate-every", "0", "--sample-every", "100000"]
    args += ["--data-dir", flags.data_dir] if flags.data_dir else []
    for number in range(flags.rounds):
        for name, found in rates.items():
            say(f"tf2_dcgan, {name}, round {number + 1} of {flags.rounds}")
            with tempfile.TemporaryDirectory() as folder:
                command = [*args, *["--stream"] * (name == "streamed"), "--workdir", f"{folder}/run"]
                watched(command)
                lines = read_metrics(Path(folder, "run"))
                found.append(statistics.median(line["images_per_second"] for line in lines[2:]))
                states.add(json.loads(Path(folder, "run/summary.json").read_text())["state_sha256"])
    ratio = statistics.median(b / a for a, b in zip(*rates.values(), strict=True))
    rows = [f"| {name} | {statistics.median(found):,.0f} |" for name, found in rates.items()]
    same = "the same" if len(states) == 1 else "DIFFERENT"
    return "\n".join(["\n| tf2_dcgan on MNIST | images/s |", "|---|---|", *rows]) + (
        f"\n\nstreamed is {ratio:.3f} of resident, the median of {flags.rounds} rounds; the final states are {same}"
    )


if __name__ == "__main__":
    main()
