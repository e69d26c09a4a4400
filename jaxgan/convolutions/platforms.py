"""Which form a convolution takes: that of the platform that the program is compiled for, or XLA's own throughout.

The platform is asked for where a program is lowered (`jax.lax.platform_dependent`), not where it is traced: a program
that is exported for a GPU on a machine without one holds what a GPU is to run. The choice is made inside of maps whose
gradients are given (`bilinear`), since a choice that is itself differentiated keeps the residuals of every platform.

A CPU takes the forms of `cpu`, and for groups those of `grouped`. Any other platform takes XLA's convolution, and for
each gradient the one convolution that JAX makes of it. There a transposed convolution is one that computes all its
phases (`phases`). The other way, a convolution of the input spread out with zeros, can multiply with the zeros: XLA
avoids that on a GPU where it sees the gradient of a convolution, by a kernel that is reversed, which that of a layer is
not.
"""

import functools
import os
from collections.abc import Callable
from contextlib import AbstractContextManager

import jax
from jax import lax

from jaxgan.convolutions import cpu, grouped
from jaxgan.convolutions.bilinear import Maps, Pads, Sizes, differentiable, some
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


def conv(x: jax.Array, kernel: jax.Array, stride: int, pads: Pads) -> jax.Array:
    """A convolution; shapes as in `bilinear.Maps`."""
    return (xla_conv if _native.value else _CONV.conv)(*_on_same_axes(x, kernel), stride, pads)


def grouped_conv(x: jax.Array, kernel: jax.Array, stride: int, pads: Pads) -> jax.Array:
    """A convolution of each group; shapes as in `grouped`."""
    return (grouped.native_conv if _native.value else _GROUPED.conv)(*_on_same_axes(x, kernel), stride, pads)


def conv_transpose(y: jax.Array, kernel: jax.Array, stride: int, pads: Pads, sizes: Sizes) -> jax.Array:
    """The transpose of `conv` in x, as a layer of a network; shapes as in `bilinear.Maps`."""
    function = _xla_phases if _native.value else _CONV_TRANSPOSE.conv_transpose
    return function(*_on_same_axes(y, kernel), stride, pads, sizes)


def _on_same_axes(*arrays: jax.Array) -> list[jax.Array]:
    """Under `jax.shard_map`: where one of them differs between devices, each device has its own copy of the others.

    JAX then sums the gradient of a shared kernel over the devices, as it does for its own operations.
    """
    types = [jax.typeof(array) for array in arrays]
    # The name differs between versions of JAX.
    axes = [kind.vma if hasattr(kind, "vma") else kind.manual_axis_type.varying for kind in types]
    every = frozenset().union(*axes)
    return [
        lax.pcast(array, tuple(sorted(every - own)), to="varying") if every - own else array
        for array, own in zip(arrays, axes, strict=True)
    ]


def xla_conv(x: jax.Array, kernel: jax.Array, stride: int, pads: Pads) -> jax.Array:
    """XLA's convolution."""
    return cpu.native_conv(x, kernel, stride, pads)


def _xla_conv_transpose(y: jax.Array, kernel: jax.Array, stride: int, pads: Pads, sizes: Sizes) -> jax.Array:
    x = some((y.shape[0], *sizes, kernel.shape[2]), y)
    return jax.linear_transpose(lambda x: xla_conv(x, kernel, stride, pads), x)(y)[0]


def _xla_kernel_gradient(x: jax.Array, y: jax.Array, stride: int, pads: Pads, taps: Sizes) -> jax.Array:
    kernel = some((*taps, x.shape[3], y.shape[3]), x)
    return jax.linear_transpose(lambda kernel: xla_conv(x, kernel, stride, pads), kernel)(y)[0]


def _xla_phases(y: jax.Array, kernel: jax.Array, stride: int, pads: Pads, sizes: Sizes) -> jax.Array:
    starts = tuple(k - 1 - low for k, (low, _) in zip(kernel.shape[:2], pads, strict=True))
    return conv_transpose_by_phases(xla_conv, y, cpu.flip(kernel), stride, starts, sizes)


def _by_platform(on_cpu: Callable, elsewhere: Callable) -> Callable:
    """A map that is `on_cpu` in a program for a CPU, and `elsewhere` in one for any other platform.

    Both are traced once for arrays of the same shapes, of which a step has several, and inlined each time.
    """

    @functools.partial(jax.jit, static_argnums=(2, 3, 4), inline=True)
    def choose(a: jax.Array, b: jax.Array, *settings) -> jax.Array:
        return lax.platform_dependent(
            a, b, cpu=lambda a, b: on_cpu(a, b, *settings), default=lambda a, b: elsewhere(a, b, *settings)
        )

    return choose


def _maps(on_cpu: Maps, elsewhere: Maps) -> Maps:
    return differentiable(Maps(*(_by_platform(*pair) for pair in zip(on_cpu, elsewhere, strict=True))))


_CONV = _maps(cpu.MAPS, Maps(xla_conv, _xla_conv_transpose, _xla_kernel_gradient))
_CONV_TRANSPOSE = _maps(cpu.MAPS, Maps(xla_conv, _xla_phases, _xla_kernel_gradient))
_GROUPED = _maps(grouped.ON_CPU, grouped.NATIVE)
