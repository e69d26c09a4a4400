"""Runs killed at random moments, and resumed until they end: `python -m experiments.torture [KIND …] --kills N`.

Each command is started, and killed with SIGKILL: half of the times at a moment drawn evenly over its length, half of
the times as soon as it is seen to write something: a checkpoint, a picture, a summary, a shard. It is started again
until it ends. What it has made is then compared with what the same command makes undisturbed: the state to the last
bit, the steps and values of its metrics, the grids byte for byte, the scalars of its event files. Of two processes one
is killed; the other has to end within two minutes by itself. More kills may be asked for; those that are done are kept.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import tyro

from jaxgan import data, images
from jaxgan.commands import study
from jaxgan.commands.cli import check_flags, check_names, fail, parse
from jaxgan.run import tensorboard
from jaxgan.run.metrics import read_metrics
from jaxgan.run.screen import say

OFTEN = ["--log-every", "5", "--sample-every", "25", "--checkpoint-every", "25"]
MEMORY = """from jaxgan import recipes
from jaxgan.augmentation import Augment, adaptive, sign_real

RECIPE = recipes.get("digits").replace(transforms=(Augment(None),), penalties=(sign_real,), memory=adaptive())
"""
# What a command is seen to be writing, by the names of files that are there meanwhile.
MOMENTS = {
    "a checkpoint": re.compile(r"orbax-checkpoint-tmp"),
    "a picture": re.compile(r"\.(png|gif)\.partial"),
    "a summary": re.compile(r"\.json\.partial|metrics\.jsonl\.partial"),
    "a shard": re.compile(r"\.array_record\."),
}
TIMED = ("seconds", "images_per_second")  # what of the metrics depends on the clock


def train(recipe: str, *flags: str, steps: int = 400) -> Callable[[Path, Path], list[list[str]]]:
    """The command that trains a recipe with little between its checkpoints."""
    flags = (*flags, "--steps", str(steps), *OFTEN)
    return lambda out, given: [["train", recipe.format(given=given), *flags, "--workdir", str(out)]]


def flags_of_processes(count: int) -> list[list[str]]:
    """What tells each of so many processes of a run who it is, at a port that is free."""
    with contextlib.closing(socket.create_server(("localhost", 0))) as server:
        address = f"localhost:{server.getsockname()[1]}"
    return [["--coordinator", address, "--num-processes", str(count), "--process-id", str(i)] for i in range(count)]


def two_processes(out: Path, given: Path) -> list[list[str]]:
    """The same of two processes."""
    (command,) = train("tf2_gan", "--data", "digits", "--evaluate-every", "0", steps=2_000)(out, given)
    return [[*command, *own] for own in flags_of_processes(2)]


UNSCORED = ("--evaluate-every", "0")
# By name, the commands, functions of the folder that they write and of one with what they are given.
KINDS: dict[str, Callable[[Path, Path], list[list[str]]]] = {
    "digits": train("digits", *UNSCORED),
    "conditional": train("digits_conditional", *UNSCORED),
    "streamed": train("digits", "--stream", *UNSCORED),
    "scored": train("digits", "--evaluate-every", "50", steps=200),
    "memory": train("{given}/memory.py", *UNSCORED, steps=200),
    "seeds": lambda out, given: [
        ["seeds", "digits", "--seeds", "2", "--steps", "100", "--evaluate-every", "50", *OFTEN, "--runs", str(out)]
    ],
    "sweep": lambda out, given: [
        ["sweep", "digits", "--vary", "beta1", "0", "0.5", "--steps", "60", *OFTEN, "--runs", str(out)]
    ],
    "prepare": lambda out, given: [["prepare", f"folder:{given}/pictures", "--size", "32", "--out", str(out)]],
    "processes": two_processes,
}
STUDY = study.Study(
    "torture",
    "killed",
    {
        "digits": "`train digits`",
        "conditional": "`train digits_conditional`",
        "streamed": "`train digits --stream`",
        "scored": "`train digits`, scored every 50 steps",
        "memory": "adapted augmentation, with memory",
        "seeds": "`seeds`",
        "sweep": "`sweep`",
        "prepare": "`prepare`",
        "processes": "one of two processes",
    },
    {
        "kills": "kills",
        "of which while writing": lambda of: ", ".join(f"{what} {n}" for what, n in of["during"].items()) or "-",
        "runs": "runs",
        "as undisturbed": "same",
    },
)


@dataclasses.dataclass(frozen=True)
class Torture:
    """Kills commands at random moments until they end, and compares what they have made."""

    kinds: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="[KIND …]")] = tuple(KINDS)
    """Which ones."""
    kills: int = 20
    """How many of each."""
    seed: int = 0
    """What decides the moments."""
    out: Path = Path("experiments/results")
    """Where torture.json is written."""
    page: Path = Path("docs/reliability.md")
    """The page that the table is written into."""


def main(args: list[str] | None = None) -> None:
    """Kills, compares, and writes the table; the exit status is 1 where a run came to something else."""
    flags = parse(Torture, "experiments.torture", args)
    check_names(flags.kinds, tuple(KINDS), "kind")
    check_flags(flags, kills=1, seed=0)
    study.make_folder(flags.out)
    path = flags.out / "torture.json"
    results = study.read_results(path)

    def keep(kind: str, found: study.Record) -> None:
        results[kind] = found
        study.write_json(path, {name: results[name] for name in KINDS if name in results})
        study.write_table(STUDY, results, flags.page)

    for kind in flags.kinds:
        known = results.get(kind, {"kills": 0, "during": {}, "runs": 0, "same": 0, "machine": study.machine("cpu")})
        if known["kills"] < flags.kills:
            torture(kind, known, flags.kills, flags.seed, keep)
    say(f"see {path} and {flags.page}")
    if other := [kind for kind in flags.kinds if results[kind]["same"] < results[kind]["runs"]]:
        fail(f"{', '.join(other)}: not what the same command makes undisturbed", 1)


def torture(kind: str, known: study.Record, kills: int, seed: int, keep: Callable[[str, study.Record], None]) -> None:
    """Runs that are killed until there are so many kills, those that are `known` included; `keep` gets each record."""
    with tempfile.TemporaryDirectory() as folder:
        given, whole, out = (Path(folder) / name for name in ("given", "whole", "out"))
        make_input(given)
        seconds = undisturbed(kind, whole, given)
        want = made(whole)
        moments = ["a summary", "a shard"] if kind == "prepare" else ["a checkpoint", "a picture", "a summary"]
        while known["kills"] < kills:
            rng, during = random.Random(f"{seed} {kind} {known['runs']}"), Counter(known["during"])
            done = 0
            while known["kills"] + done < kills:
                how = rng.choice(moments) if rng.random() < 0.5 else None
                killed = kill_once(kind, out, given, rng, rng.random() * seconds if how is None else None, how)
                if killed is None:
                    break
                done += 1
                during.update(killed)
                say(f"{kind}: kill {known['kills'] + done}{''.join(f', while writing {what}' for what in killed)}")
            else:
                undisturbed(kind, out, given)
            counts = {"kills": known["kills"] + done, "runs": known["runs"] + 1}
            known = {**known, **counts, "same": known["same"] + (made(out) == want), "during": dict(during)}
            keep(kind, known)
            shutil.rmtree(out)


def make_input(given: Path) -> None:
    """What commands are given: a recipe with memory, and a folder of pictures."""
    given.mkdir()
    (given / "memory.py").write_text(MEMORY)
    (given / "pictures").mkdir()
    digits = data.load("digits").images.repeat(16, 1).repeat(16, 2)
    for i in range(3_000):
        images.save_png(given / "pictures" / f"{i}.png", images.png(digits[i % len(digits)]))


def start(command: list[str], log: Path) -> subprocess.Popen[bytes]:
    """One of the commands, what it says being added to a file."""
    with log.open("ab") as file:
        return subprocess.Popen(
            [sys.executable, "-c", "from jaxgan.commands import main; main()", *command],
            stdout=file,
            stderr=file,
        )


def check_ended(kind: str, processes: list[subprocess.Popen[bytes]], log: Path) -> None:
    """Waits for commands, and ends the program where one has failed."""
    if any(process.wait() for process in processes):
        lines = log.read_text(errors="replace").strip().splitlines()
        fail(f"{kind}: the command failed: {lines[-1] if lines else 'it said nothing'}", 1)


def undisturbed(kind: str, out: Path, given: Path) -> float:
    """Runs the commands to their end: how many seconds that took."""
    begin, log = time.monotonic(), out.with_name(f"{out.name}.log")
    processes = [start(command, log) for command in KINDS[kind](out, given)]
    check_ended(kind, processes, log)
    return time.monotonic() - begin


def kill_once(
    kind: str, out: Path, given: Path, rng: random.Random, after: float | None, how: str | None
) -> list[str] | None:
    """Kills the command, or one of two, after some seconds or as soon as it is seen to write something.

    Returns:
      What they were writing; None where they ended before.
    """
    log = out.with_name("out.log")
    processes = [start(command, log) for command in KINDS[kind](out, given)]
    victim, begin = rng.choice(processes), time.monotonic()
    while victim.poll() is None:
        if (after is not None and time.monotonic() - begin > after) or (how and how in writing(out)):
            victim.kill()
            found = writing(out)
            if victim.wait() != -signal.SIGKILL:
                break  # it had ended
            for other in processes:
                try:
                    other.wait(timeout=120)
                except subprocess.TimeoutExpired:
                    other.kill()
                    fail(f"{kind}: one process was killed, and the other did not end in two minutes", 1)
            return found
        time.sleep(0.0005)
    check_ended(kind, processes, log)
    return None


def writing(out: Path) -> list[str]:
    """What is being written into a folder, of MOMENTS."""
    names = [name for _, folders, files in os.walk(out) for name in (*folders, *files)]  # which may vanish meanwhile
    return [what for what, pattern in MOMENTS.items() if any(map(pattern.search, names))]


def made(out: Path) -> dict[str, Any]:
    """What commands have made, without what depends on the clock: by file."""
    found: dict[str, Any] = {}
    for path in sorted(p for p in out.rglob("*") if p.is_file()):
        name, where = str(path.relative_to(out)), path.parent
        if path.name == "summary.json":
            summary = json.loads(path.read_text())
            found[name] = summary["state_sha256"], summary.get("final", {}).get("scores")
        elif path.name == "metrics.jsonl":
            found[name] = [{k: v for k, v in line.items() if k not in TIMED} for line in read_metrics(where)]
        elif where.name == "samples" or path.suffix in (".array_record", ".npy"):
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        elif where.name == "tensorboard":
            events = found.setdefault(str(where.relative_to(out)), [])
            values = ((event.step, value) for _, event in tensorboard.read(path) for value in event.summary.value)
            events += [(step, value.tag, value.simple_value) for step, value in values if value.tag not in TIMED]
    return found
