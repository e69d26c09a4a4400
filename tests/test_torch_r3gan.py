"""R3GAN against an independent PyTorch implementation: whole updates, of narrow networks, in float64."""

import functools
import itertools

import jax
import numpy as np
import pytest
from common import STEP, at_night, drawn, in_range, latents, real_batch, remembering_gan, small_state

from jaxgan import recipes
from jaxgan.accumulation import disc_mixing
from jaxgan.augmentation import Augment, draw
from jaxgan.networks import R3GANDisc, R3GANGen
from jaxgan.randomness import Purpose

pytestmark = pytest.mark.usefixtures("quick_programs")

B = 3
# 4 groups in the block of the first stage, 2 in that of the second; two blocks a stage are `test_r3gan`'s.
SETTINGS = {"widths": (32, 16), "group_width": 16, "blocks": 1}
LARGER = SETTINGS | {"widths": (32, 16, 16)}  # 16 pixels
# The recipe's at its first steps: they change by a cosine over 39,062 of them, and are float32.
RATE, GAMMA, BETA2 = (float(np.float32(x)) for x in (2e-4, 0.05, 0.9))


AUGMENT = Augment(0.7, color=0.5, cutout=1.0)  # the recipe's p is all but 0 at its first steps


def narrow(classes, update, settings, transforms):
    """The published recipe with narrow networks, and the gradients in its optimisers' states."""
    recipe = recipes.get("r3gan_conditional" if classes else "r3gan")
    nets = {"gen": R3GANGen(**settings, classes=classes), "disc": R3GANDisc(**settings, classes=classes)}
    return remembering_gan(recipe.replace(**nets, classes=classes, update=update, transforms=transforms).build())


def seen_through(disc, gan, state, examples):
    """D behind the augmentation: a call on real images, and then one on generated ones, with the draws of these."""
    import torch_modern

    if not gan.transforms:
        return disc
    of_each = lambda key: jax.tree.map(lambda x: x[0], draw(key[None], 0.7, 0.7, 0.35, 0.7))  # noqa: E731
    given = []
    for purpose in (Purpose.TRANSFORM_REAL, Purpose.TRANSFORM_FAKE):
        values = {k: np.asarray(v, np.float64) for k, v in drawn(of_each, state, purpose, examples)._asdict().items()}
        given.append([{name: value[i] for name, value in values.items()} for i in range(len(examples))])
    turn = itertools.cycle(given)
    return lambda images, labels: disc(torch_modern.augmented(images, next(turn)), labels)


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
        yield examples, nchw(mirrored), torch.from_numpy(z)


def of_disc(disc, real, gen, z, labels):
    from jaxgan.benchmark.torch_r3gan import disc_loss

    return disc_loss(disc, real, gen(z, labels), labels, GAMMA)


def of_gen(gen, disc, real, z, labels):
    from jaxgan.benchmark.torch_r3gan import gen_loss

    return gen_loss(disc, real, gen(z, labels), labels)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("classes", "update", "settings", "transforms"),
    [(0, "shared", SETTINGS, ()), *at_night([(4, "alternating", LARGER, (AUGMENT,))])],
    ids=["plain", "augmented"],
)
def test_updates_are_pytorchs(classes, update, settings, transforms, x64):
    """Two of them, since the first of Adam's does not depend on its betas."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install torch==2.13.0")
    import torch_modern
    from torch_layout import update as updated

    from jaxgan.benchmark.torch_r3gan import Discriminator, Generator

    gan, alternating = narrow(classes, update, settings, transforms), update == "alternating"
    assert disc_mixing(gan, train=True) is None, "the generator's gradient is to be the one that R2 has computed"
    state = small_state(gan)
    blocks = settings["blocks"]
    gen, disc = nets = [kind(**settings, classes=classes) for kind in (Generator, Discriminator)]
    starts = [torch_modern.load(net, of.params, blocks) for net, of in zip(nets, (state.gen, state.disc), strict=True)]
    adams = [(torch.optim.Adam(net.parameters(), RATE, (0.0, BETA2)),) for net in nets]
    for seed in range(2):
        batch = real_batch(gan, B, seed)
        images = np.asarray(in_range(gan, batch).images, np.float64)
        labels = torch.from_numpy(np.array(batch.labels, np.int64)) if classes else None
        passes = [*passes_of(gan, state, images, alternating)]
        (examples, real, z), (later, *last) = passes[0], passes[-1]
        judges = [seen_through(disc, gan, state, which) for which in (examples, later)]
        gen_loss = functools.partial(of_gen, gen, judges[1], *last, labels)
        disc_loss = functools.partial(of_disc, judges[0], real, gen, z, labels)
        theirs = updated(alternating, nets, adams, gen_loss, [disc_loss])
        state, metrics = STEP(gan, state, batch)
        for name, net, of, (loss, gradients) in zip(
            ("gen", "disc"), nets, (state.gen, state.disc), theirs, strict=True
        ):
            np.testing.assert_allclose(metrics[f"loss_{name}"], loss, rtol=1e-7)
            assert max(float(g.abs().max()) for g in gradients) > 1e-3
            got = torch_modern.pairs(net, of.opt_state[0], blocks)
            for p, want in zip(net.parameters(), gradients, strict=True):
                np.testing.assert_allclose(got[p], want.numpy(), rtol=1e-7, atol=1e-7 * float(want.abs().max()))

    # Adam's sums are of float32 coefficients, which shows where a gradient is all but zero.
    for net, start, of in zip(nets, starts, (state.gen, state.disc), strict=True):
        for p, end in torch_modern.pairs(net, of.params, blocks).items():
            move = p.detach().numpy() - start[p]
            assert np.abs(move).max() > RATE / 2
            np.testing.assert_allclose(end - start[p], move, rtol=1e-4, atol=1e-3 * RATE)
