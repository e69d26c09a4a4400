"""Layers: how they start, minibatch features against their formulas, and noise keyed by example."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from common import QUICK
from hypothesis import given
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


def diff(x):
    return np.abs(x - x.mean(0, keepdims=True)).mean(-1, keepdims=True)


def similarity(x):
    pairs = np.exp(-np.abs(x[:, None] - x[None]))  # [i, j, H, W, C]
    return pairs.mean((1, -1))[..., None]


@pytest.mark.parametrize(("layer", "formula"), [(layers.append_diff, diff), (layers.append_similarity, similarity)])
@given(b=st.sampled_from([1, 2, 5]), c=st.sampled_from([1, 4]), scale=st.sampled_from([0.01, 1.0, 300.0]), seed=SEEDS)
def test_minibatch_features_append_what_their_formula_says(layer, formula, b, c, scale, seed):
    x = (scale * np.random.default_rng(seed).normal(size=(b, 3, 2, c))).astype(np.float32)
    y = np.asarray(layer(jnp.asarray(x)))
    np.testing.assert_array_equal(y[..., :-1], x)
    np.testing.assert_allclose(y[..., -1:], formula(x.astype(np.float64)), rtol=1e-4, atol=1e-6 * scale)


@pytest.mark.parametrize("layer", [layers.append_diff, layers.append_similarity])
@pytest.mark.parametrize("check_vma", [False, True], ids=["as_under_pmap", "shard_map"])
def test_minibatch_features_of_a_batch_that_is_split_are_the_whole_batchs(layer, check_vma, x64):
    """In value and in gradient, which flows between the devices as well."""
    x = jax.random.normal(jax.random.key(0), (8, 3, 2, 4))
    weights = jax.random.normal(jax.random.key(1), (8, 3, 2, 5))

    def pulled_back(x, weights, axis_name=None):
        y, pullback = jax.vjp(lambda x: layer(x, axis_name), x)
        return y, pullback(weights)[0]

    mesh, split = jax.sharding.Mesh(np.array(jax.devices()[:4]), ("batch",)), jax.sharding.PartitionSpec("batch")
    on_four = functools.partial(pulled_back, axis_name="batch")
    on_four = jax.shard_map(on_four, mesh=mesh, in_specs=(split, split), out_specs=(split, split), check_vma=check_vma)
    for got, expected in zip(jax.jit(on_four)(x, weights), pulled_back(x, weights), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-14)


def test_the_similarity_of_equal_examples_is_one_and_of_distant_ones_their_share():
    same = jnp.ones((4, 2, 2, 3))
    np.testing.assert_allclose(layers.append_similarity(same)[..., -1], np.ones((4, 2, 2)), rtol=1e-6)
    apart = 100.0 * jnp.arange(4.0).reshape(4, 1, 1, 1)
    np.testing.assert_allclose(layers.append_similarity(apart)[..., -1], np.full((4, 1, 1), 1 / 4), rtol=1e-6)


def naive_similarity(x):
    """As the document writes it, the pairs in one array."""
    pairs = jnp.exp(-jnp.abs(x[:, None] - x[None]))
    return jnp.concatenate([x, jnp.mean(pairs, axis=(1, -1))[..., None]], axis=-1)


def test_the_gradient_of_similarity_is_that_of_the_pairs(x64):
    x = jax.random.normal(jax.random.key(0), (7, 3, 2, 4))
    weights = jax.random.normal(jax.random.key(1), (7, 3, 2, 5))
    grad = lambda layer: jax.jit(jax.grad(lambda x: jnp.sum(weights * layer(x))))  # noqa: E731
    got, expected = grad(layers.append_similarity)(x), grad(naive_similarity)(x)
    np.testing.assert_allclose(got, expected, rtol=1e-10, atol=1e-14)
    # And the gradient's own, as a gradient penalty takes it.
    twice = lambda layer: jax.jit(jax.grad(lambda x: jnp.sum(jnp.square(grad(layer)(x)))))(x)  # noqa: E731
    np.testing.assert_allclose(twice(layers.append_similarity), twice(naive_similarity), rtol=1e-8, atol=1e-12)


def test_similarity_never_holds_all_pairs_in_memory():
    """Of canton_lsgan's first map, pairs are 32 times the map's 1 MiB; three copies of it are enough, both ways."""
    x = jnp.zeros((32, 16, 16, 32))
    weights = jnp.ones((32, 16, 16, 33))

    def peak(layer):
        both = lambda x: jax.vjp(layer, x)[1](weights)  # noqa: E731
        return jax.jit(both).lower(x).compile().memory_analysis().temp_size_in_bytes

    ours, naive = peak(layers.append_similarity), peak(naive_similarity)
    print(f"similarity of a {x.nbytes:,}-byte map: {ours:,} bytes at the peak; with all pairs in one array {naive:,}")
    assert ours <= 3 * x.nbytes
    assert naive >= 32 * x.nbytes  # the test would see it


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
