"""What a game keeps from step to step, and how a batch is seen: memory, groups, conditions, floats, lazy terms."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from common import (
    STEP,
    apply,
    as_float64,
    assert_close,
    latents,
    on,
    real_images,
    small_gan,
    small_state,
)

import jaxgan
from jaxgan import Losses, Memory
from jaxgan.gan import Batch
from jaxgan.penalties import Lazy

pytestmark = pytest.mark.usefixtures("quick_programs")


@pytest.mark.parametrize(("form", "count", "changes"), [
    ("plain", 1, {}), ("plain", 1, {"accumulate": 2}), ("plain", 1, {"update": "alternating"}),
    ("shard_map", 4, {"accumulate": 2}),
])  # fmt: skip
def test_a_memory_sees_the_whole_batch_in_its_order(form, count, changes, x64):
    """A pool of the last images, their latents' mean, and how many steps there were."""

    def game(p):
        made, fake = p.gen(p.z), p.disc(p.gen(p.z))
        loss = jnp.mean(fake) + 0 * jnp.sum(p.memory["mean"])
        return Losses(loss, -loss, means={"z": jnp.mean(p.z, 0)}, examples={"z": p.z, "made": made})

    start = lambda gan, params: {"pool": jnp.zeros((8, 5)), "mean": jnp.zeros(5), "steps": jnp.int32(0)}  # noqa: E731
    update = lambda m, seen: {"pool": seen.examples["z"], "mean": seen.means["z"], "steps": m["steps"] + 1}  # noqa: E731
    gan = small_gan(norm=False, game=game, memory=Memory(start, update), **changes)
    state = as_float64(jaxgan.init(gan, jax.random.key(0)))
    new, metrics = on(form, count, gan, state, real_images(gan, 8))
    want = latents(gan, state, range(8))
    np.testing.assert_allclose(new.memory["pool"], want, rtol=1e-12)
    np.testing.assert_allclose(new.memory["mean"], np.mean(want, 0), rtol=1e-12)
    assert new.memory["steps"] == 1
    assert {"z", "made"}.isdisjoint(metrics)


def test_groups_stay_together_in_microbatches_and_updates(x64):
    """Packing of two: in microbatches, and in the updates of D, groups of consecutive images are whole."""

    class Packed(nn.Module):
        @nn.compact
        def __call__(self, images, labels, context):
            return nn.Dense(1)(nn.softplus(nn.Dense(8)(images.reshape(len(images) // 2, -1))))[:, 0]

    gan = small_gan(norm=False, disc=Packed(), group=2)
    state, batch = small_state(gan), real_images(gan, 8)
    want, metrics = STEP(gan, state, batch)
    got, got_metrics = STEP(dataclasses.replace(gan, accumulate=2), state, batch)
    assert_close((got.gen, got.disc, got_metrics), (want.gen, want.disc, metrics))
    assert_close(on("shard_map", 4, gan, jax.tree.map(jnp.copy, state), batch)[1], metrics)
    with pytest.raises(ValueError, match=r"6 images cannot be split .* accumulate=2 microbatches of groups of 2"):
        jax.eval_shape(lambda: jaxgan.train_step(dataclasses.replace(gan, accumulate=2), state, batch[:6]))
    with pytest.raises(ValueError, match=r"one logit for each image, \[B\], not \[4\]"):
        jax.eval_shape(lambda: jaxgan.train_step(dataclasses.replace(gan, group=1), state, batch))


def test_a_lazy_regulariser_and_metrics_of_both_kinds(x64):
    """At every second step with twice its weight; its metrics are 0 in the others."""
    ask = lambda forward, gen: (jnp.sum(gen.apply(forward.z) ** 2), {"size": 1.0 * len(forward.z)})  # noqa: E731
    tell = lambda forward, disc: (0.0, {"steps_done": 1.0 * disc.step})  # noqa: E731
    gan = small_gan(norm=False, regularizers=(Lazy(ask, 2),), penalties=(tell,))
    state, batch = small_state(gan), real_images(gan, 4)
    plain = dataclasses.replace(gan, regularizers=())
    for step in range(2):
        now = state.replace(step=jnp.int32(step))
        (_, got), (_, want) = STEP(gan, now, batch), STEP(plain, now, batch)
        made, _ = apply(gan.gen, state.gen.params, {}, latents(gan, now, range(4)))
        added = 2 * jnp.sum(made**2) if step == 0 else 0
        np.testing.assert_allclose(got["loss_gen"], want["loss_gen"] + added, rtol=1e-9)
        assert (got["size"], got["steps_done"]) == (4 if step == 0 else 0, step)


def test_both_players_see_a_condition_and_augmentations_move_it_with_its_image(x64):
    """G makes the condition of its own: with flips of both, D's pairs are still equal, example by example."""

    class Copy(nn.Module):
        @nn.compact
        def __call__(self, z, condition, context):
            return condition * self.param("scale", nn.initializers.ones, ())

    class Distance(nn.Module):
        @nn.compact
        def __call__(self, images, condition, context):
            return jnp.mean(jnp.square(images - condition), axis=(1, 2, 3)) * self.param("s", nn.initializers.ones, ())

    flip = jaxgan.transforms.RandomFlip()
    gan = small_gan(gen=Copy(), disc=Distance(), others=(("condition", (4, 4, 1)),), condition="condition")
    gan = dataclasses.replace(gan, augmentations=(flip,), z_size=0)
    images = real_images(gan, 8)
    state = jaxgan.init(gan, jax.random.key(0))
    metrics = STEP(gan, state, Batch(images, None, {"condition": images}))[1]
    assert max(metrics["logit_real"], metrics["logit_fake"]) < 1e-12
    other = {"condition": images[:, :, ::-1]}
    assert STEP(gan, state, Batch(images, None, other))[1]["logit_real"] > 0.1
    with pytest.raises(ValueError, match="no 'condition'"):
        jax.eval_shape(lambda: jaxgan.train_step(gan, state, images))
    with pytest.raises(ValueError, match=r"condition of shape \[4, 3, 1\], the GAN takes \[4, 4, 1\]"):
        jax.eval_shape(lambda: jaxgan.train_step(gan, state, Batch(images, None, {"condition": images[:, :, 1:]})))


def test_points_in_the_plane_are_taken_as_they_are(x64):
    class Gen(nn.Module):
        @nn.compact
        def __call__(self, z, labels, context):
            return nn.Dense(2)(z)

    class Disc(nn.Module):
        @nn.compact
        def __call__(self, points, labels, context):
            return nn.Dense(1)(points)[:, 0]

    gan = small_gan(gen=Gen(), disc=Disc(), penalties=(jaxgan.penalties.R1(1.0), jaxgan.penalties.R2(1.0)))
    state = small_state(gan)
    points = np.random.default_rng(0).normal(size=(4, 2))
    new, metrics = STEP(gan, state, points)
    dense = state.disc.params["Dense_0"]
    want = np.mean(points @ np.asarray(dense["kernel"]) + np.asarray(dense["bias"]))
    np.testing.assert_allclose(metrics["logit_real"], want, rtol=1e-9)
    assert jax.tree.all(jax.tree.map(lambda a, b: bool(jnp.any(a != b)), new.gen.params, state.gen.params))
