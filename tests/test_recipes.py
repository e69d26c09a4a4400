"""The table of recipes: what the documents say, optimisers against their formulas, and values that are refused."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import recipes
from jaxgan import losses
from jaxgan.gan import image_shape

# What the descriptions say: data, batch, latent, prior, image range, update; learning rates of G and D, beta1, beta2.
TABLE = {
    "keras_dcgan": ("cifar10", 32, 100, "normal", (-1, 1), "shared", 1e-4, 1e-4, 0.2, 0.999),
    "keras_mnist": ("mnist", 256, 100, "uniform", (0, 1), "alternating", 4e-4, 8e-4, 0.0, 0.9),
    "canton_lsgan": ("cifar10", 32, 100, "normal", (-1, 1), "shared", 1e-4, 1e-4, 0.5, 0.999),
    "tf2_gan": ("mnist", 128, 100, "normal", (-1, 1), "shared", 2e-4, 2e-4, 0.5, 0.999),
    "tf2_dcgan": ("mnist", 128, 100, "normal", (-1, 1), "shared", 1e-4, 1e-4, 0.9, 0.999),
    "gan_elements": ("mnist", 32, 64, "normal", (-1, 1), "alternating", 1e-4, 1e-4, 0.5, 0.9),
}


@pytest.mark.parametrize("name", TABLE)
def test_the_documents_own_settings(name):
    recipe = recipes.get(name)
    gan = recipe.build()
    game = (recipe.data, recipe.batch_size, gan.z_size, gan.prior, gan.image_range, gan.update)
    rates = (recipe.gen_learning_rate, recipe.disc_learning_rate, recipe.beta1, recipe.beta2)
    assert game + rates == TABLE[name]


@pytest.mark.parametrize("name", TABLE)
def test_images_are_in_the_range_that_the_recipe_says(name):
    gan = recipes.get(name).build()
    z = jnp.zeros((1, gan.z_size))
    variables = jax.eval_shape(lambda: gan.gen.init(jax.random.key(0), z, train=False))
    huge = jax.tree.map(lambda x: 50 * jax.random.normal(jax.random.key(x.size), x.shape), variables["params"])
    variables = {"params": huge, "batch_stats": jax.tree.map(jnp.ones_like, variables.get("batch_stats", {}))}
    made = gan.gen.apply(variables, jnp.ones((4, gan.z_size)), train=False)
    low, high = gan.image_range
    assert (float(made.min()), float(made.max())) == (low, high)


def test_what_is_special_to_each():
    elements, canton = recipes.get("gan_elements"), recipes.get("canton_lsgan").build()
    assert (elements.split, elements.border, image_shape(elements.build())) == ("train+test", 2, (32, 32, 1))
    np.testing.assert_allclose(
        [canton.instance_noise(t) for t in (0, 1, 100)], 0.1 * 0.999 ** np.array([0, 1, 100]), rtol=1e-5
    )
    assert canton.gen_l2 == 1e-7
    assert canton.gen_loss is losses.least_squares_gen
    real, fake = jnp.array([0.3, -2.0]), jnp.array([1.5, -0.7])
    keras = recipes.get("keras_dcgan").build().disc_loss(real, fake)
    p, q = jax.nn.sigmoid(real), jax.nn.sigmoid(fake)
    expected = -jnp.mean(jnp.log(1 - q) + 0.1 * jnp.log(1 - p) + 0.9 * jnp.log(p))
    np.testing.assert_allclose(keras, expected, rtol=1e-6)


def descend(optimizer, params, gradients):
    state = optimizer.init(params)
    for gradient in gradients:
        updates, state = optimizer.update(jnp.asarray(gradient), state, params)
        params = params + updates
    return params


def test_rmsprop_is_keras_with_clipped_elements_and_time_decay():
    """Keras 2.0: a = .9 a + .1 g^2; p -= lr / (1 + decay * t) * g / (sqrt(a) + 1e-7), t from 0."""
    recipe = dataclasses.replace(recipes.get("keras_mnist"), disc_time_decay=0.5)
    assert (recipe.gen_learning_rate, recipe.disc_learning_rate) == (4e-4, 8e-4)
    assert (recipes.get("keras_mnist").gen_time_decay, recipes.get("keras_mnist").disc_time_decay) == (3e-8, 6e-8)
    gradients = 2 * np.random.default_rng(0).normal(size=(6, 50)).astype(np.float32)
    gradients[:, 0] = 1e-8  # where epsilon counts
    p, a = np.ones(50), np.zeros(50)
    for t, g in enumerate(gradients.astype(np.float64)):
        g = np.clip(g, -1, 1)
        a = 0.9 * a + 0.1 * g**2
        p -= 8e-4 / (1 + 0.5 * t) * g / (np.sqrt(a) + 1e-7)
    got = descend(recipe.build().disc_optimizer, jnp.ones(50), gradients)
    np.testing.assert_allclose(got - 1, p - 1, rtol=1e-3, atol=1e-7)


def test_adam_is_as_published():
    """Kingma and Ba 2015 (arXiv:1412.6980), algorithm 1, with the recipe's rates."""
    recipe = recipes.get("gan_elements")
    gradients = np.random.default_rng(0).normal(size=(6, 50))
    p, m, v = np.ones(50), np.zeros(50), np.zeros(50)
    for t, g in enumerate(gradients, start=1):
        m, v = 0.5 * m + 0.5 * g, 0.9 * v + 0.1 * g**2
        p -= 1e-4 * m / (1 - 0.5**t) / (np.sqrt(v / (1 - 0.9**t)) + 1e-8)
    for optimizer in (recipe.build().gen_optimizer, recipe.build().disc_optimizer):
        np.testing.assert_allclose(descend(optimizer, jnp.ones(50), gradients) - 1, p - 1, rtol=1e-2, atol=1e-7)


@pytest.mark.parametrize("name", recipes.RECIPES)
def test_a_runs_config_says_which_recipe_it_was(name):
    recipe = dataclasses.replace(recipes.get(name), training_ratio=2, gen_l2=0.5)
    config = json.loads(json.dumps(recipe.config(), allow_nan=False))
    assert recipes.from_config(config) == recipe
    assert "steps" not in config


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("digits", {"training_ratio": 0}, "--training-ratio must be at least 1, not 0"),
        ("digits", {"clip": 0.0}, "--clip must be above 0"),
        ("digits", {"clip": float("inf")}, "--clip must be above 0 and finite"),
        ("digits", {"loss": "hinge"}, "--loss must be one of non_saturating, least_squares, not hinge"),
        ("digits", {"prior": ["normal"]}, "--prior must be one of normal, uniform"),
        ("digits", {"border": -1}, "--border must be at least 0"),
        ("digits", {"instance_noise_decay": 1.5}, "--instance-noise-decay must be above 0 and at most 1"),
        ("digits", {"instance_noise_decay": 0.0}, "--instance-noise-decay must be above 0 and at most 1"),
        ("digits", {"gen_l2": -1.0}, "--gen-l2 must be at least 0"),
        ("digits", {"subpixel": True}, "--subpixel belongs to canton_lsgan"),
        ("canton_lsgan", {"real_label": 0.9}, "--real-label belongs to --loss non_saturating"),
        ("tf2_dcgan", {"optimizer": "rmsprop"}, "--beta1 belongs to --optimizer adam"),
    ],
)
def test_values_that_no_run_could_use_are_refused(name, changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(recipes.get(name), **changes)


def test_the_subpixel_option_builds_its_network():
    assert dataclasses.replace(recipes.get("canton_lsgan"), subpixel=True).build().gen.subpixel
    assert not recipes.get("canton_lsgan").build().gen.subpixel
