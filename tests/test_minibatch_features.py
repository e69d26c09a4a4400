"""Minibatch features against their formulas, in every form and on several devices."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxgan.networks import minibatch_features
from jaxgan.networks.minibatch_features import append_diff, append_similarity

pytestmark = pytest.mark.usefixtures("quick_programs")

SEEDS = st.integers(0, 2**32 - 1)


def diff(x):
    return np.abs(x - x.mean(0, keepdims=True)).mean(-1, keepdims=True)


def similarity(x):
    pairs = np.exp(-np.abs(x[:, None] - x[None]))  # [i, j, H, W, C]
    return pairs.mean((1, -1))[..., None]


@pytest.mark.parametrize(("layer", "formula"), [(append_diff, diff), (append_similarity, similarity)])
@given(b=st.sampled_from([1, 2, 5]), c=st.sampled_from([1, 4]), scale=st.sampled_from([0.01, 1.0, 300.0]), seed=SEEDS)
def test_minibatch_features_append_what_their_formula_says(layer, formula, b, c, scale, seed):
    x = (scale * np.random.default_rng(seed).normal(size=(b, 3, 2, c))).astype(np.float32)
    y = np.asarray(layer(jnp.asarray(x)))
    np.testing.assert_array_equal(y[..., :-1], x)
    np.testing.assert_allclose(y[..., -1:], formula(x.astype(np.float64)), rtol=1e-4, atol=1e-6 * scale)


@pytest.mark.parametrize("layer", [append_diff, append_similarity])
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


def naive_similarity(x):
    """As the document writes it, the pairs in one array."""
    pairs = jnp.exp(-jnp.abs(x[:, None] - x[None]))
    return jnp.concatenate([x, jnp.mean(pairs, axis=(1, -1))[..., None]], axis=-1)


def test_the_gradient_of_similarity_is_that_of_the_pairs(x64):
    x = jax.random.normal(jax.random.key(0), (7, 3, 2, 4))
    weights = jax.random.normal(jax.random.key(1), (7, 3, 2, 5))
    grad = lambda layer: jax.jit(jax.grad(lambda x: jnp.sum(weights * layer(x))))  # noqa: E731
    got, expected = grad(append_similarity)(x), grad(naive_similarity)(x)
    np.testing.assert_allclose(got, expected, rtol=1e-10, atol=1e-14)
    # And the gradient's own, as a gradient penalty takes it.
    twice = lambda layer: jax.jit(jax.grad(lambda x: jnp.sum(jnp.square(grad(layer)(x)))))(x)  # noqa: E731
    np.testing.assert_allclose(twice(append_similarity), twice(naive_similarity), rtol=1e-8, atol=1e-12)


def test_similarity_never_holds_all_pairs_in_memory():
    """Of canton_lsgan's first map, pairs are 32 times the map's 1 MiB; three copies of it are enough, both ways."""
    x = jnp.zeros((32, 16, 16, 32))
    weights = jnp.ones((32, 16, 16, 33))

    def peak(layer):
        both = lambda x: jax.vjp(layer, x)[1](weights)  # noqa: E731
        return jax.jit(both).lower(x).compile().memory_analysis().temp_size_in_bytes

    ours, naive = peak(append_similarity), peak(naive_similarity)
    print(f"similarity of a {x.nbytes:,}-byte map: {ours:,} bytes at the peak; with all pairs in one array {naive:,}")
    assert ours <= 3 * x.nbytes
    assert naive >= 32 * x.nbytes  # the test would see it


@pytest.mark.parametrize("gradient", [False, True])
def test_the_forms_of_other_platforms_give_the_same(gradient, x64):
    """That of a GPU and a TPU, which this machine runs as well, against that of a CPU."""
    x = jax.random.normal(jax.random.key(0), (7, 3, 2, 4))
    others = jax.random.normal(jax.random.key(1), (5, 3, 2, 4))
    function = lambda a, b: jnp.exp(-jnp.abs(a - b)) * a  # noqa: E731
    one, other = (
        functools.partial(form, function) for form in (minibatch_features._one_by_one, minibatch_features._at_once)
    )
    if gradient:
        one, other = (jax.grad(lambda own, of_all, f=f: jnp.sum(f(own, of_all) ** 2)) for f in (one, other))
    found = [jax.tree.leaves(form((x,), (others,))) for form in (one, other)]
    for got, expected in zip(*found, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-12)


@pytest.mark.parametrize(("platform", "loops"), [("cpu", True), ("cuda", False), ("tpu", False)])
def test_a_program_for_an_accelerator_visits_all_pairs_at_once(platform, loops):
    """Forwards and backwards: a loop would be as many kernels as there are examples."""
    both = lambda x: jax.vjp(append_similarity, x)[1](jnp.ones((4, 2, 2, 4)))  # noqa: E731
    exported = jax.export.export(jax.jit(both), platforms=[platform])(jax.ShapeDtypeStruct((4, 2, 2, 3), jnp.float32))
    assert ("stablehlo.while" in exported.mlir_module()) == loops
