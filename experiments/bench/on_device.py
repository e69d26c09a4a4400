"""What the device report measures: updates on an accelerator, and what the device's trace shows of them."""

import os
import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import Any

from jaxgan.benchmark.timing import Prepared
from jaxgan.recipes.settings import Recipe

SAME_BITS = "--xla_gpu_exclude_nondeterministic_ops=true"  # only operations whose order of adding up is fixed
TRACED = 20  # updates


def device_update(recipe: Recipe, cache: str, same_bits: bool, traced: bool) -> Prepared:
    """The updates of a recipe, as `updates.jax_update` has them.

    Args:
      recipe: with its settings.
      cache: the folder for compiled programs.
      same_bits: whether XLA has the flag `SAME_BITS`.
      traced: whether its last word is also what a trace of some updates shows.
    """
    if same_bits:
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {SAME_BITS}"  # JAX reads it at its first use
    import jax

    from jaxgan.benchmark.updates import compiled_update, jax_peak
    from jaxgan.programs import compile_ahead

    program, dispatch, facts = compiled_update(recipe, cache)
    facts |= compile_ahead.facts(program)

    def last() -> dict[str, float]:
        if not traced:
            return {"peak_bytes": jax_peak()}
        dispatch(TRACED)
        with tempfile.TemporaryDirectory() as folder:
            with jax.profiler.trace(folder):
                dispatch(TRACED)
            path = next(Path(folder).rglob("*.xplane.pb"))
            found = launches_run(jax.profiler.ProfileData.from_file(str(path)))
        return {"peak_bytes": jax_peak()} | {name: value / TRACED for name, value in found.items()}

    return dispatch, facts, last


def torch_recipes() -> Collection[str]:
    """The recipes whose networks there are in PyTorch."""
    from jaxgan.benchmark.torch_baseline import NETWORKS

    return NETWORKS


def torch_update(settings: dict[str, Any], compiled: bool) -> Prepared:
    """PyTorch's, in float32."""
    from jaxgan.benchmark.torch_baseline import time_update

    dispatch, facts, peak = time_update(settings, compiled, "float32")
    return dispatch, facts, lambda: {"peak_bytes": peak()}


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
