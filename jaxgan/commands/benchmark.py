"""How fast the recipes train: `python -m experiments.benchmark [RECIPE …] [--torch] [--json FILE]`.

The first table has a row for each variant of the update: `shared` and `alternating` as `jaxgan.train_step.train_steps`
takes them, several in one dispatch over random images on the device; with --torch also PyTorch's
(`jaxgan.benchmark.torch_baseline`). Each is a process of its own, and they are measured in turn, over several rounds.

ms          for one update: the median, and the quartiles, of the means over dispatches
images/s    real images
GFLOP       of the products in one update (`jaxgan.programs.flops`), whatever a convolution was turned into
GFLOP/s     and the share of what a large matrix product reaches on this machine
compile s   lowering and compiling the update, from no cache; for torch.compile building and the first update
MiB         the peak of the device's memory, JAX's programs being compiled already; on a CPU of the process, with what
            it had after its imports, and its peak where it had to compile

The second has a row for each recipe:

speed-up    of shared over alternating: the median over rounds
bound       what their products would give: (4 G + 8 D) / (3 G + 7 D), of a forward pass of each network over a batch
floor ms    of its update: the longer of those FLOPs at the rate of a matrix product, and its bytes at that of a copy
            (as XLA counts them: the body of a loop once)
gap         its ms over the floor's
loop ms     for one update of a whole run, `experiments.train` with the logs and samples that fall due within some
            seconds; a checkpoint comes once a minute, and is not among them, and nor are scores (--evaluate-every 0).
            Not of its first two seconds, in which Python imports what writes pictures and event files
loop %      the speed of that: the update's own ms, measured just before and after, over the loop's
first s     from the start of a process to the losses of its first update, where JAX has kept the programs that it
            compiled before (JAX_COMPILATION_CACHE_DIR)
whole s     of that run of one update to the end of its process, sampling and saving included but no scores

On a busy machine PyTorch's figures suffer far more than JAX's: its threads wait for one another by spinning. Compare
them on an idle one.
"""

import dataclasses
import importlib.util
import math
import os
import statistics
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro
from rich.console import Console

from jaxgan import recipes
from jaxgan.benchmark import timing, updates
from jaxgan.benchmark.tables import number, row
from jaxgan.commands.cli import check_names, fail, one_line_errors, parse
from jaxgan.recipes.settings import Recipe
from jaxgan.run import Options
from jaxgan.run.workdir import write_json

COLUMNS = ("recipe", "variant", "ms", "quartiles", "images/s", "GFLOP", "GFLOP/s", "compile s", "MiB")
SUMMARY = ("recipe", "speed-up", "bound", "reached", "floor ms", "gap", "loop ms", "loop %", "first s", "whole s")
LOOP = 10, 20  # seconds of a run: at least, unless a few lines of its log take longer; and at most
IMPORTS = 2  # seconds at a run's beginning that are left out
LINES = 4  # of that log
KEYS = {
    "shared": "shared",
    "alternating": "alternating",
    "torch eager": "torch_eager",
    "torch.compile": "torch_compile",
}
MACHINE = 0.3  # seconds in each round for the matrix product, and for the copy

Result = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """Measures the training update of each recipe, beside what bounds it."""

    recipes: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="[RECIPE …]")] = tuple(
        recipes.SYSTEMS
    )
    """Which ones."""
    json: Path | None = None
    """Where the results are written too: a list with an object for each recipe."""
    torch: bool = False
    """Whether PyTorch is measured beside, where `bench.torch_baseline` has the recipe's networks."""
    seconds: float = 1.5
    """For each variant in each round."""
    rounds: int = 5
    """How many rounds."""
    batch_size: int | None = None
    """Instead of the recipe's own."""
    precision: Literal["float32", "bf16"] = "float32"
    """What the networks compute in."""


def main() -> None:
    """Measures one recipe after the other, and prints the tables."""
    flags = parse(Benchmark, "experiments.benchmark")
    chosen = _check(flags)
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # several processes share a GPU
    console, results, failed = Console(stderr=True), [], {}
    _print_row(COLUMNS)
    _print_row(["---"] * len(COLUMNS))
    with one_line_errors():
        for recipe in chosen:
            with console.status(recipe.name) as status:
                result = _measure(recipe, flags, lambda what, name=recipe.name: status.update(f"{name}: {what}"))
            for name, why in result["failed"].items():
                failed[f"{recipe.name}, {name}"] = why
            results.append(result)
            for cells in _rows(result):
                _print_row(cells)
            if flags.json:
                write_json(flags.json, results)
    print()
    _print_row(SUMMARY)
    _print_row(["---"] * len(SUMMARY))
    for result in results:
        _print_row(_summary(result))
    machine = results[-1]["machine"]
    print("\n" + "; ".join(f"{name} {value}" for name, value in machine.items()))
    if failed:
        fail("; ".join(f"{name}: {why}" for name, why in failed.items()), 1)


def _check(flags: Benchmark) -> list[Recipe]:
    """The recipes as they are to be measured; ends the program where a flag does not fit."""
    check_names(flags.recipes, recipes.RECIPES, "recipe")
    if not 0 < flags.seconds < math.inf:
        fail(f"--seconds must be above 0 and finite, not {flags.seconds}")
    if flags.rounds < 1:
        fail(f"--rounds must be at least 1, not {flags.rounds}")
    if flags.torch and importlib.util.find_spec("torch") is None:
        fail("--torch needs PyTorch: pip install torch")
    if flags.json:
        folder = flags.json.absolute().parent
        if not folder.is_dir() or flags.json.is_dir():
            fail(f"--json {flags.json}: {f'{folder} is no folder' if not folder.is_dir() else 'that is a folder'}")
        if not os.access(folder, os.W_OK | os.X_OK):
            fail(f"--json {flags.json}: {folder} is not writable")
    changes = {} if flags.batch_size is None else {"batch_size": flags.batch_size}
    if flags.precision != "float32":
        changes["precision"] = flags.precision
    try:
        return [recipes.get(name).replace(**changes) for name in flags.recipes]
    except ValueError as error:
        fail(error)


def _measure(recipe: Recipe, flags: Benchmark, say: Callable[[str], None]) -> Result:
    """All about one recipe, as --json writes it; `say` hears what is being done."""
    failed: dict[str, str] = {}

    def attempt(name: str, what: str, function: Callable, *args: Any) -> Any:
        say(f"{name}, {what}")
        try:
            return function(*args)
        except timing.Failed as error:
            failed[name] = str(error)
            return None

    with timing.workers() as start, tempfile.TemporaryDirectory() as cache:
        work, cold = _work(recipe, flags, cache), {}
        for name in ("shared", "alternating"):
            if compiler := attempt(name, "compiling", start, updates.counted_update, *work[name][1:]):
                counted = {key: compiler.facts[key] for key in ("flops", "compile_seconds")}
                cold[name] = counted | {"compiling_bytes": attempt(name, "compiling", timing.end, compiler)}
        workers = {name: attempt(name, "starting", start, *how) for name, how in work.items() if name not in failed}
        samples, peaks = {name: [] for name in workers}, {}
        for number in range(1, flags.rounds + 1):
            for name in workers:
                if name not in failed:
                    seconds = flags.seconds if name in KEYS else min(flags.seconds, MACHINE)
                    what = f"round {number} of {flags.rounds}"
                    samples[name].append(attempt(name, what, timing.measure, workers[name], seconds))
        for name in workers:
            if name not in failed and name != recipe.update:
                peaks[name] = attempt(name, "ending", timing.end, workers[name])
        facts = {name: worker.facts for name, worker in workers.items() if name not in failed}
        for name in cold.keys() & facts.keys():
            facts[name] |= cold[name]
        result = _tell(recipe, flags, facts, samples)
        if recipe.update in facts:
            whole = attempt("loop", "whole runs", _run, recipe, flags, workers[recipe.update])
            result |= whole or {}
            peaks[recipe.update] = attempt(recipe.update, "ending", timing.end, workers[recipe.update])
    for name, peak in peaks.items():
        if name in KEYS and peak is not None:
            result[KEYS[name]] |= {"peak_mib": peak / 2**20, "base_mib": facts[name]["base_bytes"] / 2**20}
            if name in cold:
                result[KEYS[name]]["compiling_peak_mib"] = facts[name]["compiling_bytes"] / 2**20
    return _rounded(result) | {"failed": failed}


def _work(recipe: Recipe, flags: Benchmark, cache: str) -> dict[str, tuple]:
    """What is to be measured in turn: for each name what prepares it, with its arguments."""
    both = ("shared", "alternating")
    work = {name: (updates.jax_update, recipe.replace(update=name), cache) for name in both}
    if flags.torch:
        from jaxgan.benchmark.torch_baseline import NETWORKS, time_update

        settings = recipe.config() | {"name": recipe.name}
        for name, compiled in (("torch eager", False), ("torch.compile", True)) if recipe.name in NETWORKS else ():
            work[name] = (time_update, settings, compiled, flags.precision)
    return work | {
        "matmul": (updates.matmul, recipe, flags.precision),
        "copy": (updates.copy,),
    }


def _tell(recipe: Recipe, flags: Benchmark, facts: dict[str, Any], samples: dict[str, list]) -> Result:
    """What the rounds came to: of `facts` reported by each worker, and `samples` by worker and round, in seconds."""
    ms = {name: 1e3 * statistics.median(s for each in samples[name] for s in each) for name in facts if samples[name]}
    machine = dict(facts.get("matmul", {}).get("machine", {}))
    matmul, copy = (
        facts[name][what] / ms[name] / 1e6 if name in ms else None
        for name, what in (("matmul", "flops"), ("copy", "bytes"))
    )
    machine |= {"matmul_gflops": matmul, "copy_gb_per_second": copy}
    result = {"recipe": recipe.name, "update": recipe.update, "batch_size": recipe.batch_size}
    result |= {"precision": flags.precision, "machine": machine}
    for name in (name for name in KEYS if name in ms):
        flops = facts[name].get("flops")
        gflops = flops / ms[name] / 1e6 if flops else None
        quartiles = np.quantile([1e3 * s for each in samples[name] for s in each], [0.25, 0.75])
        result[KEYS[name]] = {
            "ms_per_update": ms[name],
            "ms_quartiles": quartiles.tolist(),
            "images_per_second": 1e3 * recipe.batch_size * recipe.training_ratio / ms[name],
            "flops": flops,
            "gflops": gflops,
            "matmul_share": gflops / matmul if gflops and matmul else None,
            "compile_seconds": facts[name].get("compile_seconds"),
        }
        if "torch" in facts[name]:
            machine["torch"] = facts[name]["torch"]
    if {"shared", "alternating"} <= ms.keys():
        rounds = zip(samples["alternating"], samples["shared"], strict=True)
        result["speedup"] = statistics.median(statistics.median(a) / statistics.median(b) for a, b in rounds)
    if "matmul" in facts:
        gen, disc = facts["matmul"]["forward"]
        result["bound"] = (4 * gen + 8 * disc) / (3 * gen + 7 * disc)
        result |= {"forward_flops_gen": gen, "forward_flops_disc": disc}
    if recipe.update in ms and matmul and copy and "flops" in facts[recipe.update]:
        own = facts[recipe.update]
        floor = max(own["flops"] / matmul, own["bytes"] / copy) / 1e6
        result["floor"] = {"ms": floor, "bytes": own["bytes"], "gap": ms[recipe.update] / floor}
    return result


def _run(recipe: Recipe, flags: Benchmark, own: timing.Worker) -> Result:
    """How long a run takes to start, and its updates within it, beside those of the worker of its own update."""
    precision = [] if flags.precision == "float32" else ["--precision", flags.precision]
    with tempfile.TemporaryDirectory() as folder:
        timing.train(recipe, precision, 1, Path(folder))  # compiles
        started = timing.train(recipe, precision, 1, Path(folder))
        bare = timing.measure(own, flags.seconds)
        lines = (LINES - 1) * Options().log_every + 1
        enough, most = (seconds / statistics.median(bare) for seconds in LOOP)
        steps = max(2, int(min(max(enough, lines), most)))
        metrics = timing.train(recipe, precision, steps, Path(folder)).metrics
        bare += timing.measure(own, flags.seconds)
    ms = _loop_ms(metrics)
    bare_ms = 1e3 * statistics.median(bare)
    loop = {"ms_per_update": ms, "bare_ms_per_update": bare_ms, "percent_of_bare": 100 * bare_ms / ms, "steps": steps}
    return {"loop": loop, "first_update_seconds": started.to_last_line, "start_seconds": started.seconds}


def _loop_ms(metrics: list[dict[str, Any]]) -> float:
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


def _rounded(value: Any) -> Any:
    """The same tree, with six digits of each float."""
    if isinstance(value, dict):
        return {k: _rounded(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_rounded(v) for v in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


def _rows(result: Result) -> list[list[str]]:
    """The rows of the first table."""
    rows = []
    for name, key in KEYS.items():
        if key in result:
            r = result[key]
            low, high = r["ms_quartiles"]
            rows.append(
                [
                    f"`{result['recipe']}`",
                    name,
                    number(r["ms_per_update"]),
                    f"{number(low)} to {number(high)}",
                    f"{r['images_per_second']:,.0f}",
                    number(r["flops"] and r["flops"] / 1e9),
                    f"{number(r['gflops'])} ({number(r['matmul_share'] and 100 * r['matmul_share'])}%)",
                    number(r["compile_seconds"]),
                    _memory(r),
                ]
            )
        elif name in result["failed"]:
            rows.append([f"`{result['recipe']}`", name, "failed", *["-"] * (len(COLUMNS) - 3)])
    return rows


def _memory(r: Result) -> str:
    if "peak_mib" not in r:
        return "-"
    compiling = f"; compiling {r['compiling_peak_mib']:,.0f}" if "compiling_peak_mib" in r else ""
    return f"{r['peak_mib']:,.0f} ({r['base_mib']:,.0f}{compiling})"


def _summary(result: Result) -> list[str]:
    """The row of the second table."""
    speedup, bound = result.get("speedup"), result.get("bound")
    floor, loop = result.get("floor", {}), result.get("loop", {})
    numbers = (speedup, bound, speedup and bound and speedup / bound, floor.get("ms"), floor.get("gap"))
    numbers += (loop.get("ms_per_update"), loop.get("percent_of_bare"))
    numbers += (result.get("first_update_seconds"), result.get("start_seconds"))
    return [f"`{result['recipe']}`", *map(number, numbers)]


def _print_row(cells: Iterable[str]) -> None:
    print(row(cells), flush=True)


if __name__ == "__main__":
    main()
