"""What every image passes on its way to the discriminator, seen by one that shows what it was given."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from common import STEP, drawn, real_batch, small_gan, small_state
from showing import Showing, shown, start

from jaxgan.losses import Loss
from jaxgan.randomness import Purpose
from jaxgan.transforms import InstanceNoise

pytestmark = pytest.mark.usefixtures("quick_programs")


@pytest.mark.slow
def test_instance_noise_follows_its_schedule_and_differs_by_example_and_kind():
    gan = small_gan(transforms=(InstanceNoise(0.1, 0.5),))
    noises = []
    for t in range(3):
        state, batch, real, fake = start(gan, 64, t)
        shown_real, shown_fake, _ = shown(gan, state, batch)
        both = [shown_real - real, shown_fake - fake]
        np.testing.assert_allclose([noise.std() for noise in both], 0.1 * 0.5**t, rtol=0.1)
        noises += [noise / noise.std() for noise in both]
    assert_unrelated(noises)


def assert_unrelated(noises):
    """No two of the examples' noises, each of 16 pixels, are the same."""
    flat = np.concatenate(noises).reshape(sum(map(len, noises)), -1)
    distances = np.linalg.norm(flat[:, None] - flat[None], axis=-1) + 10 * np.eye(len(flat))
    assert distances.min() > 0.5  # of a length of 4; equal noise would give 0


def test_the_noise_of_an_example_is_from_its_own_key():
    """Keys as the documentation has them: by purpose, step and example; each transform 1000 further."""
    gan = small_gan(transforms=(InstanceNoise(0.1), InstanceNoise(0.1)))
    state, batch, real, fake = start(gan, 8, step=3)
    shown_real, shown_fake, _ = shown(gan, state, batch)
    normal = functools.partial(jax.random.normal, shape=(4, 4, 1), dtype=jnp.float32)
    for images, before, purpose in (
        (shown_real, real, Purpose.TRANSFORM_REAL),
        (shown_fake, fake, Purpose.TRANSFORM_FAKE),
    ):
        noise = [0.1 * np.asarray(drawn(normal, state, purpose + 1000 * i, range(8))) for i in (0, 1)]
        np.testing.assert_allclose(images, before + noise[0] + noise[1], atol=1e-6)
        assert_unrelated([10 * n for n in noise])


def test_transforms_come_in_their_order_and_see_the_step():
    double = lambda images, keys, step: 2 * images  # noqa: E731
    move = lambda images, keys, step: images + step  # noqa: E731
    for transforms, formula in (((double, move), lambda x: 2 * x + 5), ((move, double), lambda x: 2 * (x + 5))):
        gan = small_gan(transforms=transforms)
        state, batch, real, fake = start(gan, 8, step=5)
        shown_real, shown_fake, _ = shown(gan, state, batch)
        np.testing.assert_allclose(shown_real, formula(real), atol=1e-5)
        np.testing.assert_allclose(shown_fake, formula(fake), atol=1e-5)


def test_the_generators_gradient_flows_through_them(x64):
    """A transform that shows D nothing of the image leaves G where it is; one that doubles it doubles the gradient."""

    def move(*transforms):
        loss = Loss(lambda forward: jnp.mean(forward.fake_logits), lambda forward: jnp.mean(forward.real_logits))
        gan = small_gan(disc=Showing(), loss=loss, transforms=transforms)
        state = small_state(gan)
        after, _ = STEP(gan, state, real_batch(gan, 8))
        return np.asarray(after.gen.params["Dense_1"]["kernel"]) - np.asarray(state.gen.params["Dense_1"]["kernel"])

    plain = move()
    assert np.abs(plain).max() > 1e-4
    assert np.abs(move(lambda images, keys, step: 0 * images)).max() == 0
    np.testing.assert_allclose(move(lambda images, keys, step: 2 * images), 2 * plain, rtol=1e-9)


@pytest.mark.parametrize("decay", [1.0, 0.5])
def test_instance_noise_by_its_formula(decay):
    images = jnp.asarray(np.random.default_rng(0).normal(size=(4, 3, 2, 1)), jnp.float32)
    keys = jax.random.split(jax.random.key(1), 4)
    noise = np.stack([jax.random.normal(key, (3, 2, 1)) for key in keys])
    transform = InstanceNoise(0.2, decay)
    for step in (0, 3):
        got = transform(images, keys, jnp.int32(step))
        np.testing.assert_allclose(got, images + 0.2 * decay**step * noise, atol=1e-6)
    np.testing.assert_array_equal(transform(images[1:3], keys[1:3], jnp.int32(3)), got[1:3])
