"""The three maps that a convolution consists of, differentiable to any order.

A convolution y = conv(x, kernel) is linear in x and in the kernel. Its gradients are its transposes: one maps a
cotangent of y and the kernel to one of x, the other a cotangent of y and x to one of the kernel. The gradients of any
of the three are the other two, so that, however often they are differentiated, no fourth map is needed.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.extend import core
from jax.interpreters import ad, batching

from jaxgan.convolutions.linear import primitive

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
    """The same maps as primitives of JAX: the derivatives of each are computed by all three, not by differentiating it.

    Forward mode and reverse mode can be taken in any order and any number of times. Under `jax.vmap` the maps stay what
    they are: with one kernel for all, of one larger batch; else each by itself.
    """
    conv, conv_transpose, kernel_gradient = (_primitive(name, f) for name, f in zip(Maps._fields, maps, strict=True))
    ad.defbilinear(
        conv,
        lambda y, x, kernel, settings, over: conv_transpose.bind(
            y, kernel, settings=(*settings, x.aval.shape[over + 1 : over + 3]), over=over
        ),
        lambda y, x, kernel, settings, over: kernel_gradient.bind(
            x, y, settings=(*settings, kernel.aval.shape[over : over + 2]), over=over
        ),
    )
    ad.defbilinear(
        conv_transpose,
        lambda x, y, kernel, settings, over: conv.bind(x, kernel, settings=settings[:2], over=over),
        lambda x, y, kernel, settings, over: kernel_gradient.bind(
            x, y, settings=(*settings[:2], kernel.aval.shape[over : over + 2]), over=over
        ),
    )
    ad.defbilinear(
        kernel_gradient,
        lambda kernel, x, y, settings, over: conv_transpose.bind(
            y, kernel, settings=(*settings[:2], x.aval.shape[over + 1 : over + 3]), over=over
        ),
        lambda kernel, x, y, settings, over: conv.bind(x, kernel, settings=settings[:2], over=over),
    )
    return Maps(*(_bound(made) for made in (conv, conv_transpose, kernel_gradient)))


def _primitive(name: str, function: Callable) -> core.Primitive:
    """`function` of (a, b, *settings) as a primitive; `over` is how many axes of `jax.vmap` stand before its own."""

    def mapped(a: jax.Array, b: jax.Array, settings: tuple, over: int) -> jax.Array:
        of_one = lambda a, b: function(a, b, *settings)  # noqa: E731
        for _ in range(over):
            of_one = jax.vmap(of_one)
        return of_one(a, b)

    def batched(arrays: tuple, axes: tuple, settings: tuple, over: int) -> tuple[jax.Array, int]:
        count = next(x.shape[axis] for x, axis in zip(arrays, axes, strict=True) if axis is not None)
        a, b = (x if axis is None else jnp.moveaxis(x, axis, 0) for x, axis in zip(arrays, axes, strict=True))
        if axes[1] is None and not over and name != "kernel_gradient":
            out = made.bind(a.reshape(-1, *a.shape[2:]), b, settings=settings, over=0)
            return out.reshape(*a.shape[:2], *out.shape[1:]), 0
        a, b = (
            jnp.broadcast_to(x, (count, *x.shape)) if axis is None else x for x, axis in zip((a, b), axes, strict=True)
        )
        return made.bind(a, b, settings=settings, over=over + 1), 0

    made = primitive(name, mapped)
    batching.primitive_batchers[made] = batched
    return made


def _bound(made: core.Primitive) -> Callable:
    return lambda a, b, *settings: made.bind(a, b, settings=settings, over=0)


def some(shape: Shape, like: jax.Array) -> jax.Array:
    """Where a linear function is transposed: any array of that shape, since its values do not matter.

    Made of `like`, so that under `jax.shard_map` it is each device's own as well.
    """
    return jnp.broadcast_to(like.ravel()[0], shape)
