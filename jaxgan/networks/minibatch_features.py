"""Minibatch features: channels that show a discriminator how an example differs from the others of its batch."""

import functools
from collections.abc import Callable
from typing import cast

import jax
import jax.numpy as jnp
from jax import lax

from jaxgan.convolutions.linear import transposes

Arrays = tuple[jax.Array, ...]


def append_diff(x: jax.Array, axis_name: str | None = None) -> jax.Array:
    """Appends how far each pixel is from the batch's mean: [B, H, W, C] -> [B, H, W, C + 1].

    The channel is mean_c |x - mean_b x|, the `diff` of "Fast DCGAN in Keras".

    Args:
      x: the batch, or a device's share of it.
      axis_name: the axis of devices that the batch is split over; the mean is the whole batch's.
    """
    with jax.named_scope("minibatch_features"):
        mean = jnp.mean(x, axis=0, keepdims=True, dtype=jnp.promote_types(x.dtype, jnp.float32))
        if axis_name is not None:
            mean = lax.pmean(mean, axis_name)
        mean = mean.astype(x.dtype)
        return jnp.concatenate([x, jnp.mean(jnp.abs(x - mean), axis=-1, keepdims=True)], axis=-1)


def append_similarity(x: jax.Array, axis_name: str | None = None) -> jax.Array:
    """Appends how similar each pixel is to the batch's others at its place: [B, H, W, C] -> [B, H, W, C + 1].

    The channel is mean_{j, c} exp(-|x_i - x_j|), in (0, 1], j = i included: the minibatch discrimination of
    "Fast LSGAN in Canton". Memory grows with B, not with B^2.

    Args:
      x: the batch, or a device's share of it.
      axis_name: the axis of devices that the batch is split over; j visits the whole batch. Each device
        holds one feature's map of all examples for that time: with more of them the pairs, B^2 / N on each
        of N devices, take too long before that takes too much memory.
    """
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))  # for a sum over the batch
    similarity = cast(jax.Array, _similarity(axis_name, wide))
    return jnp.concatenate([x, similarity.astype(x.dtype)], axis=-1)


def append_deviation(x: jax.Array, group: int) -> jax.Array:
    """Appends how different the images of a group are: [B, H, W, C] -> [B, H, W, C + 1].

    The channel is one value for each group of consecutive images, the mean over pixels and channels of the standard
    deviation over the group (Karras et al. 2018, arXiv:1710.10196, section 3). `GAN.group` keeps groups whole in
    microbatches and on devices.

    Raises:
      ValueError: the batch is not made of such groups.
    """
    if x.shape[0] % group:
        raise ValueError(f"a batch of {x.shape[0]} images cannot be divided into groups of {group}")
    with jax.named_scope("minibatch_features"):
        groups = x.reshape(-1, group, *x.shape[1:])
        variance = jnp.mean(jnp.square(groups - jnp.mean(groups, axis=1, keepdims=True)), axis=1)
        deviation = jnp.mean(jnp.sqrt(variance + 1e-8), axis=(1, 2, 3))
        channel = jnp.repeat(deviation, group)[:, None, None, None]
        return jnp.concatenate([x, jnp.broadcast_to(channel, (*x.shape[:3], 1))], axis=-1)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _similarity(axis_name: str | None, x: jax.Array) -> jax.Array:
    """Mean over j and channels of exp(-|x_i - x_j|): [B, H, W, C] -> [B, H, W, 1]."""
    return _mean_over_pairs(x, _of_all_devices(axis_name, x))


@_similarity.defjvp
def _similarity_tangent(axis_name: str | None, primals: Arrays, tangents: Arrays) -> tuple[jax.Array, jax.Array]:
    (x,), (dx,) = primals, tangents
    of_all = _of_all_devices(axis_name, x)
    return _mean_over_pairs(x, of_all), _tangent(x, of_all, dx, axis_name)


def _mean_over_pairs(x: jax.Array, of_all: jax.Array) -> jax.Array:
    mean = _mean_over_all(lambda x, x_j: jnp.exp(-jnp.abs(x - x_j)), (x,), (of_all,))
    return jnp.mean(mean, axis=-1, keepdims=True)


def _weight(difference: jax.Array) -> jax.Array:
    """The derivative of exp(-|difference|), but for its sign."""
    return jnp.sign(difference) * jnp.exp(-jnp.abs(difference))


def _pushed(x: jax.Array, of_all: jax.Array, dx: jax.Array, axis_name: str | None) -> jax.Array:
    """The derivative along dx: [B, H, W, C] -> [B, H, W, 1]."""
    pair = lambda x, dx, x_j, dx_j: (dx - dx_j) * _weight(x - x_j)  # noqa: E731
    mean = _mean_over_all(pair, (x, dx), (of_all, _of_all_devices(axis_name, dx)))
    return -jnp.mean(mean, axis=-1, keepdims=True)


def _pulled(x: jax.Array, of_all: jax.Array, cotangent: jax.Array, axis_name: str | None) -> jax.Array:
    """Its transpose: [B, H, W, 1] -> [B, H, W, C]."""
    # x_i stands in the sums of its own pixel and of every other: the cotangents of both are added.
    pair = lambda x, c, x_j, c_j: (c + c_j) * _weight(x - x_j)  # noqa: E731
    mean = _mean_over_all(pair, (x, cotangent), (of_all, _of_all_devices(axis_name, cotangent)))
    return -mean / x.shape[-1]


# Each is the other's transpose. Left to itself JAX would keep a weight for each pair of examples.
_tangent, _pullback = transposes("similarity", _pushed, _pulled)


def _of_all_devices(axis_name: str | None, x: jax.Array) -> jax.Array:
    """The whole batch, of which `x` is a device's share."""
    if axis_name is None:
        return x
    with jax.named_scope("minibatch_features"):
        return lax.all_gather(x, axis_name, tiled=True)


def _mean_over_all(function: Callable[..., jax.Array], own: Arrays, of_all: Arrays) -> jax.Array:
    """The mean over all examples j of function(*own, *of_all_j), each [B, H, W, C]; no pairs are kept in memory.

    A CPU takes one example j after the other, whose maps stay in its cache. Elsewhere it is one sum over all pairs,
    which XLA computes in one kernel: one after the other would be as many kernels as examples. Either goes by the
    order of the batch, so that the sum is the same on any number of devices.
    """
    # Differentiated once more, either form keeps what it was given, and not the pairs.
    one_by_one, at_once = (jax.checkpoint(functools.partial(form, function)) for form in (_one_by_one, _at_once))
    total = lax.platform_dependent(own, of_all, cpu=one_by_one, default=at_once)
    return total / of_all[0].shape[0]


def _one_by_one(function: Callable[..., jax.Array], own: Arrays, of_all: Arrays) -> jax.Array:
    rows = jax.tree.map(lambda x: x[:, None], of_all)
    return lax.scan(lambda total, row: (total + function(*own, *row), None), jnp.zeros_like(own[0]), rows)[0]


def _at_once(function: Callable[..., jax.Array], own: Arrays, of_all: Arrays) -> jax.Array:
    return jnp.sum(function(*(x[:, None] for x in own), *(x[None] for x in of_all)), axis=1)
