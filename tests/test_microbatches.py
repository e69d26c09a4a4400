"""Gradients that are means over microbatches, on one device and on several."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from common import (
    QUICK,
    STEP,
    assert_close,
    descended,
    in_range,
    on,
    real_batch,
    real_images,
    shared_gradients,
    small_gan,
    small_state,
)
from small_run import OPTIONS, recipe

import jaxgan
from jaxgan import recipes
from jaxgan.gan import Batch, image_shape
from jaxgan.penalties import R1, WGANGP
from jaxgan.run import RunError, run

pytestmark = pytest.mark.usefixtures("quick_programs")

SLOW = pytest.mark.slow
KEY = jax.random.key(0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("form", "count", "update"),
    [
        ("plain", 1, "shared"),
        pytest.param("shard_map", 4, "shared", marks=SLOW),
        pytest.param("pmap", 2, "alternating", marks=pytest.mark.nightly),
        pytest.param("plain", 1, "alternating", marks=pytest.mark.nightly),
        pytest.param("pmap", 2, "shared", marks=pytest.mark.nightly),
        pytest.param("shard_map", 4, "alternating", marks=pytest.mark.nightly),
    ],
)
def test_without_batch_statistics_microbatches_make_the_same_update(update, form, count, x64):
    """Of networks that see each example alone, with labels, penalties and two updates of D."""
    gan = small_gan(3, norm=False, update=update, training_ratio=2, penalties=(R1(1.0), WGANGP()))
    state, batch = small_state(gan), real_batch(gan, 32)
    want, want_metrics = STEP(gan, state, batch)
    got, metrics = on(form, count, dataclasses.replace(gan, accumulate=4), state, batch)
    metrics = {name: metrics[name] for name in want_metrics}
    assert_close(metrics, want_metrics, rtol=1e-11)
    assert_close((got.gen.params, got.disc.params), (want.gen.params, want.disc.params), rtol=1e-11)


@pytest.mark.parametrize(("form", "count"), [("plain", 1), pytest.param("pmap", 4, marks=SLOW), ("shard_map", 4)])
def test_with_batch_statistics_each_microbatch_has_its_own(form, count, x64):
    """The mean of `shared_gradients` over the halves, one after the other, the statistics carried on."""
    gan = small_gan(ema_decay=0.0)
    state, batch = small_state(gan), real_batch(gan, 16)
    gradients = jax.jit(shared_gradients, static_argnums=0, compiler_options=QUICK)
    now, parts = state, []
    for k in (0, 1):
        half = in_range(gan, Batch(batch.images[k::2]))
        grads, aux = gradients(gan, now, half, np.arange(k, 16, 2))
        parts.append((grads, aux.metrics["gen"] | aux.metrics["disc"]))
        gen, disc = now.gen.replace(batch_stats=aux.stats["gen"]), now.disc.replace(batch_stats=aux.stats["disc"])
        now = now.replace(gen=gen, disc=disc)
    grads, metrics = jax.tree.map(lambda a, b: (a + b) / 2, *jax.device_get(parts))
    got, got_metrics = on(form, count, dataclasses.replace(gan, accumulate=2), state, batch)
    assert_close({name: got_metrics[name] for name in metrics}, metrics)
    assert_close((got.gen.batch_stats, got.disc.batch_stats), (now.gen.batch_stats, now.disc.batch_stats))
    assert_close(got.gen.params, descended(0.1, state.gen.params, grads["gen"]))
    assert_close(got.disc.params, descended(0.2, state.disc.params, grads["disc"]))


@pytest.mark.slow
def test_microbatches_take_less_memory():
    """Of activations: the step of digits in quarters of its batch."""

    def working_memory(accumulate):
        gan = dataclasses.replace(recipes.get("digits").build(), accumulate=accumulate)
        images = jax.ShapeDtypeStruct((64, *image_shape(gan)), jnp.uint8)
        state = jax.eval_shape(lambda key: jaxgan.init(gan, key), KEY)
        return STEP.lower(gan, state, images).compile(QUICK).memory_analysis().temp_size_in_bytes

    assert working_memory(4) < 0.7 * working_memory(1)


def test_microbatches_of_a_discriminator_that_compares_images_are_refused(tmp_path):
    other = recipes.get("keras_dcgan").replace(data="digits", batch_size=8, steps=1, accumulate=2)
    with pytest.raises(RunError, match="`accumulate` 2: the discriminator compares the images of a batch"):
        run(other, tmp_path / "w", 0, OPTIONS)
    assert not (tmp_path / "w").exists()


def mixup(images, keys, step):
    return 0.7 * images + 0.3 * jnp.roll(images, 1, axis=0)


@pytest.mark.parametrize(("devices", "accumulate"), [(1, 2), (2, 1)])
def test_a_transform_that_mixes_images_is_refused_where_a_batch_is_divided(devices, accumulate, tmp_path):
    """Each part would be mixed by itself: another run on another number of devices."""
    mixing = recipe(steps=1, accumulate=accumulate, transforms=(mixup,))
    with pytest.raises(RunError, match=r"mixes the images of a batch \(.* at .*test_microbatches.py"):
        run(mixing, tmp_path / "w", 0, dataclasses.replace(OPTIONS, devices=devices))
    assert not (tmp_path / "w").exists()
    gan = dataclasses.replace(mixing.build(), accumulate=2)
    with pytest.raises(ValueError, match="use one device and accumulate=1"):
        jax.eval_shape(
            functools.partial(jaxgan.train_step, gan), jaxgan.init(gan, jax.random.key(0)), real_images(gan, 8)
        )
