"""Batch normalisation, with a derivative that takes two sums over the batch."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

Moments = tuple[jax.Array, jax.Array]


class BatchNorm(nn.Module):
    """Batch normalisation over all axes but the last (Ioffe and Szegedy 2015, arXiv:1502.03167).

    Parameters and statistics are those of `flax.linen.BatchNorm`: `scale` and `bias`, `mean` and `var`, float32 [C].
    So are its numbers; its gradient takes half as many passes over the maps as one that JAX derives.

    Attributes:
      train: whether the batch's own moments are used, and the running ones updated; otherwise the running ones are.
      momentum: the share of the old running average that is kept.
      epsilon: added to the variance.
      affine: whether there are a scale and a bias.
      axis_name: the axis of devices that the batch is split over, or None; the moments are the whole batch's.
    """

    train: bool
    momentum: float = 0.99
    epsilon: float = 1e-3
    affine: bool = True
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = x.shape[-1:]
        running = (
            self.variable("batch_stats", "mean", jnp.zeros, shape, jnp.float32),
            self.variable("batch_stats", "var", jnp.ones, shape, jnp.float32),
        )
        scale, bias = jnp.ones(shape), jnp.zeros(shape)
        if self.affine:
            scale = self.param("scale", nn.initializers.ones, shape, jnp.float32)
            bias = self.param("bias", nn.initializers.zeros, shape, jnp.float32)
        dtype = jnp.result_type(x, scale) if self.affine else x.dtype
        x = x.astype(jnp.promote_types(x.dtype, jnp.float32))  # sums over the batch, also of bfloat16
        of_channels = (*[1] * (x.ndim - 1), -1)
        scale, bias = scale.reshape(of_channels), bias.reshape(of_channels)
        if not self.train:
            mean, var = (average.value.reshape(of_channels) for average in running)
            return ((x - mean) * (lax.rsqrt(var + self.epsilon) * scale) + bias).astype(dtype)
        axis_name = None if self.is_initializing() else self.axis_name
        y, moments = _normalised(axis_name, self.epsilon, x, scale, bias)
        if not self.is_initializing():
            for average, moment in zip(running, moments, strict=True):
                average.value = self.momentum * average.value + (1 - self.momentum) * moment.reshape(-1)
        return y.astype(dtype)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _normalised(
    axis_name: str | None, epsilon: float, x: jax.Array, scale: jax.Array, bias: jax.Array
) -> tuple[jax.Array, Moments]:
    """Scale * (x - mean) / sqrt(var + epsilon) + bias, and the moments (mean, var) of the whole batch.

    All but x are [1, ..., C].
    """
    mean, mean_of_squares = _means(axis_name, x, jnp.square(x))
    var = jnp.maximum(0.0, mean_of_squares - jnp.square(mean))
    return (x - mean) * (lax.rsqrt(var + epsilon) * scale) + bias, (mean, var)


@_normalised.defjvp
def _derivative(
    axis_name: str | None, epsilon: float, primals: tuple[jax.Array, ...], tangents: tuple[jax.Array, ...]
) -> tuple[tuple[jax.Array, Moments], tuple[jax.Array, Moments]]:
    """With n = (x - mean) / sqrt(var + epsilon) and k = scale / sqrt(var + epsilon),

    dy = k dx + (dbias - k mean(dx)) + n (dscale - k mean(n dx)).

    Each bracket is one value for each channel: so transposed, this is two sums over the batch, of the cotangent and of
    the cotangent times n, which serve x, the scale and the bias alike.
    """
    (x, scale, bias), (dx, dscale, dbias) = primals, tangents
    y, (mean, var) = _normalised(axis_name, epsilon, x, scale, bias)
    inverse = lax.rsqrt(var + epsilon)
    n, k = (x - mean) * inverse, inverse * scale
    dmean, covariance = _means(axis_name, dx, n * dx)
    dy = k * dx + (dbias - k * dmean) + n * (dscale - k * covariance)
    return (y, (mean, var)), (dy, (dmean, 2 * covariance / inverse))


def _means(axis_name: str | None, *arrays: jax.Array) -> tuple[jax.Array, ...]:
    """Of each array [B, ..., C] the mean over all axes but the last, and over the devices: [1, ..., C]."""
    axes = tuple(range(arrays[0].ndim - 1))
    means = [jnp.mean(x, axes, keepdims=True) for x in arrays]
    return tuple(means) if axis_name is None else tuple(lax.pmean(jnp.stack(means), axis_name))
