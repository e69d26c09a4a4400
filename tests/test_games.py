"""Games of another shape: the files of docs/games.md, the pass against formulas, memory, updates of one's own."""

import dataclasses
import re
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from common import (
    STEP,
    SmallDisc,
    SmallGen,
    apply,
    as_float64,
    assert_close,
    assert_same_bits,
    at_night,
    descended,
    in_range,
    latents,
    on,
    real_batch,
    real_images,
    small_gan,
    small_state,
)

import jaxgan
from jaxgan import Losses, Memory, recipes
from jaxgan.gan import Batch
from jaxgan.losses import non_saturating_disc, non_saturating_gen
from jaxgan.penalties import R1

pytestmark = pytest.mark.usefixtures("quick_programs")

PAGE = (Path(__file__).parents[1] / "docs" / "games.md").read_text()
IDEAS = dict(re.findall(r"```python\n# (\w+\.py)\n(.*?)```", PAGE, flags=re.DOTALL))
NAMES = "encoder path_length ada lecam packing vae_gan extragradient consensus lookahead"
IN_CI = ("ada.py", "packing.py")
NORMED = ("packing.py", "lecam.py", "extragradient.py")  # with batch normalisation, where it is not in its own networks


def test_the_page_has_them_all():
    assert {f"{name}.py" for name in NAMES.split()} == set(IDEAS)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*IN_CI, *at_night(name for name in IDEAS if name not in IN_CI)])
def test_an_idea_is_the_same_on_four_devices_and_in_microbatches(name, x64, tmp_path):
    """Two steps of 16 images, plain descent: on one device, on four, and in two microbatches."""
    (tmp_path / name).write_text(IDEAS[name])
    recipe = recipes.get(str(tmp_path / name)).replace(optimizer=lambda rate: optax.sgd(0.05))
    small = {"gen": SmallGen(norm=name in NORMED), "disc": SmallDisc(norm=name in NORMED)}
    gan = recipe.replace(**{net: small[net] for net in small if f"{net}=" not in IDEAS[name]}).build()
    batch, start = real_images(gan, 16), as_float64(jaxgan.init(gan, jax.random.key(0)))

    def after(form, count, gan):
        state = start
        for _ in range(2):
            state, metrics = on(form, count, gan, jax.tree.map(jnp.copy, state), batch)
        return jax.device_get((state.replace(key=None), metrics))

    want = after("plain", 1, gan)
    assert all(np.isfinite(value) for value in want[1].values())
    for form in ("shard_map", "pmap"):
        assert_close(after(form, 4, gan), want, rtol=1e-9, atol=1e-12)
    if not jax.tree.leaves((start.gen.batch_stats, start.disc.batch_stats)):
        assert_close(after("plain", 1, dataclasses.replace(gan, accumulate=2)), want, rtol=1e-9, atol=1e-12)


def by_hand(p):
    """The usual game, as a user would write it."""
    fake, real = p.disc(p.gen(p.z, p.generated_labels), p.generated_labels), p.disc(p.images, p.labels)
    return Losses(
        non_saturating_gen(real, fake),
        non_saturating_disc(real, fake),
        {"logit_real": jnp.mean(real), "logit_fake": jnp.mean(fake)},
    )


@pytest.mark.slow
@pytest.mark.parametrize("changes", [
    {}, {"update": "alternating", "classes": 3}, {"accumulate": 2, "training_ratio": 2}, {"precision": "bf16"},
])  # fmt: skip
def test_the_usual_game_by_hand_is_the_usual_game(changes):
    """To the last bit, with batch normalisation in both players: initial state, updates, metrics."""
    usual = small_gan(**changes)
    own = dataclasses.replace(usual, game=by_hand)
    batch = real_batch(usual, 16)
    states = [jaxgan.init(gan, jax.random.key(0)) for gan in (usual, own)]
    assert_same_bits(*states)
    assert_same_bits(*(STEP(gan, state, batch) for gan, state in zip((usual, own), states, strict=True)))


class TwoWay(nn.Module):
    """Images from latents, and a code of images."""

    def setup(self):
        self.out, self.code = nn.Dense(16), nn.Dense(5)

    def __call__(self, z, labels, context):
        return jnp.tanh(self.out(z)).reshape(-1, 4, 4, 1)

    def encode(self, images, context):
        return self.code(images.reshape(len(images), -1))


class OfPairs(nn.Module):
    @nn.compact
    def __call__(self, images, codes, context):
        x = jnp.concatenate([images.reshape(len(images), -1), codes], axis=1)
        return nn.Dense(1)(nn.softplus(nn.Dense(8)(x)))[:, 0]


def bigan(p):
    fake, code = p.gen(p.z), p.gen(p.images, method="encode")
    of_fake, of_real = p.disc(fake, p.z), p.disc(p.images, code)
    gen = jnp.mean(nn.softplus(-of_fake) + nn.softplus(of_real))
    return Losses(gen, jnp.mean(nn.softplus(of_fake) + nn.softplus(-of_real)))


@pytest.mark.parametrize("update", ["shared", "alternating"])
def test_bigan_against_its_formulas(update, x64):
    """Both gradients by `jax.grad` of formulas with matrix products, one network after the other."""
    gan = small_gan(gen=TwoWay(), disc=OfPairs(), game=bigan, update=update, ema_decay=0.0)
    state, batch = small_state(gan), real_images(gan, 4)
    x = np.asarray(in_range(gan, Batch(batch)).images).reshape(4, -1)

    def game(gen, disc, z):
        dense = lambda layer, x: x @ layer["kernel"] + layer["bias"][None]  # noqa: E731
        logits = lambda x, z: dense(disc["Dense_0"], nn.softplus(dense(disc["Dense_1"], jnp.hstack([x, z]))))[:, 0]  # noqa: E731
        fake, code = jnp.tanh(dense(gen["out"], z)), dense(gen["code"], x)
        log_p, log_q = jax.nn.log_sigmoid(logits(fake, z)), jax.nn.log_sigmoid(-logits(fake, z))
        log_r, log_s = jax.nn.log_sigmoid(logits(x, code)), jax.nn.log_sigmoid(-logits(x, code))
        return -jnp.mean(log_p + log_s), -jnp.mean(log_q + log_r)

    of = lambda player, gen, disc, z: jax.jit(jax.grad(lambda *a: game(*a, z)[player], argnums=player))(gen, disc)  # noqa: E731
    gen, disc = state.gen.params, state.disc.params
    want_disc = descended(0.2, disc, of(1, gen, disc, latents(gan, state, range(4))))
    if update == "shared":
        want_gen = descended(0.1, gen, of(0, gen, disc, latents(gan, state, range(4))))
    else:
        want_gen = descended(0.1, gen, of(0, gen, want_disc, latents(gan, state, range(4, 8))))
    new, _ = STEP(gan, state, batch)
    assert_close((new.gen.params, new.disc.params), (want_gen, want_disc))


def test_running_averages_move_with_each_call_outside_of_transformations(x64):
    """Those of D: once for generated images, once for real ones; a penalty's call within `jax.grad` moves none."""

    def game(p):
        fake, real = p.disc(p.gen(p.z)), p.disc(p.images)
        slope = jax.grad(lambda x: jnp.sum(p.disc(x)))(p.images)
        return Losses(jnp.mean(fake), jnp.mean(real) + jnp.mean(slope**2))

    gan = small_gan(game=game)
    state, batch = small_state(gan), real_images(gan, 4)
    new, _ = STEP(gan, state, batch)
    fake, _ = apply(gan.gen, state.gen.params, state.gen.batch_stats, latents(gan, state, range(4)))
    _, stats = apply(gan.disc, state.disc.params, state.disc.batch_stats, fake)
    _, stats = apply(gan.disc, state.disc.params, stats, in_range(gan, Batch(batch)).images)
    assert_close(new.disc.batch_stats, stats)


def test_with_a_penalty_they_move_as_without(x64):
    gan = small_gan()
    state, batch = small_state(gan), real_images(gan, 4)
    want, got = (STEP(dataclasses.replace(gan, penalties=p), state, batch)[0] for p in ((), (R1(0.0),)))
    assert_close((got.gen.batch_stats, got.disc.batch_stats), (want.gen.batch_stats, want.disc.batch_stats))


@pytest.mark.parametrize("name", ["shared", "alternating", "extragradient", "consensus"])
def test_the_jacobian_of_updates_on_the_dirac_gan(name, x64, tmp_path):
    """At the equilibrium, by hand: METHODS of the two-player games of Mescheder et al. 2018 and Gidel et al. 2018.

    The field is v = (psi f'(0), -theta f'(0)) with f'(0) = 1/2 up to sign: a rotation J; a step of h gives 1 + h J,
    extragradient 1 + h J (1 + h J), consensus 1 + h (J - gamma J^T J).
    """
    h, gamma = 0.1, 0.1

    class Theta(nn.Module):
        @nn.compact
        def __call__(self, z, labels, context):
            return jnp.broadcast_to(self.param("theta", nn.initializers.zeros, ()), (len(z), 1))

    class Psi(nn.Module):
        @nn.compact
        def __call__(self, images, labels, context):
            return self.param("psi", nn.initializers.zeros, ()) * images.reshape(-1)

    update = name
    if f"{name}.py" in IDEAS:
        (tmp_path / f"{name}.py").write_text(IDEAS[f"{name}.py"])
        update = recipes.get(str(tmp_path / f"{name}.py")).update
    sgd = optax.sgd(h)
    gan = small_gan(gen=Theta(), disc=Psi(), gen_optimizer=sgd, disc_optimizer=sgd, update=update)
    state = jaxgan.init(gan, jax.random.key(0))

    def after(x):
        nets = {"gen": {"theta": x[0]}, "disc": {"psi": x[1]}}
        before = state.replace(**{n: getattr(state, n).replace(params=p) for n, p in nets.items()})
        new, _ = jaxgan.train_step(gan, before, jnp.zeros((4, 1)))
        return jnp.stack([new.gen.params["theta"], new.disc.params["psi"]])

    got = jax.jit(jax.jacobian(after))(jnp.zeros(2))
    rotation, one = np.array([[0, 0.5], [-0.5, 0]]), np.eye(2)
    want = {
        "shared": one + h * rotation,
        "alternating": np.array([[1, h / 2], [0, 1]]) @ np.array([[1, 0], [-h / 2, 1]]),
        "extragradient": one + h * rotation @ (one + h * rotation),
        "consensus": one + h * (rotation - gamma * rotation.T @ rotation),
    }[name]
    np.testing.assert_allclose(got, want, atol=1e-12)
    modulus = np.abs(np.linalg.eigvals(np.asarray(got))).max()
    assert {"shared": modulus > 1, "alternating": abs(modulus - 1) < 1e-12}.get(name, modulus < 1)


class Counter(nn.Module):
    @nn.compact
    def __call__(self, z, labels, context):
        self.variable("counts", "calls", lambda: jnp.zeros(())).value += 1
        return SmallGen(norm=False)(z, labels, context)


def no_step(gan, state, batch):
    return state, {}


def vector(p):
    return Losses(jnp.zeros(3), jnp.zeros(()))


KEPT = Memory(lambda gan, params: {"mean": jnp.zeros(())})


def no_mask(p):
    return Losses(p.gen(p.z).mean(), p.disc(p.images).mean() * p.others["mask"].mean() + p.memory["mean"])


def no_method(p):
    return Losses(jnp.mean(p.gen(p.images, method="encode")), jnp.zeros(()))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"game": vector}, r"vector \(test_games.py:\d+\): gen must give a scalar, .* not shape \[3\]"),
        ({"game": lambda p: 1.0}, r"<lambda> \(test_games.py:\d+\) must give Losses, not float"),
        ({"game": no_method}, "gen has no method 'encode'"),
        ({"update": no_step}, r"no_step \(test_games.py:\d+\) must end with jaxgan.advance"),
        ({"update": lambda *_: 3}, r"must give \(state, metrics\)"),
        ({"penalties": (lambda f, d: (0.0, {"loss_gen": 0.0}),)}, "two metrics are named 'loss_gen'"),
        ({"schedules": (("loss_disc", lambda step: step),)}, "two metrics are named 'loss_disc'"),
        ({"gen": Counter()}, "gen has variables of the collection 'counts', which no step keeps"),
        (
            {"memory": Memory(lambda gan, params: jnp.zeros(2), lambda m, seen: m[:1])},
            r"<lambda> \(test_games.py:\d+\): the memory was float32\[2\], and is now float32\[1\]",
        ),
        ({"condition": "mask"}, "condition must be the name of one of others"),
        (
            {"game": no_mask, "others": (("edges", (2,)),), "memory": KEPT},
            r"no 'mask' \(test_games.py:\d+\); p.memory has mean; p.others has edges",
        ),
        (
            {"memory": Memory(KEPT.start, lambda m, seen: {"mean": seen.metrics["sign"]})},
            r"no 'sign' \(test_games.py:\d+\); the memory has mean; seen.metrics has .*; seen.means has nothing",
        ),
        (
            {"memory": KEPT, "update": lambda *x: x[1].memory["slow"]},
            r"no 'slow' .*; state.memory has mean; batch.others",
        ),
    ],
)
def test_what_is_wrong_with_a_game_is_one_line_with_its_place(changes, message):
    def step():
        gan = small_gan(**changes)
        return jaxgan.train_step(gan, jaxgan.init(gan, jax.random.key(0)), real_images(small_gan(), 4))

    with pytest.raises(ValueError, match=message) as error:
        jax.eval_shape(step)
    assert "\n" not in str(error.value)


def test_the_step_and_the_modules_of_a_player_may_depend_on_the_steps_done(x64):
    class Fading(nn.Module):
        @nn.compact
        def __call__(self, z, labels, context):
            return SmallGen(norm=False)(z, labels, context) * 0.5**context.step

    gan = small_gan(gen=Fading(), disc=SmallDisc(norm=False), ema_decay=lambda step: 0.25 * step, ema_ramp=False)
    state = small_state(gan).replace(step=jnp.int32(3))
    one = jaxgan.sample(gan, state, jax.random.key(0), 2)
    state = state.replace(step=jnp.int32(0))
    full = jaxgan.sample(gan, state, jax.random.key(0), 2)
    assert np.ptp(np.asarray(one, int)) < np.ptp(np.asarray(full, int)) / 4
    new, _ = STEP(gan, state.replace(step=jnp.int32(2)), real_images(gan, 4))
    want = jax.tree.map(lambda a, b: (a + b) / 2, state.averaged_gen, new.gen.variables)
    assert_close(new.averaged_gen, want)


def test_a_game_differentiates_a_player_in_its_input(x64):
    """R1 by `p.vjp`, against the penalty of that name; what gives no pair is refused, when the state is made too."""

    def with_r1(pair):
        def game(p):
            real, _, pull = p.vjp(lambda x: (p.disc(x), None) if pair else p.disc(x), p.images)
            fake = p.disc(p.gen(p.z))
            r1 = jnp.mean(jnp.sum(pull(jnp.ones_like(real)) ** 2, axis=(1, 2, 3)))
            return Losses(non_saturating_gen(real, fake), non_saturating_disc(real, fake) + 2 * r1)

        return game

    usual = small_gan(norm=False, penalties=(R1(4.0),))
    own = dataclasses.replace(usual, game=with_r1(True), penalties=())
    state, batch = small_state(usual), real_batch(usual, 4)
    for got, want in zip(
        *(jax.tree.leaves(STEP(gan, state, batch)[0].disc.params) for gan in (own, usual)), strict=True
    ):
        np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-12)
    with pytest.raises(ValueError, match=r"<lambda> \(test_games.py:\d+\) must give a pair: a value, and what else"):
        jaxgan.init(dataclasses.replace(own, game=with_r1(False)), jax.random.key(0))
