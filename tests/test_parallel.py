"""The step on several devices against the plain jitted one: losses, noise, microbatches."""

import dataclasses
import functools
import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxgan
from experiments import recipes
from experiments.agreement import FORMS, as_float64, difference, difference_of_each, plain_step, random_images, run
from jaxgan import parallel
from jaxgan.gan import from_uint8, image_shape, judges_alone
from jaxgan.train_step import shared_gradients, train_steps

KEY = jax.random.key(0)
ALL = [(form, count) for form in FORMS for count in (1, 2, 4, 8)]


@pytest.mark.slow
@pytest.mark.parametrize("name", recipes.RECIPES)
def test_updates_agree_in_float64(name, x64):
    """Runs that go their own ways, so that gradients, moments and minibatch features must agree, too.

    `python -m experiments.agreement` has the larger recipes on any number of devices in both forms, over twenty,
    which takes long.
    """
    updates = 20 if name in ("digits", "tf2_gan") else 5
    gan = recipes.get(name).build()
    variants = {"digits": [("pmap", 8), ("shard_map", 4)], "tf2_gan": ALL[1:]}.get(name, [("pmap", 4)])
    state, images = as_float64(jaxgan.init(gan, KEY)), random_images(gan, updates, max(count for _, count in variants))
    plain = run(plain_step(gan), state, images)
    for form, count in variants:
        devices = parallel.choose_devices(count)
        several = run(FORMS[form](gan, devices), parallel.place(state, devices), images)
        assert difference(several, plain).max() < 1e-9, (form, count)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "variants"), [("tf2_gan", ALL), ("digits", [("shard_map", 8), ("pmap", 4)])])
def test_each_of_twenty_updates_agrees_in_float32(name, variants):
    """From the same state at each step: the losses there, and after the update. Beyond that, rounding grows."""
    gan = recipes.get(name).build()
    devices = {count: parallel.choose_devices(count) for _, count in variants}
    steps = [(FORMS[form](gan, devices[count]), devices[count]) for form, count in variants]
    now, after = difference_of_each(plain_step(gan), steps, jaxgan.init(gan, KEY), random_images(gan, 20, 8))
    print(f"{name}: {now:.1e} from the same state, {after:.1e} after the update")
    assert now < 1e-5
    assert after < 1e-3  # Adam's first steps have the sign of a gradient, however small: here it is rounding that grows


@pytest.mark.parametrize("form", FORMS)
def test_on_one_device_it_is_the_plain_step_to_the_last_bit(form):
    gan = recipes.get("digits").build()
    state, images = jaxgan.init(gan, KEY), random_images(gan, 4, 16)
    plain = run(plain_step(gan), state, images)
    devices = parallel.choose_devices(1)
    one = run(FORMS[form](gan, devices), parallel.place(state, devices), images)
    np.testing.assert_array_equal(one, plain)


@pytest.mark.parametrize("form", parallel.STEPS)
def test_several_updates_in_one_program_are_the_same_on_any_number_of_devices(form):
    """Each takes its images from the dataset: one device to the last bit, four to rounding."""
    gan = recipes.get("tf2_gan").build()
    state, images = jaxgan.init(gan, KEY), random_images(gan, 1, 40)[0]
    batches = np.random.default_rng(0).integers(0, 40, (5, 8), np.int32)
    _, losses = jax.jit(train_steps, static_argnums=0)(gan, state, images, batches, 3)
    for count in (1, 4):
        devices = parallel.choose_devices(count)
        steps = parallel.STEPS[form](gan, devices)
        on_devices = parallel.copies(images, devices)
        got, metrics = steps(parallel.place(state, devices), on_devices, batches, 3)
        assert int(got.step) == 3
        assert len(got.step.sharding.device_set) == count
        tolerance = 0 if count == 1 else 1e-5
        jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=tolerance), metrics, losses)
    plain = run(plain_step(gan), state, [images[batch] for batch in batches[:3]])[-1]
    np.testing.assert_allclose([float(losses["loss_gen"]), float(losses["loss_disc"])], plain, rtol=1e-5)


class RecordingGen(nn.Module):
    """Generates nothing, and keeps the whole batch's latents and keys among its batch statistics."""

    shape: tuple[int, int, int]

    @nn.compact
    def __call__(self, z, train, keys=None, axis_name=None):
        record(self, axis_name, train, z=z, keys=keys)
        return self.param("zero", nn.initializers.zeros, ()) * jnp.zeros((len(z), *self.shape))


class RecordingDisc(nn.Module):
    """Keeps the whole batch of images, noise and all, and of keys; those of the last batch it is applied to."""

    @nn.compact
    def __call__(self, images, train, keys=None, axis_name=None):
        record(self, axis_name, train, images=images, keys=keys)
        return self.param("one", nn.initializers.ones, ()) * jnp.mean(images, axis=(1, 2, 3))


def recording(gan):
    """The same with networks that record what they are given."""
    return dataclasses.replace(gan, gen=RecordingGen(image_shape(gan)), disc=RecordingDisc(), ema_decay=0.0)


def record(module, axis_name, train, **values):
    for name, value in values.items():
        if not train or value is None:
            continue
        value = jax.random.key_data(value) if name == "keys" else value
        whole = value
        if axis_name is not None:  # a sum, since it is known to be the same everywhere
            count, here = jax.lax.axis_size(axis_name), jax.lax.axis_index(axis_name)
            whole = jnp.zeros((count, *value.shape), value.dtype).at[here].set(value)
            whole = jax.lax.psum(whole, axis_name).reshape(-1, *value.shape[1:])
        module.variable("batch_stats", name, lambda whole=whole: whole).value = whole


SPLIT = {"training_ratio": 2, "accumulate": 2}


@pytest.mark.parametrize(
    ("name", "changes"), [*((name, {}) for name in recipes.RECIPES), ("canton_lsgan", SPLIT), ("keras_mnist", SPLIT)]
)
def test_the_noise_of_each_example_is_equal_to_the_last_bit(name, changes):
    """Latents, the keys that dropout draws from, and instance noise, on any number of devices in both forms."""
    gan = recording(dataclasses.replace(recipes.get(name), **changes).build())
    images = random_images(gan, 1, 16)[0]
    seen = {}
    variants = ALL if name in ("canton_lsgan", "keras_mnist") and not changes else [ALL[1], ALL[6], ALL[3]]
    for form, count in [("plain", 1), *variants]:
        state = jaxgan.init(gan, KEY).replace(step=jnp.int32(5))
        if gan.accumulate > 1:  # a loop, whose state must have its shape from the start
            shaped, _ = plain_step(dataclasses.replace(gan, accumulate=1))(state, images[:: gan.accumulate])
            state = shaped.replace(step=state.step)
        devices = parallel.choose_devices(count)
        step = plain_step(gan) if form == "plain" else FORMS[form](gan, devices)
        state, _ = step(parallel.place(state, devices), images)
        seen[form, count] = jax.tree.map(np.asarray, {"gen": state.gen.batch_stats, "disc": state.disc.batch_stats})
    plain = seen.pop(("plain", 1))
    assert {*plain["gen"]} == {"z", "keys"}
    assert {*plain["disc"]} == {"images", "keys"}
    assert len(np.unique(plain["gen"]["z"], axis=0)) == 16 // gan.accumulate
    for variant in seen.values():
        jax.tree.map(np.testing.assert_array_equal, variant, plain)


def test_the_recorders_see_noise_that_depends_on_the_device():
    """That the test above can fail: with each device's own indices, examples of different devices share their noise."""
    gan, devices = recording(recipes.get("digits").build()), parallel.choose_devices(4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys.modules["jaxgan.train_step"], "_position", lambda gan: (0, 4))
        state = parallel.place(jaxgan.init(gan, KEY), devices)
        state, _ = FORMS["pmap"](gan, devices)(state, random_images(gan, 1, 16)[0])
    assert len(np.unique(state.gen.batch_stats["z"], axis=0)) == 4


@pytest.mark.parametrize("form", FORMS)
def test_a_run_on_several_devices_is_the_same_again_to_the_last_bit(form):
    gan = recipes.get("digits").build()
    images, devices = random_images(gan, 6, 16), parallel.choose_devices(8)
    once, again = (
        run(FORMS[form](gan, devices), parallel.place(jaxgan.init(gan, KEY), devices), images) for _ in range(2)
    )
    np.testing.assert_array_equal(once, again)


def test_all_devices_hold_the_same_state_afterwards():
    gan = recipes.get("digits").build()
    devices = parallel.choose_devices(4)
    state, _ = FORMS["pmap"](gan, devices)(parallel.place(jaxgan.init(gan, KEY), devices), random_images(gan, 1, 16)[0])
    for array in jax.tree.leaves(state.replace(key=jax.random.key_data(state.key))):
        first, *others = (np.asarray(shard.data) for shard in array.addressable_shards)
        assert len(others) == 3
        for other in others:
            np.testing.assert_array_equal(other, first)
    own = parallel.own_copy(state)
    assert {leaf.sharding.device_set.pop() for leaf in jax.tree.leaves(own)} == {devices[0]}


def test_devices_that_there_are_not():
    assert parallel.choose_devices() == jax.devices()
    assert parallel.choose_devices(3) == jax.devices()[:3]
    for count in (0, 9):
        with pytest.raises(ValueError, match=f"{count} devices asked for, 8 available"):
            parallel.choose_devices(count)


@pytest.mark.parametrize("update", ["shared", "alternating"])
@pytest.mark.parametrize(("form", "count"), [("plain", 1), ("pmap", 2), ("shard_map", 4)])
def test_without_batch_statistics_microbatches_make_the_same_update(update, form, count, x64):
    """tf2_gan, whose networks see each example alone."""
    gan = dataclasses.replace(recipes.get("tf2_gan").build(), update=update, training_ratio=2)
    state, images = as_float64(jaxgan.init(gan, KEY)), random_images(gan, 5, 16)
    expected = run(plain_step(gan), state, images)
    gan = dataclasses.replace(gan, accumulate=4)
    devices = parallel.choose_devices(count)
    step = plain_step(gan) if form == "plain" else FORMS[form](gan, devices)
    got = run(step, parallel.place(state, devices), images)
    np.testing.assert_allclose(got, expected, rtol=1e-11)


@pytest.mark.parametrize(("form", "count"), [("plain", 1), ("pmap", 4), ("shard_map", 4)])
def test_with_batch_statistics_each_microbatch_has_its_own(form, count, x64):
    """digits against the mean of `shared_gradients` over its halves, one after the other, the statistics carried on."""
    gan = dataclasses.replace(
        recipes.get("digits").build(), gen_optimizer=optax.sgd(0.1), disc_optimizer=optax.sgd(0.2), ema_decay=0.0
    )
    state, (images,) = as_float64(jaxgan.init(gan, KEY)), random_images(gan, 1, 16)
    now, parts = state, []
    for k in (0, 1):
        indices = jnp.arange(k, 16, 2)
        grads, (gen_stats, disc_stats), metrics = jax.jit(shared_gradients, static_argnums=0)(
            gan, now, from_uint8(images[k::2], gan.image_range), indices
        )
        parts.append((grads, metrics))
        now = now.replace(gen=now.gen.replace(batch_stats=gen_stats), disc=now.disc.replace(batch_stats=disc_stats))
    (gen_grads, disc_grads), metrics = jax.tree.map(lambda a, b: (a + b) / 2, *parts)
    gan = dataclasses.replace(gan, accumulate=2)
    devices = parallel.choose_devices(count)
    step = plain_step(gan) if form == "plain" else FORMS[form](gan, devices)
    got, got_metrics = step(parallel.place(state, devices), images)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-12)
    jax.tree.map(close, got_metrics, metrics)
    jax.tree.map(close, (got.gen.batch_stats, got.disc.batch_stats), (gen_stats, disc_stats))
    for new, old, grads, rate in (
        (got.gen, state.gen, gen_grads, 0.1),
        (got.disc, state.disc, disc_grads, 0.2),
    ):
        jax.tree.map(lambda n, o, g, rate=rate: close(n, o - rate * g), new.params, old.params, grads)


def test_microbatches_take_less_memory():
    """Of activations: the step of digits in quarters of its batch."""

    def working_memory(accumulate):
        gan = dataclasses.replace(recipes.get("digits").build(), accumulate=accumulate)
        images = jax.ShapeDtypeStruct((64, *image_shape(gan)), jnp.uint8)
        step = jax.jit(jaxgan.train_step, static_argnums=0).lower(gan, jaxgan.init(gan, KEY), images).compile()
        return step.memory_analysis().temp_size_in_bytes

    assert working_memory(4) < 0.7 * working_memory(1)


def test_which_discriminators_judge_each_image_alone():
    expected = {"digits": True, "keras_mnist": True, "keras_dcgan": False, "canton_lsgan": False}
    gans = {name: recipes.get(name).build() for name in expected}
    assert {name: judges_alone(gan, jaxgan.init(gan, KEY)) for name, gan in gans.items()} == expected


def test_images_must_split_into_microbatches():
    gan = dataclasses.replace(recipes.get("tf2_gan").build(), accumulate=3)
    with pytest.raises(ValueError, match="accumulate=3"):
        jaxgan.train_step(gan, jaxgan.init(gan, KEY), random_images(gan, 1, 16)[0])
