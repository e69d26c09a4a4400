"""Penalties and regularisers: against formulas written out, and what they may ask for."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from common import (
    QUICK,
    STEP,
    assert_close,
    descended,
    disc_gradients,
    drawn,
    generated_labels,
    in_range,
    real_batch,
    small_gan,
    small_state,
    written_out,
)

import jaxgan
from jaxgan.losses import Loss
from jaxgan.penalties import L2, R1, R2, WGANGP
from jaxgan.randomness import Purpose

pytestmark = pytest.mark.usefixtures("quick_programs")

UPDATES = pytest.mark.parametrize("update", ["shared", "alternating"])


def squares(x):
    return jnp.sum(x**2, axis=(1, 2, 3))


def r1_formula(judge, made, batch, state, examples):
    """Mescheder et al. 2018 (arXiv:1801.04406), equation 9, with gamma 10."""
    gradient = jax.grad(lambda images: judge(images, batch.labels).sum())(batch.images)
    return 10 / 2 * squares(gradient).mean()


def r2_formula(judge, made, batch, state, examples):
    """The same for generated images, with gamma 6."""
    labels = None if batch.labels is None else generated_labels(small_gan(3), state, examples)
    return 3.0 * squares(jax.grad(lambda images: judge(images, labels).sum())(made.fake)).mean()


def wgan_gp_formula(judge, made, batch, state, examples):
    """Gulrajani et al. 2017 (arXiv:1704.00028), section 4.

    One mixture after the other would be the paper's; batch normalisation is the batch's, as in the pass.
    """
    share = drawn(jax.random.uniform, state, Purpose.PENALTIES, examples)
    mixed = jnp.stack([s * x + (1 - s) * y for s, x, y in zip(share, made.images, made.fake, strict=True)])
    _, pullback = jax.vjp(lambda images: judge(images, batch.labels), mixed)
    norms = jnp.linalg.norm(pullback(jnp.ones(len(mixed)))[0].reshape(len(mixed), -1), axis=-1)
    return 10 * ((norms - 1) ** 2).mean()


def both_formulas(*args):
    return r1_formula(*args) + r2_formula(*args)


@pytest.mark.parametrize(
    ("penalties", "formula", "classes", "update"),
    [
        ((R1(10.0),), r1_formula, 0, "shared"),
        ((R1(10.0), R2(6.0)), both_formulas, 3, "shared"),
        pytest.param((R1(10.0), R2(6.0)), both_formulas, 3, "alternating", marks=pytest.mark.slow),
        pytest.param((WGANGP(),), wgan_gp_formula, 3, "shared", marks=pytest.mark.slow),
        ((WGANGP(),), wgan_gp_formula, 3, "alternating"),
    ],
)
def test_a_step_with_penalties_is_that_of_the_loss_written_out(penalties, formula, classes, update, x64):
    """D descends its loss with the penalty; G its own loss without."""
    gan = small_gan(classes, update=update, penalties=penalties)
    state, batch = small_state(gan), real_batch(gan, 8)
    new, metrics = STEP(gan, state, batch)
    want = written_out(gan, state, in_range(gan, batch), range(8), penalty=formula)
    assert_close(metrics["loss_disc"], want.loss_disc)
    assert_close(new.disc.params, descended(0.2, state.disc.params, want.disc_grads))
    assert_close(new.disc.batch_stats, want.forward.disc_stats)  # other points leave no trace in them
    if update == "alternating":
        want = written_out(gan, state.replace(disc=new.disc), in_range(gan, batch), range(8, 16))
    assert_close(new.gen.params, descended(0.1, state.gen.params, want.gen_grads))
    assert_close(metrics["loss_gen"], want.loss_gen)


def disc_loss_and_gradients(gan, state, batch):
    """Of D's loss alone, on a batch in the GAN's range."""
    grads, aux = jax.jit(disc_gradients, static_argnums=0, compiler_options=QUICK)(
        gan, state, batch, np.arange(len(batch.images))
    )
    return aux.metrics["disc"]["loss_disc"], grads["disc"]


NOTHING = Loss(lambda forward: 0.0 * jnp.sum(forward.fake_logits), lambda forward: 0.0 * jnp.sum(forward.real_logits))


def test_the_gradient_is_in_the_image_after_its_augmentations_and_before_its_transforms(x64):
    """And `apply` passes images through transforms: of images twice as large, a D has gradients twice as large."""
    times = lambda factor: (lambda images, keys, step: factor * images,)  # noqa: E731
    plain = small_gan(loss=NOTHING, penalties=(R1(1.0),))
    half = in_range(plain, real_batch(plain, 8))
    state = small_state(plain)
    twice = dataclasses.replace(plain, augmentations=times(5), transforms=times(2))
    want, want_grads = disc_loss_and_gradients(plain, state, half._replace(images=10 * half.images))
    got, grads = disc_loss_and_gradients(twice, state, half)
    np.testing.assert_allclose(got, 4 * want, rtol=1e-10)
    assert_close(grads, jax.tree.map(lambda g: 4 * np.asarray(g), want_grads))

    judged = lambda forward, disc: jnp.mean(jnp.abs(disc.apply(forward.images, None) - forward.real_logits))  # noqa: E731
    assert disc_loss_and_gradients(dataclasses.replace(twice, penalties=(judged,)), state, half)[0] < 1e-12


def test_keys_of_penalties_are_each_examples_own(x64):
    """By step, by example and by penalty."""
    seen = []

    def record(forward, disc):
        jax.debug.callback(lambda keys, step: seen.append((step, keys)), jax.random.key_data(disc.keys), disc.step)
        return 0.0

    gan = small_gan(penalties=(record, record), norm=False)
    state, batch = small_state(gan), real_batch(gan, 8)
    jax.effects_barrier()
    seen.clear()  # a state is made by a pass of its own
    for _ in range(2):
        state, _ = STEP(gan, state, batch)
    jax.effects_barrier()
    assert sorted(int(step) for step, _ in seen) == [0, 0, 1, 1]
    keys = np.concatenate([keys for _, keys in seen])
    assert len(np.unique(keys, axis=0)) == 4 * 8


def test_what_is_not_asked_for_is_not_computed():
    def flops(*penalties):
        gan = small_gan(penalties=penalties)
        state = jax.eval_shape(lambda: jaxgan.init(gan, jax.random.key(0)))
        step = jax.jit(jaxgan.train_step, static_argnums=0).lower(gan, state, real_batch(gan, 8)).compile(QUICK)
        return step.cost_analysis()["flops"]

    plain, asks_nothing, asks = flops(), flops(lambda forward, disc: 0.0), flops(R2(1.0))
    assert asks_nothing < 1.01 * plain
    assert asks > 1.2 * plain


@UPDATES
def test_the_l2_norm_of_the_generators_parameters_is_part_of_its_loss_alone(update, x64):
    gan = small_gan(update=update)
    state, batch = small_state(gan), real_batch(gan, 8)
    regularizers = (L2(0.01), lambda forward, gen: 0.5 * jnp.sum(gen.params["Dense_1"]["bias"]))
    (plain, metrics), (decayed, with_l2) = (
        STEP(dataclasses.replace(gan, regularizers=r), state, batch) for r in ((), regularizers)
    )
    norm = sum(np.sum(np.square(x)) for x in jax.tree.leaves(state.gen.params))
    bias = np.sum(state.gen.params["Dense_1"]["bias"])
    assert_close(with_l2["loss_gen"] - metrics["loss_gen"], 0.01 * norm + 0.5 * bias, rtol=1e-7)
    moved = jax.tree.map(
        lambda p, old: np.asarray(p) - 0.1 * 2 * 0.01 * np.asarray(old), plain.gen.params, state.gen.params
    )
    moved["Dense_1"]["bias"] -= 0.1 * 0.5
    assert_close(decayed.gen.params, moved)
    assert_close(decayed.disc.params, plain.disc.params)
