"""The convolutions against XLA's own, in value and in both gradients, in float64."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax import lax

from jaxgan import layers

NHWC = ("NHWC", "HWIO", "NHWC")
# map, kernel, stride: odd and even kernels and strides, a kernel larger than the map, a stride larger than the kernel
SHAPES = [(7, 5, 1), (7, 5, 2), (8, 4, 2), (4, 4, 1), (5, 3, 2), (2, 3, 1), (3, 5, 2), (1, 4, 2), (4, 2, 3), (4, 5, 3)]


def xla_conv(x, kernel, stride):
    return lax.conv_general_dilated(x, kernel, (stride, stride), "SAME", dimension_numbers=NHWC)


def xla_conv_transpose(x, kernel, stride):
    return lax.conv_transpose(x, kernel, (stride, stride), "SAME")


@pytest.mark.parametrize(("size", "k", "stride"), SHAPES)
@pytest.mark.parametrize(
    ("ours", "xla"), [(layers.conv, xla_conv), (layers.conv_transpose, xla_conv_transpose)], ids=["conv", "transpose"]
)
def test_equals_xla_in_value_and_gradients(ours, xla, size, k, stride, x64):
    rng = np.random.default_rng(0)
    x, kernel = rng.normal(size=(2, size, size + 1, 3)), rng.normal(size=(k, k, 3, 4))
    weights = rng.normal(size=(2, 99, 99, 4))  # of the outputs, for a cotangent that is not all ones

    @functools.partial(jax.jit, static_argnums=0)
    def value_and_gradients(function, x, kernel):
        y, pullback = jax.vjp(lambda x, kernel: function(x, kernel, stride), x, kernel)
        return y, pullback(weights[:, : y.shape[1], : y.shape[2]])

    got, expected = value_and_gradients(ours, x, kernel), value_and_gradients(xla, x, kernel)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-10, atol=1e-12), got, expected)


def test_a_conv_transpose_is_the_gradient_of_a_conv(x64):
    """As Keras defines it: SAME, stride 2, kernel 5 on a 7x7 map gives 14x14."""
    kernel = jax.random.normal(jax.random.key(0), (5, 5, 3, 4))
    x = jax.random.normal(jax.random.key(1), (2, 7, 7, 3))
    images = jnp.zeros((2, 14, 14, 4))
    flipped = kernel[::-1, ::-1].transpose(0, 1, 3, 2)  # a gradient's kernel is the conv's, turned around
    _, pullback = jax.vjp(lambda images: xla_conv(images, flipped, 2), images)
    np.testing.assert_allclose(layers.conv_transpose(x, kernel, 2), pullback(x)[0], rtol=1e-10, atol=1e-12)


@given(st.integers(1, 3), st.integers(1, 4), st.integers(1, 3))
def test_depth_to_space_puts_channel_p_at_phase_p(factor, size, c):
    x = np.random.default_rng(0).normal(size=(2, size, size, factor**2 * c)).astype(np.float32)
    y = np.asarray(layers.depth_to_space(jnp.asarray(x), factor))
    for row in range(factor):
        for column in range(factor):
            start = (row * factor + column) * c
            np.testing.assert_array_equal(y[:, row::factor, column::factor], x[..., start : start + c])


def test_layers_start_as_keras_does():
    """Glorot-uniform kernels: U(-l, l), l = sqrt(6 / (k * k * (C + features))); biases zero."""
    x = jnp.zeros((1, 8, 8, 16))
    for layer in (layers.Conv(32, 3), layers.ConvTranspose(32, 3, 2)):
        params = layer.init(jax.random.key(0), x)["params"]
        limit = np.sqrt(6 / (9 * (16 + 32)))
        assert params["kernel"].shape == (3, 3, 16, 32)
        assert 0.98 * limit < jnp.abs(params["kernel"]).max() <= limit
        np.testing.assert_allclose(params["kernel"].std(), limit / np.sqrt(3), rtol=0.05)
        np.testing.assert_array_equal(params["bias"], np.zeros(32))


def test_without_bias_there_is_none():
    for layer in (layers.Conv(2, 3, use_bias=False), layers.ConvTranspose(2, 3, use_bias=False)):
        assert set(layer.init(jax.random.key(0), jnp.zeros((1, 4, 4, 1)))["params"]) == {"kernel"}
