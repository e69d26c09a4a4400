"""The signs of a dead game, and whether numbers are finite."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_run import recipe

import jaxgan
from jaxgan.gan import Batch
from jaxgan.losses import of_logits
from jaxgan.run import Options, RunError, run
from jaxgan.run.finite import check_update
from jaxgan.run.health import ALIKE, LINES, UPDATES, Watch, spread
from jaxgan.train_step import train_steps


def told(losses, every=50, watch=None):
    """The steps of the signs that lines with these losses of G and D tell."""
    watch = watch or Watch()
    notes = [watch.line({"step": 1 + i * every, "loss_gen": gen, "loss_disc": disc}) for i, (gen, disc) in losses]
    assert sum(map(len, notes)) == len(watch.signs)
    return watch.signs


def lines(disc, count, first=1.4):
    rng = np.random.default_rng(0)
    return list(enumerate([(1.0, first), *((2 + rng.random(), disc * (0.5 + rng.random())) for _ in range(count))]))


@pytest.mark.parametrize(
    ("losses", "every", "signs"),
    [
        (lines(0.02, 30), 50, {"sure": 1001}),
        (
            [(i, (gen, disc + (i % 5 == 0))) for i, (gen, disc) in lines(0.02, 30)],
            50,
            {"sure": 1001},
        ),  # now and then
        (lines(0.02, 19), 50, {}),  # not long enough
        (lines(0.02, 300), 10, {"sure": 1001}),
        (lines(0.02, 20), 100, {"sure": 1901}),  # twenty lines
        (lines(0.05, 60), 50, {}),
        (lines(-0.02, 60), 50, {}),  # a Wasserstein loss
        ([(i, (0.7, 1.4)) for i in range(30)], 50, {"still": 1001}),
        ([(i, (128.3, 1.4 if i == 0 else 1e-30 * (i % 2))) for i in range(30)], 50, {"sure": 1001, "still": 1051}),
        ([(i, (0.7 * (1 + 0.01 * (i % 2)), 1.4)) for i in range(30)], 50, {}),
        ([(i, (0.7, 1.4 * (1 + 0.01 * (i % 2)))) for i in range(30)], 50, {}),
    ],
)
def test_signs_in_the_losses(losses, every, signs):
    assert told(losses, every) == signs


def test_lines_without_losses_are_passed_over():
    watch = Watch()
    for step in range(1, 3000, 50):
        assert not watch.line({"step": step, "frechet_distance": 3.0})
        assert not watch.line({"step": step, "loss_gen": None, "loss_disc": 0.0})
    assert not watch.signs


@given(st.lists(st.tuples(st.floats(0.1, 9), st.floats(0.1, 9)), min_size=2, max_size=60), st.integers(1, 200))
def test_nothing_is_told_of_a_game_in_balance(losses, every):
    """D's losses are above a fiftieth of the first, and change."""
    losses = [(i, (gen, disc + i % 2)) for i, (gen, disc) in enumerate([(1.0, 1.0), *losses])]
    assert not told(losses, every)


def test_samples_that_are_alike_are_told_once_in_two_grids():
    rng, watch = np.random.default_rng(0), Watch()
    one = rng.integers(0, 256, (8, 1, 8, 8, 3))  # a row is a class: only within it they are alike
    alike = np.clip(one + rng.integers(-2, 3, (8, 8, 8, 8, 3)), 0, 255).astype(np.uint8).reshape(64, 8, 8, 3)
    other = rng.integers(0, 256, (64, 8, 8, 3), np.uint8)
    assert spread(alike, 8) < ALIKE < spread(other, 8)
    rows = other.astype(float).reshape(8, 8, -1)
    assert spread(other, 8) == pytest.approx(np.mean([[row[:, k].std() for k in range(192)] for row in rows]), rel=1e-5)
    assert not watch.grid(250, alike, 8)
    assert not watch.grid(450, alike, 8)  # too young
    assert not watch.grid(500, other, 8)
    assert not watch.grid(750, alike, 8)
    (note,) = watch.grid(1000, alike, 8)
    assert "at steps 750 and 1,000" in note
    assert not watch.grid(1250, alike, 8)
    assert watch.signs == {"alike": 1000}
    assert not watch.grid(1500, rng.normal(size=(64, 2)), 8)  # points are not looked at
    assert not watch.grid(1750, alike[:3], 8)


@pytest.mark.slow
def test_a_run_tells_them_and_a_resumed_one_not_again(tmp_path, capsys):
    """Losses of which there is nothing to learn stay as they are."""
    same = of_logits(lambda real, fake: 0 * jnp.mean(fake) + 1, lambda real, fake: 0 * jnp.mean(real) + 2)
    still = recipe(disc_loss_scale=1.0, loss=same, steps=UPDATES + 100)
    options = Options(devices=1, log_every=UPDATES // (2 * LINES), sample_every=250)
    run(still, tmp_path / "run", 0, options)
    assert capsys.readouterr().err.count("the losses have not changed for 1,000 updates: G's is 1, D's 2") == 1
    run(still.replace(steps=UPDATES + 200), tmp_path / "run", 0, options)
    assert "have not changed" not in capsys.readouterr().err


@pytest.mark.slow
def test_where_a_number_that_is_not_finite_comes_from():
    """In the pass, where the line of the loss is named, and in the gradients alone, where it is the step's own."""
    rng = np.random.default_rng(0)
    dataset, batches = Batch(jnp.asarray(rng.integers(0, 256, (16, 28, 28, 1), np.uint8))), jnp.zeros((2, 8), jnp.int32)

    def log(real, fake):
        return jnp.mean(jnp.log(fake - 1e3))

    def root(real, fake):
        return jnp.mean(jnp.sqrt(fake - fake))

    in_pass = r"step 1: log gives nan at test_health.py, line \d+: return jnp.mean\(jnp.log"
    for loss, said in ((log, in_pass), (root, r"step 1: \w+ gives (nan|inf) at \w+.py, line \d+: ")):
        gan = recipe(batch_size=8, disc_loss_scale=1.0, loss=of_logits(loss, lambda real, fake: jnp.mean(real))).build()
        state = jaxgan.init(gan, jax.random.key(0))
        after, metrics = jax.jit(functools.partial(train_steps, gan))(state, dataset, batches, 1)
        with pytest.raises(FloatingPointError, match=said):
            check_update(gan, state, dataset, batches, after, metrics)


def test_debug_nans_is_for_one_device(tmp_path):
    if jax.device_count() == 1:
        pytest.skip("one device")
    with pytest.raises(RunError, match=r"`debug_nans` is for one device; choose `devices` 1, not 2"):
        run(recipe(), tmp_path / "run", 0, Options(devices=2, debug_nans=True))
