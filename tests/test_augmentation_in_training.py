"""StyleGAN2-ADA's augmentation in training: on devices, with a p that follows D, and in a run that was stopped."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_run
from common import STEP, at_night, on, real_batch, small_gan, small_state

import jaxgan
from jaxgan import recipes
from jaxgan.augmentation import Augment, adaptive, sign_real
from jaxgan.gan import Seen
from jaxgan.losses import Forward
from jaxgan.run import run

pytestmark = pytest.mark.usefixtures("shared_programs", "quick_programs")


@pytest.mark.nightly
def test_a_step_is_the_same_on_four_devices():
    gan = small_gan(norm=False, transforms=(Augment(None, cutout=1.0),), memory=adaptive(images=320))
    gan = dataclasses.replace(gan, penalties=(jaxgan.penalties.R1(0.1), sign_real))
    state, batch = before_p_moves(gan), real_batch(gan, 8)
    alone, metrics = on("plain", 1, gan, state, batch)
    assert metrics["augment_probability"] == 0.5
    for form in ("shard_map",):
        there, others = on(form, 4, gan, state, batch)
        for one, other in ((alone.disc.params, there.disc.params), (alone.memory, there.memory), (metrics, others)):
            jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), one, other)


def before_p_moves(gan):
    """A state in which D has been right about all real images, and the fourth update comes."""
    memory = {"augment_p": jnp.float32(0.5), "sign_real": jnp.float32(0.75), "updates": jnp.int32(3)}
    return small_state(gan).replace(memory=memory)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("batch", "changes"),
    [(16, {"training_ratio": 2}), *at_night([(8, {}), (8, {"accumulate": 2}), (8, {"update": "alternating"})])],
    ids=str,
)
def test_p_moves_by_the_images_that_an_update_takes(batch, changes):
    gan = small_gan(norm=False, transforms=(Augment(None),), penalties=(sign_real,), memory=adaptive(images=320))
    gan = dataclasses.replace(gan, **changes)
    after, metrics = STEP(gan, before_p_moves(gan), real_batch(gan, batch))
    np.testing.assert_allclose(after.memory["augment_p"], 0.5 + 4 * 8 / 320, rtol=1e-6)
    assert metrics["augment_probability"] == 0.5  # as it was in this update


def test_what_d_says_of_real_images_is_logged():
    forward = Forward(*[None] * 5, real_logits=jnp.array([0.1, -2.0, 3.0]), fake_logits=jnp.array([-1.0, -1.0, 1.0]))
    assert sign_real(forward, None) == (0.0, {"sign_real": pytest.approx(1 / 3)})
    _, metrics = sign_real(forward.replace(memory={"augment_p": 0.25}), None)
    assert metrics == {"sign_real": pytest.approx(1 / 3), "augment_probability": 0.25}


def seen(sign, images=64):
    return Seen({"sign_real": jnp.float32(sign)}, {}, {}, images)


def test_adaptive_p_goes_by_the_sign_of_the_real_logits():
    memory, p, signs = adaptive(), [], [1.0] * 8 + [0.0] * 4 + [0.5, 0.7, 0.7, 0.7]
    state = memory.start(None, None)
    for sign in signs:
        state = memory.update(state, seen(sign))
        p.append(float(state["augment_p"]))
    step = 256 / 500_000
    np.testing.assert_allclose(p, [0] * 3 + [step] * 4 + [2 * step] * 4 + [step] * 4 + [2 * step], rtol=1e-5)
    before = {"augment_p": 0.5, "sign_real": 0.45, "updates": 3}  # and with this update the mean is 0.6
    for target, by in ((0.5, step), (0.7, -step)):
        after = adaptive(target=target).update(before, seen(0.6))
        np.testing.assert_allclose(after["augment_p"], 0.5 + by, rtol=1e-6)
    for _ in range(16):
        state = memory.update(state, seen(-1))
    assert float(state["augment_p"]) == 0
    up = jax.jit(lambda s: jax.lax.fori_loop(0, 7816, lambda _, s: memory.update(s, seen(1)), s))
    np.testing.assert_allclose(up(state)["augment_p"], 1.0, atol=1e-3)  # 7816 * 64 is 500,000 images


def test_adaptive_p_is_used_and_follows_training():
    gan = small_gan(transforms=(Augment(None),), penalties=(sign_real,), memory=adaptive(images=40))
    state = small_state(gan)
    for _ in range(4):
        state, metrics = STEP(gan, state, real_batch(gan, 8))
        assert metrics["augment_probability"] == 0
    assert float(state.memory["augment_p"]) in (0.0, pytest.approx(0.8))
    assert -1 <= float(metrics["sign_real"]) <= 1
    with pytest.raises(ValueError, match="memory=adaptive"):
        Augment(None)(jnp.zeros((1, 4, 4, 1)), jax.random.split(jax.random.key(0), 1), jnp.int32(0))


@pytest.mark.slow
def test_pictures_with_it_stopped_and_gone_on_end_in_the_same_bits_and_p_is_logged(tmp_path):
    usual = recipes.get("pictures").replace(size="4", channels=1, width=16, data="digits", batch_size=8, steps=8)
    ada = {
        "transforms": (Augment(None, cutout=1.0),),
        "penalties": (sign_real,),
        "memory": adaptive(target=0.0, images=64),
    }
    recipe = small_run.Small(**vars(usual.replace(**ada)))
    whole = run(recipe, tmp_path / "whole", 0, small_run.OPTIONS)
    run(recipe.replace(steps=5), tmp_path / "parts", 0, small_run.OPTIONS)
    again = run(recipe, tmp_path / "parts", 0, small_run.OPTIONS)
    assert again["steps_resumed_from"] == 5
    assert again["state_sha256"] == whole["state_sha256"]
    for lines in map(small_run.metrics_of, (tmp_path / "whole", tmp_path / "parts")):
        p = {line["step"]: line["augment_probability"] for line in lines}
        assert p.keys() >= {1, 2, 4, 6, 8}
        assert p[1] == p[2] == p[4] == 0  # it moves after every fourth update, by 4 * 8 / 64
        assert p[6] == p[8] == 0.5
