"""Layers: how they start, and noise keyed by example."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from common import QUICK
from hypothesis import strategies as st

from jaxgan.networks import layers

SEEDS = st.integers(0, 2**32 - 1)
KERNELS = (layers.Conv(32, 3), layers.ConvTranspose(32, 3, 2), layers.UpsampleConv(32, 3, 2))


def init(layer, x):
    return jax.jit(layer.init, compiler_options=QUICK)(jax.random.key(0), x)


def test_layers_start_as_keras_does():
    """Glorot-uniform kernels: U(-l, l), l = sqrt(6 / (k * k * (C + features))); biases zero."""
    x = jnp.zeros((1, 8, 8, 16))
    all_params = [init(layer, x)["params"] for layer in KERNELS]
    all_params.append(init(layers.SubPixelConv(8, 3, 2), x)["params"]["Conv_0"])
    for params in all_params:
        limit = np.sqrt(6 / (9 * (16 + 32)))
        assert params["kernel"].shape == (3, 3, 16, 32)
        assert 0.98 * limit < jnp.abs(params["kernel"]).max() <= limit
        np.testing.assert_allclose(params["kernel"].std(), limit / np.sqrt(3), rtol=0.05)
        np.testing.assert_array_equal(params["bias"], np.zeros(32))
    dense = layers.Dense(9 * 32)  # as many values in and out as in a 3x3 convolution
    params = init(dense, jnp.zeros((1, 9 * 16)))["params"]
    assert 0.98 * limit < jnp.abs(params["kernel"]).max() <= limit
    np.testing.assert_allclose(params["kernel"].std(), limit / np.sqrt(3), rtol=0.05)


def test_without_bias_there_is_none():
    for layer in KERNELS:
        layer = layer.clone(use_bias=False)
        variables = jax.eval_shape(lambda layer=layer: layer.init(jax.random.key(0), jnp.zeros((1, 4, 4, 1))))
        assert set(variables["params"]) == {"kernel"}


def test_a_subpixel_convolution_is_one_to_four_times_the_channels_interleaved():
    x = jax.random.normal(jax.random.key(0), (2, 3, 4, 5))
    layer, plain = layers.SubPixelConv(7, 4, 2), layers.Conv(4 * 7, 4)
    variables = layer.init(jax.random.key(1), x)
    y = np.asarray(plain.apply({"params": variables["params"]["Conv_0"]}, x))
    got = layer.apply(variables, x)
    assert got.shape == (2, 6, 8, 7)
    for row in (0, 1):
        for column in (0, 1):
            start = 7 * (2 * row + column)
            np.testing.assert_array_equal(got[:, row::2, column::2], y[..., start : start + 7])


def test_dropout_drops_the_share_it_says_and_keeps_the_mean():
    x = jnp.ones((50, 40, 30))
    keys = jax.random.split(jax.random.key(0), 50)
    y = np.asarray(layers.dropout(x, 0.4, keys, layer=0))
    assert set(np.unique(y)) == {0, np.float32(1 / 0.6)}
    np.testing.assert_allclose((y == 0).mean(), 0.4, atol=0.005)
    np.testing.assert_array_equal(layers.dropout(x, 0.4, None, layer=0), x)


def test_dropout_of_an_example_depends_on_its_key_and_the_layer_alone():
    x = jnp.ones((6, 100))
    keys = jax.random.split(jax.random.key(0), 6)
    drop = functools.partial(layers.dropout, rate=0.5)
    whole = drop(x, keys=keys, layer=1)
    np.testing.assert_array_equal(drop(x[2:4], keys=keys[2:4], layer=1), whole[2:4])
    masks = {tuple(row) for layer in (1, 2) for row in np.asarray(drop(x, keys=keys, layer=layer)).tolist()}
    assert len(masks) == 12
