"""One convolution in the forms that are fast on a CPU: each pass, forward and back, in its own.

XLA's CPU convolution is fast as a rule, but takes up to three hundred times as long as the arithmetic where the
kernel is as large as the map, where the output is larger than the input, where there are few channels, and,
inside a loop, in every gradient of a kernel. What stands in for it is found by measuring, with
`python -m experiments.convolutions`:

native       XLA's own, in the one arrangement of axes that it runs fast everywhere
patches      one matrix product of all patches with the kernel
rows         one product for each row of taps, for a gradient of the kernel
frequencies  products of Fourier coefficients, of which small maps with large kernels need few

Each is equal to `lax.conv_general_dilated` up to rounding.
"""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxgan import phases

Shape = tuple[int, ...]
Sizes = phases.Sizes
Pads = tuple[tuple[int, int], tuple[int, int]]

NARROW = 64  # values in a patch, of x or of y: of so few channels that native forms waste most of their width
CACHE = 2_400_000  # values in all patches, beyond which adding them up takes longer than some wasted products


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def conv(x: jax.Array, kernel: jax.Array, stride: int, pads: Pads) -> jax.Array:
    """A convolution. Reverse mode can be taken any number of times, forward mode (`jax.jvp`) not.

    Args:
      x: [B, H, W, C].
      kernel: [k_h, k_w, C, features].
      stride: of both axes.
      pads: (low, high) of each axis.

    Returns:
      [B, (H + low + high - k_h) // stride + 1, …, features].
    """
    return conv_form(x.shape, kernel.shape, stride, pads)(x, kernel, stride, pads)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def conv_transpose(y: jax.Array, kernel: jax.Array, stride: int, pads: Pads, sizes: Sizes) -> jax.Array:
    """The transpose of `conv` in x, from a cotangent of y to one of x. Differentiable as `conv` is.

    Args:
      y: [B, h, w, features].
      kernel: [k_h, k_w, C, features].
      stride: of both axes.
      pads: (low, high) of each axis of x.
      sizes: (H, W).

    Returns:
      [B, H, W, C].
    """
    return conv_transpose_form(y.shape, kernel.shape, stride, pads, sizes)(y, kernel, stride, pads, sizes)


def _kernel_gradient(x: jax.Array, y: jax.Array, stride: int, pads: Pads, taps: Sizes) -> jax.Array:
    """The transpose of `conv` in the kernel, from a cotangent of y [B, h, w, features] to [*taps, C, features]."""
    shape = (*taps, x.shape[-1], y.shape[-1])
    return kernel_gradient_form(x.shape, shape, y.shape, stride, pads)(x, y, stride, pads, taps)


def _conv_backward(stride: int, pads: Pads, saved: tuple[jax.Array, jax.Array], y: jax.Array) -> tuple:
    x, kernel = saved
    x_bar = conv_transpose(y, kernel, stride, pads, x.shape[1:3])
    return x_bar, _kernel_gradient(x, y, stride, pads, kernel.shape[:2])


def _conv_transpose_backward(
    stride: int, pads: Pads, sizes: Sizes, saved: tuple[jax.Array, jax.Array], x: jax.Array
) -> tuple:
    y, kernel = saved
    return conv(x, kernel, stride, pads), _kernel_gradient(x, y, stride, pads, kernel.shape[:2])


conv.defvjp(lambda x, kernel, *rest: (conv(x, kernel, *rest), (x, kernel)), _conv_backward)
conv_transpose.defvjp(
    lambda y, kernel, *rest: (conv_transpose(y, kernel, *rest), (y, kernel)), _conv_transpose_backward
)


def conv_form(x: Shape, kernel: Shape, stride: int, pads: Pads) -> Callable:
    """The fast form of (x, kernel, stride, pads) -> y, for arrays of these shapes."""
    if _frequencies_save_work(x, kernel, stride, pads):
        return conv_by_frequencies if stride == 1 else conv_by_phases
    k_h, k_w, c, _ = kernel
    if min(x[1:3]) <= max(k_h, k_w) or k_h * k_w * c <= NARROW:
        return conv_by_patches
    return native_conv


def conv_transpose_form(y: Shape, kernel: Shape, stride: int, pads: Pads, sizes: Sizes) -> Callable:
    """The fast form of (y, kernel, stride, pads, sizes) -> x."""
    if stride == 1:
        return conv_transpose_by_flipping
    x = (y[0], *sizes, kernel[2])
    patches = math.prod(y[:3]) * math.prod(kernel[:3])
    # Where the stride does not divide the kernel, some of the phases' taps are zeros.
    if patches > (CACHE if kernel[0] % stride else CACHE // 3) or _frequencies_save_work(x, kernel, stride, pads):
        return conv_transpose_by_phases
    return conv_transpose_by_patches


def kernel_gradient_form(x: Shape, kernel: Shape, y: Shape, stride: int, pads: Pads) -> Callable:
    """The fast form of (x, y, stride, pads, taps) -> kernel."""
    k_h, k_w, _, features = kernel
    if _frequencies_save_work(x, kernel, stride, pads):
        return kernel_gradient_by_frequencies if stride == 1 else kernel_gradient_by_phases
    if stride == 1 and k_h * k_w * features <= NARROW:
        return kernel_gradient_by_patches_of_y
    if min(y[1:3]) > min(x[1:3]):
        return kernel_gradient_by_rows
    # The larger the kernel, the more there is to copy for rows; the larger the map, the slower XLA's own.
    native = max(k_h, k_w) > 4 if stride == 1 else max(k_h, k_w) > 3 and min(x[1:3]) <= 16
    return native_kernel_gradient if native else kernel_gradient_by_rows


def native_conv(x: jax.Array, kernel: jax.Array, stride: int, pads: Pads) -> jax.Array:
    """XLA's own."""
    return lax.conv_general_dilated(x, kernel, (stride, stride), pads, dimension_numbers=("NHWC", "HWIO", "NHWC"))


def native_kernel_gradient(x: jax.Array, y: jax.Array, stride: int, pads: Pads, taps: Sizes) -> jax.Array:
    """The gradient of the kernel, as XLA's convolution of x with y: channels are its batch.

    Transposed by hand, since XLA does it for gradients outside of loops only.
    """
    sizes = zip(pads, y.shape[1:3], taps, x.shape[1:3], strict=True)
    pads = [(low, (out - 1) * stride + k - size - low) for (low, _), out, k, size in sizes]
    gradient = lax.conv_general_dilated(
        x.transpose(3, 1, 2, 0),
        y.transpose(1, 2, 0, 3),
        (1, 1),
        pads,
        rhs_dilation=(stride, stride),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    return gradient.transpose(1, 2, 0, 3)


def conv_by_patches(x: jax.Array, kernel: jax.Array, stride: int, pads: Pads) -> jax.Array:
    """One product, of all patches with the kernel."""
    patches = _rows_of_patches(x, kernel.shape[:2], stride, pads)
    shape = patches[0].shape
    patches = jnp.concatenate(patches, axis=-1).reshape(-1, len(patches) * shape[-1])
    return (patches @ kernel.reshape(patches.shape[1], -1)).reshape(*shape[:3], -1)


def conv_transpose_by_patches(y: jax.Array, kernel: jax.Array, stride: int, pads: Pads, sizes: Sizes) -> jax.Array:
    """The gradients of all patches, added up."""
    x = _some((len(y), *sizes, kernel.shape[2]), y)
    _, transpose = jax.vjp(lambda x: conv_by_patches(x, kernel, stride, pads), x)
    return transpose(y)[0]


def kernel_gradient_by_rows(x: jax.Array, y: jax.Array, stride: int, pads: Pads, taps: Sizes) -> jax.Array:
    """A product for each row of taps: of the patches, one row high, with y."""
    y = y.reshape(-1, y.shape[-1])
    rows = _rows_of_patches(x, taps, stride, pads)
    rows = [row.reshape(len(y), -1).T @ y for row in rows]
    return jnp.stack(rows).reshape(*taps, x.shape[-1], -1)


def kernel_gradient_by_patches_of_y(x: jax.Array, y: jax.Array, stride: int, pads: Pads, taps: Sizes) -> jax.Array:
    """One product, of x with all patches of y, for few features and stride 1.

    What tap t multiplies at output pixel o is input pixel o - low + t: seen from an input pixel, taps come backwards.
    """
    patches = _rows_of_patches(y, taps, 1, _flipped_pads(y, pads, taps, x.shape[1:3]))
    patches = jnp.concatenate(patches, axis=-1).reshape(-1, *taps, y.shape[-1])
    patches = patches[:, ::-1, ::-1].reshape(len(patches), -1)
    gradient = x.reshape(len(patches), -1).T @ patches
    return gradient.reshape(-1, *taps, y.shape[-1]).transpose(1, 2, 0, 3)


def conv_transpose_by_flipping(y: jax.Array, kernel: jax.Array, stride: int, pads: Pads, sizes: Sizes) -> jax.Array:
    """The convolution of y with the kernel turned around, for stride 1."""
    return conv(y, flip(kernel), 1, _flipped_pads(y, pads, kernel.shape[:2], sizes))


def conv_transpose_by_phases(y: jax.Array, kernel: jax.Array, stride: int, pads: Pads, sizes: Sizes) -> jax.Array:
    """The convolution of y whose outputs are the phases of x, for a larger stride."""
    starts = tuple(k - 1 - low for k, (low, _) in zip(kernel.shape[:2], pads, strict=True))
    return phases.conv_transpose_by_phases(conv, y, flip(kernel), stride, starts, sizes)


def conv_by_phases(x: jax.Array, kernel: jax.Array, stride: int, pads: Pads) -> jax.Array:
    """The transpose of that: one convolution of the phases of x."""
    sizes = (
        (sum(pad) + size - k) // stride + 1 for pad, size, k in zip(pads, x.shape[1:3], kernel.shape[:2], strict=True)
    )
    y = _some((len(x), *sizes, kernel.shape[3]), x)
    _, transpose = jax.vjp(lambda y: conv_transpose_by_phases(y, kernel, stride, pads, x.shape[1:3]), y)
    return transpose(x)[0]


def kernel_gradient_by_phases(x: jax.Array, y: jax.Array, stride: int, pads: Pads, taps: Sizes) -> jax.Array:
    """Likewise in the kernel."""
    kernel = _some((*taps, x.shape[3], y.shape[3]), x)
    _, transpose = jax.vjp(lambda kernel: conv_transpose_by_phases(y, kernel, stride, pads, x.shape[1:3]), kernel)
    return transpose(x)[0]


def _some(shape: Shape, like: jax.Array) -> jax.Array:
    """Where a linear function is transposed: any array of that shape, since its values do not matter.

    Made of `like`, so that under `jax.shard_map` it is each device's own as well.
    """
    return jnp.broadcast_to(like.ravel()[0], shape)


def flip(kernel: jax.Array) -> jax.Array:
    """The kernel of the transpose: turned around, inputs and outputs exchanged."""
    return kernel[::-1, ::-1].swapaxes(2, 3)


def _flipped_pads(y: jax.Array, pads: Pads, taps: Sizes, sizes: Sizes) -> Pads:
    """Of the convolution that leads back from y to maps of `sizes`."""
    axes = zip(pads, taps, sizes, y.shape[1:3], strict=True)
    return tuple((k - 1 - low, size + low - out) for (low, _), k, size, out in axes)


def _rows_of_patches(x: jax.Array, taps: Sizes, stride: int, pads: Pads) -> list[jax.Array]:
    """For each row of taps, what they meet at each output pixel: k_h of [B, h, w, k_w * C]."""
    x = lax.pad(x, jnp.zeros((), x.dtype), ((0, 0, 0), *((low, high, 0) for low, high in pads), (0, 0, 0)))
    h, w = ((size - k) // stride + 1 for size, k in zip(x.shape[1:3], taps, strict=True))
    # Columns of taps and then rows: few slices, which compile in half the time that k * k of them take.
    x = jnp.concatenate([x[:, :, j : j + stride * (w - 1) + 1 : stride] for j in range(taps[1])], axis=-1)
    return [x[:, i : i + stride * (h - 1) + 1 : stride] for i in range(taps[0])]


def conv_by_frequencies(x: jax.Array, kernel: jax.Array, stride: int, pads: Pads) -> jax.Array:
    """A product for each frequency, for square maps and kernels and stride 1 (Mathieu et al. 2014, arXiv:1312.5851)."""
    to_x, to_kernel, to_y = _transforms(x.shape[1], kernel.shape[0], pads[0])
    (b, n, _, c), features, out = x.shape, kernel.shape[-1], math.isqrt(len(to_y))
    # With the batch last the products are up to twice as fast.
    x_hat = _apply(to_x, x.reshape(b, n * n, c).transpose(1, 2, 0))
    kernel_hat = _apply(to_kernel, kernel.reshape(-1, c, features))
    y = _apply(to_y, jnp.einsum("rcb,rcf->rbf", x_hat, kernel_hat))
    return y.transpose(1, 0, 2).reshape(b, out, out, features).astype(x.dtype)


def kernel_gradient_by_frequencies(x: jax.Array, y: jax.Array, stride: int, pads: Pads, taps: Sizes) -> jax.Array:
    """The transpose of that in the kernel."""
    to_x, to_kernel, to_y = _transforms(x.shape[1], taps[0], pads[0])
    (b, n, _, c), features = x.shape, y.shape[-1]
    x_hat = _apply(to_x, x.reshape(b, n * n, c).transpose(1, 0, 2))
    y_hat = _apply(to_y.T, y.reshape(b, -1, features).transpose(1, 0, 2))
    kernel = _apply(to_kernel.T, jnp.einsum("rbc,rbf->rcf", x_hat, y_hat))
    return kernel.reshape(*taps, c, features).astype(x.dtype)


def _apply(matrix: np.ndarray, x: jax.Array) -> jax.Array:
    """[q, p] times [p, i, j], as one matrix product; in float32 at least, since transforms lose a few digits."""
    dtype = jnp.promote_types(x.dtype, jnp.float32)
    y = jnp.asarray(matrix, dtype) @ x.astype(dtype).reshape(len(x), -1)
    return y.reshape(-1, *x.shape[1:])


def _frequencies_save_work(x: Shape, kernel: Shape, stride: int, pads: Pads) -> bool:
    """Whether frequencies take less than 0.4 of the multiplications, since they run at less than half the speed.

    With a stride it is the convolution of the phases that is asked about.
    """
    (b, n, w, c), (k, k_w, _, features), pad = x, kernel, pads[0]
    if (n, k, pad) != (w, k_w, pads[1]) or k == 1:
        return False
    if stride > 1:
        n, out = (sum(pad) + n - k) // stride + 1, -(-n // stride)
        _, _, k, pad = phases.common_convolution(k, k - 1 - pad[0], n, out, stride)
        c, features = features, stride**2 * c
    out, period = _out_and_period(n, k, pad)
    products = 3 * period**2 // 2
    transforms = n**2 * b * c + out**2 * b * features + 2 * k**2 * c * features  # large ones, of kernels, are slow
    return out > 0 and products * (b * c * features + transforms) < 0.4 * out**2 * k**2 * b * c * features


def _out_and_period(n: int, k: int, pad: tuple[int, int]) -> tuple[int, int]:
    """The size of the output, and the least period in which nothing but zeros is wrapped around."""
    out = n + sum(pad) - k + 1
    return out, n + max(*pad, 0)


@functools.lru_cache
def _transforms(n: int, k: int, pad: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A convolution of maps as R products: y = to_y @ ((to_x @ x) * (to_kernel @ kernel)).

    In a square of period m, the Fourier coefficients of y are those of x times the conjugates of the kernel's. Of real
    values half the coefficients say all. Each is a complex product, which takes three real ones, after Gauss:
    (a + ib)(c + id) = (p - q) + i(p + r) with p = c (a + b), q = b (c + d), r = a (d - c). So R = 3 m^2 / 2,
    about, in place of the n^2 k^2 products of pixels with taps.

    Args:
      n: of an n x n map.
      k: of a k x k kernel.
      pad: (low, high) of both axes.

    Returns:
      to_x [R, n^2], to_kernel [R, k^2], to_y [out^2, R].
    """
    out, m = _out_and_period(n, k, pad)
    wave = np.exp(-2j * np.pi / m * np.outer(np.arange(m), np.arange(m)))
    waves = np.einsum("ui,vj->uvij", wave, wave).reshape(m, m, m * m)
    to_x, to_kernel, to_y = [], [], []
    for u, v in np.ndindex(m, m):
        twin = (-u % m, -v % m)  # the frequency whose coefficient is the conjugate
        re, im = waves[u, v].real, waves[u, v].imag
        if twin == (u, v):  # real
            to_x.append(re)
            to_kernel.append(re)
            to_y.append(re / m**2)
        elif twin > (u, v):
            to_x += [re + im, im, re]
            to_kernel += [re, re - im, -im - re]
            to_y += [2 / m**2 * (re + im), -2 / m**2 * re, 2 / m**2 * im]
    # Row p * m + q of the square is pixel (p, q), tap (p + low, q + low).
    pixels, taps, outputs = (
        np.add.outer(at % m * m, at % m).ravel() for at in (np.arange(n), np.arange(k) - pad[0], np.arange(out))
    )
    return np.array(to_x)[:, pixels], np.array(to_kernel)[:, taps], np.array(to_y).T[outputs]
