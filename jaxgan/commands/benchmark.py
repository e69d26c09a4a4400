"""How fast the recipes train: `python -m experiments.benchmark [RECIPE …] [--torch] [--accelerator] [--json FILE]`.

The first table has a row for each variant of the update: `shared` and `alternating` as `jaxgan.train_step.train_steps`
takes them, several in one dispatch over random images on the device; with --torch also PyTorch's
(`jaxgan.benchmark.torch_baseline`; float32 products in TF32 on a GPU, as JAX's are). Each is a process of its own, and
in each of several rounds all are measured one after the other.

Time on an accelerator is expensive, and compiling is the host's work: with --accelerator the programs of all recipes
are compiled at once, and then measured one at a time; whole runs are left out. There is then also `same bits`, the
shared update with XLA's flag for operations that always give the same bits, which is for GPUs.

ms          for one update: the median, and the quartiles, of the means over dispatches
images/s    real images
GFLOP       of the products in one update (`jaxgan.programs.hlo`), whatever a convolution was turned into
GFLOP/s     and the share of what a large matrix product reaches on this machine
compile s   lowering and compiling the update, from no cache; for torch.compile building and the first update
MiB         the peak of the device's memory, JAX's programs being compiled already; on a CPU of the process, with what
            it had after its imports (PyTorch's processes import JAX, too), and its peak where it had to compile
planned     the MiB that XLA plans for the arguments and the work of the program
launches    in the compiled program, as `experiments.plan` counts them, and on a GPU those that the device's own trace
            of an update shows, copies included
busy        milliseconds of an update in which the device computes, by that trace; the rest is between them

The second has a row for each recipe:

speed-up    of shared over alternating: the median over rounds
bound       what their products would give: (4 G + 8 D) / (3 G + 7 D), of a forward pass of each network over a batch
of torch    the ms of shared over those of the faster of PyTorch's two
roofline ms of its update: the longer of those FLOPs at the rate of a matrix product, and its bytes at that of a copy
            (as XLA counts them: the body of a loop once)
gap         its ms over the roofline's
loop ms     for one update of a whole run, `experiments.train` with the logs and samples that fall due within some
            seconds, but without checkpoints, of which there is one a minute, and scores (--evaluate-every 0). Its
            first two seconds, in which Python imports what writes pictures and event files, do not count
loop %      the speed of that: the update's own ms, measured just before and after, over the loop's
first s     from the start of a process to the losses of its first update, where JAX has kept the programs that it
            compiled before (JAX_COMPILATION_CACHE_DIR)
whole s     of that run of one update to the end of its process, sampling and saving included but no scores

Compare with PyTorch on an idle machine: its threads wait for one another by spinning, so that other work slows it far
more than JAX.
"""

import dataclasses
import importlib.util
import itertools
import json
import math
import os
import re
import statistics
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal

import numpy as np
from rich.console import Console

from jaxgan import recipes
from jaxgan.benchmark import timing, updates, whole_run
from jaxgan.commands.cli import RecipeNames, check_json, check_names, fail, one_line_errors, parse
from jaxgan.programs import compile_ahead
from jaxgan.recipes.settings import Recipe
from jaxgan.run.workdir import write_json

COLUMNS = "recipe | variant | ms | quartiles | images/s | GFLOP | GFLOP/s | compile s | MiB | planned | launches | busy"
SUMMARY = "recipe | speed-up | bound | reached | of torch | roofline ms | gap | loop ms | loop % | first s | whole s"
UPDATES = "shared", "alternating"
# Each variant by what the table calls it, and what the JSON does.
KEYS = {name: re.sub(r"\W", "_", name) for name in (*UPDATES, "same bits", "torch eager", "torch.compile")}
MACHINE = 0.3  # seconds in each round for the matrix product, and for the copy
PATIENCE = 600  # seconds in which each has to be ready, which `torch.compile` may not be
MIB = 2**20
MEMORY = "peak", "base", "compiling_peak", "argument", "working", "program"

Result = dict[str, Any]
Job = tuple[str, str]  # recipe, variant


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """Measures the training update of each recipe, beside what bounds it."""

    recipes: RecipeNames = tuple(recipes.SYSTEMS)
    """Which ones."""
    json: Path | None = None
    """Where the results are written too: a list with an object for each recipe."""
    torch: bool = False
    """Whether PyTorch is measured beside, where `jaxgan.benchmark.torch_networks` has the recipe's networks."""
    accelerator: bool = False
    """Whether all is compiled at once, and whole runs are left out: a GPU or a TPU is measured in minutes."""
    seconds: float = 1.5
    """For each variant in each round."""
    rounds: int = 5
    """How many rounds."""
    batch_size: int | None = None
    """Instead of the recipe's own."""
    precision: Literal["float32", "bf16"] = "float32"
    """What the networks compute in."""


def main() -> None:
    """Measures one recipe after the other, or all at once, and prints the tables."""
    flags = parse(Benchmark, "experiments.benchmark")
    chosen = _check(flags)
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # several processes share a GPU
    results: list[Result] = []
    _print_rows(COLUMNS.split(" | "), ["---"] * (COLUMNS.count("|") + 1))
    with one_line_errors():
        for group in [chosen] if flags.accelerator else [[recipe] for recipe in chosen]:
            names = ", ".join(recipe.name for recipe in group)
            with Console(stderr=True).status(names) as status:
                measured = _measure(group, flags, lambda what, names=names: status.update(f"{names}: {what}"))
            results += measured
            _print_rows(*(row for result in measured for row in _rows(result)))
            if flags.json:
                write_json(flags.json, results)
    print()
    _print_rows(SUMMARY.split(" | "), ["---"] * (SUMMARY.count("|") + 1), *map(_summary, results))
    print("\n" + "; ".join(f"{name} {value}" for name, value in results[-1]["machine"].items()))
    if failed := [f"{r['recipe']}, {name}: {why}" for r in results for name, why in r["failed"].items()]:
        fail("; ".join(failed), 1)


def _check(flags: Benchmark) -> list[Recipe]:
    """The recipes as they are to be measured; ends the program where a flag does not fit."""
    check_names(flags.recipes, recipes.RECIPES, "recipe")
    if not 0 < flags.seconds < math.inf:
        fail(f"--seconds must be above 0 and finite, not {flags.seconds}")
    if flags.rounds < 1:
        fail(f"--rounds must be at least 1, not {flags.rounds}")
    if flags.torch and importlib.util.find_spec("torch") is None:
        fail("--torch needs PyTorch: pip install torch")
    check_json(flags.json)
    changes = {"batch_size": flags.batch_size, "precision": None if flags.precision == "float32" else flags.precision}
    changes = {name: value for name, value in changes.items() if value is not None}
    try:
        return [recipes.get(name).replace(**changes) for name in flags.recipes]
    except ValueError as error:
        fail(error)


def _measure(group: list[Recipe], flags: Benchmark, say: Callable[[str], None]) -> list[Result]:
    """The results of recipes as --json writes them, floats to six digits; `say` is told what is being done."""
    facts: dict[Job, timing.Facts] = {}
    runs: dict[str, Result] = {}
    at_once = os.cpu_count() or 1 if flags.accelerator else 1

    def ask(job: Job, question: Callable[..., Any], *args: Any) -> Any:
        try:
            return question(workers[job], *args)
        except timing.Failed as error:
            failed[job] = error
            del workers[job]

    with tempfile.TemporaryDirectory() as cache:
        say("compiling")
        compiling = {
            (recipe.name, update): (updates.compiled_update, recipe.replace(update=update), cache, compile_ahead.facts)
            for recipe, update in itertools.product(group, UPDATES)
        }
        with timing.workers(compiling, at_once) as (workers, failed):
            for job, worker in list(workers.items()):
                if ended := ask(job, timing.end):
                    facts[job] = worker.facts | {"compiling_peak_bytes": ended["peak_bytes"]}
        say("starting")
        work = {job: how for job, how in _work(group, flags, cache).items() if job not in failed}
        with timing.workers(work, at_once, PATIENCE) as (workers, others):
            failed |= others
            rounds: list[dict[Job, list[float]]] = []
            for number in range(flags.rounds):
                say(f"round {number + 1} of {flags.rounds}")
                seconds = {job: flags.seconds if job[0] else min(flags.seconds, MACHINE) for job in workers}
                rounds.append({job: ask(job, timing.measure, seconds[job]) for job in seconds})
            for recipe in () if flags.accelerator else group:
                say("whole runs")
                if own := workers.get((recipe.name, recipe.update)):
                    try:
                        runs[recipe.name] = whole_run.measure(own, recipe, flags.precision, flags.seconds)
                    except timing.Failed as error:
                        failed[recipe.name, "loop"] = error
            for job, worker in list(workers.items()):
                if ended := ask(job, timing.end):
                    facts[job] = worker.facts | facts.get(job, {}) | ended
    samples = {job: [each[job] for each in rounds] for job in workers}
    results = [_tell(recipe, flags, facts, samples) | runs.get(recipe.name, {}) for recipe in group]
    for result in results:
        result["failed"] = {name: str(why) for (of, name), why in failed.items() if of in ("", result["recipe"])}
    return json.loads(json.dumps(results), parse_float=lambda text: float(f"{float(text):.6g}"))


def _work(group: list[Recipe], flags: Benchmark, cache: str) -> dict[Job, tuple[Any, ...]]:
    """What is to be measured, for each recipe and of the machine: what prepares it, with its arguments."""
    work: dict[Job, tuple[Any, ...]] = {}
    for recipe in group:
        variants: dict[str, tuple[Any, ...]] = {
            update: (updates.jax_update, recipe.replace(update=update), cache) for update in UPDATES
        }
        if flags.accelerator:
            variants["same bits"] = *variants["shared"], True
        if flags.torch:
            from jaxgan.benchmark.torch_baseline import time_update
            from jaxgan.benchmark.torch_networks import NETWORKS

            if recipe.name in NETWORKS:
                how = time_update, recipe.config() | {"name": recipe.name}, flags.precision
                variants |= {"torch eager": (*how, False), "torch.compile": (*how, True)}
        work |= {(recipe.name, name): how for name, how in variants.items()}
    return work | {("", "matmul"): (updates.matmul, flags.precision), ("", "copy"): (updates.copy,)}


def _tell(
    recipe: Recipe, flags: Benchmark, facts: dict[Job, timing.Facts], samples: dict[Job, list[list[float]]]
) -> Result:
    """The result of a recipe, from the `facts` of each worker, and its `samples` by round, in seconds."""
    matmul, copy = (
        facts["", name][what] / _milliseconds(samples["", name]) / 1e6 if ("", name) in samples else None
        for name, what in (("matmul", "flops"), ("copy", "bytes"))
    )
    of = {name: facts[recipe.name, name] for name in KEYS if (recipe.name, name) in samples}
    times = {name: samples[recipe.name, name] for name in of}
    ms = {name: _milliseconds(each) for name, each in times.items()}
    machine: Result = facts.get(("", "matmul"), {}).get("machine", {})
    machine = machine | {"matmul_gflops": matmul, "copy_gb_per_second": copy}
    machine |= next(({"torch": each["torch"]} for each in of.values() if "torch" in each), {})
    result: Result = {"recipe": recipe.name, "update": recipe.update, "batch_size": recipe.batch_size}
    result |= {"precision": flags.precision, "machine": machine}
    result |= {KEYS[name]: _variant(recipe, of[name], times[name], matmul) for name in of}
    if set(UPDATES) <= of.keys():
        rounds = zip(times["alternating"], times["shared"], strict=True)
        result["speedup"] = statistics.median(statistics.median(a) / statistics.median(b) for a, b in rounds)
    if rivals := [ms[name] for name in of if name.startswith("torch") and "shared" in of]:
        result["of_torch"] = ms["shared"] / min(rivals)
    if own := of.get(recipe.update):
        gen, disc = own["forward"]
        result["bound"] = (4 * gen + 8 * disc) / (3 * gen + 7 * disc)
        result |= {"forward_flops_gen": gen, "forward_flops_disc": disc}
        if matmul and copy and own["xla_bytes"]:
            least = max(own["flops"] / matmul, own["xla_bytes"] / copy) / 1e6
            result["roofline"] = {"ms": least, "bytes": own["xla_bytes"], "gap": ms[recipe.update] / least}
    return result


def _milliseconds(samples: list[list[float]]) -> float:
    return 1e3 * statistics.median(itertools.chain(*samples))


def _variant(recipe: Recipe, facts: timing.Facts, samples: list[list[float]], matmul: float | None) -> Result:
    """The figures of a variant; `matmul` is the GFLOP/s of a large matrix product."""
    ms, flops = _milliseconds(samples), facts.get("flops")
    gflops = flops / ms / 1e6 if flops else None
    result = {
        "ms_per_update": ms,
        "ms_quartiles": (1e3 * np.quantile(list(itertools.chain(*samples)), [0.25, 0.75])).tolist(),
        "images_per_second": 1e3 * recipe.batch_size * recipe.training_ratio / ms,
        "flops": flops,
        "gflops": gflops,
        "matmul_share": gflops / matmul if gflops and matmul else None,
        "compile_seconds": facts.get("compile_seconds"),
    }
    kept = {key: facts[key] for key in ("launches", "launches_run", "busy_ms") if key in facts}
    memory = {f"{what}_mib": facts[f"{what}_bytes"] / MIB for what in MEMORY if f"{what}_bytes" in facts}
    return result | kept | memory


def _rows(result: Result) -> list[list[str]]:
    rows: list[list[str]] = []
    for name, key in KEYS.items():
        if r := result.get(key):
            planned = sum(r.get(f"{part}_mib", 0) for part in ("argument", "working", "program"))
            compiling = f"; compiling {r['compiling_peak_mib']:,.0f}" if "compiling_peak_mib" in r else ""
            cells = [
                _number(r["ms_per_update"]),
                " to ".join(map(_number, r["ms_quartiles"])),
                f"{r['images_per_second']:,.0f}",
                _number(r["flops"] and r["flops"] / 1e9),
                f"{_number(r['gflops'])} ({_number(r['matmul_share'] and 100 * r['matmul_share'])}%)",
                _number(r["compile_seconds"]),
                f"{r['peak_mib']:,.0f} ({r['base_mib']:,.0f}{compiling})",
                _number(planned or None),
                f"{r.get('launches', '-')}, {_number(r.get('launches_run'))}",
                _number(r.get("busy_ms")),
            ]
            rows.append([f"`{result['recipe']}`", name, *cells])
        elif name in result["failed"]:
            rows.append([f"`{result['recipe']}`", name, "failed", *["-"] * (COLUMNS.count("|") - 2)])
    return rows


def _summary(result: Result) -> list[str]:
    speedup, bound = result.get("speedup"), result.get("bound")
    roofline, loop = result.get("roofline", {}), result.get("loop", {})
    numbers = [speedup, bound, speedup and bound and speedup / bound, result.get("of_torch")]
    numbers += [roofline.get("ms"), roofline.get("gap"), loop.get("ms_per_update"), loop.get("percent_of_bare")]
    numbers += [result.get("first_update_seconds"), result.get("start_seconds")]
    return [f"`{result['recipe']}`", *map(_number, numbers)]


def _number(value: float | None) -> str:
    """Three digits or, of a large number, all before the point; a dash where there is none."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:#.3g}"


def _print_rows(*rows: Iterable[str]) -> None:
    for row in rows:
        print(f"| {' | '.join(row)} |", flush=True)
