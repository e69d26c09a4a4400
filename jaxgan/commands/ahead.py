"""Compiles a run's program for accelerators that need not be there.

The command `plan` starts it as a process of its own: a compiler that fails may end the whole process, and what JAX is
told in the environment has to be there before it is imported. It reads a `Request` as JSON from stdin, and writes what
it found as JSON to stdout.
"""

import dataclasses
import json
import math
import sys
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import jaxgan
from jaxgan import parallel, recipes
from jaxgan.commands.cli import fail, one_line_errors
from jaxgan.gan import Batch, image_shape
from jaxgan.programs import products, programs
from jaxgan.programs.accelerators import TargetError, read_target, topology
from jaxgan.recipes.settings import Recipe
from jaxgan.run.turns import MOST, longest_streamed_turn

NO_MEMORY = "RESOURCE_EXHAUSTED"


@dataclasses.dataclass(frozen=True)
class Request:
    """What is to be compiled.

    Attributes:
      recipe: its name, or its file.
      settings: those that are other than the recipe's own.
      target: as `accelerators.read_target` takes it.
      images: how many there are in the dataset.
      streamed: whether the images of a turn are on the devices, each its own share, and not the whole dataset.
    """

    recipe: str
    settings: dict[str, Any]
    target: str
    images: int
    streamed: bool


def answer() -> None:
    """Compiles what stdin asks for."""
    jax.config.update("jax_enable_compilation_cache", False)  # how long it takes is to be known
    request = Request(**json.load(sys.stdin))
    with one_line_errors():
        recipe = recipes.get(request.recipe).replace(**request.settings)
        try:
            devices = topology(read_target(request.target))
        except TargetError as error:
            fail(error)
        json.dump(compiled(recipe, devices, request.images, request.streamed), sys.stdout)


def compiled(recipe: Recipe, devices: list[Any], images: int, streamed: bool) -> dict[str, Any]:
    """Compiles `train_steps` of a recipe for the devices.

    Args:
      recipe: with its settings.
      devices: as from `accelerators.topology`.
      images: how many there are in the dataset.
      streamed: as in `Request`.

    Returns:
      What `facts` finds in the program, and `lower_seconds` and `compile_seconds`; or `{"out_of_memory": …}`, what the
      compiler says where it finds that the program does not fit.
    """
    gan = recipe.build()
    begin = time.perf_counter()
    split = parallel.STREAMED if streamed else None
    steps = parallel.shard_mapped(jaxgan.train_steps, gan, devices, split)
    lowered = steps.lower(*arguments(recipe, devices, images, streamed))
    lower_seconds, begin = time.perf_counter() - begin, time.perf_counter()
    try:
        program = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        if NO_MEMORY not in str(error):
            raise
        return {"out_of_memory": str(error).splitlines()[0]}
    seconds = {"lower_seconds": lower_seconds, "compile_seconds": time.perf_counter() - begin}
    return facts(program, 1 + bool(gan.classes)) | seconds


def arguments(recipe: Recipe, devices: list[Any], images: int, streamed: bool) -> tuple[Any, ...]:
    """The shapes of what `train_steps` takes after the GAN, on the devices as a run's are."""
    gan = recipe.build()
    each, mesh = recipe.batch_size * gan.training_ratio, Mesh(np.array(devices), (parallel.AXIS,))

    def on(split: int | None, shape: tuple[int, ...], kind: Any) -> jax.ShapeDtypeStruct:
        spec = PartitionSpec() if split is None else PartitionSpec(*[None] * split, parallel.AXIS)
        return jax.ShapeDtypeStruct(shape, kind, sharding=NamedSharding(mesh, spec))

    state = jax.eval_shape(lambda: jaxgan.init(gan, jax.random.key(0)))
    state = jax.tree.map(lambda x: on(None, x.shape, x.dtype), state)
    most = turn(recipe) if streamed else MOST
    count, axis = (each * most, 0) if streamed else (images, None)
    labels = on(axis, (count,), jnp.int32) if gan.classes else None
    dataset = Batch(on(axis, (count, *image_shape(gan)), jnp.uint8), labels)
    return state, dataset, on(1, (most, each), jnp.int32), on(None, (), jnp.int32)


def turn(recipe: Recipe) -> int:
    """How many updates a turn of a streamed run of the recipe has at most."""
    each = recipe.batch_size * recipe.training_ratio * math.prod(image_shape(recipe.build()))
    return longest_streamed_turn(each)


def facts(program: Any, dataset_leaves: int) -> dict[str, Any]:
    """What is known of a compiled program, of one device.

    Args:
      program: as from `lowered.compile()`.
      dataset_leaves: how many arrays the dataset is: they come before the batches and the count.
    """
    text = programs.read(program.as_text())
    steps = programs.update(text)
    inner = list(programs.within_fusions(text, steps))
    taken = [array.bytes_in_memory for array in programs.parameters(text)]
    last = len(taken) - dataset_leaves - 2
    memory, cost = program.memory_analysis(), program.cost_analysis() or {}
    result = memory.output_size_in_bytes - memory.alias_size_in_bytes
    return {
        "state_bytes": sum(taken[:last]),
        "dataset_bytes": sum(taken[last:-2]),
        "batches_bytes": sum(taken[-2:]),
        "argument_bytes": memory.argument_size_in_bytes,
        "working_bytes": memory.temp_size_in_bytes + max(0, result),
        "program_bytes": memory.generated_code_size_in_bytes,
        "launches": programs.launches(steps),
        "convolutions": sum(times for times, _, step in inner if programs.is_convolution(step)),
        "collectives": programs.collectives(steps),
        "host_transfers": programs.host_transfers(inner),
        "types": sorted({array.type for step in text.all() for array in step.arrays}),
        "flops": products.flops(text, steps),
        "xla_flops": cost.get("flops"),
        "xla_bytes": cost.get("bytes accessed"),
    }


if __name__ == "__main__":
    answer()
