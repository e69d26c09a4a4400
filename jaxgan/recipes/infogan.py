"""InfoGAN, whose latents begin with codes that D reads off the images: MNIST (Chen et al. 2016, arXiv:1606.03657)."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from jaxgan.losses import Forward, Loss, non_saturating
from jaxgan.networks.layers import Context, Conv, ConvTranspose, Dense, batch_norm, flat
from jaxgan.recipes.groups import Data, Objective, Optimization, Schedule
from jaxgan.recipes.settings import Recipe


def codes(z: Array) -> tuple[Array, Array]:
    """Of latents from U(-1, 1), [B, 74], the code of ten classes as one-hot [B, 10], and the two numbers [B, 2]."""
    return jax.nn.one_hot(jnp.argmax(z[:, :10], axis=1), 10), z[:, 10:12]


class Gen(nn.Module):
    """G: z [B, 74], the codes and 62 of noise -> images [B, 28, 28, 1] in [0, 1] (appendix C.1)."""

    @nn.compact
    def __call__(self, z: Array, labels: None, context: Context) -> Array:
        x = jnp.concatenate([*codes(z), z[:, 12:]], axis=1)
        for features in (1024, 7 * 7 * 128):
            x = nn.relu(batch_norm(context, 0.9)(Dense(features)(x)))
        x = ConvTranspose(64, 4, 2)(x.reshape(-1, 7, 7, 128))
        return nn.sigmoid(ConvTranspose(1, 4, 2)(nn.relu(batch_norm(context, 0.9)(x))))


class Disc(nn.Module):
    """D: images [B, 28, 28, 1] -> logits [B], and Q: logits of the classes [B, 10], the mean of the numbers [B, 2]."""

    @nn.compact
    def __call__(self, images: Array, labels: None, context: Context) -> tuple[Array, tuple[Array, Array]]:
        x = nn.leaky_relu(Conv(64, 4, 2)(images), 0.1)
        x = nn.leaky_relu(batch_norm(context, 0.9)(Conv(128, 4, 2)(x)), 0.1)
        x = nn.leaky_relu(batch_norm(context, 0.9)(Dense(1024)(flat(x))), 0.1)
        q = Dense(12)(nn.leaky_relu(batch_norm(context, 0.9)(Dense(128)(x)), 0.1))
        return Dense(1)(x)[:, 0], (q[:, :10], q[:, 10:])


def information(forward: Forward) -> Array:
    """-log Q(c|x) but for a constant, a tenth of it for the two numbers, whose Q is N(mean, 1) (section 5)."""
    classes, numbers = codes(forward.z)
    logits, means = forward.fake_extra
    of_numbers = jnp.sum(jnp.square(numbers - means), axis=1) / 2
    return jnp.mean(0.1 * of_numbers - jnp.sum(classes * jax.nn.log_softmax(logits), axis=1))


def _gen(forward: Forward) -> tuple[Array, dict[str, Array]]:
    return non_saturating().gen(forward) + information(forward), {"information": information(forward)}


LOSS = Loss(_gen, lambda forward: non_saturating().disc(forward) + information(forward))
RECIPE = Recipe(
    name="infogan",
    about="InfoGAN (2016), MNIST: a code of ten classes and two numbers, learned without labels",
    gen=Gen(),
    disc=Disc(),
    image_range=(0.0, 1.0),
    source=Data(data="mnist", batch_size=64),
    objective=Objective(z_size=74, prior="uniform", loss=LOSS),
    optimization=Optimization(gen_learning_rate=1e-3, disc_learning_rate=2e-4, beta1=0.5),
    schedule=Schedule(steps=3_000),
)
