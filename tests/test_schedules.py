"""Schedules by their formulas, what they do to optimisers and metrics, and how recipes hold them."""

import dataclasses
import functools
import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from common import QUICK, STEP, STEPS, on, real_images, small_gan

import jaxgan
from jaxgan import recipes
from jaxgan.commands import train
from jaxgan.recipes.groups import Optimization, Schedule
from jaxgan.schedules import Cosine, Linear, PerStep, TimeDecay, at

pytestmark = pytest.mark.usefixtures("quick_programs")


@pytest.mark.parametrize("step", [0, 1, 3, 7, 10, 11, 1000])
def test_values(step):
    t = min(step / 10, 1)
    for at_step in (step, jnp.int32(step)):
        np.testing.assert_allclose(Linear(2.0, -1.0, 10)(at_step), 2 - 3 * t, rtol=1e-6, atol=1e-6)
        cosine = -1 + (2 + 1) * (1 + np.cos(np.pi * t)) / 2
        np.testing.assert_allclose(Cosine(2.0, -1.0, 10)(at_step), cosine, rtol=1e-6, atol=1e-6)
        assert at(0.5, at_step) == 0.5
        assert at(Linear(2.0, -1.0, 10), at_step) == Linear(2.0, -1.0, 10)(at_step)


def test_the_end_is_reached_exactly_and_stays():
    for kind in (Linear, Cosine):
        assert kind(1.0, 0.0, 3)(jnp.int32(3)) == kind(1.0, 0.0, 3)(jnp.int32(2_000_000_000)) == 0
        assert kind(0.25, 0.75, 1)(jnp.int32(0)) == 0.25


@pytest.mark.parametrize("steps", [0, -1, 0.5, float("nan")])
def test_no_steps_are_refused(steps):
    for kind in (Linear, Cosine):
        with pytest.raises(ValueError, match=f"^a schedule takes at least 1 step, not {steps}$"):
            kind(1.0, 0.0, steps)


RATES = {
    "numbers": (0.01, 0.99),
    "rate": (Linear(0.02, 0.0, 4), 0.99),
    "beta2": (0.01, Cosine(0.5, 0.99, 3)),
    "both": (Cosine(0.02, 0.005, 4), Linear(0.9, 0.99, 3)),
}


@pytest.mark.parametrize("case", RATES)
@pytest.mark.parametrize("updates", [1, 2])
def test_adam_is_pytorchs_with_its_rate_and_beta2_set_by_hand(case, updates, x64):
    """So many updates in a step have the rates of that step. Schedules are float32."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    rate, beta2 = RATES[case]
    settings = Optimization(gen_learning_rate=7.0, disc_learning_rate=rate, beta1=0.3, beta2=beta2)
    optimizer = settings.build("disc", updates)
    gradients = np.random.default_rng(0).normal(size=(6 * updates, 5))
    params = jnp.ones(5)
    state = optimizer.init(params)
    update = jax.jit(optimizer.update, compiler_options=QUICK)
    weights = torch.ones(5, dtype=torch.float64, requires_grad=True)
    adam = torch.optim.Adam([weights], eps=1e-8)
    for i, gradient in enumerate(gradients):
        step = np.float64(i // updates)  # in full precision
        adam.param_groups[0].update(lr=float(at(rate, step)), betas=(0.3, float(at(beta2, step))))
        weights.grad = torch.from_numpy(gradient)
        adam.step()
        changes, state = update(jnp.asarray(gradient), state, params)
        params = optax.apply_updates(params, changes)
        np.testing.assert_allclose(params - 1, weights.detach().numpy() - 1, rtol=1e-5, atol=1e-7)
    assert abs(params - 1).max() > 0.01


def test_the_other_optimisers_take_a_schedule_of_the_rate():
    halving = Linear(1.0, 0.0, 2)
    settings = Optimization(optimizer=optax.sgd, gen_learning_rate=halving, disc_learning_rate=halving, clip=0.5)
    for net, updates, rates in (("gen", 1, (1, 0.5, 0)), ("disc", 2, (1, 1, 0.5, 0.5, 0))):
        optimizer = settings.build(net, updates)
        state = optimizer.init(jnp.ones(2))
        for rate in rates:
            change, state = optimizer.update(jnp.array([0.25, 3.0]), state)
            np.testing.assert_allclose(change, [-0.25 * rate, -0.5 * rate], atol=1e-7)
    rmsprop = Optimization(optimizer="rmsprop", gen_learning_rate=halving, beta1=0.0, beta2=0.75).build("gen")
    state = rmsprop.init(jnp.ones(1))
    changes = []
    for _ in range(3):
        change, state = rmsprop.update(jnp.array([2.0]), state)
        changes.append(change[0])
    mean = np.cumsum(0.25 * 4 * 0.75 ** np.arange(3))
    np.testing.assert_allclose(changes, -np.array([1, 0.5, 0]) * 2 / np.sqrt(mean), rtol=1e-5)


def test_an_optimiser_of_ones_own_is_made_once_for_each_network_of_the_rate_as_it_was_written():
    """So that it can tell the networks apart; where one object cannot be it, it says what it is."""
    given = []
    by_rate = lambda rate: given.append(rate) or (optax.lion(rate) if rate is rates[0] else optax.adamw(rate))  # noqa: E731
    for rates in ((Linear(1.0, 0.0, 4), Cosine(1.0, 0.0, 4)), (0.125, 0.25), (Linear(1.0, 0.0, 4), 0.25)):
        given.clear()
        made = recipe(gen_learning_rate=rates[0], disc_learning_rate=rates[1], optimizer=by_rate, training_ratio=1)
        gan = made.build()
        for again in (made, made.replace(events=(), steps=3)):  # a run does either, and asks more than once
            assert (again.build().gen_optimizer, again.build().disc_optimizer) == (
                gan.gen_optimizer,
                gan.disc_optimizer,
            )
        assert len(given) == 2
        assert given[0] is rates[0]
        assert given[1] is rates[1]
        moments = [
            sum(leaf.shape == (1,) for leaf in jax.tree.leaves(net.init(jnp.ones(1))))
            for net in (gan.gen_optimizer, gan.disc_optimizer)
        ]
        assert moments == [1, 2]
    falling, own = Linear(1.0, 0.0, 4), {"gen": lambda rate: optax.sgd(rate), "disc": optax.sgd}
    own = {net: lambda rate, f=f: given.append(rate) or f(rate) for net, f in own.items()}
    given.clear()
    several = recipe(gen_learning_rate=falling, disc_learning_rate=falling, optimizer=own, training_ratio=3)
    several.build()
    assert given[0] is falling
    assert given[1] == PerStep(falling, 3)
    assert [float(given[1](jnp.int32(t))) for t in (0, 2, 3, 5, 6)] == [1, 1, 0.75, 0.75, 0.5]
    recipe(disc_learning_rate=0.5, disc_time_decay=2.0, optimizer=own).build()
    assert given[-1] == TimeDecay(0.5, 2.0)
    assert given[-1](jnp.int32(2)) == 0.1
    assert several.config()["optimizer"].keys() == {"gen", "disc"}


class Number(nn.Module):
    """Of either network: one number, whose gradient is known."""

    shape: tuple[int, ...]

    @nn.compact
    def __call__(self, x, labels, context):
        return self.param("number", nn.initializers.ones, ()) * jnp.ones((len(x), *self.shape))


def recipe(**changes):
    """D's loss is D's number, and G's too: a step of plain descent moves by the rate."""
    made = recipes.get("tf2_gan").replace(
        gen=Number((2, 2, 1)),
        disc=Number(()),
        optimizer=optax.sgd,
        loss=jaxgan.losses.of_logits(lambda real, fake: jnp.mean(fake), lambda real, fake: jnp.mean(real)),
        disc_learning_rate=Linear(1.0, 0.0, 4),
        training_ratio=2,
        ema_decay=0.0,
        disc_loss_scale=1.0,
    )
    return made.replace(**changes)


@pytest.mark.parametrize("update", ["shared", "alternating"])
def test_in_a_step_all_updates_have_its_rate_and_the_metrics_say_it(update):
    gan = recipe(update=update, gen_time_decay=0.5).build()
    state, batch = jaxgan.init(gan, jax.random.key(0)), real_images(gan, 4)
    number = 1.0
    for rate in (1, 0.75, 0.5, 0.25, 0):
        step = int(state.step)
        state, metrics = STEP(gan, state, batch)
        np.testing.assert_allclose(metrics["learning_rate_disc"], rate, atol=1e-7)
        np.testing.assert_allclose(metrics["learning_rate_gen"], 2e-4 / (1 + step / 2))
        number -= 2 * rate
        np.testing.assert_allclose(state.disc.params["number"], number, atol=1e-6)


def test_rates_that_stay_are_no_metrics_and_several_steps_say_the_last():
    gan = recipe().build()
    assert [name for name, _ in gan.schedules] == ["learning_rate_disc"]
    constant = recipe(gen_learning_rate=lambda step: 0.125).build()
    state, data = jaxgan.init(constant, jax.random.key(0)), real_images(constant, 4)
    state, metrics = STEPS(constant, state, data, np.tile(np.arange(4), (3, 1)), 3)
    np.testing.assert_allclose(metrics["learning_rate_disc"], 0.5)
    np.testing.assert_allclose(metrics["learning_rate_gen"], 0.125)
    np.testing.assert_allclose(state.disc.params["number"], 1 - 2 * (1 + 0.75 + 0.5), rtol=1e-6)
    assert not recipes.get("digits").build().schedules


def test_schedules_of_adam_in_several_steps_and_on_four_devices():
    """The state keeps its types, so that steps can be a loop; and is the same on all devices."""
    changes = {"gen_learning_rate": Linear(0.02, 0.0, 4), "beta2": Cosine(0.5, 0.99, 3), "beta1": 0.5}
    gan = recipe(optimizer="adam", training_ratio=1, **changes).build()
    start, data = jaxgan.init(gan, jax.random.key(0)), real_images(gan, 8)
    state = start
    for _ in range(3):
        state, metrics = STEP(gan, state, data)
    at_once, last = STEPS(gan, start, data, np.tile(np.arange(8), (3, 1)), 3)
    on_four, of_four = on("shard_map", 4, gan, start, data)
    once, of_once = STEP(gan, start, data)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-7)
    for got, want in ((at_once.gen, state.gen), (at_once.disc, state.disc), (last, metrics), (of_four, of_once)):
        jax.tree.map(close, got, want)
    jax.tree.map(close, (on_four.gen, on_four.disc), (once.gen, once.disc))
    assert float(jnp.abs(state.disc.params["number"] - 1)) > 0.01


def test_half_of_the_average_is_forgotten_after_so_many_images():
    """Once the early steps, in which more is forgotten, are over."""
    gan = recipe(ema_half_life=48.0, batch_size=16, training_ratio=1).build()
    np.testing.assert_allclose(gan.ema_decay**3, 0.5)
    np.testing.assert_allclose(recipe(ema_half_life=48.0, batch_size=8, training_ratio=2).build().ema_decay ** 3, 0.5)
    assert recipe(ema_decay=0.75, batch_size=16).build().ema_decay == 0.75
    assert recipes.get("digits").replace(ema_half_life=1.0, batch_size=10_000).build().ema_decay == 0
    gan = dataclasses.replace(small_gan(), ema_decay=gan.ema_decay, gen_optimizer=optax.sgd(0.0))
    state = jaxgan.init(gan, jax.random.key(0)).replace(step=jnp.int32(1000))
    off = jax.tree.map(lambda x: x + 1, state.averaged_gen["params"])
    state = state.replace(averaged_gen={**state.averaged_gen, "params": off})
    for _ in range(3):
        state, _ = STEP(gan, state, real_images(gan, 4))
    apart = jax.tree.map(lambda a, b: a - b, state.averaged_gen["params"], state.gen.params)
    jax.tree.map(lambda x: np.testing.assert_allclose(x, 0.5, rtol=1e-5), apart)


def test_a_recipe_with_schedules_round_trips():
    sngan = recipes.get("sngan")
    config = json.loads(json.dumps(sngan.config(), allow_nan=False))
    rate = "jaxgan.schedules:Linear(start=0.0002, end=0.0, steps=50000)"
    assert (config["gen_learning_rate"], config["disc_learning_rate"]) == (rate, rate)
    assert sngan.with_config(config) == sngan
    other = sngan.replace(gen_learning_rate=Linear(2e-4, 0.0, 10))
    assert other.config() != config
    changed = sngan.replace(beta2=0.5, batch_size=8, ema_half_life=100.0, generated_labels="real")
    assert sngan.with_config(json.loads(json.dumps(changed.config()))) == changed


def test_a_rate_that_is_a_schedule_has_no_flag(capsys, monkeypatch):
    chosen = []
    monkeypatch.setattr(train, "run_scored", lambda recipe, *rest: chosen.append(recipe) or {"step": 1})
    monkeypatch.setattr(train.processes, "join", lambda **_: None)
    monkeypatch.setattr("os._exit", lambda status: (_ for _ in ()).throw(SystemExit(status)))
    with pytest.raises(SystemExit) as end:
        train.main(["sngan", "--help"])
    assert not end.value.code
    text = capsys.readouterr().out
    assert "--beta2" in text
    assert "--ema-half-life" in text
    assert "learning-rate " not in text
    assert "augmentations" not in text
    train.main(["sngan", "--beta2", "0.5", "--ema-half-life", "1000", "--generated-labels", "real"])
    assert chosen == [recipes.get("sngan").replace(beta2=0.5, ema_half_life=1000.0, generated_labels="real")]
    with pytest.raises(SystemExit) as end:
        train.main(["sngan", "--gen-learning-rate", "1e-3"])
    assert end.value.code == 2
    train.main(["wgan_gp", "--gen-learning-rate", "1e-3"])
    assert chosen[-1].gen_learning_rate == 1e-3


def test_the_share_kept_is_a_share_whatever_the_half_life():
    for half_life in (1e-9, 1.0, 1e30):
        assert 0 <= Schedule(ema_half_life=half_life).kept(64) <= 1


def test_a_half_life_may_grow():
    growing = recipe(ema_half_life=Linear(0.0, 1000.0, 10), batch_size=16, training_ratio=2).build().ema_decay
    np.testing.assert_allclose(
        [growing(t) for t in (0, 1, 5, 20)], [0, *(0.5 ** (32 / n) for n in (100, 500, 1000))], rtol=1e-6
    )


PUBLISHED = {  # p, gamma and the average's half-life in the end, and the images over which they change
    "r3gan": (0.55, 0.005, 5e6, 2e7),
    "r3gan_ffhq64": (0.3, 0.2, 5e5, 2e7),
    "r3gan_ffhq256": (0.3, 15, 5e5, 2e7),
    "r3gan_imagenet32": (0.5, 0.05, 5e7, 2e8),
    "r3gan_imagenet64": (0.4, 0.1, 5e7, 2e8),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_r3gans_schedules_are_those_published(name):
    p, gamma, half_life, images = PUBLISHED[name]
    gan, batch = recipes.get(name).build(), recipes.get(name).batch_size
    (augment,), (r1, r2) = gan.transforms, gan.penalties
    assert (augment.blit, augment.geometric, augment.color, augment.cutout) == (1, 1, 0.5, 1)
    for t, share in ((0, 0.0), (images / batch / 2, 0.5), (images / batch, 1.0), (2 * images / batch, 1.0)):
        np.testing.assert_allclose(augment.p(t), share * p, atol=1e-4)
        for penalty in (r1, r2):
            np.testing.assert_allclose(penalty.gamma(t), gamma * (10 - 9 * share), rtol=1e-3)
        kept = 0.5 ** (batch / (share * half_life)) if share else 0.0
        np.testing.assert_allclose(gan.ema_decay(t), kept, rtol=1e-5)
