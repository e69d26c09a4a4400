"""How fast images are read: `python -m experiments.bench.reading [--images 5000]` prints a table of images per second.

JPEG files of 128 to 500 pixels, or of --side, are made in a temporary folder and read in several ways, interleaved: by
Pillow alone, by `experiments.prepare`, prepared and as files in random batches of 64, and by Grain if it is installed.
"""

import contextlib
import dataclasses
import functools
import importlib.util
import io
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Executor, ProcessPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from jaxgan import data
from jaxgan.commands import prepare
from jaxgan.commands.cli import fail, one_line_errors, parse, run_script
from jaxgan.commands.shards import forked
from jaxgan.data.source import ahead, threads

SIZE, BATCH = 64, 64


@dataclasses.dataclass(frozen=True)
class Reading:
    """Reads the same images in several ways, interleaved, and shows how many a second."""

    images: int = 5_000
    """How many are made."""
    side: int | None = None
    """The pixels of their sides; random for each where it is not given."""
    rounds: int = 5
    """How many times each way is measured."""


def main() -> None:
    """Makes images, measures, and prints a table: the median of the rounds, and that of their ratios to Pillow's."""
    flags = parse(Reading, "experiments.bench.reading")
    if flags.images < 10 * BATCH or flags.rounds < 1 or (flags.side or 1) < 1:
        fail(f"--images must be at least {10 * BATCH}, and --rounds and --side at least 1")
    count = len(os.sched_getaffinity(0))
    with one_line_errors(), TemporaryDirectory(prefix="read-") as folder, ProcessPoolExecutor(count, forked()) as pool:
        made = files(Path(folder, "files"), flags.images, flags.side, pool)
        batches = [made[i : i + BATCH] for i in range(0, len(made), BATCH)]
        ways = ways_of(folder, made, lambda: sum(pool.map(by_pillow, batches)), count)
        for way in ways.values():  # what is imported, and files that are read from the disk
            way()
        rates = [{name: way() for name, way in ways.items()} for _ in range(flags.rounds)]
    print(f"{flags.images:,} JPEG files to {SIZE}x{SIZE}, {count} cores, medians of {flags.rounds} rounds\n")
    print("| | images/s | of Pillow |\n|---|---|---|")
    for name in ways:
        ratio = np.median([of[name] / of[next(iter(ways))] for of in rates])
        print(f"| {name} | {np.median([of[name] for of in rates]):,.0f} | {ratio:.2f} |")


def ways_of(folder: str, made: list[str], pillow: Callable[[], int], count: int) -> dict[str, Callable[[], float]]:
    """The ways by their names; each gives images per second."""
    images, out = f"folder:{folder}/files", f"{folder}/prepared"
    again = iter(range(10**6))  # each time into a new folder

    def as_program() -> int:
        command = [sys.executable, "-m", "experiments.prepare", images, "--size", str(SIZE), "--out"]
        subprocess.run([*command, f"{out}-{next(again)}"], check=True, capture_output=True)
        return len(made)

    def prepared(where: str = "") -> int:
        with contextlib.redirect_stdout(io.StringIO()):
            return prepare.prepare(prepare.Prepare(images, str(SIZE), Path(where or f"{out}-{next(again)}"))).images

    prepared(out)
    sources = data.open_source(f"prepared:{out}"), data.open_source(images, image_shape=(SIZE, SIZE, 3))
    ways = {
        f"Pillow alone, {count} processes": lambda: rate(pillow),
        "prepare": lambda: rate(prepared),
        "prepare, the start of Python included": lambda: rate(as_program),
        f"prepared: {threads()} threads": lambda: in_batches(by_threads(sources[0])),
        f"folder: {threads()} threads": lambda: in_batches(by_threads(sources[1])),
    }
    if importlib.util.find_spec("grain"):
        shards = sorted(map(str, Path(out).glob("*.array_record")))
        raw = functools.partial(np.frombuffer, dtype=np.uint8)
        for name, *what in (("raw records", shards, raw), ("JPEG files", made, decoded)):
            ways[f"Grain, {name}, {threads()} threads"] = lambda x=what: in_batches(by_grain(*x, 0))
            ways[f"Grain, {name}, {count} processes"] = lambda x=what: in_batches(by_grain(*x, count))
    return ways


def files(folder: Path, count: int, side: int | None, pool: Executor) -> list[str]:
    """So many JPEG files in a folder, in up to a hundred classes: their paths. What is there stays."""
    paths = [folder / f"{n % 100:02d}" / f"{n:06d}.jpg" for n in range(count)]
    for parent in {path.parent for path in paths}:
        parent.mkdir(parents=True, exist_ok=True)
    missing = [(path, n) for n, path in enumerate(paths) if not path.exists()]
    list(pool.map(make, *zip(*missing, strict=True), [side] * len(missing), chunksize=BATCH) if missing else ())
    return list(map(str, paths))


def make(path: Path, number: int, side: int | None) -> None:
    """A JPEG file; one of 128 pixels has about 10 kB."""
    random = np.random.default_rng(number)
    width, height = (side, side) if side else map(int, random.integers(128, 501, 2))
    coarse = Image.fromarray(random.integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), np.uint8))
    pixels = np.asarray(coarse.resize((width, height)))
    pixels = (pixels + random.integers(-8, 9, pixels.shape)).clip(0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(path, quality=90)


def decoded(file: str) -> np.ndarray:
    """What Pillow alone makes of a file."""
    with Image.open(file) as image:
        return np.asarray(ImageOps.fit(image.convert("RGB"), (SIZE, SIZE), Image.Resampling.LANCZOS))


def by_pillow(files: list[str]) -> int:
    """Decodes files; how many."""
    return len([decoded(file) for file in files])


def by_threads(source: data.Source) -> Iterable[np.ndarray]:
    """All images of a source in random batches, as a run reads them."""
    order = np.random.default_rng(0).permutation(source.size)
    return ahead(lambda which: source.read(which).images, np.split(order, range(BATCH, len(order), BATCH)), threads())


def by_grain(what: list[str], read: Callable[[Any], np.ndarray], workers: int) -> Iterable[np.ndarray]:
    """The same by Grain."""
    import grain.python as grain
    from absl.flags import FLAGS

    FLAGS(["reading"], known_only=True)  # Grain's processes ask for them
    source = what if read is decoded else grain.ArrayRecordDataSource(what)
    images = grain.MapDataset.source(source).shuffle(seed=0).map(read)
    found = images.to_iter_dataset(grain.ReadOptions(1 if workers else threads(), BATCH * 4)).batch(BATCH)
    return found.mp_prefetch(grain.MultiprocessingOptions(workers)) if workers else found


def in_batches(found: Iterable[np.ndarray]) -> float:
    """Images per second, from the first batch on: what is started and opened before it is left out."""
    batches = iter(found)
    next(batches)
    return rate(lambda: sum(map(len, batches)))


def rate(read: Callable[[], int]) -> float:
    """Images per second of what says how many it has read."""
    begin = time.perf_counter()
    return read() / (time.perf_counter() - begin)


if __name__ == "__main__":
    run_script(main)
