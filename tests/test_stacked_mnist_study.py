"""Stacked MNIST under VEEGAN's protocol: networks as the authors of PacGAN have them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jaxgan
from experiments.studies import stacked_mnist
from jaxgan.commands import study
from jaxgan.convolutions import conv_transpose
from jaxgan.gan import image_shape

pytestmark = pytest.mark.usefixtures("quick_programs")


@pytest.mark.parametrize(("row", "group"), [("dcgan", 1), ("pacdcgan2", 2)])
def test_the_networks_are_its_authors(row, group):
    """Parameters by hand: kernels of 5x5 and biases, and what batch normalisation has."""
    layer = lambda inputs, outputs, k=5: k * k * inputs * outputs + outputs  # noqa: E731
    gen = layer(100, 2 * 2 * 512, 1) + layer(512, 256) + layer(256, 128) + layer(128, 64) + layer(64, 3)
    disc = layer(3 * group, 64) + layer(64, 128) + layer(128, 256) + layer(256, 512) + layer(2 * 2 * 512, 1, 1)
    recipe = stacked_mnist.recipe_of(row, 10)
    gan = recipe.build()
    state = jax.eval_shape(lambda: jaxgan.init(gan, jax.random.key(0)))
    size = lambda net: sum(x.size for x in jax.tree.leaves(net.params))  # noqa: E731
    assert size(state.gen) == gen + 2 * (512 + 256 + 128 + 64)
    assert size(state.disc) == disc + 2 * (128 + 256 + 512)
    assert (image_shape(gan), gan.image_range, recipe.batch_size) == ((28, 28, 3), (0, 1), 64 * group)
    batch = jax.ShapeDtypeStruct((recipe.batch_size, 28, 28, 3), jnp.uint8)
    _, metrics = jax.eval_shape(lambda s, b: jaxgan.train_step(gan, s, b), state, batch)
    assert metrics["loss_disc"].shape == ()


def test_images_of_a_group_are_channels_beside_one_another():
    images = np.random.default_rng(0).uniform(size=(6, 28, 28, 3)).astype(np.float32)
    variables = stacked_mnist.Disc(2).init(jax.random.key(0), images, None, jaxgan.Context())
    got = stacked_mnist.Disc(2).apply(variables, images, None, jaxgan.Context())
    beside = np.concatenate([images[::2], images[1::2]], axis=-1)
    np.testing.assert_allclose(got, stacked_mnist.Disc(1).apply(variables, beside, None, jaxgan.Context()), rtol=1e-5)


def test_maps_of_7x7_are_what_the_transpose_of_a_convolution_to_4x4_gives():
    """As TensorFlow's transposed convolution with an output of 7x7 does."""
    rng = np.random.default_rng(0)
    x, kernel = rng.normal(size=(2, 4, 4, 3)), rng.normal(size=(5, 5, 3, 2))
    flipped = jnp.asarray(kernel[::-1, ::-1].swapaxes(2, 3))  # [5, 5, 2, 3]

    def convolved(y):
        return lax.conv_general_dilated(y, flipped, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))

    (want,) = jax.linear_transpose(convolved, jnp.zeros((2, 7, 7, 2)))(jnp.asarray(x, jnp.float32))
    got = conv_transpose(jnp.asarray(x, jnp.float32), jnp.asarray(kernel, jnp.float32), 2)[:, 1:, 1:]
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


def test_the_table():
    seeds = [{"found": found, "divergence": divergence} for found, divergence in ((70, 4.5), (80, 4.25))]
    results = {"dcgan": {"steps": 2000, "config": {"recipe": "dcgan"}, "seeds": seeds, "minutes": 5}}
    row = study.table(stacked_mnist.STUDY, results).splitlines()[2]
    assert row.startswith("| DCGAN | 2,000 | 2 | 75 ± 5 | 4.38 ± 0.12 | 99.0, 3.40")
