"""Grouped convolutions: each group of features is a convolution of its own group of channels, and of no other.

Here the groups are an axis of all arrays, the last but one: x [B, H, W, G, c], kernel [k_h, k_w, c, G, f] and
y [B, h, w, G, f]. So each of the three maps of `bilinear` sees in its arguments how many there are.

XLA's own, on a CPU, take up to a few hundred times as long as the arithmetic in their gradients, and several times as
long forwards. What stands in for them there is a loop over the groups, in which each is a convolution in the form that
is fast for it (`cpu`). One product for all groups at once needs their patches, and is slower, as is a dense kernel with
zeros from group to group. The loop is one convolution in the program, however many groups there are.
"""

from collections.abc import Callable

import jax
from jax import lax

from jaxgan.convolutions import cpu
from jaxgan.convolutions.bilinear import Maps, Pads, Sizes, some

AXIS = 3  # of the groups


def native_conv(x: jax.Array, kernel: jax.Array, stride: int, pads: Pads) -> jax.Array:
    """XLA's own."""
    groups = x.shape[AXIS]
    x, kernel = (a.reshape(*a.shape[:AXIS], groups * a.shape[-1]) for a in (x, kernel))
    y = cpu.native_conv(x, kernel, stride, pads, groups)
    return y.reshape(*y.shape[:AXIS], groups, y.shape[-1] // groups)


def native_conv_transpose(y: jax.Array, kernel: jax.Array, stride: int, pads: Pads, sizes: Sizes) -> jax.Array:
    """The one convolution that JAX makes of the gradient in x."""
    x = some((y.shape[0], *sizes, y.shape[AXIS], kernel.shape[2]), y)
    return jax.linear_transpose(lambda x: native_conv(x, kernel, stride, pads), x)(y)[0]


def native_kernel_gradient(x: jax.Array, y: jax.Array, stride: int, pads: Pads, taps: Sizes) -> jax.Array:
    """The one convolution that JAX makes of the gradient in the kernel."""
    kernel = some((*taps, x.shape[-1], *y.shape[AXIS:]), x)
    return jax.linear_transpose(lambda kernel: native_conv(x, kernel, stride, pads), kernel)(y)[0]


def conv_by_groups(x: jax.Array, kernel: jax.Array, stride: int, pads: Pads) -> jax.Array:
    """One group after another, each in its fast form; so too the other two."""
    return _by_groups(lambda x, kernel: cpu.conv(x, kernel, stride, pads), x, kernel)


def conv_transpose_by_groups(y: jax.Array, kernel: jax.Array, stride: int, pads: Pads, sizes: Sizes) -> jax.Array:
    """The transpose in x."""
    return _by_groups(lambda y, kernel: cpu.conv_transpose(y, kernel, stride, pads, sizes), y, kernel)


def kernel_gradient_by_groups(x: jax.Array, y: jax.Array, stride: int, pads: Pads, taps: Sizes) -> jax.Array:
    """The transpose in the kernel; with stride 1 XLA's is the fastest for channels as few as a group has."""
    form = cpu.native_kernel_gradient if stride == 1 else cpu.kernel_gradient
    return _by_groups(lambda x, y: form(x, y, stride, pads, taps), x, y)


NATIVE = Maps(native_conv, native_conv_transpose, native_kernel_gradient)
ON_CPU = Maps(conv_by_groups, conv_transpose_by_groups, kernel_gradient_by_groups)


def _by_groups(function: Callable, a: jax.Array, b: jax.Array) -> jax.Array:
    """`function` of each group of two arrays, its results side by side; all have the groups at the same axis."""

    def of_group(i: jax.Array | int) -> jax.Array:
        return function(*(lax.dynamic_index_in_dim(array, i, AXIS, keepdims=False) for array in (a, b)))

    def add(i: jax.Array, done: jax.Array) -> jax.Array:
        return lax.dynamic_update_index_in_dim(done, of_group(i), i, AXIS)

    groups, shape = a.shape[AXIS], jax.eval_shape(of_group, 0).shape
    return lax.fori_loop(0, groups, add, some((*shape[:AXIS], groups, *shape[AXIS:]), a))
