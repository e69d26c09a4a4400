"""SNGAN and WGAN-GP against an independent PyTorch implementation: a whole step; and how large they are."""

import jax
import numpy as np
import pytest
from common import STEP, at_night, drawn, in_range, latents, real_images, remembering_gan, small_state

import jaxgan
from jaxgan import recipes
from jaxgan.networks.spectral import VECTORS
from jaxgan.randomness import Purpose

pytestmark = pytest.mark.usefixtures("quick_programs")

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


def small(recipe, width):
    """The recipe with narrow networks, two updates of D, and the gradients in its optimisers' states."""
    gan = recipe.replace(gen=recipe.gen.clone(width=width), disc=recipe.disc.clone(width=width), training_ratio=2)
    return remembering_gan(gan.build())


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
@pytest.mark.parametrize("recipe", [WGANGP, *at_night([SNGAN])], ids=lambda recipe: recipe.name)
def test_a_step_is_pytorchs(recipe, x64):
    """D twice, then G: losses, the last gradient of each, and all parameters."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install torch==2.13.0")
    import torch_sngan
    from torch_layout import nchw, update

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
    losses = []
    for examples in (np.arange(2 * b)[j::2] for j in range(2)):
        u = tensor(drawn(jax.random.uniform, state, Purpose.PENALTIES, examples)).reshape(-1, 1, 1, 1)
        images, z = nchw(real[examples]), tensor(latents(gan, state, examples))
        losses.append(lambda x=images, z=z, u=u: torch_sngan.disc_loss(recipe.name, disc, x, gen(z).detach(), u))
    rate = {"sngan": float(np.float32(2e-4)), "wgan_gp": 1e-4}[recipe.name]  # schedules are float32
    fresh = tensor(latents(gan, state, np.arange(2 * b, 3 * b)))
    adams = [(torch.optim.Adam(net.parameters(), rate, (0.0, 0.9)),) for net in (gen, disc)]
    of_gen, of_disc = update(True, (gen, disc), adams, lambda: -disc(gen(fresh)).mean(), losses)

    for name, old, net, module, (loss, gradients) in (
        ("gen", state.gen, new.gen, gen, of_gen),
        ("disc", state.disc, new.disc, disc, of_disc),
    ):
        np.testing.assert_allclose(metrics[f"loss_{name}"], loss, rtol=1e-10)
        grads = dict(zip(module.parameters(), gradients, strict=True))
        steepest = max(float(g.abs().max()) for g in grads.values())
        assert steepest > 1e-3
        for p, got in arrays_of(net.opt_state[0], module):
            np.testing.assert_allclose(got, grads[p].numpy(), rtol=1e-6, atol=1e-9 * steepest)
        starts = dict(arrays_of(old.params, module))
        for p, got in arrays_of(net.params, module):
            flat = np.abs(grads[p].numpy()) < 1e-7 * steepest  # rounding alone, of which Adam takes the sign
            move = p.detach().numpy() - starts[p]
            np.testing.assert_allclose((got - starts[p])[~flat], move[~flat], rtol=1e-4, atol=1e-3 * rate)
