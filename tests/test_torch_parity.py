"""Each reference system against an independent PyTorch implementation: losses, gradients, updates, batch moments.

In float64, since Adam's first update is nearly the sign of the gradient, and that of a bias before batch
normalisation is rounding alone.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from common import STEP, as_float64, with_params

import jaxgan
from jaxgan import recipes
from jaxgan.gan import image_shape
from jaxgan.randomness import Purpose
from jaxgan.transforms import InstanceNoise

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install torch==2.13.0")
import torch_reference  # noqa: E402
from torch_layout import flat, load, nchw  # noqa: E402

B = 6
UPDATES = 2  # the first of Adam's does not depend on its betas
MOMENTUM = {"keras_mnist": 0.9, "gan_elements": 0.8}  # of batch normalisation, 0.99 elsewhere
DROPOUTS = {  # of a map's size and channels, by number
    "gen": {"keras_mnist": [(7, 7, 256)]},
    "disc": {"keras_mnist": [(14, 14, 64), (7, 7, 128), (4, 4, 256), (4, 4, 512)]},
}


def remember_gradient():
    """An optimiser that passes the gradient on, and keeps it as its state."""
    zeros = functools.partial(jax.tree.map, jnp.zeros_like)
    return optax.GradientTransformation(zeros, lambda grads, state, params=None: (grads, grads))


def randomised(tree, seed):
    """Parameters with no zero bias and no unit scale, so that leaving one out is seen."""
    rng = np.random.default_rng(seed)
    shift = {"bias": 0.1, "scale": 0.2}
    noisy = lambda path, x: jnp.asarray(np.asarray(x) + shift.get(path[-1].key, 0) * rng.normal(size=x.shape))  # noqa: E731
    return jax.tree_util.tree_map_with_path(noisy, tree)


def draws_of(name, gan, state, count):
    """What the documentation says a step draws: each from the root key by purpose, step and example."""

    def keys(purpose, examples):
        key = jax.random.fold_in(jax.random.fold_in(state.key, int(purpose)), int(state.step))
        return [jax.random.fold_in(key, i) for i in examples]

    def stack(draw, purpose, examples):
        return np.stack([np.asarray(draw(key)) for key in keys(purpose, examples)])

    def masks(net, purpose, examples):
        shapes = DROPOUTS[net].get(name, [])
        draw = lambda layer, shape: lambda key: jax.random.bernoulli(jax.random.fold_in(key, layer), 0.6, shape)  # noqa: E731
        return [nchw(stack(draw(layer, s), purpose, examples)) for layer, s in enumerate(shapes)]

    def noise(purpose, examples):
        std = 0.1 * 0.999 ** int(state.step) if name == "canton_lsgan" else 0
        return nchw(std * stack(lambda key: jax.random.normal(key, image_shape(gan)), purpose, examples))

    draw_z = {
        "normal": lambda key: jax.random.normal(key, (gan.z_size,)),
        "uniform": lambda key: jax.random.uniform(key, (gan.z_size,), minval=-1, maxval=1),
    }["uniform" if name == "keras_mnist" else "normal"]
    return [
        {
            "z": torch.from_numpy(stack(draw_z, Purpose.Z, examples)),
            "masks_gen": masks("gen", Purpose.DROPOUT_GEN, examples),
            "masks_fake": masks("disc", Purpose.DROPOUT_FAKE, examples),
            "masks_real": masks("disc", Purpose.DROPOUT_REAL, examples),
            "noise_fake": noise(Purpose.TRANSFORM_FAKE, examples),
            "noise_real": noise(Purpose.TRANSFORM_REAL, examples),
        }
        for examples in (range(B * i, B * (i + 1)) for i in range(count))
    ]


def expected_stats(layers, momentum, passes):
    """Running moments of each batch normalisation, from 0 and 1, over the batches of those passes."""
    for layer in layers:
        if isinstance(layer, torch_reference.BatchNorm):
            mean, var = torch.zeros_like(layer.bias), torch.ones_like(layer.bias)
            for i in passes:
                mean = momentum * mean + (1 - momentum) * layer.moments[i][0]
                var = momentum * var + (1 - momentum) * layer.moments[i][1]
            yield mean.detach().numpy(), var.detach().numpy()


SMALL = ("tf2_gan",)


def noise_of_a_schedule_in_float64(images, keys, step):
    """canton_lsgan's instance noise, but for the rounding of its standard deviation."""
    unit = InstanceNoise(1.0)(jnp.zeros_like(images), keys, step)
    return images + 0.1 * 0.999 ** step.astype(jnp.float64) * unit


@pytest.mark.parametrize(
    "name", [name if name in SMALL else pytest.param(name, marks=pytest.mark.slow) for name in torch_reference.NETWORKS]
)
def test_losses_gradients_updates_and_batch_moments(name, x64):
    gan = recipes.get(name).build()
    gan = dataclasses.replace(
        gan,
        gen_optimizer=optax.chain(remember_gradient(), gan.gen_optimizer),
        disc_optimizer=optax.chain(remember_gradient(), gan.disc_optimizer),
    )
    if gan.transforms:  # the recipe's schedule is float32
        gan = dataclasses.replace(gan, transforms=(noise_of_a_schedule_in_float64,))
    state = jaxgan.init(gan, jax.random.key(3))
    state = as_float64(state)
    params = [randomised(net.params, i) for i, net in enumerate((state.gen, state.disc))]
    state = with_params(state, gen=params[0], disc=params[1])

    torch.set_default_dtype(torch.float64)
    try:
        nets = torch_reference.NETWORKS[name]()
        starts = [load(p, layers) for p, layers in zip(params, nets, strict=True)]
        optimizers = torch_reference.optimizers(name, *nets)
        alternating = name in ("keras_mnist", "gan_elements")
        low, high = (0, 1) if name == "keras_mnist" else (-1, 1)
        for seed in range(UPDATES):
            images = np.random.default_rng(seed).integers(0, 256, (B, *image_shape(gan)), np.uint8)
            real, draws = nchw(images / 255 * (high - low) + low), draws_of(name, gan, state, 1 + alternating)
            state, metrics = STEP(gan, state, images)
            losses, grads = torch_reference.update(name, alternating, *nets, optimizers, real, draws)
            np.testing.assert_allclose([metrics["loss_gen"], metrics["loss_disc"]], losses, rtol=1e-7)
    finally:
        torch.set_default_dtype(torch.float32)

    gen_passes = [i for i in range(UPDATES * (1 + alternating)) if i % (1 + alternating) == alternating]
    disc_passes = [i for i in range(UPDATES * (2 + alternating)) if i % (2 + alternating) < 2]  # fake, then real
    for layers, net, start, grad, passes in zip(
        nets, (state.gen, state.disc), starts, grads, (gen_passes, disc_passes), strict=True
    ):
        steepest = max(float(g.abs().max()) for g in grad)
        for got, expected in zip(flat(net.opt_state[0], layers), grad, strict=True):
            np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-9 * steepest)
        moves = [(p.detach().numpy() - s) for p, s in zip(torch_reference.parameters(layers), start, strict=True)]
        furthest = max(np.abs(move).max() for move in moves)
        assert furthest > 1e-5
        for got, s, move in zip(flat(net.params, layers), start, moves, strict=True):
            np.testing.assert_allclose(got - s, move, rtol=1e-4, atol=1e-5 * furthest)
        stats = [net.batch_stats[f"BatchNorm_{i}"] for i in range(len(net.batch_stats))]
        for got, (mean, var) in zip(stats, expected_stats(layers, MOMENTUM.get(name, 0.99), passes), strict=True):
            np.testing.assert_allclose(got["mean"], mean, rtol=1e-4, atol=1e-8)
            np.testing.assert_allclose(got["var"], var, rtol=1e-4)
