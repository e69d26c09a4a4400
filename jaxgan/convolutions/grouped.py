"""Grouped convolutions: each group of features is a convolution of its own group of channels, and of no other.

Here the groups are an axis of all arrays, the last but one: x [B, H, W, G, c], kernel [k_h, k_w, c, G, f] and
y [B, h, w, G, f]. So each of the three maps of `linear` sees in its arguments how many there are.

XLA's own, on a CPU, take up to a few hundred times as long as the arithmetic in their gradients, and several times as
long forwards. There each group is a convolution in the form that is fast for it (`cpu`), in a loop where they are more
than two. One product for all groups at once needs their patches, and is slower, as is a dense kernel with zeros from
group to group. The loop is one convolution in the program, or one product, however many groups there are.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxgan.convolutions import cpu
from jaxgan.convolutions.linear import Map, Maps, Pads, Sizes, some, with_transposes

AXIS = 3  # of the groups
FEW = 2  # groups, for which a loop costs more in copies than it saves in the length of the program


def native_conv(x: jax.Array, kernel: jax.Array, stride: int, pads: Pads) -> jax.Array:
    """XLA's own."""
    groups = x.shape[AXIS]
    x, kernel = (a.reshape(*a.shape[:AXIS], groups * a.shape[-1]) for a in (x, kernel))
    y = cpu.native_conv(x, kernel, stride, pads, groups)
    return y.reshape(*y.shape[:AXIS], groups, y.shape[-1] // groups)


def _by_groups(function: Map) -> Map:
    """`function` of each group of two arrays, its results side by side; all have the groups at the same axis."""

    def by_groups(a: jax.Array, b: jax.Array, *settings: Any) -> jax.Array:
        def of_group(i: jax.Array | int) -> jax.Array:
            one = (lax.dynamic_index_in_dim(array, i, AXIS, keepdims=False) for array in (a, b))
            return function(*one, *settings)

        def add(i: jax.Array, done: jax.Array) -> jax.Array:
            return lax.dynamic_update_index_in_dim(done, of_group(i), i, AXIS)

        groups = a.shape[AXIS]
        if groups <= FEW:
            return jnp.stack([of_group(i) for i in range(groups)], AXIS)
        shape = jax.eval_shape(of_group, 0).shape
        return lax.fori_loop(0, groups, add, some((*shape[:AXIS], groups, *shape[AXIS:]), a))

    return by_groups


def _kernel_gradient_by_groups(x: jax.Array, y: jax.Array, stride: int, pads: Pads, taps: Sizes) -> jax.Array:
    """Of all groups, some examples at a time: a group of them is then copied once, to where it is multiplied."""
    of_groups = _by_groups(lambda x, y: cpu.kernel_gradient(x, y, stride, pads, taps))
    return cpu.sum_over_chunks(of_groups, x, y, cpu.values_in_lines(y.shape[1:3], taps, x.shape[-1], y.shape[-1]))


NATIVE = with_transposes(native_conv)
ON_CPU = Maps(_by_groups(cpu.conv), _by_groups(cpu.conv_transpose), _kernel_gradient_by_groups)
