"""Linear maps whose transposes are given, as primitives of JAX: differentiable in any mode and to any order."""

import functools
from collections.abc import Callable
from typing import Any

import jax
from jax.extend import core
from jax.interpreters import ad, batching, mlir


def primitive(name: str, function: Callable[..., jax.Array]) -> core.Primitive:
    """A function of arrays, and of settings by name, as a primitive. It has no derivatives yet, and no `jax.vmap`."""
    made = core.Primitive(f"jaxgan_{name}")

    @functools.cache
    def traced_once(**settings: Any) -> Callable:
        return jax.jit(functools.partial(function, **settings), inline=True)

    def apply(*arrays: jax.Array, **settings: Any) -> jax.Array:
        return traced_once(**settings)(*arrays)

    made.def_impl(apply)
    made.def_abstract_eval(
        lambda *types, **settings: jax.make_jaxpr(functools.partial(apply, **settings))(*types).out_avals[0]
    )
    mlir.register_lowering(made, mlir.lower_fun(apply, multiple_results=False))
    return made


def transposes(name: str, push: Callable[..., jax.Array], pull: Callable[..., jax.Array]) -> tuple[Callable, Callable]:
    """Two functions of (x, y, d, axis_name), linear in d, of which each is the transpose of the other in d.

    Their derivatives in x and y are JAX's own.
    """
    pushed, pulled = primitive(f"{name}_push", push), primitive(f"{name}_pull", pull)
    for own, other, function in ((pushed, pulled, push), (pulled, pushed, pull)):
        _define(own, other, function)
    return tuple(lambda x, y, d, axis_name, own=own: own.bind(x, y, d, axis_name=axis_name) for own in (pushed, pulled))


def _define(own: core.Primitive, other: core.Primitive, function: Callable[..., jax.Array]) -> None:
    def derivative(primals: tuple, tangents: tuple, axis_name: str | None) -> tuple[jax.Array, Any]:
        (x, y, d), (dx, dy, dd) = primals, tangents
        parts = [] if type(dd) is ad.Zero else [own.bind(x, y, dd, axis_name=axis_name)]
        if not (type(dx) is ad.Zero and type(dy) is ad.Zero):
            along = (ad.instantiate_zeros(dx), ad.instantiate_zeros(dy))
            parts.append(jax.jvp(lambda x, y: function(x, y, d, axis_name), (x, y), along)[1])
        return own.bind(x, y, d, axis_name=axis_name), sum(parts[1:], parts[0])

    def transpose(cotangent: jax.Array, x: jax.Array, y: jax.Array, d: Any, axis_name: str | None) -> tuple:
        return None, None, other.bind(x, y, cotangent, axis_name=axis_name)

    def batched(arrays: tuple, axes: tuple, axis_name: str | None) -> tuple[jax.Array, int]:
        return jax.vmap(lambda x, y, d: function(x, y, d, axis_name), axes)(*arrays), 0

    ad.primitive_jvps[own] = derivative
    ad.primitive_transposes[own] = transpose
    batching.primitive_batchers[own] = batched
