"""Convolutions as products of Fourier coefficients, of which small maps with large kernels need few."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from jaxgan.convolutions.linear import Pads, Shape, Sizes
from jaxgan.convolutions.phases import common_convolution


def save_work(x: Shape, kernel: Shape, stride: int, pads: Pads) -> bool:
    """Whether frequencies take less than 0.4 of the multiplications, since they run at less than half the speed.

    With a stride it is the convolution of the phases that is asked about.
    """
    (b, n, w, c), (k, k_w, _, features), pad = x, kernel, pads[0]
    if (n, k, pad) != (w, k_w, pads[1]) or k == 1:
        return False
    if stride > 1:
        n, out = (sum(pad) + n - k) // stride + 1, -(-n // stride)
        axis = common_convolution(k, k - 1 - pad[0], n, out, stride)
        k, pad = axis.m, axis.pads
        c, features = features, stride**2 * c
    out, period = _out_and_period(n, k, pad)
    products = 3 * period**2 // 2
    transforms = n**2 * b * c + out**2 * b * features + 2 * k**2 * c * features  # large ones, of kernels, are slow
    return out > 0 and products * (b * c * features + transforms) < 0.4 * out**2 * k**2 * b * c * features


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
    y = jnp.asarray(matrix, dtype) @ x.astype(dtype).reshape(x.shape[0], -1)
    return y.reshape(matrix.shape[0], *x.shape[1:])


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
