"""The losses against their formulas in numpy's longest float, and those of one's own in a step."""

import itertools

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
from jaxgan.losses import Forward, Loss

pytestmark = pytest.mark.usefixtures("quick_programs")

values = st.floats(-30, 30, width=32)
logits = arrays(np.float32, st.integers(1, 20), elements=values)
pairs = st.integers(1, 20).flatmap(lambda n: st.tuples(*2 * (arrays(np.float32, n, elements=values),)))


def log_sigmoid(x):
    return -np.logaddexp(0, -x)


def sigmoid(x):
    return np.exp(log_sigmoid(x))


mean = np.mean
FORMULAS = {  # of real and fake logits, in numpy's longest float
    "non_saturating_gen": lambda r, f: -mean(log_sigmoid(f)),
    "non_saturating_disc": lambda r, f: -mean(log_sigmoid(r)) - mean(log_sigmoid(-f)),
    "least_squares_gen": lambda r, f: mean((f - 1) ** 2),
    "least_squares_disc": lambda r, f: mean((r - 1) ** 2) + mean(f**2),
    "hinge_gen": lambda r, f: -mean(f),
    "hinge_disc": lambda r, f: mean(np.fmax(0, 1 - r)) + mean(np.fmax(0, 1 + f)),
    "wasserstein_gen": lambda r, f: -mean(f),
    "wasserstein_disc": lambda r, f: mean(f) - mean(r),
    "relativistic_gen": lambda r, f: -mean(log_sigmoid(f - r)),
    "relativistic_disc": lambda r, f: -mean(log_sigmoid(r - f)),
}
OF_PASSES = ("non_saturating", "least_squares", "hinge", "wasserstein", "relativistic")


@given(pairs, logits, st.sampled_from([1.0, 0.5]), st.sampled_from([1.0, 0.9, 0.5]))
def test_losses_of_a_pass_by_their_formulas(pair, more, scale, label):
    """And those of logits, which they are made of; there may be other numbers of real and of generated images."""
    for name in OF_PASSES:
        real, fake = pair if name == "relativistic" else (pair[0], more)
        wide = real.astype(np.longdouble), fake.astype(np.longdouble)
        gen, disc = (float(FORMULAS[f"{name}_{net}"](*wide)) for net in ("gen", "disc"))
        loss = getattr(losses, name)(disc_scale=scale)
        forward = Forward(None, None, None, None, None, real_logits=jnp.asarray(real), fake_logits=jnp.asarray(fake))
        np.testing.assert_allclose(loss.gen(forward), gen, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(loss.disc(forward), scale * disc, rtol=1e-5, atol=1e-5)
        if name == "non_saturating":  # which smooths the real label alone
            smooth = label * log_sigmoid(wide[0]) + (1 - label) * log_sigmoid(-wide[0])
            smooth = float(-mean(smooth) - mean(log_sigmoid(-wide[1])))
            np.testing.assert_allclose(losses.non_saturating_disc(real, fake, label), smooth, rtol=1e-5, atol=1e-5)
            got = losses.non_saturating(label, scale).disc(forward)
            np.testing.assert_allclose(got, scale * smooth, rtol=1e-5, atol=1e-5)


GRADIENTS = {  # at one real and one fake logit: in the real one, and in the fake one
    "non_saturating_gen": lambda r, f: (0.0, -sigmoid(-f)),
    "non_saturating_disc": lambda r, f: (-sigmoid(-r), sigmoid(f)),
    "hinge_gen": lambda r, f: (0.0, -1.0),
    "hinge_disc": lambda r, f: (-float(r < 1), float(f > -1)),
    "wasserstein_disc": lambda r, f: (-1.0, 1.0),
    "relativistic_gen": lambda r, f: (sigmoid(r - f), -sigmoid(r - f)),
    "relativistic_disc": lambda r, f: (-sigmoid(f - r), sigmoid(f - r)),
}


@pytest.mark.parametrize("name", GRADIENTS)
def test_values_and_gradients_are_finite_and_right_at_any_logits(name):
    function = jax.jit(jax.value_and_grad(getattr(losses, name), (0, 1)))
    for real, fake in itertools.product((-1e4, -30.0, 0.5, 30.0, 1e4), (-1e4, -20.0, 0.0, 20.0, 1e4)):
        value, got = function(*np.float32([[real], [fake]]))
        np.testing.assert_allclose(value, FORMULAS[name](real, fake), rtol=1e-6, atol=1e-30)
        np.testing.assert_allclose(np.ravel(got), GRADIENTS[name](real, fake), rtol=1e-5, atol=1e-30)


@pytest.mark.parametrize("label", [0.0, 0.9, 1.0])
def test_gradients_of_cross_entropy_keep_all_digits_where_logits_are_large(label):
    logits = np.linspace(-60, 60, 121)
    want = (-label * sigmoid(-logits) + (1 - label) * sigmoid(logits)) / len(logits)  # no nearly equal numbers
    got = jax.grad(lambda x: losses.cross_entropy(x, label))(jnp.asarray(logits, jnp.float32))
    np.testing.assert_allclose(got, want, rtol=1e-5)


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


@pytest.mark.parametrize("update", ["shared", "alternating"])
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
        gen = lambda real, fake: gen_formula(real[0], fake[0]) + both(real, fake)  # noqa: E731
        disc = lambda real, fake: disc_formula(real[0], fake[0]) + both(real, fake)  # noqa: E731
        return written_out(gan, state, in_range(gan, batch), examples, gen, disc)

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
