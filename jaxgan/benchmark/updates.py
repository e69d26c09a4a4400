"""What is measured of JAX: the updates of a recipe, and what bounds them on this machine."""

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

import jaxgan
from jaxgan import recipes as named
from jaxgan.benchmark.timing import CAPACITY, Facts, Prepared, compare, peak_of_process
from jaxgan.gan import GAN, Batch, image_shape
from jaxgan.networks import Context
from jaxgan.programs import hlo
from jaxgan.randomness import example_keys
from jaxgan.recipes.settings import Recipe
from jaxgan.train_step import train_steps

IMAGES = 2048  # in the dataset on the device; random ones
SAME_BITS = "--xla_gpu_exclude_nondeterministic_ops=true"  # only operations whose order of adding up is fixed
TRACED = 20  # updates


def times(recipes: Mapping[str, Recipe], rounds: int) -> dict[str, dict[str, float]]:
    """Times an update of each recipe in a process of its own.

    Args:
      recipes: by name; the others are compared with the first.
      rounds: in each of which every recipe is measured once, for a second.

    Returns:
      By name `milliseconds`, the median over the rounds, and how many times `slower` than the first it is: the median
      of the ratios within a round.
    """
    with tempfile.TemporaryDirectory() as cache:
        samples = compare({name: (jax_update, recipe, cache) for name, recipe in recipes.items()}, rounds)
    first = next(iter(samples.values()))
    return {
        name: {
            "milliseconds": round(1e3 * statistics.median(of), 2),
            "slower": round(statistics.median(mine / its for mine, its in zip(of, first, strict=True)), 3),
        }
        for name, of in samples.items()
    }


def jax_update(recipe: Recipe, cache: str, same_bits: bool = False) -> Prepared:
    """The updates of a recipe, several in a dispatch, over a dataset on the device, as training takes them.

    Args:
      recipe: with its settings.
      cache: a folder where compiled programs are kept: what is there takes no time and no memory of the compiler's.
      same_bits: whether XLA has the flag `SAME_BITS`, which is for GPUs.
    """
    if same_bits:
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {SAME_BITS}"  # JAX reads it at its first use
    _, dispatch, facts = _compiled_update(recipe, cache)
    return dispatch, facts, lambda: _peak() | _traced(dispatch)


def jax_updates(name: str, changes: Mapping[str, Any], cache: str, count: int) -> Prepared:
    """The same of a recipe of the package with changes, so many updates being repeated as one.

    By its name, since functions within functions, as a memory may have, do not pass from process to process.
    """
    dispatch, facts, last = jax_update(named.get(name).replace(**changes), cache)
    return lambda times: dispatch(count * times), facts, last


def compiled_update(recipe: Recipe, cache: str, read: Callable[[jax.stages.Compiled], Facts]) -> Prepared:
    """The same; the facts are `compile_seconds`, `forward`, and what `read` finds in the compiled program.

    Args:
      recipe: with its settings.
      cache: a folder, empty as yet.
      read: what is known of the program.
    """
    program, dispatch, facts = _compiled_update(recipe, cache)
    found = read(program)
    found |= {"compile_seconds": facts["compile_seconds"], "forward": _forward_flops(recipe)}
    return dispatch, found, _peak


def _compiled_update(recipe: Recipe, cache: str) -> tuple[jax.stages.Compiled, Callable[[int], None], Facts]:
    """The program itself, what repeats it, and facts."""
    jax.config.update("jax_compilation_cache_dir", cache)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    gan, base = recipe.build(), 0 if jax.default_backend() != "cpu" else peak_of_process()
    dataset, batches = random_data(gan, recipe.batch_size)
    state = jaxgan.init(gan, jax.random.key(0))
    steps = jax.jit(train_steps, static_argnums=0, donate_argnums=1)
    begin = time.perf_counter()
    steps = steps.lower(gan, state, dataset, batches, jnp.int32(1)).compile()
    compile_seconds = time.perf_counter() - begin

    def dispatch(count: int) -> None:
        nonlocal state
        state, _ = jax.block_until_ready(steps(state, dataset, batches, jnp.int32(count)))

    return steps, dispatch, {"base_bytes": base, "compile_seconds": compile_seconds}


def random_data(gan: GAN, batch_size: int, *seeds: int) -> tuple[Batch, jax.Array]:
    """Random images and what else the GAN takes, on the device; `CAPACITY` batches, int32 [*seeds, CAPACITY, batch]."""
    rng = np.random.default_rng(0)
    shape = (IMAGES, *image_shape(gan))
    images = jnp.asarray(rng.integers(0, 256, shape, np.uint8) if gan.image_range else rng.random(shape, np.float32))
    labels = jnp.asarray(rng.integers(0, gan.classes, IMAGES, np.int32)) if gan.classes else None
    others = {name: jnp.asarray(rng.integers(0, 256, (IMAGES, *shape), np.uint8)) for name, shape in gan.others}
    batches = rng.integers(0, IMAGES, (*seeds, CAPACITY, batch_size * gan.training_ratio), np.int32)
    return Batch(images, labels, others or None), jnp.asarray(batches)


def matmul(precision: str) -> Prepared:
    """A large matrix product, of `flops`; its facts are also which `machine` this is."""
    jax.config.update("jax_enable_compilation_cache", False)
    size = 2048 if jax.default_backend() == "cpu" else 8192
    x = jnp.ones((size, size), jnp.float32 if precision == "float32" else jnp.bfloat16)
    product = jax.jit(jnp.dot)

    def dispatch(count: int) -> None:
        out = x
        for _ in range(count):
            out = product(x, x)
        out.block_until_ready()

    machine = {"device": jax.devices()[0].device_kind, "cores": os.cpu_count(), "jax": jax.__version__}
    return dispatch, {"flops": 2 * size**3, "machine": machine}, _peak


def copy() -> Prepared:
    """A pass over an array larger than any cache, in place; its facts are the `bytes` read and written."""
    x = jnp.zeros(2**25 if jax.default_backend() == "cpu" else 2**29)
    shift = jax.jit(lambda x: x + 1, donate_argnums=0)

    def dispatch(count: int) -> None:
        nonlocal x
        for _ in range(count):
            x = shift(x)
        x.block_until_ready()

    return dispatch, {"bytes": 2 * x.nbytes}, _peak


def _forward_flops(recipe: Recipe) -> list[float]:
    """The FLOPs of the products in a forward pass of G, and in one of D, in training mode over a batch."""
    gan = recipe.build()
    state = jaxgan.init(gan, jax.random.key(0))

    def forward(net: nn.Module, variables: dict[str, Any], x: jax.Array, indices: jax.Array) -> jax.Array:
        context = Context(train=True, keys=example_keys(state.key, indices))
        labels = indices if gan.classes else None
        return net.apply(variables, x, labels, context, mutable=["batch_stats"])[0]

    found = []
    for net, player, shape in ((gan.gen, state.gen, (gan.z_size,)), (gan.disc, state.disc, image_shape(gan))):
        x = jax.ShapeDtypeStruct((recipe.batch_size, *shape), jnp.float32)
        indices = jax.ShapeDtypeStruct((recipe.batch_size,), jnp.int32)
        program = jax.jit(forward, static_argnums=0).lower(net, player.variables, x, indices).compile()
        text = hlo.read(program.as_text())
        found.append(hlo.count_flops(text, hlo.whole(text)))
    return found


def _peak() -> Facts:
    """`peak_bytes`, the most memory of the device in use; on a CPU, of the process."""
    stats = jax.devices()[0].memory_stats() if jax.default_backend() != "cpu" else None
    return {"peak_bytes": stats["peak_bytes_in_use"] if stats else peak_of_process()}


def _traced(dispatch: Callable[[int], None]) -> Facts:
    """What a trace of some updates shows of a GPU, for one update; nothing elsewhere."""
    if jax.default_backend() != "gpu":
        return {}
    dispatch(TRACED)
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            dispatch(TRACED)
        path = next(Path(folder).rglob("*.xplane.pb"))
        found = launches_run(jax.profiler.ProfileData.from_file(str(path)))
    return {name: value / TRACED for name, value in found.items()}


def launches_run(profile: Any) -> dict[str, float]:
    """What a trace shows of the first GPU.

    Args:
      profile: a `jax.profiler.ProfileData`, whose planes are devices, and a plane's lines of a GPU its streams.

    Returns:
      `launches_run`, how many kernels and copies there are, and `busy_ms`, of their time; nothing without a GPU.
    """
    planes = [plane for plane in profile.planes if plane.name.startswith("/device:GPU:0")]
    streams = [line for plane in planes for line in plane.lines if line.name.startswith("Stream")]
    events = [event.duration_ns for line in streams for event in line.events]
    return {"launches_run": float(len(events)), "busy_ms": sum(events) / 1e6} if events else {}
