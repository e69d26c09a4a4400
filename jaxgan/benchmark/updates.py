"""What `experiments.benchmark` measures of JAX: the updates of a recipe, and what bounds them on this machine."""

import os
import time
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

import jaxgan
from jaxgan.benchmark.timing import CAPACITY, Facts, Prepared, peak_of_process
from jaxgan.gan import Batch, image_shape
from jaxgan.networks import Context
from jaxgan.programs import hlo
from jaxgan.programs.flops import count_flops
from jaxgan.randomness import example_keys
from jaxgan.recipes.settings import Recipe
from jaxgan.train_step import train_steps

IMAGES = 2048  # in the dataset on the device; random ones


def jax_update(recipe: Recipe, cache: str) -> Prepared:
    """The updates of a recipe, several in a dispatch, over a dataset on the device, as training takes them.

    Compiled programs are kept in the folder `cache`, as runs keep theirs: what is there takes no time and no memory
    of the compiler's.
    """
    _, dispatch, facts = compiled_update(recipe, cache)
    return dispatch, facts, jax_peak


def counted_update(recipe: Recipe, cache: str) -> Prepared:
    """The same; the `flops` of its products are counted, which takes some memory."""
    program, dispatch, facts = compiled_update(recipe, cache)
    text = hlo.read(program.as_text())
    return dispatch, facts | {"flops": count_flops(text, hlo.update(text))}, jax_peak


def compiled_update(recipe: Recipe, cache: str) -> tuple[jax.stages.Compiled, Callable[[int], None], Facts]:
    """The program itself, what repeats it, and facts."""
    jax.config.update("jax_compilation_cache_dir", cache)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    gan, base = recipe.build(), peak_of_process()
    rng = np.random.default_rng(0)
    images = jnp.asarray(rng.integers(0, 256, (IMAGES, *image_shape(gan)), np.uint8))
    labels = jnp.asarray(rng.integers(0, gan.classes, IMAGES, np.int32)) if gan.classes else None
    dataset = Batch(images, labels)
    batches = rng.integers(0, IMAGES, (CAPACITY, recipe.batch_size * recipe.training_ratio), np.int32)
    batches = jnp.asarray(batches)
    state = jaxgan.init(gan, jax.random.key(0))
    steps = jax.jit(train_steps, static_argnums=0, donate_argnums=1)
    begin = time.perf_counter()
    steps = steps.lower(gan, state, dataset, batches, jnp.int32(1)).compile()
    compile_seconds = time.perf_counter() - begin

    def dispatch(count: int) -> None:
        nonlocal state
        state, _ = jax.block_until_ready(steps(state, dataset, batches, jnp.int32(count)))

    costs = steps.cost_analysis()  # a loop's body is counted once: this is of one update
    facts = {"bytes": costs["bytes accessed"], "compile_seconds": compile_seconds}
    return steps, dispatch, facts | {"base_bytes": base if jax.default_backend() == "cpu" else 0}


def matmul(recipe: Recipe, precision: str) -> Prepared:
    """A large matrix product, of `flops`.

    Its facts are also `forward`, the FLOPs of one forward pass of G and of D over a batch, and which `machine` this is.
    """
    _no_cache()
    size = 2048 if jax.default_backend() == "cpu" else 8192
    x = jnp.ones((size, size), jnp.float32 if precision == "float32" else jnp.bfloat16)
    product = jax.jit(jnp.dot)

    def dispatch(count: int) -> None:
        for _ in range(count):
            out = product(x, x)
        out.block_until_ready()

    machine = {"device": jax.devices()[0].device_kind, "cores": os.cpu_count(), "jax": jax.__version__}
    return dispatch, {"flops": 2 * size**3, "forward": _forward_flops(recipe), "machine": machine}, jax_peak


def copy() -> Prepared:
    """A pass over an array larger than any cache, in place; its facts are the `bytes` read and written."""
    x = jnp.zeros(2**25 if jax.default_backend() == "cpu" else 2**29)
    shift = jax.jit(lambda x: x + 1, donate_argnums=0)

    def dispatch(count: int) -> None:
        nonlocal x
        for _ in range(count):
            x = shift(x)
        x.block_until_ready()

    return dispatch, {"bytes": 2 * x.nbytes}, jax_peak


def _forward_flops(recipe: Recipe) -> list[float]:
    """The FLOPs of the products in a forward pass of G, and in one of D, in training mode over a batch."""
    gan = recipe.build()
    state = jaxgan.init(gan, jax.random.key(0))

    def forward(net: nn.Module, variables: dict[str, Any], x: jax.Array, indices: jax.Array) -> jax.Array:
        context = Context(train=True, keys=example_keys(state.key, indices))
        labels = indices if gan.classes else None
        return net.apply(variables, x, labels, context, mutable=["batch_stats"])[0]

    z = jax.ShapeDtypeStruct((recipe.batch_size, gan.z_size), jnp.float32)
    images = jax.ShapeDtypeStruct((recipe.batch_size, *image_shape(gan)), jnp.float32)
    indices = jax.ShapeDtypeStruct((recipe.batch_size,), jnp.int32)
    compiled = (
        jax.jit(forward, static_argnums=0).lower(net, variables, x, indices).compile()
        for net, variables, x in ((gan.gen, state.gen.variables, z), (gan.disc, state.disc.variables, images))
    )
    texts = (hlo.read(program.as_text()) for program in compiled)
    return [count_flops(text, hlo.whole(text)) for text in texts]


def _no_cache() -> None:
    jax.config.update("jax_enable_compilation_cache", False)


def jax_peak() -> int:
    """The most memory of the device in use, in bytes; on a CPU, of the process."""
    stats = jax.devices()[0].memory_stats() if jax.default_backend() != "cpu" else None
    return stats["peak_bytes_in_use"] if stats else peak_of_process()
