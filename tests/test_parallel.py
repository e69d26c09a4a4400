"""The step on several devices against the plain jitted one: losses, noise, ideas."""

import dataclasses
import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from common import (
    STEP,
    STEPS,
    Comparing,
    SmallDisc,
    assert_close,
    assert_same_bits,
    drawn,
    generated_labels,
    on,
    real_batch,
    small_gan,
    small_state,
)

import jaxgan
from experiments.bench.agreement import difference_of_each, plain, random_data, run, several
from jaxgan import parallel, recipes
from jaxgan.gan import image_shape
from jaxgan.losses import cross_entropy, of_logits, relativistic, wasserstein
from jaxgan.networks.conditional import ConditionalBatchNorm, append_embedding, projection
from jaxgan.networks.spectral import SpectralNorm
from jaxgan.penalties import L2, R1, R2, WGANGP
from jaxgan.randomness import Purpose
from jaxgan.transforms import InstanceNoise

KEY = jax.random.key(0)
SOME = [("pmap", 2), ("shard_map", 4)]
SLOW, NIGHTLY = pytest.mark.slow, pytest.mark.nightly
QUICK = pytest.mark.usefixtures("quick_programs_of_a_test")
EACH_FORM = pytest.mark.parametrize("form", [pytest.param("pmap", marks=SLOW), "shard_map"])
BITS = pytest.mark.parametrize(
    ("form", "name"),
    [
        ("shard_map", "small"),
        pytest.param("pmap", "small", marks=SLOW),
    ],
)
LABELLED = {"classes": 10}


@SLOW
def test_each_of_six_updates_agrees_in_float32():
    """From the same state at each step: the losses there, and after the update. Beyond that, rounding grows.

    `python -m experiments.bench.agreement` has all recipes on any number of devices in both forms, over twenty.
    """
    gan = recipes.get("digits").build()
    (dataset, batches), devices = random_data(gan, 6, 16), parallel.choose_devices(8)
    update = several(gan, dataset, devices, "shard_map"), devices
    now, after = difference_of_each(plain(gan, dataset), [update], jaxgan.init(gan, KEY), batches)
    assert now < 1e-5
    assert after < 1e-3  # Adam's first steps have the sign of a gradient, however small: here rounding grows


class Gen(nn.Module):
    """With labels where layers take them."""

    @nn.compact
    def __call__(self, z, labels, context):
        x = SpectralNorm(nn.Dense(8, use_bias=False))(append_embedding(z, labels, 3))
        x = nn.softplus(ConditionalBatchNorm(context, 3, 0.9)(x, labels))
        return jnp.tanh(nn.Dense(16)(x)).reshape(-1, 4, 4, 1)


class Disc(nn.Module):
    @nn.compact
    def __call__(self, images, labels, context):
        x = nn.softplus(SpectralNorm(nn.Dense(8))(images.reshape(len(images), -1)))
        return nn.Dense(1)(x)[:, 0] + projection(x, labels, 3)


def of_pictures():
    """What the GAN of `pictures` has, in small, with its augmentation."""
    gan = recipes.get("pictures").replace(size="8", width=16, augment=0.8).with_classes(3).build()
    fields = ("gen", "disc", "loss", "penalties", "transforms", "generated_labels", "ema_decay")
    return {name: getattr(gan, name) for name in fields}


CHANGES = {
    # Penalties through batch normalisation and with their own draws, transforms, several updates of D.
    "ideas": {
        "loss": of_logits(lambda real, fake: jnp.mean(jnp.exp(-fake)), lambda r, f: jnp.mean(jnp.exp(f - r))),
        "transforms": (InstanceNoise(0.1, 0.9), InstanceNoise(0.2)),
        "penalties": (R1(10.0), WGANGP(), lambda forward, disc: jnp.mean(disc.fake_gradient() ** 2)),
        "regularizers": (L2(0.1),),
        "training_ratio": 2,
    },
    "relativistic": {"loss": relativistic(), "penalties": (R1(1.0), R2(1.0)), "generated_labels": "real"}
    | {"disc": SmallDisc(3, norm=False)},
    "wasserstein": {"loss": wasserstein(), "penalties": (WGANGP(),), "training_ratio": 2}
    | {"disc": SmallDisc(3, norm=False)},
    "layers": {"gen": Gen(), "disc": Disc(), "training_ratio": 2, "accumulate": 2},
    "features": {"disc": Comparing()},
    "pictures": of_pictures(),
}


@pytest.mark.parametrize(
    ("name", "form", "update"),
    [
        ("relativistic", "shard_map", "shared"),
        pytest.param("pictures", "pmap", "shared", marks=NIGHTLY),
        pytest.param("wasserstein", "shard_map", "shared", marks=SLOW),
        pytest.param("ideas", "pmap", "alternating", marks=NIGHTLY),
        pytest.param("layers", "shard_map", "alternating", marks=NIGHTLY),
        pytest.param("features", "shard_map", "shared", marks=NIGHTLY),
    ],
)
@QUICK
def test_one_device_and_four_do_the_same(name, form, update, x64):
    gan = small_gan(3, update=update, **CHANGES[name])
    state, batch = small_state(gan), real_batch(gan, 16)
    want, want_metrics = STEP(gan, state, batch)
    got, metrics = on(form, 4, gan, state, batch)
    assert_close(metrics, want_metrics)
    for net in ("gen", "disc"):
        assert_close(getattr(got, net).params, getattr(want, net).params)
        assert_close(getattr(got, net).batch_stats, getattr(want, net).batch_stats)


def test_a_loss_that_is_no_mean_over_examples_sees_each_devices_share():
    """The relativistic average loss takes the mean of the other logits: over a device's share, as over a microbatch.

    It is a choice that the documentation states: losses are means over examples.
    """
    average = lambda first, second: cross_entropy(first - jnp.mean(second), 1.0)  # noqa: E731
    gan = small_gan(loss=of_logits(lambda real, fake: average(fake, real), average))
    state, batch = small_state(gan), real_batch(gan, 16)
    _, want = STEP(gan, state, batch)
    _, got = on("shard_map", 4, gan, state, batch)
    assert 1e-6 < abs(got["loss_gen"] - want["loss_gen"]) < 0.1


@pytest.mark.slow
@BITS
def test_on_one_device_it_is_the_plain_step_to_the_last_bit(form, name):
    gan = small_gan(3) if name == "small" else recipes.get(name).build()
    state, (dataset, batches) = jaxgan.init(gan, KEY), random_data(gan, 6, 16)
    expected = run(plain(gan, dataset), state, batches)
    devices = parallel.choose_devices(1)
    one = run(several(gan, dataset, devices, form), parallel.replicate(state, devices), batches)
    np.testing.assert_array_equal(one, expected)


@pytest.mark.slow
@EACH_FORM
@QUICK
def test_several_updates_in_one_program_are_the_same_on_any_number_of_devices(form):
    """Each takes its images and labels from the dataset, to rounding."""
    gan = small_gan(3)
    state, dataset = jaxgan.init(gan, KEY), real_batch(gan, 40)
    batches = np.random.default_rng(0).integers(0, 40, (5, 8), np.int32)
    want, losses = STEPS(gan, state, dataset, batches, 3)
    for count in (1, 4):
        devices = parallel.choose_devices(count)
        steps = parallel.steps_on(gan, devices, form)
        got, metrics = steps(parallel.replicate(state, devices), parallel.replicate(dataset, devices), batches, 3)
        assert int(got.step) == int(want.step) == 3
        assert len(got.step.sharding.device_set) == count
        assert_close(metrics, losses, rtol=1e-4, atol=1e-6)
        assert_close(got.gen.params, want.gen.params, rtol=1e-4, atol=1e-6)


class RecordingGen(nn.Module):
    """Generates nothing, and keeps the whole batch's latents, labels and keys among its batch statistics."""

    shape: tuple[int, int, int]

    @nn.compact
    def __call__(self, z, labels, context):
        record(self, context, z=z, labels=labels, keys=context.keys)
        return self.param("zero", nn.initializers.zeros, ()) * jnp.zeros((len(z), *self.shape))


class RecordingDisc(nn.Module):
    """Keeps the whole batch of images, noise and all, of labels and keys; those of the last batch it is applied to."""

    @nn.compact
    def __call__(self, images, labels, context):
        record(self, context, images=images, labels=labels, keys=context.keys)
        return self.param("one", nn.initializers.ones, ()) * jnp.mean(images, axis=(1, 2, 3))


def recording(gan):
    """The same with networks that record what they are given."""
    return dataclasses.replace(gan, gen=RecordingGen(image_shape(gan)), disc=RecordingDisc(), ema_decay=0.0)


def record(module, context, **values):
    for name, value in values.items():
        if not context.train or value is None:
            continue
        value = jax.random.key_data(value) if name == "keys" else value
        whole = value
        if context.axis_name is not None:  # a sum, since it is known to be the same everywhere
            count, here = jax.lax.axis_size(context.axis_name), jax.lax.axis_index(context.axis_name)
            whole = jnp.zeros((count, *value.shape), value.dtype).at[here].set(value)
            whole = jax.lax.psum(whole, context.axis_name).reshape(-1, *value.shape[1:])
        module.variable("batch_stats", name, lambda whole=whole: whole).value = whole


# Of the noise a recipe decides the classes, the prior, the transforms, and how a batch is divided.
SPLIT = {"training_ratio": 2, "accumulate": 2}
RECORDED = [
    ("digits", LABELLED, SOME),
    pytest.param("canton_lsgan", LABELLED | SPLIT, SOME, marks=NIGHTLY),
    pytest.param("canton_lsgan", {}, [("pmap", 8)], marks=NIGHTLY),
    pytest.param("keras_mnist", {}, [("shard_map", 8)], marks=NIGHTLY),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "changes", "variants"), RECORDED)
def test_the_noise_of_each_example_is_equal_to_the_last_bit(name, changes, variants, request):
    """Latents, labels, the keys that dropout draws from, and instance noise, on any number of devices in both forms."""
    if name != "digits":  # whose noise has other bits so; the others take long to compile
        request.getfixturevalue("quick_programs_of_a_test")
    gan = recording(recipes.get(name).replace(**changes).build())
    batch = real_batch(gan, 16 * gan.training_ratio)
    seen = {}
    for form, count in [("plain", 1), *variants]:
        state = jaxgan.init(gan, KEY).replace(step=jnp.int32(5))
        if (loops := gan.accumulate * gan.training_ratio) > 1:  # whose state must have its shape from the start
            part = jax.tree.map(lambda x, loops=loops: x[::loops], batch)
            shaped, _ = STEP(dataclasses.replace(gan, accumulate=1, training_ratio=1), state, part)
            state = shaped.replace(step=state.step)
        state, _ = on(form, count, gan, state, batch)
        seen[form, count] = jax.device_get({"gen": state.gen.batch_stats, "disc": state.disc.batch_stats})
    expected = seen.pop(("plain", 1))
    labels = {"labels"} if gan.classes else set()
    assert {*expected["gen"]} == {"z", "keys"} | labels
    assert {*expected["disc"]} == {"images", "keys"} | labels
    assert len(np.unique(expected["gen"]["z"], axis=0)) == 16 // gan.accumulate
    if gan.classes and gan.accumulate == 1:  # as documented: those asked of G, and the data's beside the real images
        at = jaxgan.init(gan, KEY).replace(step=jnp.int32(5))
        np.testing.assert_array_equal(expected["gen"]["labels"], generated_labels(gan, at, range(16)))
        np.testing.assert_array_equal(expected["disc"]["labels"], batch.labels)
        for net, purpose in (("gen", Purpose.DROPOUT_GEN), ("disc", Purpose.DROPOUT_REAL)):
            by_hand = drawn(jax.random.key_data, at, purpose, range(16))
            np.testing.assert_array_equal(expected[net]["keys"], by_hand)
    for variant in seen.values():
        jax.tree.map(np.testing.assert_array_equal, variant, expected)


def test_the_recorders_see_noise_that_depends_on_the_device():
    """That the test above can fail: with each device's own indices, examples of different devices share their noise."""
    gan = recording(small_gan(3))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys.modules["jaxgan.train_step"], "position", lambda gan: (0, 4))
        state, _ = on("pmap", 4, gan, jaxgan.init(gan, KEY), real_batch(gan, 16))
    assert len(np.unique(state.gen.batch_stats["z"], axis=0)) == 4


@BITS
def test_a_run_on_several_devices_is_the_same_again_to_the_last_bit(form, name):
    gan = small_gan() if name == "small" else recipes.get(name).build()
    (dataset, batches), devices = random_data(gan, 6, 16), parallel.choose_devices(8)
    once, again = (
        run(several(gan, dataset, devices, form), parallel.replicate(jaxgan.init(gan, KEY), devices), batches)
        for _ in range(2)
    )
    np.testing.assert_array_equal(once, again)


@EACH_FORM
@QUICK
def test_all_devices_hold_the_same_state_afterwards(form):
    gan, devices = small_gan(), parallel.choose_devices(4)
    state, _ = on(form, 4, gan, jaxgan.init(gan, KEY), real_batch(gan, 16))
    for array in jax.tree.leaves(state.replace(key=jax.random.key_data(state.key))):
        first, *others = (np.asarray(shard.data) for shard in array.addressable_shards)
        assert len(others) == 3
        for other in others:
            np.testing.assert_array_equal(other, first)
    own = parallel.own_copy(state)
    assert {leaf.sharding.device_set.pop() for leaf in jax.tree.leaves(own)} == {devices[0]}
    assert_same_bits(own, jax.device_get(state.replace(key=own.key)))


def test_devices_that_there_are_not():
    assert parallel.choose_devices() == jax.devices()
    assert parallel.choose_devices(3) == jax.devices()[:3]
    for count in (0, 9):
        with pytest.raises(ValueError, match=f"{count} devices asked for, 8 available"):
            parallel.choose_devices(count)
