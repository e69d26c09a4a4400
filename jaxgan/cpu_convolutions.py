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

from jaxgan.phases import conv_by_phases

Pads = tuple[tuple[int, int], tuple[int, int]]

NARROW = 64  # values in a patch, of so few channels that native convolutions waste most of their width
CACHE = 2**22  # values in all patches, beyond which copying them costs more than it saves


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def conv(x: jax.Array, kernel: jax.Array, stride: int, pads: Pads) -> jax.Array:
    """A convolution; reverse mode can be taken any number of times, forward mode (`jax.jvp`) not.

    Args:
      x: [B, H, W, C].
      kernel: [k_h, k_w, C, features].
      stride: of both axes.
      pads: (low, high) of each axis.

    Returns:
      [B, (H + low + high - k_h) // stride + 1, …, features].
    """
    return forward_form(x, kernel, stride, pads)(x, kernel, stride, pads)


def _forward(x: jax.Array, kernel: jax.Array, stride: int, pads: Pads) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return conv(x, kernel, stride, pads), (x, kernel)


def _backward(
    stride: int, pads: Pads, saved: tuple[jax.Array, jax.Array], cotangent: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x, kernel = saved
    x_bar = input_gradient_form(x, kernel, stride, pads)(cotangent, kernel, stride, pads, x.shape[1:3])
    kernel_bar = kernel_gradient_form(x, kernel, stride, pads)(x, cotangent, stride, pads, kernel.shape[:2])
    return x_bar, kernel_bar


conv.defvjp(_forward, _backward)


def forward_form(x: jax.Array, kernel: jax.Array, stride: int, pads: Pads) -> Callable:
    """The fast form of (x, kernel, stride, pads) -> y."""
    if _frequencies_save_work(x, kernel, stride, pads):
        return by_frequencies
    k_h, k_w, c, _ = kernel.shape
    if min(x.shape[1:3]) <= max(k_h, k_w) or k_h * k_w * c <= NARROW:
        return by_patches
    return native


def input_gradient_form(x: jax.Array, kernel: jax.Array, stride: int, pads: Pads) -> Callable:
    """The fast form of (cotangent, kernel, stride, pads, sizes) -> the gradient of x."""
    if stride == 1:
        return input_gradient_by_patches if _grows(kernel, pads) and min(x.shape[1:3]) > 8 else input_gradient_flipped
    outputs = (x.shape[1] // stride) * (x.shape[2] // stride)
    small = x.shape[0] * outputs * np.prod(kernel.shape[:3]) <= CACHE
    return input_gradient_by_patches if small else input_gradient_by_phases


def kernel_gradient_form(x: jax.Array, kernel: jax.Array, stride: int, pads: Pads) -> Callable:
    """The fast form of (x, cotangent, stride, pads, taps) -> the gradient of the kernel."""
    k_h, k_w, _, features = kernel.shape
    if _frequencies_save_work(x, kernel, stride, pads):
        return kernel_gradient_by_frequencies
    if stride == 1 and k_h * k_w * features <= NARROW:
        return kernel_gradient_by_cotangent_patches
    if max(k_h, k_w) > 4 and not _grows(kernel, pads):
        return native_kernel_gradient
    return kernel_gradient_by_rows


def _grows(kernel: jax.Array, pads: Pads) -> bool:
    """Whether the output of a stride-1 convolution is larger than its input."""
    return any(sum(pad) >= k for pad, k in zip(pads, kernel.shape[:2], strict=True))


def native(x: jax.Array, kernel: jax.Array, stride: int, pads: Pads) -> jax.Array:
    """XLA's own."""
    return lax.conv_general_dilated(x, kernel, (stride, stride), pads, dimension_numbers=("NHWC", "HWIO", "NHWC"))


def native_kernel_gradient(
    x: jax.Array, cotangent: jax.Array, stride: int, pads: Pads, taps: tuple[int, int]
) -> jax.Array:
    """The gradient of the kernel, as XLA's convolution of x with the cotangent: channels are its batch.

    Transposed by hand, since XLA does it for gradients outside of loops only.
    """
    sizes = zip(pads, cotangent.shape[1:3], taps, x.shape[1:3], strict=True)
    pads = [(low, (out - 1) * stride + k - size - low) for (low, _), out, k, size in sizes]
    gradient = lax.conv_general_dilated(
        x.transpose(3, 1, 2, 0),
        cotangent.transpose(1, 2, 0, 3),
        (1, 1),
        pads,
        rhs_dilation=(stride, stride),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    return gradient.transpose(1, 2, 0, 3)


def by_patches(x: jax.Array, kernel: jax.Array, stride: int, pads: Pads) -> jax.Array:
    """One product, of all patches with the kernel."""
    patches = _rows_of_patches(x, kernel.shape[:2], stride, pads)
    shape = patches[0].shape
    patches = jnp.concatenate(patches, axis=-1).reshape(-1, len(patches) * shape[-1])
    return (patches @ kernel.reshape(patches.shape[1], -1)).reshape(*shape[:3], -1)


def input_gradient_by_patches(
    cotangent: jax.Array, kernel: jax.Array, stride: int, pads: Pads, sizes: tuple[int, int]
) -> jax.Array:
    """The gradients of all patches, added up."""
    x = jax.ShapeDtypeStruct((len(cotangent), *sizes, kernel.shape[2]), cotangent.dtype)
    (gradient,) = jax.linear_transpose(lambda x: by_patches(x, kernel, stride, pads), x)(cotangent)
    return gradient


def kernel_gradient_by_rows(
    x: jax.Array, cotangent: jax.Array, stride: int, pads: Pads, taps: tuple[int, int]
) -> jax.Array:
    """A product for each row of taps: of the patches, one row high, with the cotangent."""
    cotangent = cotangent.reshape(-1, cotangent.shape[-1])
    rows = _rows_of_patches(x, taps, stride, pads)
    rows = [row.reshape(len(cotangent), -1).T @ cotangent for row in rows]
    return jnp.stack(rows).reshape(*taps, x.shape[-1], -1)


def kernel_gradient_by_cotangent_patches(
    x: jax.Array, cotangent: jax.Array, stride: int, pads: Pads, taps: tuple[int, int]
) -> jax.Array:
    """One product, of x with all patches of the cotangent, for few features and stride 1.

    What tap t multiplies at output pixel o is input pixel o - low + t: seen from an input pixel, taps come backwards.
    """
    patches = _rows_of_patches(cotangent, taps, 1, _flipped_pads(cotangent, pads, taps, x.shape[1:3]))
    patches = jnp.concatenate(patches, axis=-1).reshape(-1, *taps, cotangent.shape[-1])
    patches = patches[:, ::-1, ::-1].reshape(len(patches), -1)
    gradient = x.reshape(len(patches), -1).T @ patches
    return gradient.reshape(-1, *taps, cotangent.shape[-1]).transpose(1, 2, 0, 3)


def input_gradient_flipped(
    cotangent: jax.Array, kernel: jax.Array, stride: int, pads: Pads, sizes: tuple[int, int]
) -> jax.Array:
    """The convolution of the cotangent with the kernel turned around, for stride 1."""
    return conv(cotangent, _flip(kernel), 1, _flipped_pads(cotangent, pads, kernel.shape[:2], sizes))


def input_gradient_by_phases(
    cotangent: jax.Array, kernel: jax.Array, stride: int, pads: Pads, sizes: tuple[int, int]
) -> jax.Array:
    """The same with a stride: a convolution with a larger output, in its sub-pixel form."""
    axes = []
    for (low, _), k in zip(pads, kernel.shape[:2], strict=True):
        position = np.arange(stride)[:, None] + np.arange(k) - (k - 1 - low)
        axes.append((position // stride, position % stride == 0))
    return conv_by_phases(conv, cotangent, _flip(kernel), axes, sizes)


def _flip(kernel: jax.Array) -> jax.Array:
    return kernel[::-1, ::-1].swapaxes(2, 3)


def _flipped_pads(cotangent: jax.Array, pads: Pads, taps: tuple[int, int], sizes: tuple[int, int]) -> Pads:
    """Of the convolution that leads back from the cotangent to maps of `sizes`."""
    axes = zip(pads, taps, sizes, cotangent.shape[1:3], strict=True)
    return tuple((k - 1 - low, size + low - out) for (low, _), k, size, out in axes)


def _rows_of_patches(x: jax.Array, taps: tuple[int, int], stride: int, pads: Pads) -> list[jax.Array]:
    """For each row of taps, what they meet at each output pixel: k_h of [B, h, w, k_w * C]."""
    x = lax.pad(x, jnp.zeros((), x.dtype), ((0, 0, 0), *((low, high, 0) for low, high in pads), (0, 0, 0)))
    h, w = ((size - k) // stride + 1 for size, k in zip(x.shape[1:3], taps, strict=True))
    # Columns of taps and then rows: few slices, which compile in half the time that k * k of them take.
    x = jnp.concatenate([x[:, :, j : j + stride * (w - 1) + 1 : stride] for j in range(taps[1])], axis=-1)
    return [x[:, i : i + stride * (h - 1) + 1 : stride] for i in range(taps[0])]


def by_frequencies(x: jax.Array, kernel: jax.Array, stride: int, pads: Pads) -> jax.Array:
    """A product for each frequency, for square maps and kernels and stride 1 (Mathieu et al. 2014, arXiv:1312.5851)."""
    to_x, to_kernel, to_y = _transforms(x.shape[1], kernel.shape[0], pads[0])
    b, n, _, c = x.shape
    spectrum = jnp.einsum("rp,bpc->rbc", to_x.astype(x.dtype), x.reshape(b, n * n, c))
    kernels = jnp.einsum("rt,tcf->rcf", to_kernel.astype(x.dtype), kernel.reshape(-1, c, kernel.shape[-1]))
    spectrum = jnp.einsum("rbc,rcf->rbf", spectrum, kernels)
    y = jnp.einsum("pr,rbf->bpf", to_y.astype(x.dtype), spectrum)
    n = math.isqrt(y.shape[1])
    return y.reshape(b, n, n, -1)


def kernel_gradient_by_frequencies(
    x: jax.Array, cotangent: jax.Array, stride: int, pads: Pads, taps: tuple[int, int]
) -> jax.Array:
    """The gradient of the kernel, by frequencies as well."""
    kernel = jax.ShapeDtypeStruct((*taps, x.shape[-1], cotangent.shape[-1]), x.dtype)
    (gradient,) = jax.linear_transpose(lambda kernel: by_frequencies(x, kernel, stride, pads), kernel)(cotangent)
    return gradient


def _frequencies_save_work(x: jax.Array, kernel: jax.Array, stride: int, pads: Pads) -> bool:
    """Whether `by_frequencies` takes less than 0.36 of the multiplications; these run at less than half the speed."""
    b, n, w, c = x.shape
    k, k_w, _, features = kernel.shape
    if (n, k, pads[0]) != (w, k_w, pads[1]) or stride > 1 or k == 1 or x.dtype.itemsize < 4:
        return False
    out, period = _out_and_period(n, k, pads[0])
    if out < 1:
        return False
    products = 3 * period**2 // 2
    transforms = n**2 * b * c + out**2 * b * features + k**2 * c * features
    return products * (b * c * features + transforms) < 0.36 * out**2 * k**2 * b * c * features


def _out_and_period(n: int, k: int, pad: tuple[int, int]) -> tuple[int, int]:
    """The size of the output, and the least period in which nothing but zeros is wrapped around."""
    out = n + sum(pad) - k + 1
    return out, max(n + max(*pad, 0), out)


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
