"""Commands on far more than is usual: `python -m experiments.bench.sizes [ROW …]`.

Two hundred thousand pictures in a folder, ten thousand classes, a batch of 16,384, a thousand runs in one report. Each
is a real command on real files, made for it: how long it takes, and the most memory that it has. On Linux.
"""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import tyro

from jaxgan import data, images
from jaxgan.commands import study
from jaxgan.commands.cli import check_names, fail, parse, run_script
from jaxgan.run.screen import say
from jaxgan.run.workdir import write_json


def pictures(folder: Path, count: int, classes: int = 0) -> str:
    """Writes digits as so many PNG files, in a sub-folder for each class where there are some."""
    digits = data.load("digits").images
    encoded = [images.png(digit) for digit in digits]
    for c in range(classes):
        (folder / f"{c:05d}").mkdir(parents=True)
    folder.mkdir(exist_ok=True)
    for i in range(count):
        (folder / (f"{i % classes:05d}" if classes else "") / f"{i:06d}.png").write_bytes(encoded[i % len(encoded)])
    return f"folder:{folder}"


def runs(folder: Path) -> list[str]:
    """Trains a short run, and copies it as that of a hundred settings with ten seeds each."""
    first, command = folder / "first", ["-m", "experiments.train", "digits", "--steps", "200", "--log-every", "2"]
    command += ["--evaluate-every", "50", "--workdir", str(first)]
    subprocess.run([sys.executable, *command], check=True, stdout=subprocess.DEVNULL)
    shutil.rmtree(first / "checkpoints")
    config = json.loads((first / "config.json").read_text())
    for i in range(1_000):
        shutil.copytree(first, run := folder / "runs" / f"beta1-{i // 10 / 200}-seed-{i % 10}")
        write_json(run / "config.json", config | {"beta1": i // 10 / 200, "seed": i % 10})
    return ["report", *map(str, (folder / "runs").iterdir()), "--out", str(folder / "report.html")]


def train(folder: Path, source: str, *flags: str, recipe: str = "tf2_gan") -> list[str]:
    """The command that trains a recipe on some data for a hundred updates, unscored, in an empty folder."""
    always = ["--steps", "100", "--evaluate-every", "0", "--data", source]
    return ["train", recipe, *always, *flags, "--workdir", str(folder / "run")]


# By name: what the table calls it, and the command, a function of an empty folder.
ROWS: dict[str, tuple[str, Callable[[Path], list[str]]]] = {
    "files": (
        "200,000 pictures in a folder, `train`",
        lambda folder: train(folder, pictures(folder / "p", 200_000)),
    ),
    "streamed": (
        "the same, `train --stream`",
        lambda folder: train(folder, pictures(folder / "p", 200_000), "--stream"),
    ),
    "classes": (
        "10,000 classes of 2 pictures, `train digits_conditional`",
        lambda folder: train(folder, pictures(folder / "p", 20_000, 10_000), recipe="digits_conditional"),
    ),
    "batch": (
        "a batch of 16,384, `train tf2_gan`, 100 updates",
        lambda folder: train(folder, "digits", "--batch-size", "16384"),
    ),
    "runs": ("1,000 runs of 200 updates, of a hundred settings, `report`", runs),
}
STUDY = study.Study(
    "sizes",
    "what",
    {name: title for name, (title, _) in ROWS.items()},
    {"seconds": "seconds", "most MiB": "mib", "made MiB": "made_mib"},
)


@dataclasses.dataclass(frozen=True)
class Sizes:
    """Runs commands on far more than is usual, and measures them."""

    rows: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="[ROW …]")] = tuple(ROWS)
    """Which ones; the others are kept as they were measured."""
    out: Path = Path("experiments/results")
    """Where sizes.json is written."""
    page: Path = Path("docs/reliability.md")
    """The page that the table is written into."""


def measured(command: list[str]) -> dict[str, float]:
    """How long a command takes, and its most resident memory; ends the program where it fails."""
    begin = time.monotonic()
    process = subprocess.Popen([sys.executable, "-m", f"experiments.{command[0]}", *command[1:]])
    _, status, used = os.wait4(process.pid, 0)
    if status:
        fail(f"{' '.join(command[:2])} has ended with status {os.waitstatus_to_exitcode(status)}", 1)
    return {"seconds": round(time.monotonic() - begin, 1), "mib": round(used.ru_maxrss / 2**10)}


def main(args: list[str] | None = None) -> None:
    """Measures each row, and writes the table after each."""
    flags = parse(Sizes, "experiments.bench.sizes", args)
    check_names(flags.rows, tuple(ROWS), "row")
    study.make_folder(flags.out)
    results = study.read_results(path := flags.out / "sizes.json")
    for name in flags.rows:
        with tempfile.TemporaryDirectory() as folder:
            command = ROWS[name][1](Path(folder))
            found = measured(command)
            made = Path(command[-1])
            sizes = [file.stat().st_size for file in [made, *made.rglob("*")] if file.is_file()]
            results[name] = found | {"made_mib": round(sum(sizes) / 2**20, 1), "machine": study.machine("cpu")}
        say(f"{name}: {results[name]}")
        write_json(path, {row: results[row] for row in ROWS if row in results})
        study.write_table(STUDY, results, flags.page)


if __name__ == "__main__":
    run_script(main)
