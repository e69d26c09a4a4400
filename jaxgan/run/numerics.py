"""What a run's numbers depend on besides its recipe and seed: settings of JAX and flags of XLA.

A run is a function of (recipe, seed). JAX reads settings from the environment that would change its numbers, or keep
it from starting. A run therefore takes each of them at one fixed value. XLA's flags are read when JAX starts and
cannot be taken back, so those that change results are recorded with the run instead.
"""

import contextlib
import os
import re
from collections.abc import Callable, Iterator
from typing import Any

import jax

from jaxgan.data.dataset import first_line
from jaxgan.run.errors import RunError
from jaxgan.run.screen import say

IMPL = "threefry2x32"  # the kind of every key of a run

# Setting -> its value in a run, and the context manager that sets it (None: `jax.config.update`).
FIXED: dict[str, tuple[Any, Callable[[Any], contextlib.AbstractContextManager[Any]] | None]] = {
    "jax_enable_x64": (False, jax.enable_x64),
    "jax_default_prng_impl": (IMPL, jax.default_prng_impl),
    "jax_threefry_partitionable": (True, jax.threefry_partitionable),
    "jax_default_matmul_precision": (None, jax.default_matmul_precision),
    "jax_numpy_dtype_promotion": ("standard", jax.numpy_dtype_promotion),
    "jax_disable_jit": (False, jax.disable_jit),
    "jax_transfer_guard": ("allow", jax.transfer_guard),
    "jax_random_seed_offset": (0, None),
    "jax_optimization_level": ("UNKNOWN", None),
}

# Flags of XLA that cannot change a result. Of any other it is not known.
HARMLESS = re.compile(r"--xla_(force_host_platform_device_count|dump|gpu_cuda_data_dir|hlo_profile)")


def root_key(seed: int) -> jax.Array:
    """The typed root key of a run, of the one kind that runs use."""
    return jax.random.key(seed, impl=IMPL)


@contextlib.contextmanager
def fixed_numerics() -> Iterator[None]:
    """Within this block JAX's settings are those of a run; a line on stderr names those that were different."""
    otherwise = {}
    for name, (value, _) in FIXED.items():
        ambient = getattr(jax.config, name)
        ambient = getattr(ambient, "value", ambient)  # an enum's
        if ambient != value and not (name == "jax_transfer_guard" and ambient is None):
            otherwise[name] = ambient
    if otherwise:
        changes = ", ".join(f"{name} is {FIXED[name][0]}, not {ambient}" for name, ambient in otherwise.items())
        say(f"the same settings in every run: {changes}", "stderr")
    with contextlib.ExitStack() as stack:
        for name, (value, context) in FIXED.items():
            if context is not None:
                stack.enter_context(context(value))
            elif name in otherwise:
                stack.callback(jax.config.update, name, otherwise[name])
                jax.config.update(name, value)
        yield


def inexact_flags() -> list[str]:
    """The flags in the environment that may change what XLA computes, sorted; part of a run's config.json."""
    flags = os.environ.get("XLA_FLAGS", "").split() + os.environ.get("LIBTPU_INIT_ARGS", "").split()
    inexact = {flag for flag in flags if not HARMLESS.match(flag)}
    if os.environ.get("NVIDIA_TF32_OVERRIDE") is not None:
        inexact.add(f"NVIDIA_TF32_OVERRIDE={os.environ['NVIDIA_TF32_OVERRIDE']}")
    return sorted(flag for flag in inexact if not re.search(r"fast_.*=(false|0)$", flag, re.IGNORECASE))


def start_devices() -> None:
    """Starts JAX's devices, where that has not happened yet.

    Raises:
      RunError: there are none, or not those that the environment asks for.
    """
    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:  # an assertion of JAX's, where it knows the platform but not how
        asked = os.environ.get("JAX_PLATFORMS") or jax.config.jax_platforms  # pyright: ignore[reportAttributeAccessIssue]
        why = f"({first_line(error)})"
        if not asked:
            raise RunError(f"JAX finds no device {why}; mend that, or set JAX_PLATFORMS=cpu") from error
        name = f"JAX_PLATFORMS={asked}"
        raise RunError(f"{name}: JAX finds no such device {why}; name another, such as cpu, or unset it") from error
