"""The convolutions against XLA's own, in value and in both gradients, in float64."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

from jaxgan import convolutions

NHWC = ("NHWC", "HWIO", "NHWC")


def xla_conv(x, kernel, stride, padding="SAME"):
    return lax.conv_general_dilated(x, kernel, (stride, stride), padding, dimension_numbers=NHWC)


def xla_conv_transpose(x, kernel, stride, padding="SAME"):
    return lax.conv_transpose(x, kernel, (stride, stride), padding)


def xla_upsample_conv(x, kernel, factor):
    return xla_conv(jnp.repeat(jnp.repeat(x, factor, 1), factor, 2), kernel, 1)


def assert_equal(ours, xla, size, k, stride, *padding):
    """In value and both gradients, on maps that are a little wider than high, and on square ones."""
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(2, 99, 99, 4))  # of the outputs, for a cotangent that is not all ones

    @functools.partial(jax.jit, static_argnums=0)
    def value_and_gradients(function, x, kernel):
        y, pullback = jax.vjp(lambda x, kernel: function(x, kernel, stride, *padding), x, kernel)
        return y, pullback(weights[:, : y.shape[1], : y.shape[2]])

    for wider in (0, 1):
        x, kernel = rng.normal(size=(2, size, size + wider, 3)), rng.normal(size=(k, k, 3, 4))
        got, expected = value_and_gradients(ours, x, kernel), value_and_gradients(xla, x, kernel)
        jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-11), got, expected)


# map, kernel, stride: those of the reference systems first; then odd and even kernels and strides,
# a kernel larger than the map, a stride larger than the kernel
CONV = [(28, 5, 2), (7, 5, 2), (4, 5, 1), (4, 4, 2), (2, 2, 1), (7, 5, 1), (5, 3, 2), (2, 3, 1), (1, 4, 2), (4, 2, 3)]
TRANSPOSE = [
    (1, 4, 1),
    (4, 4, 2),
    (7, 5, 1),
    (7, 5, 2),
    (5, 4, 1),
    (5, 3, 2),
    (2, 3, 1),
    (1, 4, 2),
    (4, 2, 3),
    (4, 5, 3),
]
UPSAMPLE = [
    (7, 5, 2),
    (8, 3, 2),
    (1, 4, 4),
    (4, 4, 2),
    (2, 5, 3),
    (1, 5, 2),
    (3, 1, 2),
    (3, 7, 2),
    (5, 4, 1),
    (2, 2, 5),
]


def some_fast(cases, count):
    """The first cases on the fast shelf, the others on the slow one."""
    return [*cases[:count], *(pytest.param(*case, marks=pytest.mark.slow) for case in cases[count:])]


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize(("size", "k", "stride"), some_fast(CONV, 2))
def test_conv(size, k, stride, padding, x64):
    if padding == "VALID" and k > size:
        return  # nothing is left
    assert_equal(convolutions.conv, xla_conv, size, k, stride, padding)


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize(("size", "k", "stride"), some_fast(TRANSPOSE, 2))
def test_conv_transpose(size, k, stride, padding, x64):
    assert_equal(convolutions.conv_transpose, xla_conv_transpose, size, k, stride, padding)


@pytest.mark.parametrize(("size", "k", "factor"), some_fast(UPSAMPLE, 2))
def test_upsample_conv(size, k, factor, x64):
    assert_equal(convolutions.upsample_conv, xla_upsample_conv, size, k, factor)


@pytest.mark.slow
@settings(max_examples=15)
@given(st.integers(1, 6), st.integers(1, 6), st.integers(1, 4), st.sampled_from(["conv", "SAME", "VALID", "upsample"]))
def test_any_size_kernel_and_stride(size, k, stride, kind):
    with jax.enable_x64(True):
        if kind == "conv":
            assert_equal(convolutions.conv, xla_conv, size, k, stride)
        elif kind == "upsample":
            assert_equal(convolutions.upsample_conv, xla_upsample_conv, size, k, stride)
        else:
            assert_equal(convolutions.conv_transpose, xla_conv_transpose, size, k, stride, kind)


@pytest.mark.slow
def test_a_conv_transpose_is_the_gradient_of_a_conv(x64):
    """As Keras defines it: SAME, stride 2, kernel 5 on a 7x7 map gives 14x14."""
    kernel = jax.random.normal(jax.random.key(0), (5, 5, 3, 4))
    x = jax.random.normal(jax.random.key(1), (2, 7, 7, 3))
    images = jnp.zeros((2, 14, 14, 4))
    flipped = kernel[::-1, ::-1].transpose(0, 1, 3, 2)  # a gradient's kernel is the conv's, turned around
    _, pullback = jax.vjp(lambda images: xla_conv(images, flipped, 2), images)
    np.testing.assert_allclose(convolutions.conv_transpose(x, kernel, 2), pullback(x)[0], rtol=1e-10, atol=1e-12)


@given(st.integers(1, 3), st.integers(1, 4), st.integers(1, 3))
def test_depth_to_space_puts_channel_p_at_phase_p(factor, size, c):
    x = np.random.default_rng(0).normal(size=(2, size, size, factor**2 * c)).astype(np.float32)
    y = np.asarray(convolutions.depth_to_space(jnp.asarray(x), factor))
    for row in range(factor):
        for column in range(factor):
            start = (row * factor + column) * c
            np.testing.assert_array_equal(y[:, row::factor, column::factor], x[..., start : start + c])


@pytest.mark.parametrize(("k", "factor", "products"), [(5, 2, 9), (3, 2, 4), (4, 2, 9), (4, 4, 4)])
def test_an_upsample_conv_sums_taps_before_it_multiplies(k, factor, products):
    """Products per small pixel and channel pair: for 5x5 after x2, 4 phases of 3x3 in place of 4 pixels of 5x5.

    Additions count too: of taps, and where the form is patches, of those; with 64 channels they are few.
    """
    x, kernel = jnp.zeros((1, 16, 16, 64)), jnp.zeros((k, k, 64, 64))
    cost = jax.jit(convolutions.upsample_conv, static_argnums=2).lower(x, kernel, factor).compile().cost_analysis()
    per_pixel = cost["flops"] / (2 * 16 * 16 * 64 * 64)
    assert per_pixel < 1.1 * factor**2 * products < factor**2 * k**2
