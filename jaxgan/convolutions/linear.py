"""Linear maps whose transposes are given, as primitives of JAX: differentiable in any mode and to any order.

A convolution y = conv(x, kernel) is linear in x and in the kernel. Its gradients are its transposes: one maps a
cotangent of y and the kernel to one of x, the other a cotangent of y and x to one of the kernel. The gradients of any
of the three are the other two, so that, however often they are differentiated, no fourth map is needed.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend import core
from jax.interpreters import ad, batching, mlir

Shape = tuple[int, ...]
Sizes = tuple[int, ...]  # of height and width
Pads = tuple[tuple[int, int], ...]  # (low, high) of height and width
Map = Callable[..., jax.Array]
Arrays = tuple[Any, ...]  # among them what JAX has in their place: None, zeros of no values, axes


class Maps(NamedTuple):
    """Three functions of two arrays. Of the settings, `stride` is of both axes, `pads` are those of x.

    The arrays are x [B, H, W, C], kernel [k_h, k_w, C, features], and y [B, h, w, features] with
    h = (H + low + high - k_h) // stride + 1. Where there are groups, all three have an axis of them before the last.
    """

    conv: Map
    """(x, kernel, stride, pads) -> y."""
    conv_transpose: Map
    """(y, kernel, stride, pads, sizes) -> x, with sizes = (H, W): the transpose of `conv` in x."""
    kernel_gradient: Map
    """(x, y, stride, pads, taps) -> kernel, with taps = (k_h, k_w): the transpose of `conv` in the kernel."""


def with_transposes(conv: Map) -> Maps:
    """A convolution and the transposes that JAX derives of it."""

    def conv_transpose(y: jax.Array, kernel: jax.Array, stride: int, pads: Pads, sizes: Sizes) -> jax.Array:
        x = some((y.shape[0], *sizes, *y.shape[3:-1], kernel.shape[2]), y)
        return jax.linear_transpose(lambda x: conv(x, kernel, stride, pads), x)(y)[0]

    def kernel_gradient(x: jax.Array, y: jax.Array, stride: int, pads: Pads, taps: Sizes) -> jax.Array:
        kernel = some((*taps, x.shape[-1], *y.shape[3:]), x)
        return jax.linear_transpose(lambda kernel: conv(x, kernel, stride, pads), kernel)(y)[0]

    return Maps(conv, conv_transpose, kernel_gradient)


def some(shape: Shape, like: jax.Array) -> jax.Array:
    """Any array of that shape, to transpose a linear function at: its values do not matter.

    Made of `like`, so that under `jax.shard_map` it is each device's own as well.
    """
    return jnp.broadcast_to(like.ravel()[0], shape)


def differentiable(maps: Maps) -> Maps:
    """The same maps as primitives of JAX: the derivatives of each are computed by all three, not by differentiating it.

    Forward mode and reverse mode can be taken in any order and any number of times. Under `jax.vmap` the maps stay what
    they are: with one kernel for all, of one larger batch; else each by itself.
    """
    conv, conv_transpose, kernel_gradient = (_bilinear(name, f) for name, f in zip(Maps._fields, maps, strict=True))

    # Each finds one of the three arrays from the other two; of itself it asks for the shape alone.
    def to_y(x: Any, kernel: Any, y: Any, settings: tuple[Any, ...], over: int) -> jax.Array:
        return conv.bind(x, kernel, settings=settings[:2], over=over)

    def to_x(x: Any, kernel: Any, y: Any, settings: tuple[Any, ...], over: int) -> jax.Array:
        sizes = x.aval.shape[over + 1 : over + 3]
        return conv_transpose.bind(y, kernel, settings=(*settings[:2], sizes), over=over)

    def to_kernel(x: Any, kernel: Any, y: Any, settings: tuple[Any, ...], over: int) -> jax.Array:
        taps = kernel.aval.shape[over : over + 2]
        return kernel_gradient.bind(x, y, settings=(*settings[:2], taps), over=over)

    ad.defbilinear(
        conv,
        lambda y, x, kernel, **settings: to_x(x, kernel, y, **settings),
        lambda y, x, kernel, **settings: to_kernel(x, kernel, y, **settings),
    )
    ad.defbilinear(
        conv_transpose,
        lambda x, y, kernel, **settings: to_y(x, kernel, y, **settings),
        lambda x, y, kernel, **settings: to_kernel(x, kernel, y, **settings),
    )
    ad.defbilinear(
        kernel_gradient,
        lambda kernel, x, y, **settings: to_x(x, kernel, y, **settings),
        lambda kernel, x, y, **settings: to_y(x, kernel, y, **settings),
    )
    return Maps(*(_bound(made) for made in (conv, conv_transpose, kernel_gradient)))


def _bound(made: core.Primitive) -> Map:
    return lambda a, b, *settings: made.bind(a, b, settings=settings, over=0)


def _bilinear(name: str, function: Map) -> core.Primitive:
    """`function` of (a, b, *settings) as a primitive; `over` is how many axes of `jax.vmap` stand before its own."""

    def mapped(a: jax.Array, b: jax.Array, settings: tuple[Any, ...], over: int) -> jax.Array:
        of_one = lambda a, b: function(a, b, *settings)  # noqa: E731
        for _ in range(over):
            of_one = jax.vmap(of_one)
        return of_one(a, b)

    def batched(arrays: Arrays, axes: Arrays, settings: tuple[Any, ...], over: int) -> tuple[jax.Array, int]:
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


def primitive(name: str, function: Map) -> core.Primitive:
    """A function of arrays, and of settings by name, as a primitive. It has no derivatives yet, and no `jax.vmap`."""
    made = core.Primitive(f"jaxgan_{name}")

    @functools.cache
    def traced_once(**settings: Any) -> Map:
        return jax.jit(functools.partial(function, **settings), inline=True)

    def apply(*arrays: jax.Array, **settings: Any) -> jax.Array:
        return traced_once(**settings)(*arrays)

    made.def_impl(apply)
    made.def_abstract_eval(
        lambda *types, **settings: jax.make_jaxpr(functools.partial(apply, **settings))(*types).out_avals[0]
    )
    mlir.register_lowering(made, mlir.lower_fun(apply, multiple_results=False))
    return made


def transposes(name: str, push: Map, pull: Map) -> tuple[Map, Map]:
    """Two functions of (x, y, d, axis_name), linear in d, of which each is the transpose of the other in d.

    Their derivatives in x and y are JAX's own.
    """
    pushed, pulled = primitive(f"{name}_push", push), primitive(f"{name}_pull", pull)
    return _with_transpose(pushed, pulled, push), _with_transpose(pulled, pushed, pull)


def _with_transpose(own: core.Primitive, other: core.Primitive, function: Map) -> Map:
    def derivative(primals: Arrays, tangents: Arrays, axis_name: str | None) -> tuple[jax.Array, jax.Array]:
        (x, y, d), (dx, dy, dd) = primals, tangents
        parts = [] if type(dd) is ad.Zero else [own.bind(x, y, dd, axis_name=axis_name)]
        if not (type(dx) is ad.Zero and type(dy) is ad.Zero):
            along = (ad.instantiate_zeros(dx), ad.instantiate_zeros(dy))
            parts.append(jax.jvp(lambda x, y: function(x, y, d, axis_name), (x, y), along)[1])
        return own.bind(x, y, d, axis_name=axis_name), sum(parts[1:], parts[0])

    def transpose(cotangent: Any, x: jax.Array, y: jax.Array, d: Any, axis_name: str | None) -> Arrays:
        if type(cotangent) is ad.Zero:
            return None, None, ad.Zero(d.aval)
        return None, None, other.bind(x, y, cotangent, axis_name=axis_name)

    def batched(arrays: Arrays, axes: Arrays, axis_name: str | None) -> tuple[jax.Array, int]:
        return jax.vmap(lambda x, y, d: function(x, y, d, axis_name), axes)(*arrays), 0

    ad.primitive_jvps[own] = derivative
    ad.primitive_transposes[own] = transpose
    batching.primitive_batchers[own] = batched
    return lambda x, y, d, axis_name: own.bind(x, y, d, axis_name=axis_name)
