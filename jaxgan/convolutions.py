"""Convolutions as functions: plain, transposed, and of an enlarged map, in forms that run fast.

All maps are [B, H, W, C], all kernels [k, k, C, features]. SAME padding is XLA's, which is TensorFlow's too:
of an odd number of pixels, the larger half goes at the end. Each function is equal to the
operation it names, up to rounding; how it is computed is its own business.
"""

from collections.abc import Sequence
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

Padding = Literal["SAME", "VALID"]


def conv(x: jax.Array, kernel: jax.Array, stride: int = 1, padding: Padding = "SAME") -> jax.Array:
    """`lax.conv_general_dilated(x, kernel, (stride, stride), padding)`.

    Args:
      x: [B, H, W, C].
      kernel: [k, k, C, features].
      stride: of both axes.
      padding: "SAME" or "VALID".

    Returns:
      [B, ceil(H / stride), ceil(W / stride), features]; with VALID, H and W first lose k - 1.
    """
    pads = lax.padtype_to_pads(x.shape[1:3], kernel.shape[:2], (stride, stride), padding)
    return _conv(x, kernel, stride, pads)


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
    if padding == "VALID" and x.shape[1:3] == (1, 1):
        stride = max(k, stride)  # a single pixel overlaps no other, so that no product with zeros is left
    # How far into the spread-out and padded input the first pixel is, as lax.conv_transpose has it.
    pad = k - 1 if padding == "VALID" or stride > k - 1 else -(-(k + stride - 2) // 2)
    sizes = [h * stride if padding == "SAME" else (h - 1) * stride + max(k, stride) for h in x.shape[1:3]]
    position = np.arange(stride)[:, None] + np.arange(k) - pad  # [phase, tap], in spread-out pixels
    return _conv_by_phases(x, kernel, position // stride, position % stride == 0, sizes)


def upsample_conv(x: jax.Array, kernel: jax.Array, factor: int) -> jax.Array:
    """Nearest-neighbour enlargement by `factor` and then a SAME convolution, without ever storing the enlarged map.

    Taps that fall on copies of one pixel are summed first: a 5x5 convolution after an enlargement by 2
    takes 2.8 times less work so.

    Args:
      x: [B, H, W, C].
      kernel: [k, k, C, features].
      factor: how many times larger the output is.

    Returns:
      [B, H * factor, W * factor, features].
    """
    k = kernel.shape[0]
    position = np.arange(factor)[:, None] + np.arange(k) - (k - 1) // 2  # [phase, tap], in enlarged pixels
    source = position // factor
    return _conv_by_phases(x, kernel, source, np.full(source.shape, True), [h * factor for h in x.shape[1:3]])


def depth_to_space(x: jax.Array, factor: int) -> jax.Array:
    """Interleaves groups of channels into space: [B, H, W, factor^2 * C] -> [B, H * factor, W * factor, C]."""
    b, h, w, c = x.shape
    x = x.reshape(b, h, w, factor, factor, c // factor**2)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(b, h * factor, w * factor, -1)


def _conv_by_phases(
    x: jax.Array, kernel: jax.Array, source: np.ndarray, used: np.ndarray, sizes: Sequence[int]
) -> jax.Array:
    """A convolution whose output is `factor` times larger than its input, as one convolution of the input.

    Output pixels of one phase (their row and column modulo the factor) are a stride-1 convolution of
    `x` with a small kernel of their own. One convolution computes all factor^2 phases as channels, which
    are then interleaved (Shi et al. 2016, arXiv:1609.05158). On a CPU this runs several times
    faster than a convolution of an `x` spread out with zeros, above all in the gradient of the kernel.

    Args:
      x: [B, H, W, C].
      kernel: [k, k, C, features].
      source: int [factor, k], along one axis: in output pixel q * factor + p, tap t multiplies input pixel
        q + source[p, t].
      used: bool [factor, k], whether it does at all.
      sizes: (height, width) of the output.
    """
    factor = len(source)
    (rows, tops, pads_h), (columns, lefts, pads_w) = (
        _phase_taps(source, used, h, -(-size // factor)) for h, size in zip(x.shape[1:3], sizes, strict=True)
    )
    kernels = _sum_taps(_sum_taps(kernel, columns, 1), rows, 0)  # [phase, tap, phase, tap, C, features]
    kernels = kernels.transpose(1, 3, 4, 0, 2, 5).reshape(rows.shape[1], columns.shape[1], x.shape[-1], -1)
    y = _conv(x, kernels, 1, (pads_h, pads_w))
    h, w = (-(-size // factor) for size in sizes)
    y = y.reshape(*y.shape[:3], factor, factor, -1)
    y = jnp.stack([y[:, top : top + h, :, p] for p, top in enumerate(tops)], axis=2)
    y = jnp.stack([y[:, :, :, left : left + w, q] for q, left in enumerate(lefts)], axis=4)
    return y.reshape(x.shape[0], h * factor, w * factor, -1)[:, : sizes[0], : sizes[1]]


def _phase_taps(
    source: np.ndarray, used: np.ndarray, size: int, out: int
) -> tuple[np.ndarray, list[int], tuple[int, int]]:
    """The small kernels of all phases along one axis, as sums of a kernel's taps.

    Args:
      source: int [factor, k], as in `_conv_by_phases`.
      used: bool [factor, k].
      size: of the input.
      out: output pixels of each phase.

    Returns:
      taps: 0 or 1 [factor, m, k], whether tap t of the kernel is part of tap m of phase p.
      starts: where the output of each phase begins in that of the common convolution.
      pads: of the common convolution.
    """
    used = used & (source > -out) & (source < size)  # other taps fall on padding wherever they are
    first = [int(s[u].min()) if u.any() else 0 for s, u in zip(source, used, strict=True)]
    last = [int(s[u].max()) if u.any() else 0 for s, u in zip(source, used, strict=True)]
    length = 1 + max(b - a for a, b in zip(first, last, strict=True))
    low = min(first)
    starts = [max(low, b - length + 1) for b in last]  # as near to the lowest as its taps allow
    taps = (source[:, None] - np.array(starts)[:, None, None] == np.arange(length)[:, None]) & used[:, None]
    return taps, [start - low for start in starts], (-low, max(starts) + length - 1 + out - size)


def _sum_taps(kernel: jax.Array, taps: np.ndarray, axis: int) -> jax.Array:
    """Replaces an axis of k taps by two, [factor, m]: the sums that `taps` [factor, m, k] names."""
    zero = jnp.zeros_like(lax.index_in_dim(kernel, 0, axis, keepdims=False))

    def total(named: np.ndarray) -> jax.Array:
        return sum((lax.index_in_dim(kernel, int(t), axis, keepdims=False) for t in np.flatnonzero(named)), zero)

    return jnp.stack([jnp.stack([total(named) for named in phase], axis) for phase in taps], axis)


def _conv(x: jax.Array, kernel: jax.Array, stride: int, pads: Sequence[tuple[int, int]]) -> jax.Array:
    """A convolution in the form that is fast here.

    XLA's CPU convolution is fast as a rule, but takes ten to three hundred times as long as the arithmetic
    where the kernel is larger than the map, in the gradient of the input where a stride leaves few output pixels, and
    in that of the kernel where the output is larger than the input. One matrix product of all
    patches never does, but loses by its copies elsewhere.
    """
    k = max(kernel.shape[:2])
    grown = max(low + high for low, high in pads) >= k
    slow = min(x.shape[1:3]) < (k if stride == 1 else 2 * k) or grown
    if jax.default_backend() == "cpu" and slow:
        return _conv_by_patches(x, kernel, stride, pads)
    return lax.conv_general_dilated(x, kernel, (stride, stride), pads, dimension_numbers=("NHWC", "HWIO", "NHWC"))


def _conv_by_patches(x: jax.Array, kernel: jax.Array, stride: int, pads: Sequence[tuple[int, int]]) -> jax.Array:
    """The same as one product, of all patches with the kernel."""
    k_h, k_w, c_in, c_out = kernel.shape
    x = lax.pad(x, jnp.zeros((), x.dtype), ((0, 0, 0), *((low, high, 0) for low, high in pads), (0, 0, 0)))
    h, w = ((size - k) // stride + 1 for size, k in zip(x.shape[1:3], (k_h, k_w), strict=True))
    # Columns of taps and then rows: few slices, which compile in half the time that k * k of them take.
    x = jnp.concatenate([x[:, :, j : j + stride * (w - 1) + 1 : stride] for j in range(k_w)], axis=-1)
    x = jnp.concatenate([x[:, i : i + stride * (h - 1) + 1 : stride] for i in range(k_h)], axis=-1)
    return (x.reshape(-1, k_h * k_w * c_in) @ kernel.reshape(-1, c_out)).reshape(-1, h, w, c_out)
