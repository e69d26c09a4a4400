"""Compiles the program that runs take for devices that need not be there, and says what is in it."""

import math
import time
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

import jaxgan
from jaxgan import parallel
from jaxgan.gan import GAN, Batch, image_shape
from jaxgan.programs import hlo
from jaxgan.run.turns import MOST, longest_streamed_turn


def lower(
    gan: GAN, batch_size: int, devices: Sequence[jax.Device], images: int, streamed: bool = False
) -> jax.stages.Lowered:
    """`train_steps` of a run, to be compiled.

    Args:
      gan: the static description.
      batch_size: of the whole batch.
      devices: those of this machine, or as from `accelerators.topology`.
      images: how many there are in the dataset.
      streamed: whether the images of a turn are on the devices, each its own share, and not the whole dataset.
    """
    each, size = batch_size * gan.training_ratio, image_shape(gan)
    most = longest_streamed_turn(each * math.prod(size)) if streamed else MOST
    count = each * most if streamed else images
    labels = jax.ShapeDtypeStruct((count,), jnp.int32) if gan.classes else None
    others = {name: jax.ShapeDtypeStruct((count, *shape), jnp.uint8) for name, shape in gan.others}
    dataset = Batch(jax.ShapeDtypeStruct((count, *size), jnp.uint8), labels, others or None)
    batches = jax.ShapeDtypeStruct((most, each), jnp.int32)
    state = jax.eval_shape(lambda: jaxgan.init(gan, jax.random.key(0)))
    steps = parallel.shard_mapped(jaxgan.train_steps, gan, devices, parallel.STREAMED if streamed else None)
    return steps.lower(state, dataset, batches, jax.ShapeDtypeStruct((), jnp.int32))


def compile_and_read(lowered: jax.stages.Lowered) -> dict[str, Any]:
    """Compiles what `lower` gives.

    Returns:
      What `facts` finds in the program, and `compile_seconds`; or `{"out_of_memory": …}`, what the compiler says where
      it finds that the program does not fit.
    """
    begin = time.perf_counter()
    try:
        compiled = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return {"out_of_memory": str(error).splitlines()[0]}
    seconds = time.perf_counter() - begin
    return facts(compiled) | {"compile_seconds": seconds}


def facts(compiled: jax.stages.Compiled) -> dict[str, Any]:
    """What is known of a compiled `train_steps`, of one device."""
    program = hlo.read(compiled.as_text())
    steps = hlo.update(program)
    inner = list(hlo.within_fusions(program, steps))
    dataset = -2 - len(jax.tree.leaves(compiled.args_info[0][-3]))  # whose arrays come before the batches and the count
    taken = [array.bytes_in_memory for array in hlo.parameters(program)]
    memory, cost = compiled.memory_analysis(), compiled.cost_analysis() or {}
    assert memory is not None  # every compiler that is used here says
    result = memory.output_size_in_bytes - memory.alias_size_in_bytes
    return {
        "state_bytes": sum(taken[:dataset]),
        "dataset_bytes": sum(taken[dataset:-2]),
        "batches_bytes": sum(taken[-2:]),
        "argument_bytes": memory.argument_size_in_bytes,
        "working_bytes": memory.temp_size_in_bytes + max(0, result),
        "program_bytes": memory.generated_code_size_in_bytes,
        "launches": hlo.launches(steps),
        "convolutions": sum(times for times, step in inner if hlo.is_convolution(step)),
        "collectives": hlo.collectives(steps),
        "host_transfers": hlo.host_transfers(inner),
        "types": sorted({array.type for part in program.values() for step in part for array in step.arrays}),
        "flops": hlo.count_flops(program, steps),
        "xla_flops": cost.get("flops"),
        "xla_bytes": cost.get("bytes accessed"),
    }
