"""Spectral normalisation: a layer whose weights are divided by their largest singular value.

Miyato et al. 2018 (arXiv:1802.05957). The singular value is estimated by power iteration: a vector for each weight,
which is state beside the batch statistics. A step advances it once, before its pass, so that real and generated images
see the same weights; the layer itself only reads it. Vectors are functions of the weights alone, and the same on all
devices.
"""

from collections.abc import Mapping
from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict

WEIGHTS = "weights"  # the name of a layer's parameters; `layer` is that of the layer itself
VECTORS = "right_singular"  # of the vectors, in `batch_stats`
FIRST = 15  # iterations before the first step, from a random vector, as in PyTorch


class SpectralNorm(nn.Module):
    """A layer with its weights W, seen as matrices, divided by |W v|: v is the estimate of their first right vector.

    Gradients flow through W in both places. Parameters are the layer's own, under `weights`; biases, and all else of
    fewer than two axes, are left as they are.

    Attributes:
      layer: a layer of one input, such as `Conv(64, 3)`.
    """

    layer: nn.Module

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        layer = self.layer.clone(parent=None)
        params: dict[str, Any] = flatten_dict(self.param(WEIGHTS, lambda key: layer.init(key, x)["params"]), sep="/")
        stats = self.variable("batch_stats", VECTORS, lambda: _first_vectors(self.make_rng("params"), params))
        weights = {name: _normalised(w, stats.value[name]) for name, w in params.items() if name in stats.value}
        return cast(jax.Array, layer.apply({"params": unflatten_dict({**params, **weights}, sep="/")}, x))


def power_iteration(params: Mapping[str, Any], stats: Mapping[str, Any]) -> dict[str, Any]:
    """The batch statistics of a network, with the vectors of all its `SpectralNorm` layers advanced by one iteration.

    v becomes W^T W v, normalised. The gradients of a step do not flow through it: it comes before the pass.

    Args:
      params: the network's parameters.
      stats: its batch statistics, of which only those vectors are changed.
    """
    if VECTORS in stats:
        weights: dict[str, Any] = flatten_dict(params[WEIGHTS], sep="/")
        vectors = {name: _advanced(weights[name], v) for name, v in stats[VECTORS].items()}
        return {**stats, VECTORS: vectors}
    return {
        name: power_iteration(params.get(name, {}), value) if isinstance(value, Mapping) else value
        for name, value in stats.items()
    }


def _first_vectors(key: jax.Array, params: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
    """The vector of each weight: [product of all axes but the last]."""
    weights = {name: w for name, w in params.items() if w.ndim >= 2}

    def first(i: int, w: jax.Array) -> jax.Array:
        v = jax.random.normal(jax.random.fold_in(key, i), (_matrix(w).shape[0],), jnp.float32)
        return jax.lax.fori_loop(0, FIRST, lambda _, v: _advanced(w, v), v)

    return {name: first(i, weights[name]) for i, name in enumerate(sorted(weights))}


def _normalised(w: jax.Array, v: jax.Array) -> jax.Array:
    """W / |W v|, for a v of any length; computed in float32 at least."""
    v = _unit(v)  # an average over steps is shorter than 1
    matrix = _matrix(w)
    sigma = jnp.linalg.norm(v.astype(matrix.dtype) @ matrix)
    return (w / sigma).astype(w.dtype)


def _advanced(w: jax.Array, v: jax.Array) -> jax.Array:
    matrix = _matrix(w)
    return _unit(matrix @ _unit(v.astype(matrix.dtype) @ matrix)).astype(v.dtype)


def _matrix(w: jax.Array) -> jax.Array:
    """A weight [..., features] as a matrix, [inputs, features]: the transpose of W as above."""
    return w.reshape(-1, w.shape[-1]).astype(jnp.promote_types(w.dtype, jnp.float32))


def _unit(v: jax.Array) -> jax.Array:
    return v / jnp.maximum(jnp.linalg.norm(v), 1e-12)
