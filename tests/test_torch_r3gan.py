"""R3GAN against an independent PyTorch implementation: whole updates, of narrow networks, in float64."""

import copy
import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from common import STEP, drawn, in_range, latents, real_batch, small_state

from jaxgan import recipes
from jaxgan.accumulation import disc_mixing
from jaxgan.networks import R3GANDisc, R3GANGen
from jaxgan.randomness import Purpose

B = 3
# 4 groups in the block of the first stage, 2 in that of the second; two blocks a stage are `test_r3gan`'s.
SETTINGS = {"widths": (32, 16), "group_width": 16, "blocks": 1}
# The recipe's at its first steps: they change by a cosine over 39,062 of them, and are float32.
RATE, GAMMA, BETA2 = (float(np.float32(x)) for x in (2e-4, 0.05, 0.9))


def remembering(optimizer):
    """The optimiser, which also keeps the gradient."""
    zeros = functools.partial(jax.tree.map, jnp.zeros_like)
    keep = optax.GradientTransformation(zeros, lambda grads, state, params=None: (grads, grads))
    return optax.chain(keep, optimizer)


def narrow(classes, update):
    """The published recipe with narrow networks, and the gradients in its optimisers' states."""
    recipe = recipes.get("r3gan_conditional" if classes else "r3gan")
    nets = {"gen": R3GANGen(**SETTINGS, classes=classes), "disc": R3GANDisc(**SETTINGS, classes=classes)}
    gan = recipe.replace(**nets, classes=classes, update=update).build()
    optimizers = {name: remembering(getattr(gan, name)) for name in ("gen_optimizer", "disc_optimizer")}
    return dataclasses.replace(gan, **optimizers)


def passes_of(gan, state, images, alternating):
    """The real images and the latents of each pass, of examples of its own: D's, and G's after it if it has one.

    Real images are flipped at random, each anew in each pass.
    """
    import torch
    from torch_layout import nchw

    for examples in np.split(np.arange(B * (1 + alternating)), 1 + alternating):
        coins = np.asarray(drawn(jax.random.uniform, state, Purpose.AUGMENTATION, examples)) < 0.5
        mirrored = np.where(coins[:, None, None, None], images[:, :, ::-1], images)
        z = np.array(latents(gan, state, examples), np.float64)
        yield nchw(mirrored), torch.from_numpy(z)


@pytest.mark.parametrize(
    ("classes", "update"),
    [
        pytest.param(0, "alternating", marks=pytest.mark.slow),
        pytest.param(0, "shared", marks=pytest.mark.slow),
        pytest.param(4, "shared", marks=pytest.mark.slow),
    ],
)
def test_updates_are_pytorchs(classes, update, x64):
    """Two of them, since the first of Adam's does not depend on its betas."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install torch==2.13.0")
    import torch_modern

    gan, alternating = narrow(classes, update), update == "alternating"
    assert disc_mixing(gan, train=True) is None, "the generator's gradient is to be the one that R2 has computed"
    state = small_state(gan)

    torch.set_default_dtype(torch.float64)
    try:
        kinds = torch_modern.Generator, torch_modern.Discriminator
        nets = [kind(**SETTINGS, classes=classes) for kind in kinds]

        def in_torch(net, tree):
            """A Flax tree like the network's parameters, as arrays in the order and layout of PyTorch's."""
            like = copy.deepcopy(net)
            given = torch_modern.load(like, jax.tree.map(np.asarray, tree), SETTINGS["blocks"])
            assert given == sum(p.numel() for p in net.parameters())
            return [p.detach().numpy().copy() for p in like.parameters()]

        starts = [in_torch(net, of.params) for net, of in zip(nets, (state.gen, state.disc), strict=True)]
        for net, start in zip(nets, starts, strict=True):
            for p, value in zip(net.parameters(), start, strict=True):
                p.data = torch.from_numpy(value.copy())
        optimizers = torch_modern.adams(nets, RATE, BETA2)
        for seed in range(2):
            batch = real_batch(gan, B, seed)
            images = np.asarray(in_range(gan, batch).images, np.float64)
            labels = torch.from_numpy(np.array(batch.labels, np.int64)) if classes else None
            passes = list(passes_of(gan, state, images, alternating))
            theirs = torch_modern.update(alternating, *nets, optimizers, passes, labels, GAMMA)
            state, metrics = STEP(gan, state, batch)
            for name, net, of, (loss, gradients) in zip(
                ("gen", "disc"), nets, (state.gen, state.disc), theirs, strict=True
            ):
                np.testing.assert_allclose(metrics[f"loss_{name}"], loss, rtol=1e-7)
                steepest = max(float(g.abs().max()) for g in gradients)
                assert steepest > 1e-3
                for got, want in zip(in_torch(net, of.opt_state[0]), gradients, strict=True):
                    np.testing.assert_allclose(got, want.numpy(), rtol=1e-7, atol=1e-7 * float(want.abs().max()))
        ends = [in_torch(net, of.params) for net, of in zip(nets, (state.gen, state.disc), strict=True)]
    finally:
        torch.set_default_dtype(torch.float32)

    # Adam's sums are of float32 coefficients, which shows where a gradient is all but zero.
    for net, start, end in zip(nets, starts, ends, strict=True):
        for p, s, e in zip(net.parameters(), start, end, strict=True):
            move = p.detach().numpy() - s
            assert np.abs(move).max() > RATE / 2
            np.testing.assert_allclose(e - s, move, rtol=1e-4, atol=1e-3 * RATE)
