"""What `experiments.benchmark` measures, each in a process of its own, and how it asks them in turn.

A process prepares (it builds, compiles and reports), and then measures for some seconds each time that it is asked. So
several can be measured in rounds, and what a busy machine does to one of them it does to all.
"""

import contextlib
import json
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

import jaxgan
from experiments.recipes import Recipe
from jaxgan.gan import example_keys, image_shape
from jaxgan.train_step import train_steps

IMAGES = 2048  # in the dataset on the device; random ones
CAPACITY = 1024  # the most updates in one dispatch
DISPATCH = 0.3  # seconds, about

Facts = dict[str, Any]
# What a process is for: from its arguments to what it repeats, dispatch(count) -> None, which returns when all is done;
# the facts it reports; and its peak memory in bytes.
Prepared = tuple[Callable[[int], None], Facts, Callable[[], float]]


class Failed(RuntimeError):
    """A process that could not do its work; the message says why."""


class Worker(NamedTuple):
    """A process that has prepared, and waits to be asked."""

    process: BaseProcess
    pipe: Connection
    facts: Facts


@contextlib.contextmanager
def workers() -> Iterator[Callable[..., Worker]]:
    """Gives (prepare, *args) -> worker, which starts a process and waits until it is ready; all end with the context.

    Starting raises `Failed` where a process cannot prepare.
    """
    processes, context = [], multiprocessing.get_context("spawn")

    def start(prepare: Callable[..., Prepared], *args: Any) -> Worker:
        pipe, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs, prepare, args))
        process.start()
        processes.append(process)
        theirs.close()
        return Worker(process, pipe, _answer(pipe))

    try:
        yield start
    finally:
        for process in processes:
            process.kill()
            process.join()


def measure(worker: Worker, seconds: float) -> list[float]:
    """Seconds for one of what the worker repeats: the mean of each dispatch in about that time."""
    worker.pipe.send(seconds)
    return _answer(worker.pipe)


def end(worker: Worker) -> float:
    """Ends a worker, and says its peak memory, in bytes."""
    worker.pipe.send(None)
    peak = _answer(worker.pipe)
    worker.process.join()
    return peak


def _answer(pipe: Connection) -> Any:
    try:
        answer = pipe.recv()
    except (EOFError, ConnectionError):
        raise Failed("its process was killed, perhaps for its memory") from None
    if isinstance(answer, Failed):
        raise answer
    return answer


def _serve(pipe: Connection, prepare: Callable[..., Prepared], args: tuple) -> None:
    """The work of a process: it prepares, and answers until it is told to end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent's to hear
    with contextlib.suppress(EOFError, BrokenPipeError):  # the parent has ended
        try:
            dispatch, facts, peak = prepare(*args)
            dispatch(1)
            count = _count(_seconds(dispatch, 1))
            if count > 1:
                count = _count(_seconds(dispatch, count))
            pipe.send(facts)
            while (asked := pipe.recv()) is not None:
                end, samples = time.perf_counter() + asked, []
                while not samples or time.perf_counter() < end:
                    samples.append(_seconds(dispatch, count))
                pipe.send(samples)
            pipe.send(peak())
        except (EOFError, BrokenPipeError):
            raise
        except Exception as error:
            pipe.send(Failed(f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"))


def _count(seconds: float) -> int:
    """How many updates to dispatch at once, where one takes so long."""
    return max(1, min(CAPACITY, int(DISPATCH / seconds)))


def _seconds(dispatch: Callable[[int], None], count: int) -> float:
    begin = time.perf_counter()
    dispatch(count)
    return (time.perf_counter() - begin) / count


def jax_update(recipe: Recipe) -> Prepared:
    """The updates of a recipe, several in a dispatch, over a dataset on the device, as training takes them."""
    _no_cache()
    gan, base = recipe.build(), _peak_of_process()
    rng = np.random.default_rng(0)
    images = jnp.asarray(rng.integers(0, 256, (IMAGES, *image_shape(gan)), np.uint8))
    batches = rng.integers(0, IMAGES, (CAPACITY, recipe.batch_size * recipe.training_ratio), np.int32)
    batches = jnp.asarray(batches)
    state = jaxgan.init(gan, jax.random.key(0))
    steps = jax.jit(train_steps, static_argnums=0, donate_argnums=1)
    begin = time.perf_counter()
    steps = steps.lower(gan, state, images, batches, jnp.int32(1)).compile()
    compile_seconds = time.perf_counter() - begin

    def dispatch(count: int) -> None:
        nonlocal state
        state, _ = jax.block_until_ready(steps(state, images, batches, jnp.int32(count)))

    costs = steps.cost_analysis()  # a loop's body is counted once: this is of one update
    facts = {"flops": costs["flops"], "bytes": costs["bytes accessed"], "compile_seconds": compile_seconds}
    return dispatch, facts | {"base_bytes": base if jax.default_backend() == "cpu" else 0}, _jax_peak


def torch_update(settings: dict[str, Any], compiled: bool, precision: str) -> Prepared:
    """The updates of `experiments.torch_baseline`; `settings` are a recipe's, and its name.

    FLOPs are those of convolutions and matrix products, as PyTorch counts them; it cannot where it compiles.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from experiments import torch_baseline

    base, cuda = _peak_of_process(), torch.cuda.is_available()
    synchronise = torch.cuda.synchronize if cuda else lambda: None
    begin = time.perf_counter()
    update = torch_baseline.make_update(SimpleNamespace(**settings), "cuda" if cuda else "cpu", compiled, precision)

    def dispatch(count: int) -> None:
        for _ in range(count):
            update()
        synchronise()

    facts = {"base_bytes": 0 if cuda else base, "torch": torch.__version__}
    if compiled:
        dispatch(1)
        facts["compile_seconds"] = time.perf_counter() - begin
    else:
        with FlopCounterMode(display=False) as counter:
            dispatch(1)
        facts["flops"] = counter.get_total_flops()
    return dispatch, facts, torch.cuda.max_memory_allocated if cuda else _peak_of_process


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
    return dispatch, {"flops": 2 * size**3, "forward": _forward_flops(recipe), "machine": machine}, _jax_peak


def copy() -> Prepared:
    """A pass over an array larger than any cache, in place; its facts are the `bytes` read and written."""
    x = jnp.zeros(2**25 if jax.default_backend() == "cpu" else 2**29)
    shift = jax.jit(lambda x: x + 1, donate_argnums=0)

    def dispatch(count: int) -> None:
        nonlocal x
        for _ in range(count):
            x = shift(x)
        x.block_until_ready()

    return dispatch, {"bytes": 2 * x.nbytes}, _jax_peak


def _forward_flops(recipe: Recipe) -> list[float]:
    """The FLOPs that XLA counts in a forward pass of G, and in one of D, in training mode over a batch."""
    gan = recipe.build()
    state = jaxgan.init(gan, jax.random.key(0))

    def forward(net: nn.Module, variables: dict[str, Any], x: jax.Array, indices: jax.Array) -> jax.Array:
        keys = example_keys(state.key, indices)
        return net.apply(variables, x, train=True, keys=keys, axis_name=gan.axis_name, mutable=["batch_stats"])[0]

    z = jax.ShapeDtypeStruct((recipe.batch_size, gan.z_size), jnp.float32)
    images = jax.ShapeDtypeStruct((recipe.batch_size, *image_shape(gan)), jnp.float32)
    indices = jax.ShapeDtypeStruct((recipe.batch_size,), jnp.int32)
    programs = (
        jax.jit(forward, static_argnums=0).lower(net, variables, x, indices).compile()
        for net, variables, x in ((gan.gen, state.gen.variables, z), (gan.disc, state.disc.variables, images))
    )
    return [program.cost_analysis()["flops"] for program in programs]


def _no_cache() -> None:
    jax.config.update("jax_enable_compilation_cache", False)


def _peak_of_process() -> int:
    """The most memory that this process has had, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def _jax_peak() -> int:
    """The most memory of the device in use, in bytes; on a CPU, of the process."""
    stats = jax.devices()[0].memory_stats() if jax.default_backend() != "cpu" else None
    return stats["peak_bytes_in_use"] if stats else _peak_of_process()


def train(recipe: Recipe, flags: list[str], steps: int, folder: Path) -> tuple[float, list[dict[str, Any]]]:
    """Trains a recipe on the embedded digits, resized to its images, with `python -m experiments.train`.

    Compiled programs are kept in `folder`, so that a second call finds them.

    Args:
      recipe: what to train.
      flags: more flags.
      steps: how many updates.
      folder: where it may write.

    Returns:
      The seconds that the whole process took, and the lines of its metrics.jsonl.

    Raises:
      Failed: the run failed.
    """
    environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(folder / "cache")}
    with tempfile.TemporaryDirectory(dir=folder) as workdir:
        command = [sys.executable, "-m", "experiments.train", recipe.name, "--workdir", workdir, "--steps", str(steps)]
        command += ["--data", "digits", "--split", "train", "--border", "0", "--devices", "1"]
        command += ["--batch-size", str(recipe.batch_size), *flags]
        begin = time.perf_counter()
        process = subprocess.run(command, env=environment, capture_output=True, text=True)
        seconds = time.perf_counter() - begin
        if process.returncode:
            raise Failed(f"experiments.train: {(process.stderr.strip().splitlines() or ['it failed'])[-1]}")
        return seconds, [json.loads(line) for line in (Path(workdir) / "metrics.jsonl").read_text().splitlines()]
