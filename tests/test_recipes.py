"""The table of recipes: what the documents say, optimisers against their formulas, and values that are refused."""

import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from common import QUICK, real_batch

import jaxgan
from jaxgan import losses, networks, recipes
from jaxgan.gan import image_shape
from jaxgan.losses import Forward
from jaxgan.networks import Context
from jaxgan.penalties import L2, R1
from jaxgan.recipes.description import describe, is_plain, take_apart
from jaxgan.recipes.groups import GROUPS
from jaxgan.schedules import Linear
from jaxgan.transforms import InstanceNoise

# What the descriptions say: data, batch, latent, prior, image range, update; learning rates of G and D, beta1, beta2.
TABLE = {
    "keras_dcgan": ("cifar10", 32, 100, "normal", (-1, 1), "shared", 1e-4, 1e-4, 0.2, 0.999),
    "keras_mnist": ("mnist", 256, 100, "uniform", (0, 1), "alternating", 4e-4, 8e-4, 0.0, 0.9),
    "canton_lsgan": ("cifar10", 32, 100, "normal", (-1, 1), "shared", 1e-4, 1e-4, 0.5, 0.999),
    "tf2_gan": ("mnist", 128, 100, "normal", (-1, 1), "shared", 2e-4, 2e-4, 0.5, 0.999),
    "tf2_dcgan": ("mnist", 128, 100, "normal", (-1, 1), "shared", 1e-4, 1e-4, 0.9, 0.999),
    "gan_elements": ("mnist", 32, 64, "normal", (-1, 1), "alternating", 1e-4, 1e-4, 0.5, 0.9),
}

# As others but larger: their steps take long to trace.
LARGEST = ("stylegan2", "stylegan2_ffhq64", "r3gan_ffhq256", "r3gan_imagenet32", "r3gan_imagenet64")


@pytest.mark.parametrize("name", TABLE)
def test_the_documents_own_settings_and_range_of_images(name):
    recipe = recipes.get(name)
    gan = recipe.build()
    game = (recipe.data, recipe.batch_size, gan.z_size, gan.prior, gan.image_range, gan.update)
    rates = (recipe.gen_learning_rate, recipe.disc_learning_rate, recipe.beta1, recipe.beta2)
    assert game + rates == TABLE[name]
    z = jnp.zeros((1, gan.z_size))
    variables = jax.eval_shape(lambda: gan.gen.init(jax.random.key(0), z, None, Context()))
    draw = lambda x: 50 * np.random.default_rng(x.size).normal(size=x.shape).astype(np.float32)  # noqa: E731
    ones = lambda x: np.ones(x.shape, np.float32)  # noqa: E731
    variables = {
        "params": jax.tree.map(draw, variables["params"]),
        "batch_stats": jax.tree.map(ones, variables.get("batch_stats", {})),
    }
    apply = jax.jit(lambda variables, z: gan.gen.apply(variables, z, None, Context()), compiler_options=QUICK)
    made = apply(variables, np.ones((4, gan.z_size), np.float32))
    assert (float(made.min()), float(made.max())) == gan.image_range


def test_what_is_special_to_each():
    elements, canton = recipes.get("gan_elements"), recipes.get("canton_lsgan").build()
    assert (elements.split, elements.border, image_shape(elements.build())) == ("train+test", 2, (32, 32, 1))
    assert canton.transforms == (InstanceNoise(0.1, 0.999),)
    assert canton.regularizers == (L2(1e-7),)
    assert canton.loss == losses.least_squares()
    real, fake = jnp.array([0.3, -2.0]), jnp.array([1.5, -0.7])
    forward = Forward(None, None, None, None, None, real_logits=real, fake_logits=fake)
    keras = recipes.get("keras_dcgan").build().loss.disc(forward)
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
    recipe = recipes.get("keras_mnist").replace(disc_time_decay=0.5)
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


def test_a_runs_config_says_which_recipe_it_was(tmp_path):
    for name in recipes.RECIPES:
        recipe = recipes.get(name).replace(training_ratio=2, gen_l2=0.5)
        (tmp_path / "config.json").write_text(json.dumps(recipe.config(), allow_nan=False))
        assert recipes.of_run(tmp_path) == recipe
        assert "steps" not in recipe.config()
    config = recipe.config()
    assert config.pop("format") == 1  # and that of a run without is the first
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert recipes.of_run(tmp_path) == recipe
    newer = "is of a newer version, whose format is 2; upgrade jaxgan"
    for number, message in ((2, newer), ("a", "is not the config")):
        (tmp_path / "config.json").write_text(json.dumps(config | {"format": number}))
        with pytest.raises(recipes.RecipeError, match=message):
            recipes.of_run(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in recipes.RECIPES if name not in LARGEST])
def test_every_recipe_has_a_step(name):
    """By its shapes. A step changes none of them. With the other update some run in `test_every_recipe`."""
    gan = recipes.get(name).build()
    state = jax.eval_shape(lambda: jaxgan.init(gan, jax.random.key(0)))
    batch = jax.eval_shape(lambda: real_batch(gan, 8 * gan.training_ratio))
    after, metrics = jax.eval_shape(functools.partial(jaxgan.train_step, gan), state, batch)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), after) == jax.tree.map(lambda x: (x.shape, x.dtype), state)
    logged = {f"{kind}_{net}" for kind in ("loss", "grad_norm") for net in ("gen", "disc")}
    assert logged | {"logit_real", "logit_fake"} <= set(metrics)
    assert all(value.shape == () for value in metrics.values())


@pytest.mark.slow
@pytest.mark.parametrize("name", LARGEST)
def test_the_networks_of_the_largest_recipes_fit_together(name):
    gan = recipes.get(name).build()
    state = jax.eval_shape(lambda: jaxgan.init(gan, jax.random.key(0)))
    assert jax.eval_shape(lambda s: jaxgan.sample(gan, s, s.key, 4), state).shape == (4, *image_shape(gan))


REFUSED = [
    ({"beta2": Linear(0.9, 0.99, 5), "optimizer": "rmsprop", "beta1": 0.0}, "a schedule of `beta2` belongs to `opt"),
    ({"beta2": Linear(0.9, 0.99, 5), "optimizer": optax.sgd}, "a schedule of `beta2` belongs to `optimizer` adam"),
    ({"gen_learning_rate": Linear(1.0, 0.0, 5), "gen_time_decay": 0.1}, "`gen_time_decay` belongs to a learning rate"),
    ({"disc_learning_rate": Linear(1.0, 0.0, 5), "disc_time_decay": 0.1}, "`disc_time_decay` belongs to a learning"),
    ({"gen_learning_rate": "fast"}, "`gen_learning_rate` must be a number, not 'fast'"),
    ({"gen_learning_rate": None}, "`gen_learning_rate` must be a number, not None"),
    ({"beta2": None}, "`beta2` must be a number, not None"),
    ({"beta2": True}, "`beta2` must be a number, not True"),
    ({"disc_learning_rate": -1.0}, "`disc_learning_rate` must be above 0 and finite, not -1.0"),
    ({"gen_learning_rate": 0.0}, "`gen_learning_rate` must be above 0 and finite, not 0.0"),
    ({"beta2": 1.0}, "`beta2` must be at least 0 and below 1, not 1.0"),
    ({"beta1": Linear(0.9, 0.99, 5)}, "`beta1` must be a number, not Linear"),
    ({"clip": Linear(0.9, 0.99, 5)}, "`clip` must be a number, not Linear"),
    ({"ema_half_life": -1.0}, "`ema_half_life` must be at least 0 and finite, not -1.0"),
    ({"generated_labels": "own"}, "`generated_labels` must be one of uniform, real, not own"),
    ({"optimizer": optax.adam(1e-3)}, "optimizer must be a function of the rate, lambda rate: optax.adam"),
    ({"optimizer": (optax.sgd, optax.sgd)}, "optimizer must be adam, rmsprop, a function of the rate"),
    ({"optimizer": {"gen": optax.sgd}}, 'optimizer must be {"gen": f, "disc": g} of functions of the rate, not'),
    ({"optimizer": {"gen": optax.sgd, "disc": "adam"}}, 'optimizer must be {"gen": f, "disc": g} of functions'),
    ({"prior": len}, "`prior` must be one of normal, uniform, not builtins:len"),
    ({"generated_labels": len}, "`generated_labels` must be one of uniform, real, not builtins:len"),
    ({"precision": len}, "`precision` must be one of float32, bf16, not builtins:len"),
    ({"fit": len}, "`fit` must be one of crop, pad, not builtins:len"),
    ({"mirror": len}, "`mirror` must be True or False, not <built-in"),
    ({"data": 3}, "data must be a name, or a function that gives the images"),
    ({"regularizers": len}, "regularizers must be a tuple of functions"),
    ({"augmentations": [len]}, "augmentations must be a tuple of functions"),
    ({"augmentations": (3,)}, "augmentations must be a tuple of functions"),
    ({"training_ratio": 0}, "`training_ratio` must be at least 1, not 0"),
    ({"clip": 0.0}, "`clip` must be above 0 and finite"),
    ({"clip": float("inf")}, "`clip` must be above 0 and finite"),
    ({"loss": "hinges"}, "`loss` must be one of .*, hinge, wasserstein, relativistic, not hinges"),
    ({"prior": ["normal"]}, "`prior` must be one of normal, uniform"),
    ({"border": -1}, "`border` must be at least 0"),
    ({"instance_noise_decay": 1.5}, "`instance_noise_decay` must be above 0 and at most 1"),
    ({"instance_noise_decay": 0.0}, "`instance_noise_decay` must be above 0 and at most 1"),
    ({"gen_l2": -1.0}, "`gen_l2` must be at least 0"),
    ({"loss": losses.least_squares(), "disc_loss_scale": 0.5}, "`disc_loss_scale` belongs to the package"),
    ({"loss": "least_squares", "real_label": 0.9}, "`real_label` belongs to `loss` non_saturating"),
    ({"optimizer": "rmsprop", "beta1": 0.5}, "`beta1` belongs to `optimizer` adam"),
]


def test_values_that_no_run_could_use_are_refused_in_one_line():
    for changes, message in REFUSED:
        with pytest.raises(ValueError, match=f"^{message}") as error:
            recipes.get("digits").replace(**changes)
        assert "\n" not in str(error.value)


def test_a_setting_that_there_is_not_is_no_setting():
    with pytest.raises(TypeError, match="learning_rate"):
        recipes.get("digits").replace(learning_rate=1.0)
    with pytest.raises(AttributeError, match="learning_rate"):
        _ = recipes.get("digits").learning_rate


def test_a_setting_is_read_and_changed_by_its_name_in_whatever_group():
    recipe = recipes.get("digits")
    changed = recipe.replace(steps=5, batch_size=8, z_size=3, beta1=0.1, accumulate=2, classes=4)
    assert (changed.schedule.steps, changed.source.batch_size, changed.objective.z_size) == (5, 8, 3)
    assert (changed.optimization.beta1, changed.compute.accumulate, changed.classes) == (0.1, 2, 4)
    assert (changed.steps, changed.batch_size, changed.z_size) == (5, 8, 3)
    count = sum(len(dataclasses.fields(kind)) for kind in GROUPS.values())
    assert len(recipe.settings()) == count  # no two groups have a setting of one name
    assert all(getattr(changed, name) == getattr(recipe, name) for name in ("gen_l2", "disc_learning_rate", "data"))


def test_ideas_of_ones_own_are_built_in_and_described():
    """A loss, a transform, a penalty and an optimiser, after what the flags add."""
    loss, penalty = losses.of_logits(own_loss, own_loss), R1(2.0)
    recipe = recipes.get("digits").replace(
        loss=loss, transforms=(own_transform,), penalties=(penalty,), instance_noise=0.1, optimizer=own_optimizer
    )
    assert "regularizers" not in recipe.config()  # as in the configs of before there were any
    recipe = recipe.replace(regularizers=(own_regularizer,), gen_l2=0.5)
    gan = recipe.build()
    assert gan.loss is loss
    assert gan.transforms == (InstanceNoise(0.1, 1.0), own_transform)
    assert gan.penalties == (penalty,)
    assert gan.regularizers == (L2(0.5), own_regularizer)
    np.testing.assert_allclose(descend(gan.gen_optimizer, jnp.ones(3), [jnp.ones(3)]), 1 - 2e-3 * np.ones(3))
    config = json.loads(json.dumps(recipe.config()))
    assert config["penalties"] == ["jaxgan.penalties:R1(gamma=2.0)"]
    assert config["transforms"] == [f"{__name__}:own_transform"]
    assert config["regularizers"] == [f"{__name__}:own_regularizer"]
    assert f"{__name__}:own_loss" in config["loss"]


def own_loss(real_logits, fake_logits):
    return jnp.mean(real_logits) - jnp.mean(fake_logits)


def own_transform(images, keys, step):
    return images


def own_regularizer(params):
    return 0.0


def own_optimizer(rate):
    return optax.sgd(rate)


def test_what_a_config_says_of_a_value():
    for value, described in (
        (3, 3),
        (None, None),
        ((1, "a"), [1, "a"]),
        (networks.DigitsGen(), "jaxgan.networks.digits:DigitsGen"),
        (networks.DigitsGen(classes=10), "jaxgan.networks.digits:DigitsGen(classes=10)"),
        (R1(0.5), "jaxgan.penalties:R1(gamma=0.5)"),
        (InstanceNoise(0.5), "jaxgan.transforms:InstanceNoise(deviation=0.5)"),
        (own_loss, f"{__name__}:own_loss"),
        (functools.partial(own_loss, 1, fake_logits=2), f"partial({__name__}:own_loss, 1, fake_logits=2)"),
    ):
        assert describe(value) == described
        assert json.loads(json.dumps(described)) == described
        assert is_plain(value) == (value in (3, None))
    values = [networks.DigitsGen(), networks.DigitsGen(classes=3), R1(1.0), R1(2.0), own_loss, own_transform]
    values += [losses.non_saturating(), losses.non_saturating(0.9), losses.least_squares(), losses.least_squares(0.5)]
    assert len({json.dumps(describe(value)) for value in values}) == len(values)


def test_optimisers_are_compared_by_what_they_close_over():
    halving = Linear(1.0, 0.0, 2)
    made = [lambda: optax.adam(0.1), lambda: optax.adam(0.2), lambda: optax.adam(0.1, 0.8), lambda: optax.sgd(0.1)]
    made += [lambda: optax.adam(halving), lambda: optax.adam(Linear(1.0, 0.0, 3)), lambda: optax.adam(lambda t: t)]
    made += [lambda: optax.adam(lambda t: 2 * t), lambda: optax.chain(optax.clip(1.0), optax.adam(0.1))]
    made += [lambda: optax.masked(optax.sgd(0.1), {"a": True}), lambda: optax.masked(optax.sgd(0.1), {"a": False})]
    made += [lambda: optax.sgd(jnp.float32(0.1)), lambda: optax.sgd(np.float32(0.3)), lambda: optax.lion(0.1)]
    once, again = ([take_apart(make()) for make in made] for _ in range(2))
    assert once == again
    assert all(one != other for i, one in enumerate(once) for other in once[:i])
    assert "b1=0.8" in str(once[2])
