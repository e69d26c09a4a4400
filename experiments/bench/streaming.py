"""What streaming costs: `python -m experiments.bench.streaming --data-dir DIR` prints two tables.

Memory: a run on JPEG files of 128 pixels that it makes, of two numbers, beside the same recipe on the embedded digits.
Speed: `tf2_dcgan` on MNIST, streamed beside resident, interleaved, and whether both end in the same state.
"""

import dataclasses
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from experiments.bench import reading
from jaxgan.commands.cli import fail, one_line_errors, parse, run_script
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
    """How many rounds the second table takes; 0 leaves it out."""
    updates: int = 300
    """How many updates each run of the second table takes."""
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
            source, images = "digits", folder / str(count)
            if count:
                say(f"making what is missing of {count:,} JPEG files in {images}")
                source = f"folder:{images}"
                with ProcessPoolExecutor(len(os.sched_getaffinity(0)), forked()) as pool:
                    reading.files(images, count, SIDE, pool)
            name = f"{count:,} JPEG files, streamed" if count else "digits"
            say(f"keras_dcgan on {name}")
            args = ["keras_dcgan", "--data", source, "--steps", str(flags.steps), "--evaluate-every", "0"]
            with tempfile.TemporaryDirectory() as workdir:
                peak, first = watched([*args, *["--stream"] * bool(count), "--workdir", f"{workdir}/run"])
            least = least or peak
            lines.append(f"| {name} | {peak:,.0f} | {peak - least:,.0f} | {first:.1f} |")
        say("\n".join(lines))
        if flags.rounds:
            say(speeds(flags))


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


def speeds(flags: Streaming) -> str:
    """The second table."""
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
    run_script(main)
