"""CycleGAN, two domains without pairs: MNIST and its inverse in colour (Zhu et al. 2017, arXiv:1703.10593)."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxgan.forward_pass import Losses, Pass
from jaxgan.gan import Memory, Seen
from jaxgan.networks.layers import Context
from jaxgan.networks.translation import PatchDisc, ResNet
from jaxgan.recipes.groups import Data, Objective, Optimization, Schedule
from jaxgan.recipes.settings import Recipe

SHAPE, POOL, STEPS = (28, 28, 3), 50, 4_000
EMPTY = {name: np.zeros((POOL, *SHAPE), np.float32) for name in ("images", "other")} | {"count": np.int32(0)}


class Gen(nn.Module):
    """Both generators: called, the one from the other domain to the images; and `back`. No latents."""

    def setup(self) -> None:
        self.to_images, self.to_other = ResNet(), ResNet()

    def __call__(self, z: Array, other: Array, context: Context) -> Array:
        return self.to_images(other)

    def back(self, images: Array, context: Context) -> Array:
        return self.to_other(images)


class Disc(nn.Module):
    """Both discriminators, of patches of 22 pixels: called, that of the images; and `of_other`."""

    def setup(self) -> None:
        self.own, self.other = PatchDisc(32, (2, 2)), PatchDisc(32, (2, 2))

    def __call__(self, images: Array, labels: None, context: Context) -> Array:
        return self.own(images)

    def of_other(self, images: Array, context: Context) -> Array:
        return self.other(images)


def pooled(p: Pass, name: str, fake: Array) -> tuple[Array, tuple[Array, Array]]:
    """What D sees for generated images: half of the time an earlier one, whose place the image takes (section 4)."""
    slot, coin = jax.vmap(lambda key: jax.random.randint(key, (2,), 0, jnp.array([POOL, 2])))(p.keys(name)).T
    count = p.memory["count"]  # until the pool is full each image has a place of its own
    old = (count >= POOL) & (coin == 1)
    shown = jnp.where(old[:, None, None, None], p.memory[name][slot], fake)
    return shown, (fake, jnp.where(old, slot, jnp.where(count < POOL, count + p.indices, POOL)))


def keep(memory: dict[str, Any], seen: Seen) -> dict[str, Any]:
    """The pools after a step. Of two images for one place the later one stays; beyond the last place none is kept."""
    put = lambda pool, each: (pool.at[each[1]].set(each[0], mode="drop"), None)  # noqa: E731
    pools = {name: jax.lax.scan(put, memory[name], of)[0] for name, of in seen.examples.items()}
    return pools | {"count": memory["count"] + len(seen.examples["images"][1])}


def cyclegan(p: Pass) -> Losses:
    """Least squares in each domain, 10 times the L1 of a cycle (equation 3), half of it where nothing has to change."""
    there = lambda x: p.gen(p.z, x)  # noqa: E731
    back = lambda x: p.gen(x, method="back")  # noqa: E731
    of_other = lambda x: p.disc(x, method="of_other")  # noqa: E731
    l1 = lambda x, y: jnp.mean(jnp.abs(x - y))  # noqa: E731
    images, other = p.images, p.labels
    fake, fake_other = there(other), back(images)
    (old, of_images), (old_other, of_others) = pooled(p, "images", fake), pooled(p, "other", fake_other)
    cycle = l1(back(fake), other) + l1(there(fake_other), images)
    same = l1(there(images), images) + l1(back(other), other)
    squares = lambda logits, label: jnp.mean(jnp.square(logits - label))  # noqa: E731
    of_fake, of_real = p.disc(fake), p.disc(images)
    gen = squares(of_fake, 1) + squares(of_other(fake_other), 1) + 10 * cycle + 5 * same
    disc = squares(of_real, 1) + squares(p.disc(old), 0)
    disc += squares(of_other(other), 1) + squares(of_other(old_other), 0)
    logits = {"logit_real": jnp.mean(of_real), "logit_fake": jnp.mean(of_fake)}
    examples = {"images": of_images, "other": of_others}
    return Losses((gen, {"cycle": cycle}), disc / 2, logits, examples=examples)


def rate(step: Array) -> Array:
    """2e-4, and from half of the steps on linearly to 0."""
    return 2e-4 * jnp.clip(2 - 2 * step / STEPS, 0, 1)


RECIPE = Recipe(
    name="cyclegan",
    about="CycleGAN (2017), MNIST and its inverse in colour: two generators, two discriminators, no pairs",
    gen=Gen(),
    disc=Disc(),
    others=(("other", SHAPE),),
    condition="other",
    source=Data(data="inverse:mnist", batch_size=8),
    objective=Objective(z_size=0, game=cyclegan, memory=Memory(lambda gan, params: EMPTY, keep)),
    optimization=Optimization(gen_learning_rate=rate, disc_learning_rate=rate, beta1=0.5),
    schedule=Schedule(steps=STEPS),
)
