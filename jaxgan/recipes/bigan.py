"""BiGAN, an encoder beside the generator: dense networks for MNIST (Donahue et al. 2016, arXiv:1605.09782)."""

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from jaxgan.forward_pass import Losses, Pass
from jaxgan.losses import cross_entropy
from jaxgan.networks.layers import Context, Dense, batch_norm, flat
from jaxgan.recipes.groups import Data, Objective, Optimization, Schedule
from jaxgan.recipes.settings import Recipe


class Layers(nn.Module):
    """Two hidden layers of 1,024, and a linear one: [B, n] -> [B, features]."""

    features: int
    slope: float = 0.2  # of the leaky ReLU
    norm: bool = True

    @nn.compact
    def __call__(self, x: Array, context: Context) -> Array:
        x = nn.leaky_relu(Dense(1024)(x), self.slope)
        x = Dense(1024)(x)
        x = nn.leaky_relu(batch_norm(context, 0.9)(x) if self.norm else x, self.slope)
        return Dense(self.features)(x)


class Gen(nn.Module):
    """G: z [B, 50] -> images [B, 28, 28, 1] in [0, 1]; and E, as its method `encode`: images -> codes [B, 50]."""

    def setup(self) -> None:
        self.image, self.code = Layers(28 * 28, slope=0.0), Layers(50)

    def __call__(self, z: Array, labels: None, context: Context) -> Array:
        return nn.sigmoid(self.image(z, context)).reshape(-1, 28, 28, 1)

    def encode(self, images: Array, context: Context) -> Array:
        return self.code(flat(images), context)


class Disc(nn.Module):
    """D: pairs of images [B, 28, 28, 1] and codes [B, 50] -> logits [B]."""

    @nn.compact
    def __call__(self, images: Array, codes: Array, context: Context) -> Array:
        return Layers(1, norm=False)(jnp.concatenate([flat(images), codes], axis=1), context)[:, 0]


def bigan(p: Pass, *noise: Array) -> Losses:
    """D tells (x, E(x)) from (G(z), z); G and E together want each to be taken for the other (section 2).

    An encoder that draws gets `noise` beside the images, as in ALI (Dumoulin et al. 2016, arXiv:1606.00704).
    """
    fake, code = p.gen(p.z), p.gen(p.images, *noise, method="encode")
    of_fake, of_real = p.disc(fake, p.z), p.disc(p.images, code)
    gen = cross_entropy(of_fake, 1) + cross_entropy(of_real, 0)
    disc = cross_entropy(of_fake, 0) + cross_entropy(of_real, 1)
    return Losses(gen, disc, {"logit_real": jnp.mean(of_real), "logit_fake": jnp.mean(of_fake)})


RECIPE = Recipe(
    name="bigan",
    about="BiGAN (2016), MNIST: an encoder beside G, and D judges pairs of an image and a code",
    gen=Gen(),
    disc=Disc(),
    image_range=(0.0, 1.0),
    source=Data(data="mnist"),
    objective=Objective(z_size=50, prior="uniform", game=bigan),
    optimization=Optimization(gen_learning_rate=2e-4, disc_learning_rate=5e-5, beta1=0.5),
    schedule=Schedule(steps=8_000),
)
