"""How long whole runs take: to start, and for an update within them."""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from jaxgan.benchmark import timing
from jaxgan.recipes.settings import Recipe
from jaxgan.run import Options

LOOP = 10, 20  # seconds of a run: at least, unless a few lines of its log take longer; and at most
IMPORTS = 2  # seconds at a run's beginning that are left out
LINES = 4  # of that log
# Of each run: data that come with the package, brought to the size of the recipe's, and no scores.
FLAGS = ["--data", "digits", "--border", "0", "--devices", "1", "--evaluate-every", "0"]


def measure(own: timing.Worker, recipe: Recipe, precision: str, seconds: float) -> dict[str, Any]:
    """How long a run takes to start, and its updates within it, beside those of the worker of its own update.

    Args:
      own: a worker that repeats the recipe's update.
      recipe: what to train.
      precision: what it computes in.
      seconds: for how long the worker is measured before the run, and after it.

    Raises:
      timing.Failed: the run, or the worker, failed.
    """
    flags = ["--precision", precision] if precision != "float32" else []
    with tempfile.TemporaryDirectory() as folder:
        _train(recipe, flags, 1, folder)  # compiles
        started = _train(recipe, flags, 1, folder)
        bare = timing.measure(own, seconds)
        lines = (LINES - 1) * Options().log_every + 1
        enough, most = (limit / statistics.median(bare) for limit in LOOP)
        steps = max(2, int(min(max(enough, lines), most)))
        ms = loop_ms(_train(recipe, flags, steps, folder).metrics)
        bare_ms = 1e3 * statistics.median(bare + timing.measure(own, seconds))
    loop = {"ms_per_update": ms, "bare_ms_per_update": bare_ms, "percent_of_bare": 100 * bare_ms / ms, "steps": steps}
    return {"loop": loop, "first_update_seconds": started.to_last_line, "start_seconds": started.seconds}


def loop_ms(metrics: list[dict[str, Any]]) -> float:
    """Milliseconds of an update of a run with these lines of metrics.

    The median over all stretches from one line to the one a picture later, so that each has a picture in it and a
    moment in which the machine was busy with something else does not count; without such, from the first to the last.
    """
    begin = metrics[0]["seconds"] + IMPORTS
    lines = {line["step"]: line["seconds"] for line in metrics if line["seconds"] > begin}
    period = Options().sample_every
    if stretches := [lines[step + period] - seconds for step, seconds in lines.items() if step + period in lines]:
        return 1e3 * statistics.median(stretches) / period
    first, last = metrics[-max(2, len(lines))], metrics[-1]
    return 1e3 * (last["seconds"] - first["seconds"]) / (last["step"] - first["step"])


class _Trained(NamedTuple):
    """A run: the seconds of the whole process, and of it to its last line of metrics; these."""

    seconds: float
    to_last_line: float
    metrics: list[dict[str, Any]]


def _train(recipe: Recipe, flags: list[str], steps: int, folder: str) -> _Trained:
    """Trains on the embedded digits, resized to the recipe's images, without scores; `folder` keeps the programs."""
    environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": f"{folder}/cache"}
    environment["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.2"  # as runs have it by default
    with tempfile.TemporaryDirectory(dir=folder) as workdir:
        command = [sys.executable, "-m", "jaxgan.commands.train", recipe.name, "--workdir", workdir]
        command += ["--steps", str(steps), "--batch-size", str(recipe.batch_size), *FLAGS, *flags]
        begin = time.time()  # the clock of files
        process = subprocess.run(command, env=environment, capture_output=True, text=True)
        seconds = time.time() - begin
        if process.returncode:
            raise timing.Failed(f"experiments.train: {(process.stderr.strip().splitlines() or ['it failed'])[-1]}")
        path = Path(workdir, "metrics.jsonl")
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        return _Trained(seconds, path.stat().st_mtime - begin, lines)
