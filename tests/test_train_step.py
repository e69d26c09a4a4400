"""The training step against its own losses written out: gradients, updates, averages, metrics, refusals."""

import dataclasses
import functools
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from common import (
    QUICK,
    STEP,
    STEPS,
    SmallDisc,
    as_float64,
    assert_close,
    assert_same_bits,
    descended,
    disc_formula,
    in_range,
    real_batch,
    real_images,
    shared_gradients,
    small_gan,
    small_state,
    written_out,
)

import jaxgan
from jaxgan import recipes
from jaxgan.gan import Batch
from jaxgan.networks import DigitsDisc, DigitsGen

pytestmark = pytest.mark.usefixtures("quick_programs")

GRADIENTS = jax.jit(shared_gradients, static_argnums=0, compiler_options=QUICK)
UPDATES = pytest.mark.parametrize("update", ["shared", "alternating"])
SLOW = pytest.mark.slow


@pytest.fixture
def small(x64):
    """A small GAN, its state and a batch of eight, in float64."""
    gan = small_gan()
    return gan, small_state(gan), real_batch(gan, 8)


def test_a_program_of_several_updates_traces_one():
    """Tracing is most of what a run waits for before its first update."""
    traced = []

    class Counted(SmallDisc):
        def __call__(self, images, labels, context):
            traced.append(context.train)
            return super().__call__(images, labels, context)

    gan = small_gan(disc=Counted())
    state = jax.eval_shape(functools.partial(jaxgan.init, gan), jax.random.key(0))
    images, batches = jax.ShapeDtypeStruct((16, 4, 4, 1), np.uint8), jax.ShapeDtypeStruct((3, 8), np.int32)
    traced.clear()
    jax.eval_shape(functools.partial(jaxgan.train_step, gan), state, jax.ShapeDtypeStruct((8, 4, 4, 1), np.uint8))
    once = traced.count(True)
    traced.clear()
    jax.jit(jaxgan.train_steps, static_argnums=0).trace(gan, state, images, batches, np.int32(1))
    assert traced.count(True) == once > 0


@SLOW
def test_gradients_equal_those_of_each_loss_written_out(x64):
    """Of convolutions with labels; `test_torch_parity` has other systems."""
    nets = {"gen": DigitsGen(classes=10), "disc": DigitsDisc(classes=10)}
    recipe = recipes.get("digits").replace(**nets, classes=10, real_label=0.9)
    gan = recipe.build()
    state = as_float64(jaxgan.init(gan, jax.random.key(3)))
    batch = in_range(gan, real_batch(gan, 6))
    grads, aux = GRADIENTS(gan, state, batch, np.arange(6))
    disc = functools.partial(disc_formula, real_label=0.9, scale=recipe.disc_loss_scale)
    want = written_out(gan, state, batch, range(6), disc=disc)
    np.testing.assert_allclose(aux.metrics["gen"]["loss_gen"], want.loss_gen, rtol=1e-9)
    np.testing.assert_allclose(aux.metrics["disc"]["loss_disc"], want.loss_disc, rtol=1e-9)
    assert_close(grads, {"gen": want.gen_grads, "disc": want.disc_grads}, rtol=1e-6, atol=1e-14)


@pytest.mark.parametrize("name", ["small", pytest.param("digits", marks=SLOW)])
def test_gradients_in_float32_differ_by_rounding_only(name):
    gan = small_gan() if name == "small" else recipes.get(name).build()
    state = jaxgan.init(gan, jax.random.key(3))
    batch = in_range(gan, real_batch(gan, 16))
    grads, _ = GRADIENTS(gan, state, batch, np.arange(16))
    want = written_out(gan, state, batch, range(16))
    # For each tensor, the largest difference against the largest value.
    error = lambda g, w: float(np.abs(g - w).max() / np.abs(w).max())  # noqa: E731
    errors = jax.tree.map(error, *jax.device_get((grads, {"gen": want.gen_grads, "disc": want.disc_grads})))
    assert max(jax.tree.leaves(errors)) < 1e-5, errors


@pytest.mark.slow
@UPDATES
@pytest.mark.parametrize("classes", [pytest.param(0, marks=SLOW), 3])
def test_an_update_is_that_of_the_losses_written_out(update, classes, x64):
    """Shared: theta_G - 0.1 grad L_G(theta_G, theta_D), theta_D - 0.2 grad L_D(theta_G, theta_D), at the old weights.

    Alternating: G's at the new D, on fresh latents. Batch statistics follow the fake batch and then the real one, each
    network's in its own updates only.
    """
    gan = small_gan(classes, update=update)
    state, batch = small_state(gan), real_batch(gan, 8)
    new, metrics = STEP(gan, state, batch)
    of_disc = of_gen = written_out(gan, state, in_range(gan, batch), range(8))
    if update == "alternating":
        of_gen = written_out(gan, state.replace(disc=new.disc), in_range(gan, batch), range(8, 16))
        assert abs(of_disc.loss_gen - of_gen.loss_gen) > 1e-3
    assert_close(new.disc.params, descended(0.2, state.disc.params, of_disc.disc_grads))
    assert_close(new.gen.params, descended(0.1, state.gen.params, of_gen.gen_grads))
    assert_close(new.disc.batch_stats, of_disc.forward.disc_stats)
    assert_close(new.gen.batch_stats, of_gen.forward.gen_stats)
    norm = lambda grads: np.sqrt(sum(np.sum(np.square(g)) for g in jax.tree.leaves(grads)))  # noqa: E731
    expected = {
        "loss_gen": of_gen.loss_gen,
        "loss_disc": of_disc.loss_disc,
        "logit_real": of_disc.forward.real_judged.mean(),
        "logit_fake": of_disc.forward.fake_judged.mean(),
        "grad_norm_gen": norm(of_gen.gen_grads),
        "grad_norm_disc": norm(of_disc.disc_grads),
    }
    assert_close(metrics, expected)
    assert new.step == 1
    assert_same_bits(new.key, state.key)


@pytest.mark.parametrize("decay", [pytest.param(0.0, marks=SLOW), 0.15, pytest.param(0.9, marks=SLOW)])
def test_averaged_generator(small, decay):
    """A <- k a + (1 - k) theta with k = min(decay, (1 + t) / (10 + t)), over parameters and batch statistics."""
    gan, state, batch = small
    gan = dataclasses.replace(gan, ema_decay=decay)
    expected = state.averaged_gen
    for t in range(4):
        state, _ = STEP(gan, state, batch)
        keep = min(decay, (1 + t) / (10 + t))
        new = {"params": state.gen.params, "batch_stats": state.gen.batch_stats}
        average = lambda a, n, k=keep: k * np.asarray(a) + (1 - k) * np.asarray(n)  # noqa: E731
        expected = jax.tree.map(average, expected, new)
    assert_close(state.averaged_gen, expected, rtol=1e-6, atol=1e-8)
    if decay == 0:
        assert_same_bits(state.averaged_gen["params"], state.gen.params)


@pytest.mark.slow
@UPDATES
def test_training_ratio(update, x64):
    """Three updates of D, each on images and latents of its own; G's at the D that the kind of step says."""
    gan = small_gan(2, update=update, training_ratio=3)
    state, batch = small_state(gan), real_batch(gan, 24)
    new, metrics = STEP(gan, state, batch)
    now = state
    for j in range(3):
        real = in_range(gan, jax.tree.map(lambda x, j=j: x[j::3], batch))
        want = written_out(gan, now, real, range(j, 24, 3))
        params, stats = descended(0.2, now.disc.params, want.disc_grads), want.forward.disc_stats
        now = now.replace(disc=now.disc.replace(params=params, batch_stats=stats))
    assert_close((new.disc.params, new.disc.batch_stats), (now.disc.params, now.disc.batch_stats))
    assert_close(metrics["loss_disc"], want.loss_disc)
    # Shared: at the D before its last update, on the latents of that one.
    gen = want if update == "shared" else written_out(gan, now, real, range(24, 32))
    assert_close(metrics["loss_gen"], gen.loss_gen)
    assert_close(new.gen.params, descended(0.1, state.gen.params, gen.gen_grads))


def test_schedules_are_among_the_metrics():
    """keras_mnist's learning rates at its updates, of which D has two in each step here."""
    gan = recipes.get("keras_mnist").replace(training_ratio=2, gen_time_decay=0.5, disc_time_decay=0.25).build()
    gan = small_gan(schedules=gan.schedules)
    state, batch = jaxgan.init(gan, jax.random.key(0)), real_batch(gan, 8)
    for t in range(3):
        state, metrics = STEP(gan, state, batch)
        np.testing.assert_allclose(metrics["learning_rate_gen"], 4e-4 / (1 + 0.5 * t), rtol=1e-6)
        np.testing.assert_allclose(metrics["learning_rate_disc"], 8e-4 / (1 + 0.25 * 2 * t), rtol=1e-6)
    assert not recipes.get("digits").build().schedules


def test_donating_the_state_leaves_the_callers_key_alone():
    gan = small_gan()
    key = jax.random.key(0)
    state = jaxgan.init(gan, key)
    jax.jit(jaxgan.train_step, static_argnums=0, donate_argnums=1)(gan, state, real_batch(gan, 8))
    assert jax.random.uniform(key) >= 0
    assert state.gen.params["Dense_0"]["kernel"].is_deleted()


def test_images_alone_are_a_batch_without_labels():
    gan = small_gan()
    state, batch = jaxgan.init(gan, jax.random.key(0)), real_batch(gan, 8)
    alone, labelled = STEP(gan, state, batch.images), STEP(gan, state, Batch(batch.images, np.arange(8)))
    for got in (alone, labelled):  # an unconditional GAN does not look at labels
        assert_same_bits(got, STEP(gan, state, batch))


def test_the_labels_of_real_images_are_used():
    gan = small_gan(3)
    state, batch = jaxgan.init(gan, jax.random.key(0)), real_batch(gan, 8)
    _, metrics = STEP(gan, state, batch)
    _, others = STEP(gan, state, batch._replace(labels=(batch.labels + 1) % 3))
    assert metrics["logit_real"] != others["logit_real"]
    assert metrics["logit_fake"] == others["logit_fake"]


class Square(nn.Module):
    """A discriminator whose logits are [B, 1]."""

    @nn.compact
    def __call__(self, images, labels, context):
        return SmallDisc()(images, labels, context)[:, None]


@pytest.mark.parametrize(
    ("changes", "batch", "error", "message"),
    [
        ({}, np.zeros((8, 4, 4, 1), np.int32), TypeError, r"images must be uint8 \(0 to 255\), not int32"),
        ({}, np.zeros((8, 5, 4, 1), np.uint8), ValueError, r"shape \[5, 4, 1\], the generator makes \[4, 4, 1\]"),
        ({}, np.zeros((8, 4, 4), np.uint8), ValueError, r"shape \[4, 4\], the generator makes \[4, 4, 1\]"),
        ({"training_ratio": 3}, np.zeros((8, 4, 4, 1), np.uint8), ValueError, "8 images .* training_ratio=3"),
        ({"accumulate": 3}, np.zeros((8, 4, 4, 1), np.uint8), ValueError, "8 images .* accumulate=3"),
        ({"classes": 3}, np.zeros((8, 4, 4, 1), np.uint8), ValueError, r"3 classes, and the batch no labels"),
        ({"disc": Square()}, np.zeros((8, 4, 4, 1), np.uint8), ValueError, r"one logit .*, \[B\], not \[1, 1\]"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_when_the_step_is_traced(changes, batch, error, message):
    """In one line that says what would fit, with nothing computed."""
    gan = small_gan(**changes)

    def step():  # a state is made by a pass as well, in which D's logits are seen
        return jaxgan.train_step(gan, jaxgan.init(gan, jax.random.key(0)), batch)

    with pytest.raises(error, match=message) as raised:
        jax.eval_shape(step)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("name", "update"), [("small", "shared"), ("small", "alternating"), pytest.param("digits", "shared", marks=SLOW)]
)
def test_bf16_computes_in_bfloat16_and_keeps_the_state_in_float32(name, update):
    gan = small_gan() if name == "small" else recipes.get(name).build()
    whole = dataclasses.replace(gan, update=update)
    gan = dataclasses.replace(whole, precision="bf16")
    state, images = jaxgan.init(gan, jax.random.key(0)), real_images(gan, 32)
    after, metrics = STEP(gan, state, images)
    want, want_metrics = STEP(whole, state, images)
    assert jax.tree.map(lambda x: x.dtype, after) == jax.tree.map(lambda x: x.dtype, state)
    assert all(x.dtype == jnp.float32 for x in metrics.values())
    for name, value in metrics.items():  # bfloat16 has 8 bits
        assert 0 < abs(value - want_metrics[name]) < 0.05 * max(1, abs(want_metrics[name]))
    stats = jax.tree.leaves((after.gen.batch_stats, after.disc.batch_stats))
    for got, expected in zip(stats, jax.tree.leaves((want.gen.batch_stats, want.disc.batch_stats)), strict=True):
        np.testing.assert_allclose(got, expected, rtol=0.05, atol=0.01)


@UPDATES
def test_every_product_of_bf16_is_one_of_bfloat16(update):
    gan = dataclasses.replace(recipes.get("digits").build(), update=update, precision="bf16")
    state = jax.eval_shape(lambda: jaxgan.init(gan, jax.random.key(0)))
    text = STEP.lower(gan, state, real_images(gan, 8)).as_text()
    assert re.search(r"(dot_general|convolution).*bf16", text)
    assert not re.search(r"(dot_general|convolution)\(.*: \(tensor<[\dx]*xf32>, tensor<[\dx]*xf32>\)", text)


@pytest.mark.parametrize("classes", [pytest.param(0, marks=SLOW), 3])
def test_several_updates_in_one_program_are_those_one_by_one(classes):
    """However they are divided, to the last bit; each on its own images and labels."""
    gan = small_gan(classes)
    state, dataset = jaxgan.init(gan, jax.random.key(0)), real_batch(gan, 40)
    batches = np.random.default_rng(1).integers(0, 40, (6, 8), np.int32)
    at_once, metrics = STEPS(gan, state, dataset, batches, 6)
    divided = state
    for start, count in [(0, 1), (1, 3), (4, 2)]:
        rows = np.zeros_like(batches)
        rows[:count] = batches[start : start + count]
        divided, last = STEPS(gan, divided, dataset, rows, count)
    assert_same_bits((at_once, metrics), (divided, last))
    one_by_one = state
    for batch in batches:
        one_by_one, plain = STEP(gan, one_by_one, jax.tree.map(lambda x, batch=batch: x[batch], dataset))
    assert int(at_once.step) == int(one_by_one.step) == 6
    for name, value in metrics.items():
        np.testing.assert_allclose(value, plain[name], rtol=1e-3)
