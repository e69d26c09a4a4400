"""Which form a convolution takes: that of the platform that the program is compiled for, or XLA's own throughout.

The platform is asked for where a program is lowered (`jax.lax.platform_dependent`), not where it is traced: a program
that is exported for a GPU on a machine without one holds what a GPU is to run. The choice is made inside of maps whose
gradients are given (`linear`), since a choice that is itself differentiated keeps the residuals of every platform.

A CPU takes the forms of `cpu`, and for groups those of `grouped`. Any other platform takes XLA's convolution, and for
each gradient the one convolution that JAX makes of it. There a transposed convolution is one convolution that computes
all phases (`phases`). A convolution of the input spread out with zeros may multiply with those zeros: on a GPU, XLA
avoids that only where it recognises the gradient of a convolution, by a reversed kernel, which a layer's is not.
"""

import functools
import os
from contextlib import AbstractContextManager
from typing import Any

import jax
from jax import lax

from jaxgan.convolutions import cpu, grouped
from jaxgan.convolutions.linear import Map, Maps, Pads, Sizes, differentiable, with_transposes
from jaxgan.convolutions.phases import conv_transpose_by_phases

# A context that jit's cache knows of: a function that was compiled outside of it is traced again inside.
_native = jax.make_user_context(os.environ.get("JAXGAN_CPU_CONVOLUTIONS") == "0")


def native() -> AbstractContextManager[None]:
    """Within it, convolutions are XLA's own on a CPU too: `with jaxgan.convolutions.native(): …`.

    The numbers are equal up to rounding. Each convolution is then one in the compiled program; on a CPU training is
    slower. What counts is where a function is traced, which for a function under `jax.jit` is where it is called: its
    cache holds both programs.

    The environment variable JAXGAN_CPU_CONVOLUTIONS=0 does the same for a whole process, for scripts. It is read when
    jaxgan is imported.
    """
    return _native(True)


def is_native() -> bool:
    """Whether what is traced here is within `native`."""
    return _native.value


def conv(x: jax.Array, kernel: jax.Array, stride: int, pads: Pads) -> jax.Array:
    """A convolution; shapes as in `linear.Maps`."""
    return (_XLA if _native.value else _CONV).conv(*_on_same_axes(x, kernel), stride, pads)


def grouped_conv(x: jax.Array, kernel: jax.Array, stride: int, pads: Pads) -> jax.Array:
    """A convolution of each group; shapes as in `grouped`."""
    return (grouped.NATIVE if _native.value else _GROUPED).conv(*_on_same_axes(x, kernel), stride, pads)


def conv_transpose(y: jax.Array, kernel: jax.Array, stride: int, pads: Pads, sizes: Sizes) -> jax.Array:
    """The transpose of `conv` in x, as a layer of a network; shapes as in `linear.Maps`."""
    maps = _XLA_TRANSPOSE if _native.value else _CONV_TRANSPOSE
    return maps.conv_transpose(*_on_same_axes(y, kernel), stride, pads, sizes)


def _on_same_axes(a: jax.Array, b: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Under `jax.shard_map`: where one of two differs between devices, each device has its own copy of the other.

    JAX then sums the gradient of a shared kernel over the devices, as it does for its own operations.
    """
    types: list[Any] = [jax.typeof(a), jax.typeof(b)]
    # The name differs between versions of JAX.
    of_a, of_b = (kind.vma if hasattr(kind, "vma") else kind.manual_axis_type.varying for kind in types)
    return _varying(a, of_b - of_a), _varying(b, of_a - of_b)


def _varying(array: jax.Array, axes: frozenset[str]) -> jax.Array:
    return lax.pcast(array, tuple(sorted(axes)), to="varying") if axes else array


def _by_platform(on_cpu: Map, elsewhere: Map) -> Map:
    """A map that is `on_cpu` in a program for a CPU, and `elsewhere` in one for any other platform.

    Both are traced once for arrays of the same shapes, of which a step has several, and inlined each time.
    """

    @functools.partial(jax.jit, static_argnums=(2, 3, 4), inline=True)
    def choose(a: jax.Array, b: jax.Array, *settings: Any) -> jax.Array:
        return lax.platform_dependent(
            a, b, cpu=lambda a, b: on_cpu(a, b, *settings), default=lambda a, b: elsewhere(a, b, *settings)
        )

    return choose


def _maps(on_cpu: Maps, elsewhere: Maps) -> Maps:
    return differentiable(Maps(*(_by_platform(*pair) for pair in zip(on_cpu, elsewhere, strict=True))))


_XLA = with_transposes(cpu.native_conv)
_XLA_TRANSPOSE = _XLA._replace(conv_transpose=functools.partial(conv_transpose_by_phases, cpu.native_conv))
_CONV = _maps(cpu.MAPS, _XLA)
_CONV_TRANSPOSE = _maps(cpu.MAPS, _XLA_TRANSPOSE)
_GROUPED = _maps(grouped.ON_CPU, grouped.NATIVE)
