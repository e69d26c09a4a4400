"""The three maps that a convolution consists of, differentiable to any order.

A convolution y = conv(x, kernel) is linear in x and in the kernel. Its gradients are its transposes: one maps a
cotangent of y and the kernel to one of x, the other a cotangent of y and x to one of the kernel. The gradients of any
of the three are the other two, so that, however often they are differentiated, no fourth map is needed.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

Shape = tuple[int, ...]
Sizes = tuple[int, int]  # of height and width
Pads = tuple[tuple[int, int], tuple[int, int]]  # (low, high) of height and width


class Maps(NamedTuple):
    """Three functions of two arrays. Of the settings, `stride` is of both axes, `pads` are those of x.

    The arrays are x [B, H, W, C], kernel [k_h, k_w, C, features], and y [B, h, w, features] with
    h = (H + low + high - k_h) // stride + 1.
    """

    conv: Callable
    """(x, kernel, stride, pads) -> y."""
    conv_transpose: Callable
    """(y, kernel, stride, pads, sizes) -> x, with sizes = (H, W): the transpose of `conv` in x."""
    kernel_gradient: Callable
    """(x, y, stride, pads, taps) -> kernel, with taps = (k_h, k_w): the transpose of `conv` in the kernel."""


def differentiable(maps: Maps) -> Maps:
    """The same maps, where the gradients of each are computed by the two others, and not by differentiating it.

    Reverse mode can be taken any number of times, forward mode (`jax.jvp`) not.
    """
    conv = functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))(maps.conv)
    conv_transpose = functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))(maps.conv_transpose)
    kernel_gradient = functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))(maps.kernel_gradient)

    def conv_backward(stride: int, pads: Pads, saved: tuple, y: jax.Array) -> tuple:
        x, kernel = saved
        x_bar = conv_transpose(y, kernel, stride, pads, x.shape[1:3])
        return x_bar, kernel_gradient(x, y, stride, pads, kernel.shape[:2])

    def conv_transpose_backward(stride: int, pads: Pads, sizes: Sizes, saved: tuple, x: jax.Array) -> tuple:
        y, kernel = saved
        return conv(x, kernel, stride, pads), kernel_gradient(x, y, stride, pads, kernel.shape[:2])

    def kernel_gradient_backward(stride: int, pads: Pads, taps: Sizes, saved: tuple, kernel: jax.Array) -> tuple:
        x, y = saved
        return conv_transpose(y, kernel, stride, pads, x.shape[1:3]), conv(x, kernel, stride, pads)

    conv.defvjp(_forward(conv), conv_backward)
    conv_transpose.defvjp(_forward(conv_transpose), conv_transpose_backward)
    kernel_gradient.defvjp(_forward(kernel_gradient), kernel_gradient_backward)
    return Maps(conv, conv_transpose, kernel_gradient)


def _forward(function: Callable) -> Callable:
    return lambda a, b, *settings: (function(a, b, *settings), (a, b))


def some(shape: Shape, like: jax.Array) -> jax.Array:
    """Where a linear function is transposed: any array of that shape, since its values do not matter.

    Made of `like`, so that under `jax.shard_map` it is each device's own as well.
    """
    return jnp.broadcast_to(like.ravel()[0], shape)
