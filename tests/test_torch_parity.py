"""Each reference system against an independent PyTorch implementation: losses, gradients, updates, batch moments.

The networks are `jaxgan.benchmark.torch_networks`; losses, gradients (autograd's) and updates (PyTorch's optimisers')
are written here from the systems' descriptions. Dropout masks and instance noise are handed in.

In float64, since Adam's first update is nearly the sign of the gradient, and that of a bias before batch
normalisation is rounding alone.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from common import STEP, as_float64, at_night, remembering_gan, with_params

import jaxgan
from jaxgan import recipes
from jaxgan.gan import image_shape
from jaxgan.randomness import Purpose
from jaxgan.transforms import InstanceNoise

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install torch==2.13.0")
import torch.nn.functional as F  # noqa: E402
from torch_layout import NORMS, flat, load, nchw, update  # noqa: E402

from jaxgan.benchmark.torch_networks import networks  # noqa: E402

pytestmark = pytest.mark.usefixtures("quick_programs")

B = 6
UPDATES = 2  # the first of Adam's does not depend on its betas
MOMENTUM = {"keras_mnist": 0.9, "gan_elements": 0.8}  # of batch normalisation, 0.99 elsewhere
DROPOUTS = {  # of a map's size and channels, by number
    "gen": {"keras_mnist": [(7, 7, 256)]},
    "disc": {"keras_mnist": [(14, 14, 64), (7, 7, 128), (4, 4, 256), (4, 4, 512)]},
}


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


def bce(logits, label):
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, label))


def mean_bce(real, fake):
    return 0.5 * (bce(real, 1.0) + bce(fake, 0.0))


DISC_LOSS = {
    "keras_dcgan": lambda real, fake: bce(real, 0.9) + bce(fake, 0.0),
    "keras_mnist": lambda real, fake: F.binary_cross_entropy_with_logits(
        torch.cat([real, fake]), torch.cat([torch.ones_like(real), torch.zeros_like(fake)])
    ),
    "canton_lsgan": lambda real, fake: (fake**2 + (real - 1) ** 2).mean(),
    "tf2_gan": mean_bce,
    "tf2_dcgan": mean_bce,
    "gan_elements": lambda real, fake: bce(real, 1.0) + bce(fake, 0.0),
}


def gen_loss(name, fake, params):
    if name == "canton_lsgan":
        return ((fake - 1) ** 2).mean() + 1e-7 * sum((p**2).sum() for p in params)
    return bce(fake, 1.0)


def optimizers(name, gen, disc):
    """PyTorch's own, each with its schedule: (G's, D's)."""
    gen, disc = list(gen.parameters()), list(disc.parameters())
    if name == "keras_mnist":
        made = [torch.optim.RMSprop(p, lr, alpha=0.9, eps=1e-7) for p, lr in ((gen, 4e-4), (disc, 8e-4))]
        decays = (3e-8, 6e-8)
    else:
        lr, betas = {
            "keras_dcgan": (1e-4, (0.2, 0.999)),
            "canton_lsgan": (1e-4, (0.5, 0.999)),
            "tf2_gan": (2e-4, (0.5, 0.999)),
            "tf2_dcgan": (1e-4, (0.9, 0.999)),
            "gan_elements": (1e-4, (0.5, 0.9)),
        }[name]
        made, decays = [torch.optim.Adam(p, lr, betas) for p in (gen, disc)], (0, 0)
    schedule = torch.optim.lr_scheduler.LambdaLR
    return [
        (optimizer, schedule(optimizer, lambda t, decay=decay: 1 / (1 + decay * t)))
        for optimizer, decay in zip(made, decays, strict=True)
    ]


def apply(net, x, masks):
    """A network with these masks; its batch normalisations remember the moments of every batch."""
    masks = iter(masks)
    for layer in net:
        if isinstance(layer, NORMS):
            axes = [axis for axis in range(x.ndim) if axis != 1]
            moments = x.detach().mean(axes), x.detach().var(axes, correction=0)
            layer.moments = [*getattr(layer, "moments", []), moments]
        x = x * next(masks) / 0.6 if isinstance(layer, torch.nn.Dropout) else layer(x)
    return x


def losses_of(name, gen, disc, real, draws):
    """The losses of both networks, as functions.

    Args:
      name: of the recipe.
      gen: the generator.
      disc: the discriminator.
      real: [B, C, H, W].
      draws: for each pass of the generator (one, or two if alternating): `z`, `masks_gen`, `masks_fake`,
        `noise_fake`; the first also `masks_real`, `noise_real`.
    """

    def judge_fake(draw):
        fake = apply(gen, draw["z"], draw["masks_gen"])
        return apply(disc, fake + draw["noise_fake"], draw["masks_fake"])

    def disc_loss():
        fake_logits = judge_fake(draws[0])
        return DISC_LOSS[name](apply(disc, real + draws[0]["noise_real"], draws[0]["masks_real"]), fake_logits)

    return lambda: gen_loss(name, judge_fake(draws[-1]), [*gen.parameters()]), [disc_loss]


def expected_stats(layers, momentum, passes):
    """Running moments of each batch normalisation, from 0 and 1, over the batches of those passes."""
    for layer in layers:
        if isinstance(layer, NORMS):
            mean, var = torch.zeros_like(layer.bias), torch.ones_like(layer.bias)
            for i in passes:
                mean = momentum * mean + (1 - momentum) * layer.moments[i][0]
                var = momentum * var + (1 - momentum) * layer.moments[i][1]
            yield mean.detach().numpy(), var.detach().numpy()


SMALL, LARGE = ("tf2_gan",), ("keras_mnist",)


def noise_of_a_schedule_in_float64(images, keys, step):
    """canton_lsgan's instance noise, but for the rounding of its standard deviation."""
    unit = InstanceNoise(1.0)(jnp.zeros_like(images), keys, step)
    return images + 0.1 * 0.999 ** step.astype(jnp.float64) * unit


@pytest.mark.parametrize(
    "name",
    [
        *SMALL,
        *(pytest.param(name, marks=pytest.mark.slow) for name in DISC_LOSS if name not in SMALL + LARGE),
        *at_night(LARGE),
    ],
)
def test_losses_gradients_updates_and_batch_moments(name, x64):
    gan = remembering_gan(recipes.get(name).build())
    if gan.transforms:  # the recipe's schedule is float32
        gan = dataclasses.replace(gan, transforms=(noise_of_a_schedule_in_float64,))
    state = as_float64(jaxgan.init(gan, jax.random.key(3)))
    params = [randomised(net.params, i) for i, net in enumerate((state.gen, state.disc))]
    state = with_params(state, gen=params[0], disc=params[1])

    nets = [net.double() for net in networks(name, gan.z_size, exact=True)]
    starts = [load(p, net) for p, net in zip(params, nets, strict=True)]
    descents = optimizers(name, *nets)
    alternating = name in ("keras_mnist", "gan_elements")
    low, high = (0, 1) if name == "keras_mnist" else (-1, 1)
    for seed in range(UPDATES):
        images = np.random.default_rng(seed).integers(0, 256, (B, *image_shape(gan)), np.uint8)
        real, draws = nchw(images / 255 * (high - low) + low), draws_of(name, gan, state, 1 + alternating)
        state, metrics = STEP(gan, state, images)
        clip = 1 if name == "keras_mnist" else None
        theirs = update(alternating, nets, descents, *losses_of(name, *nets, real, draws), clip)
        losses, grads = zip(*theirs, strict=True)
        np.testing.assert_allclose([metrics["loss_gen"], metrics["loss_disc"]], losses, rtol=1e-7)

    # D's loss passes G, and D with fake and with real images; G's loss passes both once more.
    gen_passes = [2 * i + 1 for i in range(UPDATES)]
    disc_passes = [3 * i + j for i in range(UPDATES) for j in (0, 1)]
    for layers, net, start, grad, passes in zip(
        nets, (state.gen, state.disc), starts, grads, (gen_passes, disc_passes), strict=True
    ):
        steepest = max(float(g.abs().max()) for g in grad)
        for got, expected in zip(flat(net.opt_state[0], layers), grad, strict=True):
            np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-9 * steepest)
        moves = [(p.detach().numpy() - s) for p, s in zip(layers.parameters(), start, strict=True)]
        furthest = max(np.abs(move).max() for move in moves)
        assert furthest > 1e-5
        for got, s, move in zip(flat(net.params, layers), start, moves, strict=True):
            np.testing.assert_allclose(got - s, move, rtol=1e-4, atol=1e-5 * furthest)
        stats = [net.batch_stats[f"BatchNorm_{i}"] for i in range(len(net.batch_stats))]
        for got, (mean, var) in zip(stats, expected_stats(layers, MOMENTUM.get(name, 0.99), passes), strict=True):
            np.testing.assert_allclose(got["mean"], mean, rtol=1e-4, atol=1e-8)
            np.testing.assert_allclose(got["var"], var, rtol=1e-4)
