"""Layers: how they start, and noise keyed by example."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from common import QUICK

from jaxgan.networks import layers

pytestmark = pytest.mark.usefixtures("quick_programs")

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


@pytest.mark.parametrize("factor", [2, 3])
def test_a_subpixel_convolution_is_one_to_more_channels_interleaved(factor):
    x = jax.random.normal(jax.random.key(0), (2, 3, 4, 5))
    layer, plain = layers.SubPixelConv(7, 4, factor), layers.Conv(factor**2 * 7, 4)
    variables = init(layer, x)
    y = np.asarray(plain.apply({"params": variables["params"]["Conv_0"]}, x))
    got = layer.apply(variables, x)
    assert got.shape == (2, factor * 3, factor * 4, 7)
    for phase, (row, column) in enumerate(itertools.product(range(factor), repeat=2)):
        np.testing.assert_array_equal(got[:, row::factor, column::factor], y[..., 7 * phase : 7 * phase + 7])


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
