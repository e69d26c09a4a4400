"""States, noise and ranges."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgan
from experiments import recipes
from jaxgan.gan import draw_z, from_uint8, to_uint8


@pytest.fixture(scope="module")
def gan():
    return recipes.get("digits").build()


def test_an_examples_noise_depends_on_its_index_alone(gan):
    key = jax.random.key(5)
    whole = draw_z(gan, key, jnp.arange(16))
    np.testing.assert_array_equal(draw_z(gan, key, jnp.arange(8, 12)), whole[8:12])
    assert len(np.unique(np.asarray(whole)[:, 0])) == 16


@pytest.mark.parametrize(("prior", "std", "limit"), [("normal", 1, np.inf), ("uniform", 1 / np.sqrt(3), 1)])
def test_priors(gan, prior, std, limit):
    z = np.asarray(draw_z(dataclasses.replace(gan, prior=prior, z_size=100), jax.random.key(0), jnp.arange(1000)))
    assert abs(z.mean()) < 0.01
    np.testing.assert_allclose(z.std(), std, rtol=0.01)
    assert np.abs(z).max() <= limit


def test_scaling_and_its_inverse():
    values = jnp.arange(256, dtype=jnp.uint8)
    for low, high in ((-1.0, 1.0), (0.0, 1.0), (-0.5, 0.5)):
        scaled = from_uint8(values, (low, high))
        np.testing.assert_allclose(scaled, np.linspace(low, high, 256), atol=1e-6)
        np.testing.assert_array_equal(to_uint8(scaled, (low, high)), values)
    np.testing.assert_array_equal(to_uint8(jnp.array([-3.0, 3.0]), (-1, 1)), [0, 255])


def test_init_is_a_function_of_the_key(gan):
    one, same, other = (jaxgan.init(gan, jax.random.key(seed)) for seed in (0, 0, 1))
    jax.tree.map(np.testing.assert_array_equal, one.gen.params, same.gen.params)
    assert not jnp.array_equal(one.gen.params["Dense_0"]["kernel"], other.gen.params["Dense_0"]["kernel"])
    assert one.step == 0


def test_the_two_networks_start_from_different_keys(gan):
    twins = dataclasses.replace(gan, gen=gan.disc)
    key = jax.random.key(0)
    images = jnp.zeros((1, 8, 8, 1))
    starts = [twins.disc.init(jax.random.fold_in(key, p), images, train=False) for p in jaxgan.gan.Purpose]
    kernels = [np.asarray(s["params"]["Conv_0"]["kernel"]).ravel()[0] for s in starts]
    assert len(set(kernels)) == len(kernels)


def test_init_wants_a_typed_key(gan):
    with pytest.raises(TypeError, match=r"jax\.random\.key"):
        jaxgan.init(gan, np.zeros(2, np.uint32))
