"""The losses against their formulas, written with log and sigmoid in numpy's longest float."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from jaxgan import losses

logits = arrays(np.float32, st.integers(1, 20), elements=st.floats(-30, 30, width=32))


def sigmoid(x):
    return 1 / (1 + np.exp(-x.astype(np.longdouble)))


@given(logits)
def test_non_saturating_gen(fake):
    expected = -np.mean(np.log(sigmoid(fake)))
    np.testing.assert_allclose(losses.non_saturating_gen(fake), float(expected), rtol=1e-5, atol=1e-6)


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
    np.testing.assert_allclose(losses.least_squares_gen(fake), np.mean((fake64 - 1) ** 2), rtol=1e-5, atol=1e-6)
    expected = np.mean((real64 - 1) ** 2) + np.mean(fake64**2)
    np.testing.assert_allclose(losses.least_squares_disc(real, fake), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("logit", [-1e4, -100.0, 0.0, 100.0, 1e4])
def test_values_and_gradients_stay_finite_and_right_at_any_logit(logit):
    x = jnp.array([logit])
    loss, grad = jax.value_and_grad(losses.non_saturating_gen)(x)
    np.testing.assert_allclose(loss, np.logaddexp(0, -logit), rtol=1e-6, atol=1e-30)
    np.testing.assert_allclose(grad, [-np.exp(-np.logaddexp(0, logit))], rtol=1e-6, atol=1e-30)


def test_real_images_have_label_one():
    sure = jnp.array([9.0])
    assert losses.non_saturating_disc(sure, -sure) < 0.01 < losses.non_saturating_disc(-sure, sure)
    assert losses.non_saturating_gen(sure) < 0.01
    assert losses.least_squares_disc(jnp.ones(1), jnp.zeros(1)) == 0


@pytest.mark.parametrize("label", [0.0, 0.9, 1.0])
def test_gradients_of_cross_entropy_keep_all_digits_where_logits_are_large(label):
    logits = np.linspace(-60, 60, 121)
    sigmoid, other = 1 / (1 + np.exp(-logits)), 1 / (1 + np.exp(logits))
    want = (-label * other + (1 - label) * sigmoid) / len(logits)  # no difference of nearly equal numbers
    got = jax.grad(lambda x: losses.cross_entropy(x, label))(jnp.asarray(logits, jnp.float32))
    np.testing.assert_allclose(got, want, rtol=1e-5)
