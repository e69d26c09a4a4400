"""Convolutions as functions: plain, transposed, and of an enlarged map, in forms that run fast.

All maps are [B, H, W, C], all kernels [k, k, C, features]. SAME padding is XLA's, which is TensorFlow's too:
of an odd number of pixels, the larger half goes at the end. Each function is equal to the operation it names, up to
rounding, in its value and in its gradients of any order. B may be symbolic (`jax.export.symbolic_shape`), H and W not.

On a CPU they take the forms that were measured to be fast there (`cpu`), elsewhere XLA's own; what counts is the
platform that a program is compiled for. Each is a primitive of JAX, with forward and reverse mode in any order.
"""

from typing import Literal

import jax
import jax.numpy as jnp
from jax import lax

from jaxgan.convolutions import platforms
from jaxgan.convolutions.linear import Sizes
from jaxgan.convolutions.phases import flip
from jaxgan.convolutions.platforms import native

__all__ = ["Padding", "check_groups", "conv", "conv_transpose", "depth_to_space", "native", "upsample_conv"]

Padding = Literal["SAME", "VALID"]


def conv(x: jax.Array, kernel: jax.Array, stride: int = 1, padding: Padding = "SAME", groups: int = 1) -> jax.Array:
    """`lax.conv_general_dilated(x, kernel, (stride, stride), padding, feature_group_count=groups)`.

    Args:
      x: [B, H, W, C].
      kernel: [k, k, C / groups, features].
      stride: of both axes.
      padding: "SAME" or "VALID".
      groups: into how many groups channels and features are divided, in their order; features of the i-th see the
        channels of the i-th alone.

    Returns:
      [B, ceil(H / stride), ceil(W / stride), features]; with VALID, H and W first lose k - 1.
    """
    channels, features = x.shape[3], kernel.shape[3]
    check_groups(channels, features, groups)
    pads = tuple(lax.padtype_to_pads(x.shape[1:3], kernel.shape[:2], (stride, stride), padding))
    if groups == 1:
        return platforms.conv(x, kernel, stride, pads)
    x = x.reshape(*x.shape[:3], groups, channels // groups)
    kernel = kernel.reshape(*kernel.shape[:3], groups, features // groups)
    y = platforms.grouped_conv(x, kernel, stride, pads)
    return y.reshape(*y.shape[:3], features)


def check_groups(channels: int, features: int, groups: int) -> None:
    """Raises a ValueError where channels and features cannot be divided into that many groups."""
    if groups < 1 or channels % groups or features % groups:
        raise ValueError(f"{channels} channels and {features} features cannot be divided into groups = {groups}")


def conv_transpose(x: jax.Array, kernel: jax.Array, stride: int, padding: Padding = "SAME") -> jax.Array:
    """`lax.conv_transpose(x, kernel, (stride, stride), padding)`, in its sub-pixel form.

    Args:
      x: [B, H, W, C].
      kernel: [k, k, C, features].
      stride: how many times larger the output is.
      padding: "SAME" or "VALID".

    Returns:
      [B, H * stride, W * stride, features]; with VALID, [B, (H - 1) * stride + max(k, stride), …, features].
    """
    k = kernel.shape[0]
    start = k - 1 if padding == "VALID" or stride > k - 1 else -(-(k + stride - 2) // 2)  # as lax.conv_transpose has it
    sizes = tuple(h * stride if padding == "SAME" else (h - 1) * stride + max(k, stride) for h in x.shape[1:3])
    return _conv_transpose(x, kernel, stride, start, sizes)


def upsample_conv(x: jax.Array, kernel: jax.Array, factor: int) -> jax.Array:
    """Nearest-neighbour enlargement by `factor` and then a SAME convolution, without ever storing the enlarged map.

    The same as a transposed convolution with a kernel in which each tap is spread over factor x factor, and those that
    fall on one another are summed: a 5x5 convolution after an enlargement by 2 takes 2.8 times less work so.

    Args:
      x: [B, H, W, C].
      kernel: [k, k, C, features].
      factor: how many times larger the output is.

    Returns:
      [B, H * factor, W * factor, features].
    """
    k = kernel.shape[0]
    for axis in (0, 1):
        pads = [[(j, factor - 1 - j, 0) if a == axis else (0, 0, 0) for a in range(4)] for j in range(factor)]
        kernel = jnp.asarray(sum(lax.pad(kernel, jnp.zeros((), kernel.dtype), pad) for pad in pads))
    sizes = tuple(h * factor for h in x.shape[1:3])
    return _conv_transpose(x, kernel, factor, (k - 1) // 2 + factor - 1, sizes)


def depth_to_space(x: jax.Array, factor: int) -> jax.Array:
    """Interleaves groups of channels into space: [B, H, W, factor^2 * C] -> [B, H * factor, W * factor, C]."""
    b, h, w, c = x.shape
    x = x.reshape(b, h, w, factor, factor, c // factor**2)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(b, h * factor, w * factor, -1)


def _conv_transpose(x: jax.Array, kernel: jax.Array, stride: int, start: int, sizes: Sizes) -> jax.Array:
    """A transposed convolution; `start` of both axes, as in `phases.common_convolution`."""
    k = kernel.shape[0]
    low = k - 1 - start
    if x.shape[1:3] == (1, 1):
        return _of_one_pixel(x, kernel, low, sizes)
    pads = tuple((low, (h - 1) * stride + k - size - low) for h, size in zip(x.shape[1:3], sizes, strict=True))
    return platforms.conv_transpose(x, flip(kernel), stride, pads, sizes)


def _of_one_pixel(x: jax.Array, kernel: jax.Array, low: int, sizes: Sizes) -> jax.Array:
    """That of a map of one pixel, [B, 1, 1, C]: each output pixel sees one tap, so it is a matrix product.

    As a convolution it would have more padding than map, which libtpu does not compile.
    """
    edges = ((-low, low + size - k, 0) for size, k in zip(sizes, kernel.shape[:2], strict=True))
    taps = lax.pad(kernel[::-1, ::-1], jnp.zeros((), kernel.dtype), (*edges, (0, 0, 0), (0, 0, 0)))
    taps = taps.transpose(2, 0, 1, 3).reshape(x.shape[3], -1)
    return (x.reshape(-1, x.shape[3]) @ taps).reshape(-1, *sizes, kernel.shape[3])
