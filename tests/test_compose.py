"""Public functions are plain functions of JAX: they compose with jit, eval_shape, vmap and grad."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from common import (
    QUICK,
    STEP,
    STEPS,
    as_float64,
    assert_close,
    assert_same_bits,
    at_night,
    disc_gradients,
    gen_gradients,
    in_range,
    real_batch,
    shared_gradients,
    small_gan,
)

import jaxgan
from jaxgan import convolutions, losses, sampling
from jaxgan.forward_pass import losses as both_losses
from jaxgan.gan import init
from jaxgan.images import from_uint8, to_uint8
from jaxgan.networks import layers, minibatch_features
from jaxgan.penalties import L2, R1, Disc, Gen
from jaxgan.randomness import draw_labels, draw_z, example_keys
from jaxgan.transforms import InstanceNoise

pytestmark = pytest.mark.usefixtures("quick_programs")

GAN = small_gan(3, penalties=(R1(1.0),), transforms=(InstanceNoise(0.1, 0.9),), regularizers=(L2(0.1),))
KEY = jax.random.key(0)
SLOW = pytest.mark.slow


@pytest.fixture(scope="module")
def state():
    return jaxgan.init(GAN, KEY)


@pytest.fixture(scope="module")
def seeds():
    return jax.random.split(jax.random.key(7), 2)


def shapes(tree):
    return jax.tree.map(lambda x: (x.shape, x.dtype), tree)


def at(tree, i):
    return jax.tree.map(lambda x: x[i], tree)


def stacked(*trees):
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def test_init(state, seeds):
    """Its shapes, within a program, for a key that is known and one that is not, and for two seeds at once."""
    assert shapes(jax.eval_shape(lambda key: init(GAN, key), KEY)) == shapes(state)
    assert shapes(jax.eval_shape(lambda: init(GAN, KEY))) == shapes(state)
    assert_close(jax.jit(lambda: init(GAN, KEY).gen.params)(), state.gen.params, rtol=1e-6, atol=1e-7)
    two = jax.jit(jax.vmap(lambda key: init(GAN, key)), compiler_options=QUICK)(seeds)
    for i, seed in enumerate(seeds):
        one = init(GAN, seed)
        assert_same_bits(at(two.key, i), one.key)
        assert_close((at(two.gen.params, i), at(two.disc.params, i)), (one.gen.params, one.disc.params), 1e-6, 1e-7)


@pytest.mark.slow
@pytest.mark.parametrize("update", ["shared", *at_night(["alternating"])])
def test_two_seeds_at_once(update, seeds, x64):
    """On one dataset, each seed with an order of its own."""
    gan = dataclasses.replace(GAN, update=update)
    states, dataset = [as_float64(init(gan, seed)) for seed in seeds], real_batch(gan, 20)
    rows = np.random.default_rng(0).integers(0, 20, (2, 3, 8), np.int32)
    steps = jax.vmap(functools.partial(jaxgan.train_steps, gan), (0, None, 0, None))
    two, metrics = jax.jit(steps, compiler_options=QUICK)(stacked(*states), dataset, rows, 3)
    for i in (0, 1):
        want, want_metrics = STEPS(gan, states[i], dataset, rows[i], 3)
        assert_same_bits(at(two.key, i), want.key)
        assert_close(at(metrics, i), want_metrics)
        parts = lambda s: (s.gen, s.disc, s.averaged_gen, s.step)  # noqa: E731
        assert_close(at(parts(two), i), parts(want))


@SLOW
def test_a_step_within_a_scan_is_the_step(state):
    batches = stacked(*(real_batch(GAN, 8, seed=i) for i in range(3)))
    last, metrics = jax.jit(lambda s: jax.lax.scan(functools.partial(jaxgan.train_step, GAN), s, batches))(state)
    for i in range(3):
        state, want = STEP(GAN, state, at(batches, i))
        assert_close(at(metrics, i), want, rtol=1e-3, atol=1e-5)
    assert_close(last.gen.params, state.gen.params, rtol=1e-3, atol=1e-5)


@pytest.mark.slow
def test_the_gradient_of_what_a_step_reports(state, x64):
    """Through the whole of an update, as a meta-gradient takes it, against a difference quotient."""
    state, batch = as_float64(state), real_batch(GAN, 8)

    def loss_after(shift):
        moved = jax.tree.map(lambda x: x + shift, state.gen.params)
        after, _ = jaxgan.train_step(GAN, state.replace(gen=state.gen.replace(params=moved)), batch)
        _, metrics = jaxgan.train_step(GAN, after, batch)
        return metrics["loss_gen"]

    got = jax.jit(jax.grad(loss_after), compiler_options=QUICK)(0.0)
    compiled = jax.jit(loss_after, compiler_options=QUICK)
    want = (compiled(1e-5) - compiled(-1e-5)) / 2e-5
    assert abs(want) > 1e-3
    np.testing.assert_allclose(got, want, rtol=1e-5)


@pytest.mark.slow
def test_losses_and_gradients_of_the_pass(state):
    """`losses` states the pass: its gradients are what `shared_gradients` gives."""
    batch, indices = in_range(GAN, real_batch(GAN, 8)), jnp.arange(8)

    @functools.partial(jax.jit, compiler_options=QUICK)
    def by_hand(gen, disc):
        of = lambda i: lambda gen, disc: both_losses(GAN, state, gen, disc, batch, indices)[0][i]  # noqa: E731
        return {"gen": jax.grad(of(0), 0)(gen, disc), "disc": jax.grad(of(1), 1)(gen, disc)}

    grads, aux = jax.jit(shared_gradients, static_argnums=0, compiler_options=QUICK)(GAN, state, batch, indices)
    assert_close(grads, by_hand(state.gen.params, state.disc.params), rtol=1e-3, atol=1e-5)
    for function in (gen_gradients, disc_gradients):
        part, part_aux = jax.eval_shape(functools.partial(function, GAN), state, batch, indices)
        assert all(shapes(part[net]) == shapes(grads[net]) for net in part)
        assert shapes(part_aux.metrics) == shapes(aux.metrics)


@pytest.mark.slow
def test_samples(state):
    sample = jax.jit(lambda state, key: jaxgan.sample(GAN, state, key, 4))
    images = jaxgan.sample(GAN, state, KEY, 4)
    assert np.abs(sample(state, KEY).astype(int) - images.astype(int)).max() <= 1  # half-way, either way
    assert shapes(jax.eval_shape(sample, state, KEY)) == ((4, 4, 4, 1), jnp.uint8)
    keys = jax.random.split(KEY, 2)
    two = jax.vmap(lambda key: jaxgan.sample(GAN, state, key, 4))(keys)
    for i in (0, 1):
        assert np.abs(two[i].astype(int) - jaxgan.sample(GAN, state, keys[i], 4).astype(int)).max() <= 1
    of_classes = jax.eval_shape(
        lambda labels: jaxgan.sample(GAN, state, KEY, 4, labels=labels), jnp.zeros(4, jnp.int32)
    )
    assert of_classes.shape == (4, 4, 4, 1)
    paths = jax.eval_shape(lambda key: sampling.interpolate(GAN, state, key, 2, 3), KEY)
    assert paths.shape == (2, 3, 4, 4, 1)


IMAGES = jnp.linspace(-1, 1, 96).reshape(4, 3, 4, 2)
KEYS = jax.random.split(KEY, 4)
STATE_SHAPE = jax.eval_shape(lambda key: init(GAN, key), KEY)
KERNEL = jnp.linspace(-1, 1, 36).reshape(3, 3, 2, 2)
VALUES = jnp.linspace(-3, 3, 8).reshape(2, 4)

# name: a function of arrays, and its arguments.
FUNCTIONS = {
    "draw_z": (lambda key: draw_z(GAN, key, jnp.arange(3)), (KEY,)),
    "draw_labels": (lambda key: draw_labels(GAN, key, jnp.arange(3)), (KEY,)),
    "example_keys": (lambda key: jax.random.key_data(example_keys(key, jnp.arange(3))), (KEY,)),
    "from_uint8": (lambda images: from_uint8(images, (-1, 1)), (jnp.arange(24, dtype=jnp.uint8).reshape(2, 3, 4, 1),)),
    "to_uint8": (lambda images: to_uint8(images, (-1, 1)), (IMAGES,)),
    "sample_labels": (lambda key: sampling.sample_labels(GAN, key, 3), (KEY,)),
    "cross_entropy": (lambda x: losses.cross_entropy(x, 0.9), (VALUES[0],)),
    "non_saturating_gen": (losses.non_saturating_gen, (VALUES[0], VALUES[1])),
    "non_saturating_disc": (losses.non_saturating_disc, (VALUES[0], VALUES[1])),
    "least_squares_gen": (losses.least_squares_gen, (VALUES[0], VALUES[1])),
    "least_squares_disc": (losses.least_squares_disc, (VALUES[0], VALUES[1])),
    "L2": (lambda x: L2(0.1)(None, Gen({"w": x}, None, None, None)), (VALUES,)),
    "R1": (lambda g: R1(2.0)(None, Disc(lambda: g, None, None, None, None)), (IMAGES,)),
    "instance_noise": (lambda x, step: InstanceNoise(0.1, 0.9)(x, KEYS, step), (IMAGES, jnp.float32(3))),
    "conv": (lambda x: convolutions.conv(x, KERNEL.astype(x.dtype), 2), (IMAGES,)),
    "grouped conv": (lambda x: convolutions.conv(x, KERNEL[:, :, :1].astype(x.dtype), groups=2), (IMAGES,)),
    "conv_transpose": (lambda x: convolutions.conv_transpose(x, KERNEL.astype(x.dtype), 2), (IMAGES,)),
    "upsample_conv": (lambda x: convolutions.upsample_conv(x, KERNEL.astype(x.dtype), 2), (IMAGES,)),
    "a kernel": (lambda k: convolutions.conv(IMAGES.astype(k.dtype), k), (KERNEL,)),
    "a transposed kernel": (lambda k: convolutions.conv_transpose(IMAGES.astype(k.dtype), k, 2), (KERNEL,)),
    "batch_norm": (lambda x: layers.batch_norm(layers.Context(True)).init_with_output(KEY, x)[0], (IMAGES,)),
    "append_diff": (minibatch_features.append_diff, (IMAGES,)),
    "append_similarity": (minibatch_features.append_similarity, (IMAGES,)),
    "dropout": (lambda x: layers.dropout(x, 0.5, KEYS, 1), (IMAGES,)),
    "as_map": (layers.as_map, (VALUES,)),
    "flat": (layers.flat, (IMAGES,)),
}  # fmt: skip
WITHOUT_GRADIENT = ("draw_z", "draw_labels", "example_keys", "from_uint8", "to_uint8", "sample_labels")


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_within_a_program_by_its_shapes_and_of_several_at_once(name):
    function, args = FUNCTIONS[name]
    plain = function(*args)
    np.testing.assert_allclose(jax.jit(function)(*args), plain, rtol=1e-6, atol=1e-6)
    assert shapes(jax.eval_shape(function, *args)) == shapes(plain)
    other = (jax.random.key(5),) if args[0] is KEY else tuple(x[::-1] if x.ndim else x + 1 for x in args)
    two = jax.vmap(function)(*(jnp.stack(pair) for pair in zip(args, other, strict=True)))
    np.testing.assert_allclose(two[0], plain, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(two[1], function(*other), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", [name for name in FUNCTIONS if name not in WITHOUT_GRADIENT])
def test_the_gradient_of_a_function(name, x64):
    """In reverse and in forward mode, against difference quotients along a random direction; and once more."""
    function, args = FUNCTIONS[name]
    x, rest = jnp.asarray(np.float64(args[0]) + 0.01), args[1:]
    rng = np.random.default_rng(0)
    direction, weights = rng.normal(size=x.shape), rng.normal(size=jax.eval_shape(function, x, *rest).shape)
    total = jax.jit(lambda x: jnp.sum(weights * function(x, *rest)))
    want = (total(x + 1e-6 * direction) - total(x - 1e-6 * direction)) / 2e-6
    slope = np.sum(jax.grad(total)(x) * direction)
    np.testing.assert_allclose(slope, want, rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(jax.jvp(total, (x,), (direction,))[1], slope, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(jax.linearize(total, x)[1](direction), slope, rtol=1e-9, atol=1e-12)
    forward = jax.jvp(jax.grad(total), (x,), (direction,))[1]  # a Hessian times a vector, in both ways
    reverse = jax.grad(lambda x: jnp.sum(jax.grad(total)(x) * direction))(x)
    np.testing.assert_allclose(forward, reverse, rtol=1e-9, atol=1e-12)
