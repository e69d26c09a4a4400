"""Each reference system against an independent PyTorch implementation: losses, gradients, one update.

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

import jaxgan
from experiments import recipes
from jaxgan.gan import Purpose, image_shape

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install torch==2.13.0")
if torch:
    import torch_reference

B = 6
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
    noisy = lambda path, x: x + shift.get(path[-1].key, 0) * rng.normal(size=x.shape).astype(x.dtype)  # noqa: E731
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
        std = float(np.float32(0.1)) if name == "canton_lsgan" else 0  # schedules are float32
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
            "noise_fake": noise(Purpose.NOISE_FAKE, examples),
            "noise_real": noise(Purpose.NOISE_REAL, examples),
        }
        for examples in (range(B * i, B * (i + 1)) for i in range(count))
    ]


def nchw(x):
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(x, -1, 1)))


def convert(kind, name, value):
    """A Flax parameter in PyTorch's layout."""
    if name == "kernel" and kind == "Dense":
        return value.T
    if name == "kernel" and kind == "ConvTranspose":  # lax's transposed convolution has the kernel turned around
        return value[::-1, ::-1].transpose(2, 3, 0, 1)
    return value.transpose(3, 2, 0, 1) if name == "kernel" else value


def layers_of(params, layers):
    """Pairs each Flax layer's parameters with the PyTorch layer of the same kind and number."""
    seen = {}
    for layer in torch_reference.parametric(layers):
        kind = type(layer).__name__
        names = {"Conv": ["Conv", "UpsampleConv"]}.get(kind, [kind])
        name = next(f"{n}_{seen.get(n, 0)}" for n in names[::-1] if f"{n}_{seen.get(n, 0)}" in params)
        seen[name.rpartition("_")[0]] = int(name.rpartition("_")[2]) + 1
        yield layer, kind, params[name]
    assert sum(seen.values()) == len(params), "a layer has no counterpart"


def flat(params, layers):
    """All of a Flax tree's arrays, in the order and layout of PyTorch's parameters."""
    names = {"weight": "kernel", "bias": "bias", "scale": "scale"}
    return [
        convert(kind, names[n], np.asarray(p[names[n]]))
        for layer, kind, p in layers_of(params, layers)
        for n, _ in layer.named_parameters()
    ]


def both_updates(name):
    """The same update in both: (losses, gradients, new parameters, how far they moved) of each."""
    recipe = recipes.get(name)
    gan = recipe.build()
    gan = dataclasses.replace(
        gan,
        gen_optimizer=optax.chain(remember_gradient(), gan.gen_optimizer),
        disc_optimizer=optax.chain(remember_gradient(), gan.disc_optimizer),
    )
    state = jaxgan.init(gan, jax.random.key(3))
    cast = lambda tree: jax.tree.map(lambda x: x.astype(jnp.float64) if x.dtype == jnp.float32 else x, tree)  # noqa: E731
    params = [cast(randomised(net.params, i)) for i, net in enumerate((state.gen, state.disc))]
    state = state.replace(
        gen=cast(state.gen).replace(params=params[0]), disc=cast(state.disc).replace(params=params[1])
    )
    images = np.random.default_rng(1).integers(0, 256, (B, *image_shape(gan)), np.uint8)
    new, metrics = jax.jit(jaxgan.train_step, static_argnums=0)(gan, state, images)

    torch.set_default_dtype(torch.float64)
    try:
        nets = torch_reference.NETWORKS[name]()
        starts = [flat(p, layers) for p, layers in zip(params, nets, strict=True)]
        with torch.no_grad():
            for start, layers in zip(starts, nets, strict=True):
                targets = [p for layer in layers for p in layer.parameters()]
                for target, value in zip(targets, start, strict=True):
                    assert target.shape == value.shape
                    target.copy_(torch.from_numpy(np.array(value)))
        alternating = name in ("keras_mnist", "gan_elements")
        low, high = (0, 1) if name == "keras_mnist" else (-1, 1)
        real = nchw(images / 255 * (high - low) + low)
        losses, grads = torch_reference.update(
            name, alternating, *nets, real, draws_of(name, gan, state, 1 + alternating)
        )
    finally:
        torch.set_default_dtype(torch.float32)
    expected = [
        (grad.numpy(), p.detach().numpy() - start)
        for layers, net_grads, net_starts in zip(nets, grads, starts, strict=True)
        for p, grad, start in zip(
            [p for layer in layers for p in layer.parameters()], net_grads, net_starts, strict=True
        )
    ]
    got = [
        (grad, p - start)
        for layers, net, net_starts in zip(nets, (new.gen, new.disc), starts, strict=True)
        for grad, p, start in zip(flat(net.opt_state[0], layers), flat(net.params, layers), net_starts, strict=True)
    ]
    return (float(metrics["loss_gen"]), float(metrics["loss_disc"])), got, losses, expected


@pytest.mark.slow
@pytest.mark.parametrize("name", torch_reference.NETWORKS)
def test_losses_gradients_and_one_update(name, x64):
    losses, got, expected_losses, expected = both_updates(name)
    np.testing.assert_allclose(losses, expected_losses, rtol=1e-9)
    steepest, furthest = (max(np.abs(values).max() for values in column) for column in zip(*expected, strict=True))
    assert furthest > 1e-5
    for (grad, move), (expected_grad, expected_move) in zip(got, expected, strict=True):
        np.testing.assert_allclose(grad, expected_grad, rtol=1e-4, atol=1e-12 * steepest)
        np.testing.assert_allclose(move, expected_move, rtol=1e-4, atol=1e-6 * furthest)
