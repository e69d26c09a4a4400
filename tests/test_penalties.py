"""Penalties and regularisers: against formulas written out, and R1 against PyTorch's double backward pass."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from common import (
    QUICK,
    STEP,
    assert_close,
    descended,
    drawn,
    generated_labels,
    in_range,
    real_batch,
    small_gan,
    small_state,
    written_out,
)

import jaxgan
from jaxgan import recipes
from jaxgan.losses import Loss
from jaxgan.penalties import L2, R1
from jaxgan.randomness import Purpose
from jaxgan.train_step import disc_gradients

UPDATES = pytest.mark.parametrize("update", ["shared", "alternating"])


def squares(x):
    return jnp.sum(x**2, axis=(1, 2, 3))


def r1_formula(judge, made, batch, state, examples):
    """Mescheder et al. 2018 (arXiv:1801.04406), equation 9, with gamma 10."""
    gradient = jax.grad(lambda images: judge(images, batch.labels).sum())(batch.images)
    return 10 / 2 * squares(gradient).mean()


def r2(forward, disc):
    """The same for generated images, as a user writes it."""
    return 3.0 * jnp.mean(squares(disc.fake_gradient()))


def r2_formula(judge, made, batch, state, examples):
    labels = None if batch.labels is None else drawn_labels(state, examples)
    return 3.0 * squares(jax.grad(lambda images: judge(images, labels).sum())(made.fake)).mean()


def drawn_labels(state, examples):
    return generated_labels(small_gan(3), state, examples)


def wgan_gp(forward, disc):
    """Gulrajani et al. 2017 (arXiv:1704.00028), section 4, as a user writes it."""
    share = jax.vmap(jax.random.uniform)(disc.keys)[:, None, None, None]
    mixed = share * forward.images + (1 - share) * forward.generated
    gradient = jax.grad(lambda images: jnp.sum(disc.apply(images, forward.labels)))(mixed)
    return 10 * jnp.mean((jnp.sqrt(squares(gradient)) - 1) ** 2)


def wgan_gp_formula(judge, made, batch, state, examples):
    """One mixture after the other would be the paper's; batch normalisation is the batch's, as in the pass."""
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
        ((R1(10.0), r2), both_formulas, 3, "shared"),
        pytest.param((R1(10.0), r2), both_formulas, 3, "alternating", marks=pytest.mark.slow),
        pytest.param((wgan_gp,), wgan_gp_formula, 3, "shared", marks=pytest.mark.slow),
        ((wgan_gp,), wgan_gp_formula, 3, "alternating"),
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


def test_r1_with_batch_normalisation_is_pytorchs_double_backward_pass(x64):
    """Value and gradient: the gradient in an image is then that of the sum of all logits."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    import torch_layout

    from jaxgan.benchmark.torch_networks import networks

    gan = dataclasses.replace(recipes.get("digits").build(), loss=NOTHING, penalties=(R1(10.0),))
    state = small_state(gan)
    batch = in_range(gan, real_batch(gan, 6))
    loss, grads = disc_loss_and_gradients(gan, state, batch)
    net = networks("digits", gan.z_size, exact=True)[1].double()
    torch_layout.load(state.disc.params, net)
    images = torch_layout.nchw(batch.images).requires_grad_()
    (gradient,) = torch.autograd.grad(net(images).sum(), images, create_graph=True)
    penalty = 10 / 2 * gradient.square().sum((1, 2, 3)).mean()
    want = torch.autograd.grad(penalty, [*net.parameters()], materialize_grads=True)
    assert penalty.item() > 1e-3
    np.testing.assert_allclose(loss, penalty.item(), rtol=1e-10)
    largest = max(float(g.abs().max()) for g in want)
    for got, expected in zip(torch_layout.flat(grads, net), want, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-10 * largest)


def test_of_a_linear_discriminator_r1_is_the_norm_of_its_weights(x64):
    """D(x) = w x + b: gamma / 2 |w|^2, whose gradient is gamma w."""

    class Linear(nn.Module):
        @nn.compact
        def __call__(self, images, labels, context):
            return nn.Dense(1)(images.reshape(len(images), -1))[:, 0]

    gan = small_gan(disc=Linear(), loss=NOTHING, penalties=(R1(0.5),))
    state = small_state(gan)
    w = np.asarray(state.disc.params["Dense_0"]["kernel"])
    loss, grads = disc_loss_and_gradients(gan, state, in_range(gan, real_batch(gan, 8)))
    np.testing.assert_allclose(loss, 0.25 * np.sum(w**2), rtol=1e-12)
    np.testing.assert_allclose(grads["Dense_0"]["kernel"], 0.5 * w, rtol=1e-12)
    np.testing.assert_array_equal(grads["Dense_0"]["bias"], [0])


def test_the_gradient_is_in_the_image_before_its_transforms(x64):
    """And `judge` passes images through them: of images twice as large, a D has gradients twice as large."""
    plain = small_gan(loss=NOTHING, penalties=(R1(1.0),))
    half = in_range(plain, real_batch(plain, 8))
    double = half._replace(images=2 * half.images)
    state = small_state(plain)
    twice = (lambda images, keys, step: 2 * images,)
    want, want_grads = disc_loss_and_gradients(plain, state, double)
    got, grads = disc_loss_and_gradients(dataclasses.replace(plain, transforms=twice), state, half)
    np.testing.assert_allclose(got, 4 * want, rtol=1e-10)
    assert_close(grads, jax.tree.map(lambda g: 4 * np.asarray(g), want_grads))

    judged = lambda forward, disc: jnp.mean(jnp.abs(disc.apply(forward.images, None) - forward.real_logits))  # noqa: E731
    got, _ = disc_loss_and_gradients(dataclasses.replace(plain, transforms=twice, penalties=(judged,)), state, half)
    assert got < 1e-12


def test_keys_of_penalties_are_each_examples_own(x64):
    """By step, by example and by penalty."""
    seen = []

    def record(forward, disc):
        jax.debug.callback(lambda keys, step: seen.append((step, keys)), jax.random.key_data(disc.keys), disc.step)
        return 0.0

    gan = small_gan(penalties=(record, record), norm=False)
    state, batch = small_state(gan), real_batch(gan, 8)
    for _ in range(2):
        state, _ = STEP(gan, state, batch)
    jax.effects_barrier()
    assert sorted(int(step) for step, _ in seen) == [0, 0, 1, 1]
    keys = np.concatenate([keys for _, keys in seen])
    assert len(np.unique(keys, axis=0)) == 4 * 8


def test_a_penalty_of_every_second_step():
    """By `lax.cond` on the step: what else would be paid for each time."""
    lazy = lambda forward, disc: jax.lax.cond(disc.step % 2 == 0, lambda: r2(forward, disc), lambda: 0.0)  # noqa: E731
    gan = small_gan(penalties=(lazy,))
    state, batch = jaxgan.init(gan, jax.random.key(0)), real_batch(gan, 8)
    always, never = dataclasses.replace(gan, penalties=(r2,)), dataclasses.replace(gan, penalties=())
    for t, like in ((0, always), (1, never), (2, always)):
        at = state.replace(step=jnp.int32(t))
        np.testing.assert_allclose(
            STEP(gan, at, batch)[1]["loss_disc"], STEP(like, at, batch)[1]["loss_disc"], rtol=1e-6
        )


def test_what_is_not_asked_for_is_not_computed():
    def flops(*penalties):
        gan = small_gan(penalties=penalties)
        state = jax.eval_shape(lambda: jaxgan.init(gan, jax.random.key(0)))
        step = jax.jit(jaxgan.train_step, static_argnums=0).lower(gan, state, real_batch(gan, 8)).compile(QUICK)
        return step.cost_analysis()["flops"]

    plain, asks_nothing, asks = flops(), flops(lambda forward, disc: 0.0), flops(r2)
    assert asks_nothing < 1.01 * plain
    assert asks > 1.2 * plain


def test_microbatches_have_penalties_of_their_own_images(x64):
    """The mean over examples, where no layer looks across the batch, is that of the microbatches."""
    gan = small_gan(norm=False, penalties=(R1(10.0), wgan_gp))
    state, batch = small_state(gan), real_batch(gan, 8)
    whole, metrics = STEP(gan, state, batch)
    parts, part_metrics = STEP(dataclasses.replace(gan, accumulate=4), state, batch)
    assert_close(parts.disc.params, whole.disc.params)
    assert_close(part_metrics["loss_disc"], metrics["loss_disc"])


@UPDATES
def test_the_l2_norm_of_the_generators_parameters_is_part_of_its_loss_alone(update, x64):
    gan = small_gan(update=update)
    state, batch = small_state(gan), real_batch(gan, 8)
    regularizers = (L2(0.01), lambda params: 0.5 * jnp.sum(params["Dense_1"]["bias"]))
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
