"""What a long run takes of the machine, from its start to its end: `python -m experiments.bench.load [--steps N]`.

A run of `digits` in which every update is a turn of its own, with a line of metrics, and pictures, scores and
checkpoints are due all the time. It is looked at from outside, ten times at even steps: its resident memory, open
files, threads, and what its folder takes. On Linux.
"""

import dataclasses
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from jaxgan.commands import study
from jaxgan.commands.cli import check_flags, fail, parse, run_script
from jaxgan.run.screen import say
from jaxgan.run.workdir import write_json

LOOKS = 10
STUDY = study.Study(
    "load",
    "update",
    {},
    {
        "resident MiB": "mib",
        "open files": "files",
        "threads": "threads",
        "folder MiB": "folder_mib",
        "updates a second": "rate",
    },
)


@dataclasses.dataclass(frozen=True)
class Load:
    """Trains with everything due all the time, and looks at what the process takes."""

    steps: int = 10_000
    """How many turns."""
    out: Path = Path("experiments/results")
    """Where load.json is written."""
    page: Path = Path("docs/reliability.md")
    """The page that the table is written into."""


def look(process: subprocess.Popen[bytes], workdir: Path) -> dict[str, float]:
    """What a process and its folder take now; by Linux's /proc."""
    of = Path("/proc") / str(process.pid)
    status = (of / "status").read_text()
    value = lambda name: int(re.findall(rf"{name}:\s+(\d+)", status)[0])  # noqa: E731
    sizes = [file.stat().st_size for file in workdir.rglob("*") if file.is_file()]
    found = {"mib": value("VmRSS") / 2**10, "files": len([*(of / "fd").iterdir()]), "threads": value("Threads")}
    return found | {"folder_mib": sum(sizes) / 2**20}


def main(args: list[str] | None = None) -> None:
    """Starts the run, looks at it, and writes the table."""
    flags = parse(Load, "experiments.bench.load", args)
    check_flags(flags, steps=LOOKS)
    study.make_folder(flags.out)
    rows: dict[str, study.Record] = {}
    with tempfile.TemporaryDirectory() as folder:
        workdir = Path(folder) / "run"
        often = ["--log-every", "1", "--sample-every", "20", "--evaluate-every", "200", "--checkpoint-every", "50"]
        command = ["experiments.train", "digits", "--steps", str(flags.steps), *often, "--workdir", str(workdir)]
        process = subprocess.Popen([sys.executable, "-m", *command], stdout=subprocess.DEVNULL)
        metrics, since = workdir / "metrics.jsonl", (0, time.monotonic())
        for step in (flags.steps * (i + 1) // LOOKS - flags.steps // (2 * LOOKS) for i in range(LOOKS)):
            while _last_step(metrics) < step:
                if process.poll() is not None:
                    fail(f"the run has ended at step {_last_step(metrics)} with status {process.returncode}")
                time.sleep(0.2)
            reached, now = _last_step(metrics), time.monotonic()
            rate = (reached - since[0]) / (now - since[1])
            rows[f"{step:,}"] = {
                name: round(value, 1) for name, value in (look(process, workdir) | {"rate": rate}).items()
            }
            since = reached, now
            say(f"step {step:,}: {rows[f'{step:,}']}")
        process.wait()
    write_json(flags.out / "load.json", rows)
    study.write_table(STUDY._replace(rows={name: name for name in rows}), rows, flags.page)


def _last_step(metrics: Path) -> int:
    """Of the last whole line; 0 where there is none."""
    if not metrics.exists():
        return 0
    with metrics.open("rb") as file:
        file.seek(max(0, metrics.stat().st_size - 4096))
        lines = file.read().split(b"\n")[:-1]
    return json.loads(lines[-1])["step"] if lines else 0


if __name__ == "__main__":
    run_script(main)
