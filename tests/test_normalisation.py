"""Batch normalisation against Flax's: its numbers, its derivatives of any order, and how many passes they take."""

import functools
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgan.networks.normalisation import BatchNorm

pytestmark = pytest.mark.usefixtures("quick_programs")

SHAPES = [(8, 5), (6, 3, 2, 5)]


def both(affine=True, train=True):
    """Ours and Flax's, with the same settings."""
    flax = nn.BatchNorm(not train, momentum=0.7, epsilon=1e-3, use_scale=affine, use_bias=affine)
    return BatchNorm(train, 0.7, affine=affine), flax


def data(shape, affine=True):
    keys = jax.random.split(jax.random.key(0), 6)
    x, weights = (jax.random.normal(key, shape) for key in keys[:2])
    params = {"scale": jax.random.normal(keys[2], (5,)), "bias": jax.random.normal(keys[3], (5,))} if affine else {}
    stats = {"mean": jax.random.normal(keys[4], (5,)), "var": jax.random.uniform(keys[5], (5,))}
    return 3 * x + 1, weights, params, stats


def loss_of(module, weights, stats):
    """(x, params) -> a loss in which each value of the layer has a weight of its own, and what else it gives."""

    def loss(x, params):
        variables = {"params": params, "batch_stats": stats}
        y, updated = module.apply(variables, x, mutable=["batch_stats"])
        return jnp.sum(weights * jnp.sin(y)), (y, updated)

    return loss


def assert_equal(ours, flax):
    assert jax.tree.structure(ours) == jax.tree.structure(flax)
    for got, expected in zip(jax.tree.leaves(ours), jax.tree.leaves(flax), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    ("shape", "affine", "train"),
    [(SHAPES[0], True, True), (SHAPES[1], True, True), (SHAPES[1], False, True), (SHAPES[0], True, False)],
)
def test_numbers_statistics_and_derivatives_are_flaxs(shape, affine, train, x64):
    """Of first order, in forward mode, and the gradient of a gradient, as a gradient penalty takes it."""
    x, weights, params, stats = data(shape, affine)
    found = []
    for module in both(affine, train):
        with_aux = loss_of(module, weights, stats)
        loss = lambda *args, f=with_aux: f(*args)[0]  # noqa: E731
        penalty = lambda *args, f=loss: sum(jnp.sum(g**2) for g in jax.tree.leaves(jax.grad(f, (0, 1))(*args)))  # noqa: E731
        along = (weights, jax.tree.map(jnp.cos, params))
        first = jax.jit(jax.value_and_grad(with_aux, (0, 1), has_aux=True))(x, params)
        found.append((first, jax.jit(jax.grad(penalty, (0, 1)))(x, params), jax.jvp(loss, (x, params), along)))
    assert_equal(*found)


@pytest.mark.parametrize("check_vma", [False, True], ids=["as_under_pmap", "shard_map"])
def test_a_batch_that_is_split_has_the_moments_of_the_whole(check_vma, x64):
    x, weights, params, stats = data((8, 3, 2, 5))
    split, whole = jax.sharding.PartitionSpec("batch"), jax.sharding.PartitionSpec()

    def pulled_back(axis_name, x, weights):
        module = BatchNorm(True, 0.7, axis_name=axis_name)
        y, pullback, updated = jax.vjp(
            lambda x: module.apply({"params": params, "batch_stats": stats}, x, mutable=["batch_stats"]),
            x,
            has_aux=True,
        )
        return y, pullback(weights)[0], updated

    mesh = jax.sharding.Mesh(np.array(jax.devices()[:4]), ("batch",))
    on_four = jax.shard_map(
        functools.partial(pulled_back, "batch"),
        mesh=mesh,
        in_specs=(split, split),
        out_specs=(split, split, whole),
        check_vma=check_vma,
    )
    assert_equal(jax.jit(on_four)(x, weights), pulled_back(None, x, weights))


def test_the_sums_of_bfloat16_are_float32():
    """65,536 ones and as many threes have a mean of 2; in bfloat16 a running sum of ones ends at 256."""
    x = jnp.asarray(np.tile([1.0, 3.0], 65_536)[:, None], jnp.bfloat16)
    module = BatchNorm(True, 0.0)
    variables = module.init(jax.random.key(0), x)
    half = jax.tree.map(lambda p: p.astype(jnp.bfloat16), variables["params"])
    y, updated = module.apply(variables | {"params": half}, x, mutable=["batch_stats"])
    assert y.dtype == jnp.bfloat16
    assert updated["batch_stats"]["mean"].dtype == jnp.float32
    np.testing.assert_allclose(updated["batch_stats"]["mean"], [2.0])
    np.testing.assert_allclose(updated["batch_stats"]["var"], [1.0])


def test_the_derivative_takes_two_sums_over_the_batch():
    """Beside the two of the moments. What JAX derives from Flax's layer takes more: the test would see it."""
    x, weights, params, stats = data((64, 8, 8, 5))

    def sums(module):
        def pulled_back(x, params, weights):
            apply = lambda x, params: module.apply(  # noqa: E731
                {"params": params, "batch_stats": stats}, x, mutable=["batch_stats"]
            )[0]
            return jax.vjp(apply, x, params)[1](weights)

        program = jax.jit(pulled_back).lower(x, params, weights).compile().as_text()
        return sum(found.count("f32[5]") for found in re.findall(r" = (.*) reduce\(", program))

    ours, flax = map(sums, both())
    assert ours == 4
    assert flax > ours
