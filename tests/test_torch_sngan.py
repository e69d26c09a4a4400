"""SNGAN and WGAN-GP against an independent PyTorch implementation: a whole step; and how large they are."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from common import STEP, drawn, in_range, latents, real_images, small_state

import jaxgan
from jaxgan import recipes
from jaxgan.networks.spectral import VECTORS
from jaxgan.randomness import Purpose

SNGAN, WGANGP = (recipes.get(name) for name in ("sngan", "wgan_gp"))


def conv(kernel, c_in, c_out):
    return kernel * kernel * c_in * c_out + c_out


def sizes():
    """By the tables of the papers, at full width."""
    gen_block = 2 * (2 * 256) + 2 * conv(3, 256, 256) + conv(1, 256, 256)
    first, second = conv(3, 3, 128) + conv(3, 128, 128) + conv(1, 3, 128), 2 * conv(3, 128, 128) + conv(1, 128, 128)
    yield SNGAN, "gen", 128 * 4096 + 4096 + 3 * gen_block + 2 * 256 + conv(3, 256, 3), 4_276_739
    yield SNGAN, "disc", first + second + 4 * conv(3, 128, 128) + 128 + 1, 1_053_825
    ups = conv(5, 256, 128) + conv(5, 128, 64) + conv(5, 64, 1)
    yield WGANGP, "gen", 128 * 4096 + 4096 + ups, 1_554_177
    yield WGANGP, "disc", conv(5, 1, 64) + conv(5, 64, 128) + conv(5, 128, 256) + 4 * 4 * 256 + 1, 1_030_145


@pytest.mark.parametrize(("recipe", "net", "formula", "number"), [*sizes()], ids=lambda x: getattr(x, "name", str(x)))
def test_parameters_at_full_width(recipe, net, formula, number):
    state = jax.eval_shape(lambda: jaxgan.init(recipe.build(), jax.random.key(0)))
    assert sum(x.size for x in jax.tree.leaves(getattr(state, net).params)) == formula == number


def remembering(optimizer):
    """The optimiser, which also keeps the gradient."""
    zeros = functools.partial(jax.tree.map, jnp.zeros_like)
    keep = optax.GradientTransformation(zeros, lambda grads, state, params=None: (grads, grads))
    return optax.chain(keep, optimizer)


def small(recipe, width):
    """The recipe with narrow networks, two updates of D, and the gradients in its optimisers' states."""
    gan = recipe.replace(gen=recipe.gen.clone(width=width), disc=recipe.disc.clone(width=width), training_ratio=2)
    gan = gan.build()
    return dataclasses.replace(
        gan, gen_optimizer=remembering(gan.gen_optimizer), disc_optimizer=remembering(gan.disc_optimizer)
    )


def arrays_of(params, module):
    """Pairs of a PyTorch parameter and the package's array in its layout."""
    from torch_layout import pairs

    numbered = module.numbered()
    assert {*numbered} == {*params}, "a layer has no counterpart"
    return [
        pair for name, layer in numbered.items() for pair in pairs(layer, params[name].get("weights", params[name]))
    ]


def load(net, module):
    torch = pytest.importorskip("torch")
    for p, value in arrays_of(net.params, module):
        p.data = torch.from_numpy(np.array(value, order="C"))
    for name, layer in module.numbered().items() if net.batch_stats and hasattr(module, "v") else ():
        v = np.asarray(net.batch_stats[name][VECTORS]["kernel"])
        kernel = np.asarray(net.params[name]["weights"]["kernel"])
        v = np.moveaxis(v.reshape(kernel.shape[:-1]), -1, 0).ravel()  # input channels come first there
        module.v[layer] = torch.from_numpy(v.copy())


@pytest.mark.slow
@pytest.mark.parametrize("recipe", [SNGAN, WGANGP], ids=lambda recipe: recipe.name)
def test_a_step_is_pytorchs(recipe, x64):
    """D twice, then G: losses, the last gradient of each, and all parameters."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install torch==2.13.0")
    import torch_sngan
    from torch_layout import nchw

    width, b = 6, 3
    gan = small(recipe, width)
    state, images = small_state(gan), real_images(gan, 2 * b)
    new, metrics = STEP(gan, state, images)

    gen, disc = (kind(width).double() for kind in torch_sngan.NETWORKS[recipe.name])
    for layer in (*gen.modules(), *disc.modules()):
        layer.exact = True
    load(state.gen, gen)
    load(state.disc, disc)
    real = in_range(gan, jaxgan.Batch(images)).images
    tensor = lambda x: torch.from_numpy(np.array(x, np.float64))  # noqa: E731
    passes = []
    for j in range(2):
        examples = np.arange(2 * b)[j::2]
        u = drawn(jax.random.uniform, state, Purpose.PENALTIES, examples)
        passes.append((nchw(real[j::2]), tensor(latents(gan, state, examples)), tensor(u).reshape(-1, 1, 1, 1)))
    rate = {"sngan": float(np.float32(2e-4)), "wgan_gp": 1e-4}[recipe.name]  # schedules are float32
    fresh = tensor(latents(gan, state, np.arange(2 * b, 3 * b)))
    (loss_gen, gen_grads), (loss_disc, disc_grads) = torch_sngan.step(recipe.name, gen, disc, rate, passes, fresh)

    np.testing.assert_allclose(metrics["loss_gen"], loss_gen, rtol=1e-10)
    np.testing.assert_allclose(metrics["loss_disc"], loss_disc, rtol=1e-10)
    for old, net, module, grads in ((state.gen, new.gen, gen, gen_grads), (state.disc, new.disc, disc, disc_grads)):
        steepest = max(float(g.abs().max()) for g in grads.values())
        assert steepest > 1e-3
        for p, got in arrays_of(net.opt_state[0], module):
            np.testing.assert_allclose(got, grads[p].numpy(), rtol=1e-6, atol=1e-9 * steepest)
        starts = dict(arrays_of(old.params, module))
        for p, got in arrays_of(net.params, module):
            flat = np.abs(grads[p].numpy()) < 1e-7 * steepest  # rounding alone, of which Adam takes the sign
            move = p.detach().numpy() - starts[p]
            np.testing.assert_allclose((got - starts[p])[~flat], move[~flat], rtol=1e-4, atol=1e-3 * rate)
