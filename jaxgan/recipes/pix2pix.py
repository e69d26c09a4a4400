"""pix2pix, an image from another: colours for CIFAR-10's images in grey (Isola et al. 2017, arXiv:1611.07004)."""

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from jaxgan.forward_pass import Losses, Pass
from jaxgan.losses import cross_entropy
from jaxgan.networks.layers import Context
from jaxgan.networks.translation import PatchDisc, UNet
from jaxgan.recipes.groups import Data, Objective, Optimization, Schedule
from jaxgan.recipes.settings import Recipe


class Gen(nn.Module):
    """Conditions [B, H, W, 1] -> images [B, H, W, 3] in [-1, 1], without latents."""

    @nn.compact
    def __call__(self, z: Array, condition: Array, context: Context) -> Array:
        return UNet()(condition, context)


class Disc(nn.Module):
    """Images [B, H, W, 3] beside their conditions [B, H, W, 1] -> logits of patches of 16 pixels, [B, H / 2, W / 2]."""

    @nn.compact
    def __call__(self, images: Array, condition: Array, context: Context) -> Array:
        return PatchDisc()(jnp.concatenate([condition, images], axis=3))


def pix2pix(p: Pass) -> Losses:
    """G's image should be taken for the real one by D, and be near it: 100 times L1 (equation 4); half of D's loss."""
    fake = p.gen(p.z, p.labels)
    of_fake, of_real = p.disc(fake, p.labels), p.disc(p.images, p.labels)
    distance = jnp.mean(jnp.abs(fake - p.images))
    gen = cross_entropy(of_fake, 1) + 100 * distance
    disc = (cross_entropy(of_fake, 0) + cross_entropy(of_real, 1)) / 2
    logits = {"logit_real": jnp.mean(of_real), "logit_fake": jnp.mean(of_fake)}
    return Losses((gen, {"distance": distance}), disc, logits)


RECIPE = Recipe(
    name="pix2pix",
    about="pix2pix (2017), CIFAR-10: colours for images in grey, by a U-Net and a D of patches",
    gen=Gen(),
    disc=Disc(),
    others=(("condition", (32, 32, 1)),),
    condition="condition",
    source=Data(data="grey:cifar10", mirror=True, batch_size=16),
    objective=Objective(z_size=0, game=pix2pix),
    optimization=Optimization(gen_learning_rate=2e-4, disc_learning_rate=2e-4, beta1=0.5),
    schedule=Schedule(steps=6_000),
)
