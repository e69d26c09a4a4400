"""What networks are called with and made of: their context, layers with Keras's defaults, dropout.

All maps are [B, H, W, C], and padding is SAME unless said otherwise. Kernels start Glorot-uniform and
biases at zero, as in Keras, in which most of the reference systems were written.
"""

import functools
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import struct
from flax.linen.dtypes import promote_dtype

from jaxgan.convolutions import Padding, check_groups, conv, conv_transpose, depth_to_space, upsample_conv
from jaxgan.networks.normalisation import BatchNorm

glorot_uniform = nn.initializers.glorot_uniform()

Dense = functools.partial(nn.Dense, kernel_init=glorot_uniform)


class Context(struct.PyTreeNode):
    """How a network is called.

    Attributes:
      train: whether this is training. Batch normalisation then uses the batch's own moments and updates the running
        ones, which it uses otherwise.
      keys: [B], a key for each example, which dropout draws from; None drops nothing.
      axis_name: the axis of devices that the batch is split over, or None. What depends on the batch (moments,
        minibatch features) is the whole batch's.
      step: int32 scalar, the updates done.
    """

    train: bool = struct.field(pytree_node=False, default=False)
    keys: jax.Array | None = None
    axis_name: str | None = struct.field(pytree_node=False, default=None)
    step: jax.Array | int = 0


def batch_norm(context: Context, momentum: float = 0.99) -> BatchNorm:
    """Batch normalisation with Keras's epsilon, over the whole batch on all devices.

    Args:
      context: how the network is called.
      momentum: the share of the old running average that is kept, as in Keras and Flax.
    """
    return BatchNorm(context.train, momentum, axis_name=context.axis_name)


class Conv(nn.Module):
    """A convolution with a square kernel: [B, H, W, C] -> [B, ceil(H / stride), ceil(W / stride), features].

    With VALID padding H and W first lose kernel_size - 1. In groups, features see the channels of their own group
    alone. Parameters are those of `flax.linen.Conv`: `kernel` [k, k, C / groups, features] and `bias` [features].
    """

    features: int
    kernel_size: int
    stride: int = 1
    padding: Padding = "SAME"
    groups: int = 1
    use_bias: bool = True
    kernel_init: nn.initializers.Initializer = glorot_uniform

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        function = functools.partial(conv, stride=self.stride, padding=self.padding, groups=self.groups)
        return _kernel_and_bias(self, function, x, self.groups, self.kernel_init)


class ConvTranspose(nn.Module):
    """A transposed convolution with a square kernel: [B, H, W, C] -> [B, H * stride, W * stride, features].

    With VALID padding H becomes (H - 1) * stride + max(kernel_size, stride). Parameters are those of
    `flax.linen.ConvTranspose`: `kernel` [k, k, C, features] and `bias`.
    """

    features: int
    kernel_size: int
    stride: int = 1
    padding: Padding = "SAME"
    use_bias: bool = True
    kernel_init: nn.initializers.Initializer = glorot_uniform

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        function = functools.partial(conv_transpose, stride=self.stride, padding=self.padding)
        return _kernel_and_bias(self, function, x, kernel_init=self.kernel_init)


class UpsampleConv(nn.Module):
    """Nearest-neighbour enlargement, then a convolution: [B, H, W, C] -> [B, H * factor, W * factor, features].

    Parameters are those of the convolution: `kernel` [k, k, C, features] and `bias` [features].
    """

    features: int
    kernel_size: int
    factor: int = 2
    use_bias: bool = True

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return _kernel_and_bias(self, lambda x, kernel: upsample_conv(x, kernel, self.factor), x)


class SubPixelConv(nn.Module):
    """A convolution to factor^2 groups of channels, interleaved: [B, H, W, C] -> [B, H * factor, W * factor, features].

    The upsampling of ESPCN (Shi et al. 2016, arXiv:1609.05158). Parameters: `kernel`
    [k, k, C, factor^2 * features] and `bias` [factor^2 * features].
    """

    features: int
    kernel_size: int
    factor: int = 2
    use_bias: bool = True

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = Conv(self.factor**2 * self.features, self.kernel_size, use_bias=self.use_bias)(x)
        return depth_to_space(x, self.factor)


def _kernel_and_bias(
    layer: nn.Module,
    function: Callable[[jax.Array, jax.Array], jax.Array],
    x: jax.Array,
    groups: int = 1,
    kernel_init: nn.initializers.Initializer = glorot_uniform,
) -> jax.Array:
    check_groups(x.shape[-1], layer.features, groups)
    shape = (layer.kernel_size, layer.kernel_size, x.shape[-1] // groups, layer.features)
    kernel = layer.param("kernel", kernel_init, shape, jnp.float32)
    bias = layer.param("bias", nn.initializers.zeros, (layer.features,), jnp.float32) if layer.use_bias else None
    x, kernel, bias = promote_dtype(x, kernel, bias)
    y = function(x, kernel)
    return y if bias is None else y + bias.reshape(1, 1, 1, -1)


def dropout(x: jax.Array, rate: float, keys: jax.Array | None, layer: int) -> jax.Array:
    """Sets each value to zero with probability `rate`, and divides the others by 1 - rate.

    Args:
      x: [B, ...].
      rate: in [0, 1).
      keys: [B], one for each example, of which alone its mask depends; None drops nothing, as in inference.
      layer: the number of this dropout in its network: each has masks of its own.
    """
    if keys is None:
        return x
    keys = jax.vmap(jax.random.fold_in, (0, None))(keys, layer)
    keep = jax.vmap(lambda key: jax.random.bernoulli(key, 1 - rate, x.shape[1:]))(keys)
    # Made once: without the barrier XLA would work the random bits out again wherever the mask is used, forwards and
    # backwards, and a TPU's compiler take twice as long.
    return jnp.where(jax.lax.optimization_barrier(keep), x / (1 - rate), 0)


def as_map(z: jax.Array) -> jax.Array:
    """Latents as a map: [B, z_size] -> [B, 1, 1, z_size]; a grid of them is one already."""
    return z[:, None, None] if z.ndim == 2 else z


def flat(x: jax.Array) -> jax.Array:
    """All of each example's values in one row: [B, ...] -> [B, values]."""
    return x.reshape(x.shape[0], -1)


def flat_logits(x: jax.Array) -> jax.Array:
    """A dense layer over all of each example's values: [B, ...] -> logits [B]."""
    return Dense(1)(flat(x))[:, 0]
