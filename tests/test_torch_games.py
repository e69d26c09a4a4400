"""The shipped games against independent PyTorch implementations: both losses and all gradients; CycleGAN's pool."""

import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from common import QUICK, at_night, drawn, small_state

import jaxgan
from jaxgan import recipes
from jaxgan.gan import Batch
from jaxgan.randomness import Purpose
from jaxgan.recipes import cyclegan

B = 3


def maps(x):
    return np.moveaxis(x, -1, 1) if np.ndim(x) == 4 else x


def own(state, name, draw):
    """What a game draws for each example by a name of its own."""
    key = jax.random.fold_in(jax.random.fold_in(state.key, int(Purpose.OWN)), state.step)
    key = jax.random.fold_in(key, zlib.crc32(name.encode()))
    return [draw(jax.random.fold_in(key, i)) for i in range(B)]


def pool_draws(state, name):
    """Of each example its place in the pool, and whether an earlier image is shown for it."""
    return np.array(own(state, name, lambda key: jax.random.randint(key, (2,), 0, jnp.array([50, 2]))))


@pytest.mark.slow
@pytest.mark.parametrize("name", [*(name for name in recipes.GAMES if name != "cyclegan"), *at_night(["cyclegan"])])
def test_losses_and_gradients_are_pytorchs(name, x64):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install torch==2.13.0")
    import torch_games

    gan = recipes.get(name).replace(mirror=False).build()
    state, rng = small_state(gan), np.random.default_rng(0)
    shape, others = jaxgan.gan.image_shape(gan), dict(gan.others)
    images = rng.uniform(*gan.image_range, (B, *shape))
    others = {of: rng.uniform(-1, 1, (B, *shape)) for of, shape in others.items()}
    if name == "cyclegan":  # a full pool, so that D is shown some earlier images
        pools = {of: rng.uniform(-1, 1, (50, 28, 28, 3)) for of in ("images", "other")}
        state = state.replace(memory={of: jnp.asarray(x) for of, x in pools.items()} | {"count": jnp.int32(60)})
    take = jax.jit(jaxgan.gradients, static_argnums=0, compiler_options=QUICK)
    grads, aux = take(gan, state, Batch(jnp.asarray(images), None, jax.tree.map(jnp.asarray, others) or None))

    tensor = lambda x: torch.from_numpy(np.array(maps(x), order="C"))  # noqa: E731
    batch = {"images": tensor(images)} | {of: tensor(x) for of, x in others.items()}
    if gan.z_size:
        uniform = lambda key: jax.random.uniform(key, (gan.z_size,), minval=-1, maxval=1)  # noqa: E731
        batch["z"] = tensor(drawn(uniform, state, Purpose.Z, range(B)))
    if name == "pix2pix":
        keep = lambda key, layer, size, c: jax.random.bernoulli(jax.random.fold_in(key, layer), 0.5, (size, size, c))  # noqa: E731
        batch["kept"] = [
            tensor(drawn(lambda key, a=args: keep(key, *a), state, Purpose.DROPOUT_GEN, range(B)))
            for args in ((2, 4, 128), (1, 8, 64))
        ]
    if name == "cyclegan":
        draws = {of: pool_draws(state, of) for of in pools}
        assert 0 < sum(x[:, 1].sum() for x in draws.values()) < 2 * B, "both kinds should be drawn"
        earlier = {of: {i: pools[of][slot] for i, (slot, coin) in enumerate(x) if coin} for of, x in draws.items()}
        batch["earlier"] = jax.tree.map(lambda x: torch.from_numpy(np.moveaxis(x, -1, 0).copy()), earlier)
    weight = lambda x: torch.from_numpy(np.array(x)).requires_grad_()  # noqa: E731
    params = {of: jax.tree.map(weight, getattr(state, of).params) for of in ("gen", "disc")}
    both = getattr(torch_games, name)(params["gen"], params["disc"], batch)

    for of, loss in zip(("gen", "disc"), both, strict=True):
        np.testing.assert_allclose(aux.metrics[of][f"loss_{of}"], loss.item(), rtol=1e-9)
        leaves, tree = jax.tree.flatten(params[of])
        want = torch.autograd.grad(loss, leaves, retain_graph=True)
        steepest = max(float(g.abs().max()) for g in want)
        assert steepest > 1e-3
        for got, g in zip(jax.tree.leaves(grads[of]), want, strict=True):
            np.testing.assert_allclose(got, g.numpy(), rtol=1e-6, atol=1e-9 * steepest)
        assert jax.tree.structure(grads[of]) == tree


def test_a_pool_of_earlier_images():
    """Filled in order; then as the paper's code does it, one image after the other, by a place and a coin each."""
    rng, memory = np.random.default_rng(0), cyclegan.EMPTY
    want = {name: np.zeros((50, 28, 28, 3), np.float32) for name in ("images", "other")}
    for step in range(9):
        seen = {}
        for name in want:
            fake = rng.normal(size=(8, 28, 28, 3)).astype(np.float32)
            slot, coin = rng.integers(0, 50, 8), rng.integers(0, 2, 8)
            if step < 7:
                places = np.where(np.arange(8 * step, 8 * step + 8) < 50, np.arange(8 * step, 8 * step + 8), 50)
            else:
                places = np.where(coin == 1, slot, 50)
            for image, place in zip(fake, places, strict=True):
                if place < 50:
                    want[name][place] = image
            seen[name] = (jnp.asarray(fake), jnp.asarray(places))
        memory = cyclegan.keep(memory, jaxgan.gan.Seen({}, {}, seen, 8))
    assert int(memory["count"]) == 72
    for name, pool in want.items():
        np.testing.assert_array_equal(memory[name], pool)
