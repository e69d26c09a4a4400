"""Whether a run fits on an accelerator, and what it will do there: `python -m experiments.plan RECIPE --on TARGET`.

Nothing is run, and no accelerator is needed: the program that runs take, `train_steps`, is compiled ahead of time for
the target, by the same compiler that a run there would use, and read. So there is no measured time in it.

memory          of one device: the state; the dataset, or where a run would stream it the images of a turn; what the
                program works in, as XLA plans it. On a GPU cuDNN's own workspaces, which it chooses there, come on top
launches        what is started on the device in an update, each iteration of an inner loop counted; on a TPU, which
                runs the whole program by itself, the operations that are more than one number
convolutions    calls of cuDNN, or XLA's own; collectives with the bytes that they reduce or gather
GFLOP           of the convolutions and matrix products in the compiled program (`jaxgan.programs.hlo`)
roofline ms     the longer of two: those products at the peak that the maker publishes, and the part of the state that
                the chip cannot hold, once in and once out at the full bandwidth. No run can be faster; launches and
                latencies come on top, and what is between the products
"""

import dataclasses
import itertools
import json
import math
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import jax
import tyro

import jaxgan
from jaxgan import recipes
from jaxgan.commands.cli import check_json, fail, one_line_errors, parse
from jaxgan.gan import image_shape
from jaxgan.programs.accelerators import GIB, Target, find_compilers, read_target, topology
from jaxgan.programs.compile_ahead import compile_and_read, lower
from jaxgan.recipes.settings import Recipe
from jaxgan.run.memory import are_too_large, host_memory
from jaxgan.run.workdir import write_json

MIB = 2**20
# How many images the data of the package's own recipes have, by split.
SIZES = {
    "digits": {"train": 1_797},
    "mnist": {"train": 60_000, "test": 10_000},
    "cifar10": {"train": 50_000, "test": 10_000},
}
NEAR = 64  # the search for the largest batch ends within one part in so many of it
FAR = 16  # a guess is at most so many times a batch that is known to fit
MIDDLE = 5  # every so many tries the middle is taken, for memory that is not affine in the batch


@dataclasses.dataclass(frozen=True)
class Plan:
    """Says whether a run fits on an accelerator, and what it does there, with none at hand."""

    recipe: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RECIPE")]
    """One of the recipes, or a Python file that defines RECIPE."""
    on: Annotated[str, tyro.conf.arg(metavar="TARGET")]
    """What it is to run on: h100[:N], a100[:N], v5e:2x4, v6e:2x4, v4:2x2x1, or cpu (this machine's)."""
    batch_size: int | None = None
    """Instead of the recipe's own."""
    precision: Literal["float32", "bf16"] | None = None
    """What the networks compute in, instead of the recipe's own."""
    data_size: int | None = None
    """How many images there are, where that does not follow from the recipe's data."""
    largest: bool = False
    """Find the largest batch that fits, to about 2 %."""
    json: Path | None = None
    """Where the result is written too."""


Facts = dict[str, Any]


def main() -> None:
    """Compiles the program, once or for several batches, and prints what is in it."""
    jax.config.update("jax_platforms", "cpu")  # where the CUDA plugin is installed, it would look for a driver
    flags = parse(Plan, "experiments.plan")
    with one_line_errors():
        check_json(flags.json)
        target = read_target(flags.on)
        recipe, settings = _recipe(flags, target)
        images = _images(flags, recipe)
        environment = find_compilers(target)
        gan = recipe.build()
        jax.eval_shape(lambda: jaxgan.init(gan, jax.random.key(0)))  # a recipe's own mistakes, shown here
        memory = (math.inf, room(target)) if target.accelerator else (host_memory(), None)
        streamed = are_too_large(images * math.prod(image_shape(gan)), *memory)
        request = {"recipe": flags.recipe, "target": flags.on, "images": images, "streamed": streamed}
        about = {"recipe": recipe.name, "on": target.text, "devices": target.devices, "batch_size": recipe.batch_size}
        about |= {"precision": recipe.precision, "images": images, "streamed": streamed}

        def plan(batch_size: int) -> Facts:
            found = _compile(request | {"settings": settings | {"batch_size": batch_size}}, environment)
            return about | {"batch_size": batch_size} | found | estimate(found, target, recipe.precision)

        unit = target.devices * recipe.accumulate
        result = largest(plan, recipe.batch_size, unit) if flags.largest else plan(recipe.batch_size)
        if result is None:
            fail(f"--largest: not even a batch of {unit} fits on {target.text}; it needs a larger device")
    print(table(result))
    if flags.json:
        write_json(flags.json, result)


def compile_request() -> None:
    """Compiles what `_compile` asks for on stdin, and writes to stdout what it found, both as JSON."""
    jax.config.update("jax_enable_compilation_cache", False)  # how long it takes is to be known
    request = json.load(sys.stdin)
    with one_line_errors():
        recipe = recipes.get(request["recipe"]).replace(**request["settings"])
        devices = topology(read_target(request["target"]))
        begin = time.perf_counter()
        lowered = lower(recipe.build(), recipe.batch_size, devices, request["images"], request["streamed"])
        seconds = {"lower_seconds": time.perf_counter() - begin}
        json.dump(compile_and_read(lowered) | seconds, sys.stdout)


def _compile(request: dict[str, Any], environment: dict[str, str]) -> Facts:
    """What `compile_request` finds; its mistakes end this process.

    In a process of its own: a compiler that fails may end it, and what JAX and the compilers are told in the
    environment has to be there from the first.
    """
    done = subprocess.run(
        [sys.executable, "-c", "from jaxgan.commands import cli, plan; cli.run_script(plan.compile_request)"],
        input=json.dumps(request),
        capture_output=True,
        text=True,
        env=os.environ | environment,
    )
    if done.returncode == 0:
        return json.loads(done.stdout.splitlines()[-1])
    lines = done.stderr.splitlines()
    if clear := [line for line in lines if line.startswith("error: ")]:
        fail(clear[-1].removeprefix("error: "), done.returncode)
    why = next((line for line in lines if "Check failed" in line), f"status {done.returncode}")
    if done.returncode < 0:
        fail(
            f"--on {request['target']}: its compiler itself broke down on {request['recipe']}, in batches of "
            f"{request['settings']['batch_size']} ({re.sub('^.*?] ', '', why).strip()}); another version of it may not",
            1,
        )
    raise RuntimeError(f"the compiling process failed:\n{done.stderr}")


def _recipe(flags: Plan, target: Target) -> tuple[Recipe, dict[str, Any]]:
    """The recipe with the settings that the flags give, and these."""
    given = {"batch_size": flags.batch_size, "precision": flags.precision}
    settings = {name: value for name, value in given.items() if value is not None}
    recipe = recipes.get(flags.recipe)
    try:
        recipe = recipe.replace(**settings)
    except ValueError as error:
        fail(error)
    unit = target.devices * recipe.accumulate
    if recipe.batch_size % unit and not flags.largest:
        micro = f" of {recipe.accumulate} microbatches" if recipe.accumulate > 1 else ""
        fail(
            f"--batch-size {recipe.batch_size} cannot be split evenly over {target.devices} devices{micro}; choose a "
            f"multiple of {unit}"
        )
    return recipe, settings


def _images(flags: Plan, recipe: Recipe) -> int:
    if flags.data_size is not None:
        if flags.data_size < 1:
            fail(f"--data-size {flags.data_size}: a dataset has at least 1 image")
        return flags.data_size
    splits = SIZES.get(recipe.data, {}) if isinstance(recipe.data, str) else {}
    sizes = [splits[part] for part in recipe.split.split("+") if part in splits]
    if len(sizes) <= recipe.split.count("+"):
        fail(f"--data-size: say how many images there are; it is not known here of the data of {recipe.name}")
    return sum(sizes)


def room(target: Target) -> int:
    """The bytes that arrays and programs may take on a device."""
    known = target.accelerator
    return int(known.memory * known.usable) if known else host_memory()


def estimate(facts: Facts, target: Target, precision: str) -> Facts:
    """Whether a program fits on its target, and the least time of an update, by what `compile_and_read` found.

    Returns:
      `room_bytes`; `total_bytes`, None where the compiler ran out of memory; `fits`; `roofline_ms`, None for a CPU,
      and what it is the longer of, `products_ms` and `state_ms`.
    """
    if "out_of_memory" in facts:
        return {"room_bytes": room(target), "total_bytes": None, "fits": False}
    total = facts["argument_bytes"] + facts["working_bytes"] + facts["program_bytes"]
    found = {"room_bytes": room(target), "total_bytes": total, "fits": total <= room(target)}
    if (known := target.accelerator) is None:
        return found | {"roofline_ms": None}
    products = 1e3 * facts["flops"] / getattr(known, precision)
    state = 1e3 * 2 * max(0, facts["state_bytes"] - known.cache) / known.bandwidth
    return found | {"products_ms": products, "state_ms": state, "roofline_ms": max(products, state)}


def largest(plan: Callable[[int], Facts], first: int, unit: int) -> Facts | None:
    """The plan of the largest batch that fits, to one part in `NEAR`.

    Memory is nearly affine in the batch: two plans give a guess, which is then tried, and after it a batch that is a
    little larger and should not fit. Where memory is not affine, guesses stay between what fits and what does not.

    Begins with `first`; all batches are multiples of `unit`, and None is returned where not even that fits. Each call
    of `plan`, of whose result `fits`, `total_bytes` and `room_bytes` are used, is a line on stderr.
    """
    best: Facts | None = None
    refuted, sizes, batch = 0, list[tuple[int, int]](), max(1, first // unit) * unit
    for tries in itertools.count(1):
        found = plan(batch)
        total = found["total_bytes"]
        size = f"{total / MIB:,.0f} MiB, " if total is not None else ""
        print(f"batch {batch}: {size}{'fits' if found['fits'] else 'does not fit'}", file=sys.stderr, flush=True)
        if found["fits"]:
            best = found
        else:
            refuted = batch
        low = best["batch_size"] if best else 0
        near = max(unit, low // NEAR // unit * unit)
        if refuted and refuted - low <= near:
            return best
        guess, high = ((low + refuted) // 2, refuted) if refuted else (2 * low, FAR * low)
        if total is not None:
            sizes = sorted([*sizes, (batch, total)])
            if len(sizes) > 1 and tries % MIDDLE:  # a line through two, the last that fits and the next if there is one
                start = min(max(0, sum(b <= low for b, _ in sizes) - 1), len(sizes) - 2)
                (a, bytes_a), (b, bytes_b) = sizes[start : start + 2]
                guess = int(b + (found["room_bytes"] - bytes_b) * (b - a) / max(1, bytes_b - bytes_a))
        # No guess is right beside a batch that is known not to fit, where it would tell little. Where the guess fits
        # already, the next larger batch is tried.
        batch = min(max(min(guess, high - (high - low) // 8) // unit * unit, low + near), high - unit)


def table(result: Facts) -> str:
    """The result as lines of text."""
    where = "streamed" if result["streamed"] else "on each device"
    title = f"{result['recipe']} on {result['on']}: batches of {result['batch_size']}, {result['precision']}"
    rows = _memory(result) + ([] if "out_of_memory" in result else _update(result))
    lines = (f"{name:<24}{value}".rstrip() for name, value in rows)
    return "\n".join([f"{title}, {result['images']:,} images {where}", "", *lines])


def _memory(result: Facts) -> list[tuple[str, str]]:
    known = read_target(result["on"]).accelerator
    share = f", of the {known.memory / GIB:.0f} GiB there are" if known and known.usable < 1 else ""
    verdict = "fits" if result["fits"] else "DOES NOT FIT"
    of = f"of {result['room_bytes'] / MIB:,.0f} that a run has{share}: {verdict}"
    rows = [("memory of each device", "MiB")]
    if "out_of_memory" in result:
        return [*rows, ("  total", of), ("  the compiler says", result["out_of_memory"])]
    images = "  images of a turn" if result["streamed"] else "  dataset"
    parts = [("  state", "state_bytes"), (images, "dataset_bytes"), ("  batches, as indices", "batches_bytes")]
    parts += [("  working memory", "working_bytes"), ("  program", "program_bytes")]
    sizes = [(name, result[key] / MIB) for name, key in parts if result[key]]
    rows += [(name, f"{size:,.1f}" if size >= 1 else f"{size:.2g}") for name, size in sizes]
    return [*rows, ("  total", f"{result['total_bytes'] / MIB:,.1f} {of}")]


def _update(result: Facts) -> list[tuple[str, str]]:
    found, gflop = result["collectives"].items(), result["flops"] / 1e9
    said = ", ".join(f"{count} {opcode} of {size / 1024:,.0f} KiB in all" for opcode, (count, size) in found)
    rows = [
        ("", ""),
        ("in each update", ""),
        ("  launches", f"{result['launches']:,}"),
        ("  convolutions", f"{result['convolutions']:,}"),
        ("  collectives", said or "none"),
        ("  transfers to the host", str(result["host_transfers"])),
        ("  GFLOP of products", f"{gflop:,.0f}" if gflop >= 100 else f"{gflop:.3g}"),
    ]
    if result["xla_bytes"]:
        told = f"{result['xla_bytes'] / 1e9:.3g} GB and {result['xla_flops'] / 1e9:.3g} GFLOP, inner loops once"
        rows.append(("  as XLA counts all", told))
    rows.append(("", ""))
    if known := read_target(result["on"]).accelerator:
        peak = f"{getattr(known, result['precision']) / 1e12:,.0f} TFLOP/s and {known.bandwidth / 1e12:.3g} TB/s"
        rows.append(("roofline", f"{result['roofline_ms']:.3g} ms an update ({peak}: {known.source})"))
        rows.append(("", "no run can be faster; launches and latencies come on top"))
    else:
        rows.append(("roofline", "not given for a CPU: experiments.benchmark measures this one"))
    seconds = f"{result['compile_seconds']:.1f} s, after {result['lower_seconds']:.1f} s of tracing"
    return [*rows, ("", ""), ("compiled in", seconds)]
