"""Losses: functions of the forward pass that give a scalar. 1 is the label of a real image, 0 of a generated one.

A `Loss` is two functions of a `Forward`, which holds all that a step has computed. Most need its logits alone; they
are written as functions of (real_logits, fake_logits) and made a `Loss` by `of_logits`. Every loss is a mean over
examples, since it is averaged over devices and microbatches. Discriminators return logits; the losses apply the
sigmoid where the formula has one, in a form that neither overflows nor loses digits.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct


class Forward(struct.PyTreeNode):
    """One forward pass of both networks over a batch.

    Attributes:
      images: the real images, float [B, H, W, C] in the GAN's `image_range`, before any transform.
      labels: their classes, int32 [B]; None where the GAN has no classes.
      z: the latents, [B, z_size].
      generated: the images that G made of them, [B, H, W, C], before any transform.
      generated_labels: the classes that G was asked for, int32 [B], or None.
      real_logits: D's logits of the real images, [B].
      fake_logits: D's logits of the generated images, [B].
      real_extra: what else D returned with `real_logits`, such as the logits of an auxiliary classifier; else None.
      fake_extra: the same for the generated images.
      gen_extra: what else G returned with its images, or None.
      memory: what `GAN.memory` keeps, or None.
    """

    images: jax.Array
    labels: jax.Array | None
    z: jax.Array
    generated: jax.Array
    generated_labels: jax.Array | None
    real_logits: jax.Array
    fake_logits: jax.Array
    real_extra: Any = None
    fake_extra: Any = None
    gen_extra: Any = None
    memory: Any = None


@dataclasses.dataclass(frozen=True)
class Loss:
    """The losses of both networks.

    Attributes:
      gen: the generator's, `Forward` -> scalar, or a pair of it and metrics: scalars by name, to be logged.
      disc: the discriminator's, likewise.
    """

    gen: Callable[[Forward], Any]
    disc: Callable[[Forward], Any]


@dataclasses.dataclass(frozen=True)
class OfLogits:
    """A function of (real_logits [B], fake_logits [B]) as one of a `Forward`, times `scale`."""

    function: Callable[[jax.Array, jax.Array], jax.Array]
    scale: float = 1.0

    def __call__(self, forward: Forward) -> jax.Array:
        value = self.function(forward.real_logits, forward.fake_logits)
        return value if self.scale == 1 else self.scale * value


def of_logits(
    gen: Callable[[jax.Array, jax.Array], jax.Array],
    disc: Callable[[jax.Array, jax.Array], jax.Array],
    disc_scale: float = 1.0,
) -> Loss:
    """A `Loss` of two functions of (real_logits, fake_logits); `disc_scale` is a factor on the discriminator's."""
    return Loss(OfLogits(gen), OfLogits(disc, disc_scale))


def cross_entropy(logits: jax.Array, label: float) -> jax.Array:
    """Mean of -label * log(sigmoid(logits)) - (1 - label) * log(1 - sigmoid(logits)), label in [0, 1].

    Computed as softplus(-logits) and softplus(logits): their gradients, too, keep all digits at any logit.
    """
    return jnp.mean(label * jax.nn.softplus(-logits) + (1 - label) * jax.nn.softplus(logits))


def non_saturating_gen(real_logits: jax.Array, fake_logits: jax.Array) -> jax.Array:
    """-mean log D(fake), the non-saturating loss of Goodfellow et al. 2014 (arXiv:1406.2661), section 3."""
    return cross_entropy(fake_logits, 1.0)


def non_saturating_disc(real_logits: jax.Array, fake_logits: jax.Array, real_label: float = 1.0) -> jax.Array:
    """-mean log D(real) - mean log(1 - D(fake)), with one-sided label smoothing.

    `real_label` < 1 replaces the label of the real images alone: 0.9 gives
    -mean(log(1 - D(fake)) + .1 log(1 - D(real)) + .9 log D(real)), as in "Fast DCGAN in Keras" and
    Salimans et al. 2016 (arXiv:1606.03498), section 3.4.
    """
    return cross_entropy(real_logits, real_label) + cross_entropy(fake_logits, 0.0)


def least_squares_gen(real_logits: jax.Array, fake_logits: jax.Array) -> jax.Array:
    """Mean (D(fake) - 1)^2, for a D with no sigmoid (Mao et al. 2016, arXiv:1611.04076)."""
    return jnp.mean(jnp.square(fake_logits - 1))


def least_squares_disc(real_logits: jax.Array, fake_logits: jax.Array) -> jax.Array:
    """Mean (D(real) - 1)^2 + mean D(fake)^2, for a D with no sigmoid (Mao et al. 2016, arXiv:1611.04076)."""
    return jnp.mean(jnp.square(real_logits - 1)) + jnp.mean(jnp.square(fake_logits))


def hinge_gen(real_logits: jax.Array, fake_logits: jax.Array) -> jax.Array:
    """-mean D(fake) (Lim and Ye 2017, arXiv:1705.02894); also the generator's loss of the Wasserstein GAN."""
    return -jnp.mean(fake_logits)


def hinge_disc(real_logits: jax.Array, fake_logits: jax.Array) -> jax.Array:
    """Mean max(0, 1 - D(real)) + mean max(0, 1 + D(fake)) (Lim and Ye 2017, arXiv:1705.02894)."""
    return jnp.mean(jax.nn.relu(1 - real_logits)) + jnp.mean(jax.nn.relu(1 + fake_logits))


def wasserstein_disc(real_logits: jax.Array, fake_logits: jax.Array) -> jax.Array:
    """Mean D(fake) - mean D(real), for a D that something keeps Lipschitz (Arjovsky et al. 2017, arXiv:1701.07875)."""
    return jnp.mean(fake_logits) - jnp.mean(real_logits)


def relativistic_gen(real_logits: jax.Array, fake_logits: jax.Array) -> jax.Array:
    """Mean softplus(-(D(fake_i) - D(real_i))): the pairing loss of Huang et al. 2024 (arXiv:2501.05441), equation 2.

    The relativistic loss of Jolicoeur-Martineau 2018 (arXiv:1807.00734), of pairs: generated image i is judged against
    real image i of the batch.
    """
    return cross_entropy(fake_logits - real_logits, 1.0)


def relativistic_disc(real_logits: jax.Array, fake_logits: jax.Array) -> jax.Array:
    """Mean softplus(-(D(real_i) - D(fake_i))), as `relativistic_gen`."""
    return cross_entropy(real_logits - fake_logits, 1.0)


def non_saturating(real_label: float = 1.0, disc_scale: float = 1.0) -> Loss:
    """Cross-entropy with the non-saturating generator's loss, as a `Loss`."""
    disc = functools.partial(non_saturating_disc, real_label=real_label) if real_label != 1 else non_saturating_disc
    return of_logits(non_saturating_gen, disc, disc_scale)


def least_squares(disc_scale: float = 1.0) -> Loss:
    """Least squares (LSGAN), as a `Loss`."""
    return of_logits(least_squares_gen, least_squares_disc, disc_scale)


def hinge(disc_scale: float = 1.0) -> Loss:
    """The hinge loss, as a `Loss`."""
    return of_logits(hinge_gen, hinge_disc, disc_scale)


def wasserstein(disc_scale: float = 1.0) -> Loss:
    """The Wasserstein loss, as a `Loss`; for a D that is kept Lipschitz, as by `jaxgan.penalties.WGANGP`."""
    return of_logits(hinge_gen, wasserstein_disc, disc_scale)


def relativistic(disc_scale: float = 1.0) -> Loss:
    """The relativistic pairing loss, as a `Loss`."""
    return of_logits(relativistic_gen, relativistic_disc, disc_scale)
