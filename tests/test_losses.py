"""The losses against their formulas, written with log and sigmoid in numpy's longest float."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from common import (
    STEP,
    assert_close,
    descended,
    disc_formula,
    gen_formula,
    generated_labels,
    in_range,
    latents,
    real_batch,
    small_gan,
    small_state,
    written_out,
)
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from jaxgan import losses
from jaxgan.losses import Forward, Loss, of_logits

logits = arrays(np.float32, st.integers(1, 20), elements=st.floats(-30, 30, width=32))
pairs = st.integers(1, 20).flatmap(
    lambda n: st.tuples(*2 * (arrays(np.float32, n, elements=st.floats(-30, 30, width=32)),))
)


def sigmoid(x):
    return 1 / (1 + np.exp(-x.astype(np.longdouble)))


@given(logits)
def test_non_saturating_gen(fake):
    expected = -np.mean(np.log(sigmoid(fake)))
    np.testing.assert_allclose(losses.non_saturating_gen(None, fake), float(expected), rtol=1e-5, atol=1e-6)


@given(logits, logits, st.sampled_from([1.0, 0.9, 0.5]))
def test_non_saturating_disc_smooths_the_real_label_alone(real, fake, label):
    d_real, d_fake = sigmoid(real), sigmoid(-fake)  # d_fake is 1 - D(fake)
    on_real = label * np.log(d_real) + (1 - label) * np.log(sigmoid(-real))
    expected = -np.mean(on_real) - np.mean(np.log(d_fake))
    got = losses.non_saturating_disc(real, fake, real_label=label)
    np.testing.assert_allclose(got, float(expected), rtol=1e-5, atol=1e-6)


@given(logits, logits)
def test_least_squares(real, fake):
    real64, fake64 = real.astype(np.float64), fake.astype(np.float64)
    np.testing.assert_allclose(losses.least_squares_gen(None, fake), np.mean((fake64 - 1) ** 2), rtol=1e-5, atol=1e-6)
    expected = np.mean((real64 - 1) ** 2) + np.mean(fake64**2)
    np.testing.assert_allclose(losses.least_squares_disc(real, fake), expected, rtol=1e-5, atol=1e-6)


@given(logits, logits)
def test_hinge_and_wasserstein(real, fake):
    real64, fake64 = real.astype(np.float64), fake.astype(np.float64)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5)
    close(losses.hinge_gen(None, fake), -np.mean(fake64))
    close(losses.hinge_disc(real, fake), np.mean(np.fmax(0, 1 - real64)) + np.mean(np.fmax(0, 1 + fake64)))
    close(losses.wasserstein_disc(real, fake), np.mean(fake64) - np.mean(real64))


@given(pairs)
def test_relativistic_is_of_pairs(pair):
    real, fake = pair
    expected = -np.mean(np.log(sigmoid(fake.astype(np.longdouble) - real)))
    np.testing.assert_allclose(losses.relativistic_gen(real, fake), float(expected), rtol=1e-5, atol=1e-5)
    expected = -np.mean(np.log(sigmoid(real.astype(np.longdouble) - fake)))
    np.testing.assert_allclose(losses.relativistic_disc(real, fake), float(expected), rtol=1e-5, atol=1e-5)


def step_function(x):
    return 1.0 if x > 0 else 0.0


def stable_sigmoid(x):
    return np.exp(-np.logaddexp(0, -x))


GRADIENTS = {  # at one real and one fake logit: in the real one, and in the fake one
    "hinge_gen": lambda r, f: (0.0, -1.0),
    "hinge_disc": lambda r, f: (-step_function(1 - r), step_function(1 + f)),
    "wasserstein_disc": lambda r, f: (-1.0, 1.0),
    "relativistic_gen": lambda r, f: (stable_sigmoid(r - f), -stable_sigmoid(r - f)),
    "relativistic_disc": lambda r, f: (-stable_sigmoid(f - r), stable_sigmoid(f - r)),
}


@pytest.mark.parametrize("name", GRADIENTS)
def test_gradients_of_the_others_are_finite_and_right_at_any_logits(name):
    for real in (-1e4, -30.0, 0.5, 30.0, 1e4):
        for fake in (-1e4, -20.0, 0.0, 20.0, 1e4):
            both = np.float32([real]), np.float32([fake])
            value, got = jax.value_and_grad(getattr(losses, name), (0, 1))(*both)
            assert np.isfinite(value)
            np.testing.assert_allclose(np.ravel(got), GRADIENTS[name](real, fake), rtol=1e-5, atol=1e-30)


@pytest.mark.parametrize("logit", [-1e4, -100.0, 0.0, 100.0, 1e4])
def test_values_and_gradients_stay_finite_and_right_at_any_logit(logit):
    x = jnp.array([logit])
    loss, grad = jax.value_and_grad(lambda fake: losses.non_saturating_gen(None, fake))(x)
    np.testing.assert_allclose(loss, np.logaddexp(0, -logit), rtol=1e-6, atol=1e-30)
    np.testing.assert_allclose(grad, [-np.exp(-np.logaddexp(0, logit))], rtol=1e-6, atol=1e-30)


def test_real_images_have_label_one():
    sure = jnp.array([9.0])
    assert losses.non_saturating_disc(sure, -sure) < 0.01 < losses.non_saturating_disc(-sure, sure)
    assert losses.non_saturating_gen(-sure, sure) < 0.01
    assert losses.least_squares_disc(jnp.ones(1), jnp.zeros(1)) == 0
    assert losses.hinge_disc(sure, -sure) == 0 < losses.hinge_disc(-sure, sure)
    assert losses.wasserstein_disc(sure, -sure) < losses.wasserstein_disc(-sure, sure)
    assert losses.relativistic_disc(sure, -sure) < 0.01 < losses.relativistic_disc(-sure, sure)
    assert losses.relativistic_gen(-sure, sure) < 0.01 < losses.relativistic_gen(sure, -sure)


@pytest.mark.parametrize("label", [0.0, 0.9, 1.0])
def test_gradients_of_cross_entropy_keep_all_digits_where_logits_are_large(label):
    logits = np.linspace(-60, 60, 121)
    sigmoid, other = 1 / (1 + np.exp(-logits)), 1 / (1 + np.exp(logits))
    want = (-label * other + (1 - label) * sigmoid) / len(logits)  # no difference of nearly equal numbers
    got = jax.grad(lambda x: losses.cross_entropy(x, label))(jnp.asarray(logits, jnp.float32))
    np.testing.assert_allclose(got, want, rtol=1e-5)


@given(logits, logits, st.sampled_from([1.0, 0.5]))
def test_a_loss_of_a_pass_is_that_of_its_logits(real, fake, scale):
    check_the_losses_of_a_pass(real, fake, scale, ("least_squares", "hinge", "wasserstein"))


@given(pairs, st.sampled_from([1.0, 0.5]))
def test_and_so_is_that_of_pairs(pair, scale):
    check_the_losses_of_a_pass(*pair, scale, ("relativistic",))


def check_the_losses_of_a_pass(real, fake, scale, names):
    forward = Forward(None, None, None, None, None, real_logits=jnp.asarray(real), fake_logits=jnp.asarray(fake))
    smoothed = losses.non_saturating_disc(real, fake, real_label=0.9)
    cases = [(losses.non_saturating(0.9, scale), losses.non_saturating_gen(real, fake), smoothed)]
    for name in names:
        gen = getattr(losses, f"{name.replace('wasserstein', 'hinge')}_gen")  # they share it
        cases.append((getattr(losses, name)(scale), gen(real, fake), getattr(losses, f"{name}_disc")(real, fake)))
    for loss, gen, disc in cases:
        np.testing.assert_allclose(loss.gen(forward), gen, rtol=1e-6)
        np.testing.assert_allclose(loss.disc(forward), scale * disc, rtol=1e-6)


# Relativistic average GAN (Jolicoeur-Martineau 2018, arXiv:1807.00734), as a user writes it.
def relativistic_gen(real, fake):
    return losses.cross_entropy(fake - jnp.mean(real), 1.0) + losses.cross_entropy(real - jnp.mean(fake), 0.0)


def relativistic_disc(real, fake):
    return losses.cross_entropy(real - jnp.mean(fake), 1.0) + losses.cross_entropy(fake - jnp.mean(real), 0.0)


# And as the paper has it: both networks' losses need both kinds of logits.
def relativistic_gen_formula(real, fake):
    real, fake = jax.nn.sigmoid(real - fake.mean()), jax.nn.sigmoid(fake - real.mean())
    return -jnp.mean(jnp.log(fake)) - jnp.mean(jnp.log(1 - real))


def relativistic_disc_formula(real, fake):
    real, fake = jax.nn.sigmoid(real - fake.mean()), jax.nn.sigmoid(fake - real.mean())
    return -jnp.mean(jnp.log(real)) - jnp.mean(jnp.log(1 - fake))


@pytest.mark.parametrize("update", ["shared", "alternating"])
def test_a_relativistic_loss_in_both_updates(update, x64):
    gan = small_gan(update=update, loss=of_logits(relativistic_gen, relativistic_disc))
    state, batch = small_state(gan), real_batch(gan, 8)
    new, metrics = STEP(gan, state, batch)
    formulas = {"gen": relativistic_gen_formula, "disc": relativistic_disc_formula}
    want = written_out(gan, state, in_range(gan, batch), range(8), **formulas)
    assert_close(new.disc.params, descended(0.2, state.disc.params, want.disc_grads))
    assert_close(metrics["loss_disc"], want.loss_disc)
    if update == "alternating":
        want = written_out(gan, state.replace(disc=new.disc), in_range(gan, batch), range(8, 16), **formulas)
    assert_close(new.gen.params, descended(0.1, state.gen.params, want.gen_grads))
    assert_close(metrics["loss_gen"], want.loss_gen)


class Classifying(nn.Module):
    """A discriminator with an auxiliary classifier: (logits [B], {"classes": [B, 3]})."""

    @nn.compact
    def __call__(self, images, labels, context):
        x = nn.softplus(nn.Dense(16)(images.reshape(len(images), -1)))
        return nn.Dense(1)(x)[:, 0], {"classes": nn.Dense(3)(x)}


def of_class(extra, labels):
    return optax.softmax_cross_entropy_with_integer_labels(extra["classes"], labels).mean()


def auxiliary(forward):
    return of_class(forward.real_extra, forward.labels) + of_class(forward.fake_extra, forward.generated_labels)


@pytest.mark.parametrize("update", ["shared", pytest.param("alternating", marks=pytest.mark.slow)])
def test_an_auxiliary_head_is_seen_by_both_losses(update, x64):
    """AC-GAN (Odena et al. 2016, arXiv:1610.09585): both networks are to have the classes of all images right."""
    plain = losses.non_saturating()
    loss = Loss(lambda forward: plain.gen(forward) + auxiliary(forward), lambda f: plain.disc(f) + auxiliary(f))
    gan = small_gan(3, disc=Classifying(), loss=loss, update=update)
    state, batch = small_state(gan), real_batch(gan, 8)

    def right(judged, labels):  # by hand: the log probability of the class
        scores = jnp.exp(judged["classes"])
        return -jnp.mean(jnp.log(scores[np.arange(8), labels] / scores.sum(-1)))

    labels = batch.labels

    def written(examples, state):
        fake_labels = generated_labels(gan, state, np.array(examples))
        both = lambda real, fake: right(real[1], labels) + right(fake[1], fake_labels)  # noqa: E731
        return written_out(
            gan,
            state,
            in_range(gan, batch),
            examples,
            gen=lambda real, fake: gen_formula(real[0], fake[0]) + both(real, fake),
            disc=lambda real, fake: disc_formula(real[0], fake[0]) + both(real, fake),
        )

    new, metrics = STEP(gan, state, batch)
    want = written(range(8), state)
    assert_close(new.disc.params, descended(0.2, state.disc.params, want.disc_grads))
    if update == "alternating":
        want = written(range(8, 16), state.replace(disc=new.disc))
    assert_close(new.gen.params, descended(0.1, state.gen.params, want.gen_grads))
    assert_close(metrics["loss_gen"], want.loss_gen)


def test_losses_see_the_whole_pass(x64):
    """Images in the GAN's range, latents, generated images and the labels of both, as the documentation has them."""
    seen = {}

    def record(forward):
        jax.debug.callback(lambda forward: seen.update(vars(forward)), forward)
        return jnp.mean(forward.fake_logits)

    gan = small_gan(3, loss=Loss(record, lambda forward: jnp.mean(forward.real_logits)))
    state, batch = small_state(gan), real_batch(gan, 8)
    STEP(gan, state, batch)
    jax.effects_barrier()
    want = written_out(gan, state, in_range(gan, batch), range(8)).forward
    expected = {
        "images": in_range(gan, batch).images,
        "labels": batch.labels,
        "z": latents(gan, state, np.arange(8)),
        "generated": want.fake,
        "generated_labels": generated_labels(gan, state, np.arange(8)),
        "real_logits": want.real_judged,
        "fake_logits": want.fake_judged,
    }
    assert {name for name, value in seen.items() if value is not None} == set(expected)
    assert_close({name: seen[name] for name in expected}, expected, rtol=1e-6, atol=1e-6)  # a callback gets float32
