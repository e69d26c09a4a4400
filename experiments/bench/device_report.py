"""What the recipes do on the accelerator at hand: `python -m experiments.bench.device_report [RECIPE …] [--torch]`.

`experiments.benchmark` takes one recipe after the other, and compiles each alone. Time on an accelerator is dear, and
compiling is the host's work: here all programs are compiled at once, each in a process of its own, and then measured in
turn, one at a time, over several rounds. Choices that a compiler makes by measuring are made while the others compile.

shared, alternating   milliseconds for an update, several in a dispatch: the median of the means over dispatches
same bits             of the shared update with XLA's flag for operations that always give the same bits: for GPUs
torch eager, .compile PyTorch's (`jaxgan.benchmark.torch_baseline`); float32 products in TF32 on a GPU, as JAX's are
launches              in the compiled program, as `experiments.plan` counts them, and those that the device's own trace
                      of an update shows, copies included
busy                  milliseconds of an update in which the device computes, by that trace; the rest is between them
MiB                   what XLA plans for the arguments and the work of the program; and the largest that PyTorch had
"""

import contextlib
import dataclasses
import importlib.util
import math
import os
import statistics
import tempfile
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console

from experiments.bench import on_device
from jaxgan import recipes
from jaxgan.benchmark import timing
from jaxgan.benchmark.tables import number, row
from jaxgan.commands.cli import check_json, check_names, fail, one_line_errors, parse
from jaxgan.run.workdir import write_json

COLUMNS = ("shared", "alternating", "same bits", "torch eager", "torch.compile")
MIB = 2**20


@dataclasses.dataclass(frozen=True)
class DeviceReport:
    """Times the recipes on the accelerator at hand, and counts what it runs."""

    recipes: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="[RECIPE …]")] = tuple(
        recipes.SYSTEMS
    )
    """Which ones."""
    torch: bool = False
    """Whether PyTorch is measured beside, where `bench.torch_baseline` has the recipe's networks."""
    seconds: float = 0.5
    """For each variant in each round."""
    rounds: int = 3
    """How many rounds."""
    json: Path | None = None
    """Where the results are written too: a list with an object for each recipe."""


Result = dict[str, Any]


def main() -> None:
    """Starts all, measures all, and prints the table."""
    flags = parse(DeviceReport, "experiments.bench.device_report")
    check_names(flags.recipes, recipes.RECIPES, "recipe")
    if not 0 < flags.seconds < math.inf:
        fail(f"--seconds must be above 0 and finite, not {flags.seconds}")
    if flags.rounds < 1:
        fail(f"--rounds must be at least 1, not {flags.rounds}")
    if flags.torch and importlib.util.find_spec("torch") is None:
        fail("--torch needs PyTorch: pip install torch")
    check_json(flags.json)
    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"  # many processes share the device
    console = Console(stderr=True)
    with (
        one_line_errors(),
        tempfile.TemporaryDirectory() as cache,
        console.status("compiling"),
        timing.workers_at_once(_work(flags, cache)) as started,
    ):
        workers = {job: worker for job, worker in started.items() if isinstance(worker, timing.Worker)}
        failed = {job: error for job, error in started.items() if job not in workers}
        samples: dict[tuple[str, str], list[float]] = {job: [] for job in workers}
        for number in range(flags.rounds):
            console.print(f"round {number + 1} of {flags.rounds}")
            for job, worker in workers.items():
                samples[job] += timing.measure(worker, flags.seconds)
        last = {job: timing.end(worker) for job, worker in workers.items()}
    results = []
    for name in flags.recipes:
        jobs = [job for job in workers if job[0] == name]
        result: Result = {
            "recipe": name,
            "failed": {what: str(why) for (of, what), why in failed.items() if of == name},
        }
        for job in jobs:
            result[job[1]] = workers[job].facts | last[job] | {"ms": 1e3 * statistics.median(samples[job])}
        results.append(result)
    print(_table(results))
    if flags.json:
        write_json(flags.json, results)
    if failed:
        fail("; ".join(f"{' '.join(job)}: {why}" for job, why in failed.items()), 1)


def _work(flags: DeviceReport, cache: str) -> dict[tuple[str, str], tuple]:
    """For each (recipe, variant) what prepares it, with its arguments."""
    work = {}
    for name in flags.recipes:
        recipe = recipes.get(name)
        shared, alternating = (recipe.replace(update=update) for update in ("shared", "alternating"))
        work[name, "shared"] = on_device.device_update, shared, cache, False, True
        work[name, "alternating"] = on_device.device_update, alternating, cache, False, False
        work[name, "same bits"] = on_device.device_update, shared, cache, True, False
        if flags.torch and name in on_device.torch_recipes():
            settings = recipe.config() | {"name": name}
            work[name, "torch eager"] = on_device.torch_update, settings, False
            work[name, "torch.compile"] = on_device.torch_update, settings, True
    return work


def _table(results: list[Result]) -> str:
    head = ("recipe", *COLUMNS, "shared / faster torch", "launches: program, trace", "busy", "MiB (torch)")
    rows = [head, ["---"] * len(head)]
    for result in results:
        times = [result.get(column, {}).get("ms") for column in COLUMNS]
        shared = result.get("shared", {})
        rivals = [ms for ms in times[3:] if ms]
        planned = sum(shared.get(part, 0) for part in ("argument_bytes", "working_bytes", "program_bytes"))
        launches = f"{shared.get('launches', '-')}, {number(shared.get('launches_run'))}"
        memory = number(planned / MIB if planned else None)
        with contextlib.suppress(KeyError):
            memory += f" ({number(result['torch eager']['peak_bytes'] / MIB)})"
        ratio = times[0] / min(rivals) if rivals and times[0] else None
        name, busy = f"`{result['recipe']}`", number(shared.get("busy_ms"))
        rows.append([name, *map(number, times), number(ratio), launches, busy, memory])
    return "\n".join(map(row, rows))


if __name__ == "__main__":
    main()
