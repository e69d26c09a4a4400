"""The promise of one forward pass: the same gradients as two, from a program that holds no second pass."""

import dataclasses
import functools
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxgan
from experiments import recipes
from jaxgan.gan import Purpose, from_uint8
from jaxgan.run.checkpoint import state_sha256
from jaxgan.train_step import one_pullback_gradients, shared_gradients, train_steps

NAMES = ["digits", "tf2_dcgan"]


def real_images(gan, count, seed=0):
    shape = (count, *jaxgan.gan.image_shape(gan))
    return jnp.asarray(np.random.default_rng(seed).integers(0, 256, shape, np.uint8))


def latents(gan, state, examples):
    """As the documentation has it: example i's key is the root key folded by purpose, step and i."""
    key = jax.random.fold_in(jax.random.fold_in(state.key, int(Purpose.Z)), int(state.step))
    return jnp.stack([jax.random.normal(jax.random.fold_in(key, i), (gan.z_size,)) for i in examples])


def run(net, params, stats, x):
    out, updated = net.apply({"params": params, "batch_stats": stats}, x, train=True, mutable=["batch_stats"])
    return out, updated["batch_stats"]


def separate_losses(gan, real_label, scale, state, z, real):
    """Each loss written out on its own, with log and sigmoid, as a function of one network's parameters."""

    def loss_gen(params):
        fake, _ = run(gan.gen, params, state.gen.batch_stats, z)
        logits, _ = run(gan.disc, state.disc.params, state.disc.batch_stats, fake)
        return -jnp.mean(jnp.log(jax.nn.sigmoid(logits)))

    def loss_disc(params):
        fake, _ = run(gan.gen, state.gen.params, state.gen.batch_stats, z)
        fake_logits, stats = run(gan.disc, params, state.disc.batch_stats, fake)
        real_logits, _ = run(gan.disc, params, stats, real)
        p, q = jax.nn.sigmoid(real_logits), jax.nn.sigmoid(fake_logits)
        on_real = real_label * jnp.log(p) + (1 - real_label) * jnp.log(1 - p)
        return -scale * (jnp.mean(on_real) + jnp.mean(jnp.log(1 - q)))

    return loss_gen, loss_disc


def relative_error(got, want):
    """For each tensor, the largest difference against the largest value."""
    return jax.tree.map(lambda g, w: float(jnp.abs(g - w).max() / jnp.abs(w).max()), got, want)


@pytest.mark.parametrize("name", NAMES)
def test_gradients_equal_those_of_each_loss_written_out(name, x64):
    recipe = dataclasses.replace(recipes.get(name), real_label=0.9)
    gan = recipe.build()
    state = jaxgan.init(gan, jax.random.key(3))
    state = jax.tree.map(lambda x: x.astype(jnp.float64) if x.dtype == jnp.float32 else x, state)
    images = real_images(gan, 6)
    real, z = from_uint8(images, gan.image_range), latents(gan, state, range(6))
    gradients = jax.jit(shared_gradients, static_argnums=0)
    (gen_grads, disc_grads), _, metrics = gradients(gan, state, real, jnp.arange(6))
    loss_gen, loss_disc = separate_losses(gan, recipe.real_label, recipe.disc_loss_scale, state, z, real)
    want_gen, want_gen_grads = jax.jit(jax.value_and_grad(loss_gen))(state.gen.params)
    want_disc, want_disc_grads = jax.jit(jax.value_and_grad(loss_disc))(state.disc.params)
    np.testing.assert_allclose(metrics["loss_gen"], want_gen, rtol=1e-9)
    np.testing.assert_allclose(metrics["loss_disc"], want_disc, rtol=1e-9)
    each_equal = functools.partial(np.testing.assert_allclose, rtol=1e-6, atol=1e-14)
    jax.tree.map(each_equal, gen_grads, want_gen_grads)
    jax.tree.map(each_equal, disc_grads, want_disc_grads)


def test_gradients_in_float32_differ_by_rounding_only():
    gan = recipes.get("digits").build()
    state = jaxgan.init(gan, jax.random.key(3))
    images = real_images(gan, 16)
    real, z = from_uint8(images, gan.image_range), latents(gan, state, range(16))
    gradients = jax.jit(shared_gradients, static_argnums=0)
    (gen_grads, disc_grads), _, _ = gradients(gan, state, real, jnp.arange(16))
    loss_gen, loss_disc = separate_losses(gan, 1.0, 1.0, state, z, real)
    errors = relative_error((gen_grads, disc_grads), (jax.jit(jax.grad(loss_gen))(state.gen.params),
                                                      jax.jit(jax.grad(loss_disc))(state.disc.params)))  # fmt: skip
    assert max(jax.tree.leaves(errors)) < 1e-5, errors


def products(function, *args):
    """How many convolutions and matrix products the compiled program holds."""
    program = jax.jit(function).lower(*args).compile().as_text()
    return len(re.findall(r" (?:convolution|dot)\(", program))


# tf2_dcgan: both networks have three convolutions and a dense layer; D's dense layer has one output, so the
# gradient of its input is an outer product of vectors, and no product is needed for it.
G_FORWARD, D_FORWARD = 4, 4
GEN_BACKWARD = 4 + 3  # the gradients of all weights, and of every layer's input but z
DISC_BACKWARD = 4 + 2  # likewise, without the images
DISC_TO_IMAGES = 3  # the gradients of all inputs, down to the generated images
MINIMUM = G_FORWARD + 2 * D_FORWARD + 2 * DISC_BACKWARD + DISC_TO_IMAGES + GEN_BACKWARD


@pytest.fixture
def dcgan():
    """Every convolution as one: on a CPU some are several products."""
    gan = recipes.get("tf2_dcgan").build()
    with jaxgan.convolutions.native():
        yield gan, jaxgan.init(gan, jax.random.key(0)), real_images(gan, 8)


def test_compiled_step_holds_one_forward_pass_and_three_pullbacks(dcgan):
    gan, state, images = dcgan
    assert products(functools.partial(jaxgan.train_step, gan), state, images) == MINIMUM == 34


def test_the_count_sees_a_step_that_does_not_share(dcgan):
    """Fresh noise for G's update, as two separate steps have it: another pass of G and of D."""
    gan, state, images = dcgan
    alternating = dataclasses.replace(gan, update="alternating")
    count = products(functools.partial(jaxgan.train_step, alternating), state, images)
    assert count == MINIMUM + G_FORWARD + D_FORWARD


def test_the_count_sees_two_gradients_of_the_same_pass_taken_apart(dcgan):
    """Two value_and_grad calls in one jit, on the same latents: the compiler does not find all of the sharing."""
    gan, state, images = dcgan
    real, z = from_uint8(images, gan.image_range), jnp.ones((8, 100))
    loss_gen, loss_disc = separate_losses(gan, 1.0, 0.5, state, z, real)
    apart = lambda gen, disc: (jax.value_and_grad(loss_gen)(gen), jax.value_and_grad(loss_disc)(disc))  # noqa: E731
    assert products(apart, state.gen.params, state.disc.params) > MINIMUM


@pytest.fixture(scope="module")
def digits():
    """The digits recipe with plain gradient descent, whose update shows the gradient itself."""
    gan = recipes.get("digits").build()
    gan = dataclasses.replace(gan, gen_optimizer=optax.sgd(0.1), disc_optimizer=optax.sgd(0.2), ema_decay=0.5)
    return gan, jaxgan.init(gan, jax.random.key(0)), real_images(gan, 8)


@pytest.mark.parametrize("update", ["shared", "alternating"])
def test_neither_loss_moves_the_other_network(digits, update):
    gan, state, images = digits
    gan = dataclasses.replace(gan, update=update)
    step = jax.jit(jaxgan.train_step, static_argnums=0)
    no_gen = dataclasses.replace(gan, gen_loss=lambda fake: 0.0 * gan.gen_loss(fake))
    no_disc = dataclasses.replace(gan, disc_loss=lambda real, fake: 0.0 * gan.disc_loss(real, fake))
    only_disc, only_gen = step(no_gen, state, images)[0], step(no_disc, state, images)[0]
    jax.tree.map(np.testing.assert_array_equal, only_disc.gen.params, state.gen.params)
    jax.tree.map(np.testing.assert_array_equal, only_gen.disc.params, state.disc.params)
    moved = lambda new, old: jnp.abs(new["Dense_0"]["kernel"] - old["Dense_0"]["kernel"]).max() > 1e-4  # noqa: E731
    assert moved(only_disc.disc.params, state.disc.params)
    assert moved(only_gen.gen.params, state.gen.params)


def test_shared_update_is_simultaneous_descent(digits):
    """theta_G - 0.1 grad L_G(theta_G, theta_D) and theta_D - 0.2 grad L_D(theta_G, theta_D), at the old weights."""
    gan, state, images = digits
    real, z = from_uint8(images, gan.image_range), latents(gan, state, range(8))
    loss_gen, loss_disc = separate_losses(gan, 1.0, 1.0, state, z, real)
    new, metrics = jax.jit(jaxgan.train_step, static_argnums=0)(gan, state, images)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6)
    descend = lambda rate, params, grads: jax.tree.map(lambda p, g: p - rate * g, params, grads)  # noqa: E731
    grads = jax.jit(jax.grad(loss_gen))(state.gen.params), jax.jit(jax.grad(loss_disc))(state.disc.params)
    jax.tree.map(close, new.gen.params, descend(0.1, state.gen.params, grads[0]))
    jax.tree.map(close, new.disc.params, descend(0.2, state.disc.params, grads[1]))
    close(metrics["loss_gen"], loss_gen(state.gen.params))
    close(metrics["loss_disc"], loss_disc(state.disc.params))
    assert new.step == 1
    assert jnp.array_equal(jax.random.key_data(new.key), jax.random.key_data(state.key))


def test_alternating_update_takes_the_generators_gradient_at_the_new_discriminator(digits):
    gan, state, images = digits
    gan = dataclasses.replace(gan, update="alternating")
    new, _ = jax.jit(jaxgan.train_step, static_argnums=0)(gan, state, images)
    real, z = from_uint8(images, gan.image_range), latents(gan, state, range(8))
    _, loss_disc = separate_losses(gan, 1.0, 1.0, state, z, real)
    grads = jax.jit(jax.grad(loss_disc))(state.disc.params)
    disc = jax.tree.map(lambda p, g: p - 0.2 * g, state.disc.params, grads)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)
    jax.tree.map(close, new.disc.params, disc)
    fresh = latents(gan, state, range(8, 16))
    assert not jnp.allclose(fresh, z)
    loss_gen, _ = separate_losses(gan, 1.0, 1.0, state.replace(disc=new.disc), fresh, real)
    grads = jax.jit(jax.grad(loss_gen))(state.gen.params)
    jax.tree.map(close, new.gen.params, jax.tree.map(lambda p, g: p - 0.1 * g, state.gen.params, grads))


def test_batch_statistics_follow_the_fake_batch_and_then_the_real_one(digits):
    gan, state, images = digits
    new, _ = jax.jit(jaxgan.train_step, static_argnums=0)(gan, state, images)
    z = latents(gan, state, range(8))
    fake, gen_stats = run(gan.gen, state.gen.params, state.gen.batch_stats, z)
    _, stats = run(gan.disc, state.disc.params, state.disc.batch_stats, fake)
    _, stats = run(gan.disc, state.disc.params, stats, from_uint8(images, gan.image_range))
    close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6)
    jax.tree.map(close, new.disc.batch_stats, stats)
    jax.tree.map(close, new.gen.batch_stats, gen_stats)


@pytest.mark.parametrize("decay", [0.0, 0.15, 0.9])
def test_averaged_generator(digits, decay):
    """A <- k a + (1 - k) theta with k = min(decay, (1 + t) / (10 + t)), over parameters and batch statistics."""
    gan, state, images = digits
    gan = dataclasses.replace(gan, ema_decay=decay)
    step = jax.jit(jaxgan.train_step, static_argnums=0)
    expected = {"params": state.gen.params, "batch_stats": state.gen.batch_stats}
    for t in range(4):
        state, _ = step(gan, state, images)
        keep = min(decay, (1 + t) / (10 + t))
        new = {"params": state.gen.params, "batch_stats": state.gen.batch_stats}
        expected = jax.tree.map(lambda a, n, k=keep: k * a + (1 - k) * n, expected, new)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-7), state.averaged_gen, expected)
    if decay == 0:
        jax.tree.map(np.testing.assert_array_equal, state.averaged_gen["params"], state.gen.params)


def test_donating_the_state_leaves_the_callers_key_alone(digits):
    gan, _, images = digits
    key = jax.random.key(0)
    state = jaxgan.init(gan, key)
    jax.jit(jaxgan.train_step, static_argnums=0, donate_argnums=1)(gan, state, images)
    assert jax.random.uniform(key) >= 0
    assert state.gen.params["Dense_0"]["kernel"].is_deleted()


def test_images_must_be_uint8(digits):
    gan, state, images = digits
    with pytest.raises(TypeError, match="uint8"):
        jaxgan.train_step(gan, state, images.astype(jnp.float32))


def shares(images, ratio):
    """The real images of each update of the discriminator, as documented, and which examples of the step they are."""
    return [(images[j::ratio], range(j, len(images), ratio)) for j in range(ratio)]


@pytest.mark.parametrize("update", ["shared", "alternating"])
def test_training_ratio(digits, update):
    """Three updates of D, each on images and latents of its own; G's at the D that the kind of step says."""
    gan, state, images = digits
    gan = dataclasses.replace(gan, update=update, training_ratio=3, disc_optimizer=optax.sgd(0.02))
    images = real_images(gan, 24)
    new, _ = jax.jit(jaxgan.train_step, static_argnums=0)(gan, state, images)
    now = state
    for share, examples in shares(images, 3):
        real, z = from_uint8(share, gan.image_range), latents(gan, state, examples)
        before = now
        loss_gen, loss_disc = separate_losses(gan, 1.0, 1.0, now, z, real)
        grads = jax.jit(jax.grad(loss_disc))(now.disc.params)
        fake, _ = run(gan.gen, state.gen.params, state.gen.batch_stats, z)
        _, stats = run(gan.disc, now.disc.params, now.disc.batch_stats, fake)
        _, stats = run(gan.disc, now.disc.params, stats, real)
        params = jax.tree.map(lambda p, g: p - 0.02 * g, now.disc.params, grads)
        now = now.replace(disc=now.disc.replace(params=params, batch_stats=stats))
    close = functools.partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-4)
    jax.tree.map(close, new.disc.params, now.disc.params)
    jax.tree.map(close, new.disc.batch_stats, now.disc.batch_stats)
    if update == "alternating":
        loss_gen, _ = separate_losses(gan, 1.0, 1.0, now, latents(gan, state, range(24, 32)), real)
    else:  # at the D before its last update, on the latents of that one
        loss_gen, _ = separate_losses(gan, 1.0, 1.0, before, z, real)
    grads = jax.jit(jax.grad(loss_gen))(state.gen.params)
    jax.tree.map(close, new.gen.params, jax.tree.map(lambda p, g: p - 0.1 * g, state.gen.params, grads))


def test_images_must_be_a_batch_for_each_update(digits):
    gan, state, images = digits
    with pytest.raises(ValueError, match="training_ratio=3"):
        jaxgan.train_step(dataclasses.replace(gan, training_ratio=3), state, images)


def test_instance_noise_follows_its_schedule_and_differs_by_example_and_kind(digits):
    """A D that returns its images' pixels shows what it was given."""

    class Mirror(nn.Module):
        @nn.compact
        def __call__(self, images, train, keys=None, axis_name=None):
            return images * self.param("one", nn.initializers.ones, ())

    seen = {}

    def record(real, fake):
        jax.debug.callback(lambda real, fake: seen.update(real=real, fake=fake), real, fake)
        return jnp.mean(real) + jnp.mean(fake)

    gan, _, _ = digits
    gan = dataclasses.replace(
        gan, disc=Mirror(), disc_loss=record, disc_optimizer=optax.sgd(0), instance_noise=lambda t: 0.1 * 0.5**t
    )
    state, images = jaxgan.init(gan, jax.random.key(0)), np.full((64, 8, 8, 1), 255, np.uint8)
    step = jax.jit(jaxgan.train_step, static_argnums=0)
    noises = []
    for t in range(3):
        z = latents(gan, state, range(64))
        fake, _ = run(gan.gen, state.gen.params, state.gen.batch_stats, z)
        state, _ = step(gan, state, images)
        jax.effects_barrier()
        both = [np.asarray(seen["real"]) - 1, np.asarray(seen["fake"] - fake)]
        np.testing.assert_allclose([noise.std() for noise in both], 0.1 * 0.5**t, rtol=0.05)
        noises += [noise / noise.std() for noise in both]
    flat = np.concatenate(noises).reshape(len(noises) * 64, -1)
    correlation = np.abs(np.corrcoef(flat)) - np.eye(len(flat))
    assert correlation.max() < 0.7  # of 64 pixels each; equal noise would give 1


def test_the_l2_norm_of_the_generators_parameters_is_part_of_its_loss_alone(digits):
    gan, state, images = digits
    with_l2 = dataclasses.replace(gan, gen_l2=0.01)
    step = jax.jit(jaxgan.train_step, static_argnums=0)
    (plain, metrics), (decayed, metrics_l2) = step(gan, state, images), step(with_l2, state, images)
    norm = sum(float((np.asarray(x, np.float64) ** 2).sum()) for x in jax.tree.leaves(state.gen.params))
    np.testing.assert_allclose(metrics_l2["loss_gen"] - metrics["loss_gen"], 0.01 * norm, rtol=1e-3)
    moved = jax.tree.map(lambda p, old: p - 0.1 * 2 * 0.01 * old, plain.gen.params, state.gen.params)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-5), decayed.gen.params, moved)
    jax.tree.map(np.testing.assert_array_equal, decayed.disc.params, plain.disc.params)


ALONE = [name for name, recipe in recipes.RECIPES.items() if recipe.independent_disc]


def test_one_pullback_is_for_discriminators_that_judge_alone():
    """No batch statistics, and no logit that depends on another image: exactly those recipes that say so."""
    for name, recipe in recipes.RECIPES.items():
        gan = recipe.build()
        state = jaxgan.init(gan, jax.random.key(0))
        alone = not state.disc.batch_stats and jaxgan.gan.judges_alone(gan, state)
        assert recipe.independent_disc == alone == gan.one_pullback, name
    assert ALONE
    least_squares = dataclasses.replace(recipes.get(ALONE[0]), loss="least_squares")
    assert not least_squares.build().one_pullback  # its derivative is 0 where a logit is


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tf2_gan", "gan_elements"])
def test_one_pullback_gives_the_gradients_of_two(name):
    """Within 1e-5 of each tensor's largest, in float32, with logits about -60, ..., 60 and with all of them at once."""
    gan = dataclasses.replace(recipes.get(name).build(), gen_l2=1e-4)
    state = jaxgan.init(gan, jax.random.key(3))
    images = from_uint8(real_images(gan, 4), gan.image_range)
    last = max(state.disc.params, key=lambda layer: (layer.startswith("Dense"), layer))
    two = jax.jit(shared_gradients, static_argnums=0)
    one = jax.jit(one_pullback_gradients, static_argnums=0)
    seen = []
    for logit, steepness in [(-60, 1), (-20, 1), (0, 1), (0, 200), (20, 1), (60, 1)]:
        dense = state.disc.params[last]
        dense = {"kernel": steepness * dense["kernel"], "bias": jnp.full((1,), logit, jnp.float32)}
        at = state.replace(disc=state.disc.replace(params=state.disc.params | {last: dense}))
        (grads, stats, metrics), (want, want_stats, want_metrics) = (
            form(gan, at, images, jnp.arange(4)) for form in (one, two)
        )
        seen.append(float(metrics["logit_fake"]))
        for net, want_net in zip(grads, want, strict=True):
            largest = max(float(jnp.abs(x).max()) for x in jax.tree.leaves(want_net))
            # A bias before batch normalisation has a gradient of rounding errors alone.
            atol = 1e-6 * largest
            for got, expected in zip(jax.tree.leaves(net), jax.tree.leaves(want_net), strict=True):
                assert jnp.abs(got - expected).max() < 1e-5 * jnp.abs(expected).max() + atol, logit
        jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5), metrics, want_metrics)
        assert jax.tree.structure(stats) == jax.tree.structure(want_stats)
    assert min(seen) < -50
    assert max(seen) > 50


def test_one_pullback_stays_finite_where_the_discriminator_is_sure_beyond_reason():
    gan = recipes.get("tf2_gan").build()
    state = jaxgan.init(gan, jax.random.key(3))
    images = from_uint8(real_images(gan, 4), gan.image_range)
    for bias in (-500.0, 500.0):
        dense = state.disc.params["Dense_1"] | {"bias": jnp.full((1,), bias)}
        at = state.replace(disc=state.disc.replace(params=state.disc.params | {"Dense_1": dense}))
        grads, _, metrics = one_pullback_gradients(gan, at, images, jnp.arange(4))
        (want_gen, _), _, _ = shared_gradients(gan, at, images, jnp.arange(4))
        assert all(bool(jnp.isfinite(x).all()) for x in jax.tree.leaves((grads, metrics)))
        if bias < 0:  # there the generator's gradient is at its largest, and must not be lost
            assert max(jax.tree.leaves(relative_error(grads[0], want_gen))) < 1e-5


@pytest.mark.parametrize("update", ["shared", "alternating"])
def test_bf16_computes_in_bfloat16_and_keeps_the_state_in_float32(update):
    gan = dataclasses.replace(recipes.get("digits").build(), update=update, precision="bf16")
    whole = dataclasses.replace(gan, precision="float32")
    state = jaxgan.init(gan, jax.random.key(0))
    images = real_images(gan, 32)
    step = jax.jit(jaxgan.train_step, static_argnums=0)
    after, metrics = step(gan, state, images)
    want, want_metrics = step(whole, state, images)
    assert jax.tree.map(lambda x: x.dtype, after) == jax.tree.map(lambda x: x.dtype, state)
    assert all(x.dtype == jnp.float32 for x in metrics.values())
    for name, value in metrics.items():  # bfloat16 has 8 bits
        assert 0 < abs(value - want_metrics[name]) < 0.05
    text = step.lower(gan, state, images).as_text()
    assert re.search(r"(dot_general|convolution).*bf16", text)
    assert not re.search(r"(dot_general|convolution)\(.*: \(tensor<[\dx]*xf32>, tensor<[\dx]*xf32>\)", text)
    stats = jax.tree.leaves((after.gen.batch_stats, after.disc.batch_stats))
    for got, expected in zip(stats, jax.tree.leaves((want.gen.batch_stats, want.disc.batch_stats)), strict=True):
        np.testing.assert_allclose(got, expected, rtol=0.05, atol=0.01)


def test_several_updates_in_one_program_are_those_one_by_one(digits):
    """However they are divided, to the last bit; each on its own images."""
    gan, state, _ = digits
    images = real_images(gan, 40)
    batches = jnp.asarray(np.random.default_rng(1).integers(0, 40, (6, 8)), jnp.int32)
    steps = jax.jit(train_steps, static_argnums=0)
    at_once, metrics = steps(gan, state, images, batches, 6)
    divided = state
    for start, count in [(0, 1), (1, 3), (4, 2)]:
        rows = jnp.zeros_like(batches).at[:count].set(batches[start : start + count])
        divided, last = steps(gan, divided, images, rows, count)
    assert state_sha256(at_once) == state_sha256(divided)
    assert jax.tree.map(float, metrics) == jax.tree.map(float, last)
    one_by_one = state
    step = jax.jit(jaxgan.train_step, static_argnums=0)
    for batch in batches:
        one_by_one, plain = step(gan, one_by_one, images[batch])
    assert int(at_once.step) == int(one_by_one.step) == 6
    for name, value in metrics.items():
        np.testing.assert_allclose(value, plain[name], rtol=1e-3)
