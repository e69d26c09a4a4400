"""What networks are made of: layers with Keras's defaults, and convolutions that resize.

All maps are [B, H, W, C] and all padding is SAME: a layer with stride s takes H to ceil(H / s), a
transposed one takes H to H * s. Kernels start Glorot-uniform and biases at zero, as in Keras, in
which most of the reference systems were written.
"""

import functools
from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

glorot_uniform = nn.initializers.glorot_uniform()

Dense = functools.partial(nn.Dense, kernel_init=glorot_uniform)

# Keras's defaults for batch normalisation. Flax's momentum has the same meaning as Keras's: the
# share of the old running average that is kept.
BatchNorm = functools.partial(nn.BatchNorm, momentum=0.99, epsilon=1e-3)


class Conv(nn.Module):
    """A convolution with a square kernel: [B, H, W, C] -> [B, ceil(H / stride), ceil(W / stride), features].

    Parameters are those of `flax.linen.Conv`: `kernel` [k, k, C, features] and `bias` [features].
    """

    features: int
    kernel_size: int
    stride: int = 1
    use_bias: bool = True

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Applies the layer to `x` [B, H, W, C]."""
        return _kernel_and_bias(self, conv, x)


class ConvTranspose(nn.Module):
    """A transposed convolution with a square kernel: [B, H, W, C] -> [B, H * stride, W * stride, features].

    Parameters are those of `flax.linen.ConvTranspose`: `kernel` [k, k, C, features] and `bias`.
    """

    features: int
    kernel_size: int
    stride: int = 1
    use_bias: bool = True

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Applies the layer to `x` [B, H, W, C]."""
        return _kernel_and_bias(self, conv_transpose, x)


def _kernel_and_bias(layer: Conv | ConvTranspose, function: Callable, x: jax.Array) -> jax.Array:
    shape = (layer.kernel_size, layer.kernel_size, x.shape[-1], layer.features)
    kernel = layer.param("kernel", glorot_uniform, shape, jnp.float32)
    bias = layer.param("bias", nn.initializers.zeros, (layer.features,), jnp.float32) if layer.use_bias else None
    x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias)
    y = function(x, kernel, layer.stride)
    return y if bias is None else y + bias.reshape(1, 1, 1, -1)


def conv(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """`lax.conv_general_dilated` with SAME padding.

    Args:
      x: [B, H, W, C].
      kernel: [k, k, C, features].
      stride: of both axes.

    Returns:
      [B, ceil(H / stride), ceil(W / stride), features].
    """
    pads = lax.padtype_to_pads(x.shape[1:3], kernel.shape[:2], (stride, stride), "SAME")
    return _conv(x, kernel, stride, pads)


def _conv(x: jax.Array, kernel: jax.Array, stride: int, pads: Sequence[tuple[int, int]]) -> jax.Array:
    """A convolution in the form that is fast here.

    XLA's CPU convolution takes up to a hundred times as long as the arithmetic where the kernel is larger
    than the map, or, in the gradients, where there is a stride; one matrix product of all patches
    does not, but loses by the copies it makes elsewhere.
    """
    small = min(x.shape[1:3]) < kernel.shape[0]
    if jax.default_backend() == "cpu" and (small or stride > 1):
        return _conv_by_patches(x, kernel, stride, pads)
    return lax.conv_general_dilated(x, kernel, (stride, stride), pads, dimension_numbers=("NHWC", "HWIO", "NHWC"))


def _conv_by_patches(x: jax.Array, kernel: jax.Array, stride: int, pads: Sequence[tuple[int, int]]) -> jax.Array:
    """The same as one product, of all patches with the kernel."""
    k, _, c_in, c_out = kernel.shape
    x = jnp.pad(x, ((0, 0), *pads, (0, 0)))
    h, w = ((size - k) // stride + 1 for size in x.shape[1:3])
    # Columns of taps and then rows: 2k slices, which compile in half the time that k * k of them take.
    x = jnp.concatenate([x[:, :, j : j + stride * (w - 1) + 1 : stride] for j in range(k)], axis=-1)
    x = jnp.concatenate([x[:, i : i + stride * (h - 1) + 1 : stride] for i in range(k)], axis=-1)
    return (x.reshape(-1, k * k * c_in) @ kernel.reshape(-1, c_out)).reshape(-1, h, w, c_out)


def conv_transpose(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """`lax.conv_transpose(x, kernel, (stride, stride), "SAME")`, in its sub-pixel form.

    Every output pixel of one phase (its row and column modulo the stride) is a stride-1 convolution
    of `x` with every stride-th tap of the kernel. All stride^2 phases are computed by one dense
    convolution whose kernels are padded with zero taps to a common size, and interleaved
    (Shi et al. 2016, arXiv:1609.05158). On a CPU this runs several times faster than the
    convolution of an `x` spread out with zeros, above all in the gradient of the kernel.

    Args:
      x: [B, H, W, C].
      kernel: [k, k, C, features].
      stride: how many times larger the output is.

    Returns:
      [B, H * stride, W * stride, features].
    """
    taps, first = _phase_taps(kernel.shape[0], stride)
    size = taps.shape[1]
    c_in, c_out = kernel.shape[2:]
    kernel = jnp.pad(kernel, ((0, 1), (0, 1), (0, 0), (0, 0)))  # index k: a tap that is zero
    kernel = kernel[taps][:, :, taps]  # [phase, tap, phase, tap, C, features]
    kernel = kernel.transpose(1, 3, 4, 0, 2, 5).reshape(size, size, c_in, stride**2 * c_out)
    pad = (-first, first + size - 1)
    y = _conv(x, kernel, 1, (pad, pad))
    return depth_to_space(y, stride)


def depth_to_space(x: jax.Array, factor: int) -> jax.Array:
    """Interleaves groups of channels into space: [B, H, W, factor^2 * C] -> [B, H * factor, W * factor, C]."""
    b, h, w, c = x.shape
    x = x.reshape(b, h, w, factor, factor, c // factor**2)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(b, h * factor, w * factor, -1)


def _phase_taps(k: int, stride: int) -> tuple[np.ndarray, int]:
    """Which taps of a transposed convolution's kernel reach each phase of the output, along one axis.

    Returns:
      taps: int [stride, size]; taps[p, m] is the index of the tap that multiplies input pixel
        q + first + m in output pixel q * stride + p, or k where no tap does.
      first: the offset of the first input pixel.
    """
    # SAME padding before the spread-out input, as lax.conv_transpose has it.
    pad = k - 1 if stride > k - 1 else -(-(k + stride - 2) // 2)
    reach = [(p, t, (p + t - pad) // stride) for p in range(stride) for t in range(k) if (p + t - pad) % stride == 0]
    offsets = [offset for _, _, offset in reach]
    first, last = min(offsets), max(offsets)
    taps = np.full((stride, last - first + 1), k)
    for p, t, offset in reach:
        taps[p, offset - first] = t
    return taps, first
