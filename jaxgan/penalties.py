"""Penalties: what is added to a network's loss beside the loss proper.

A penalty of the discriminator is a function (forward, disc) -> scalar. It may use D's gradients in its own inputs,
which the pass at hand gives, or ask D for its logits at other points. A regulariser of the generator is a function of
its parameters. Like losses, both are means over examples where they look at examples.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxgan.losses import Forward


class Disc(NamedTuple):
    """What a penalty may ask of the discriminator, in the training mode of the pass at hand.

    What is not called is not computed.

    Attributes:
      real_gradient: () -> the gradient of each real image's logit in that image, [B, H, W, C].
      fake_gradient: () -> the same for the generated images.
      judge: (images [B, H, W, C], labels [B] or None) -> logits [B], of as many other images. They pass through the
        GAN's transforms as real images do.
      keys: [B], a key for each example, for a penalty's own draws.
      step: int32 scalar, the updates done.
    """

    real_gradient: Callable[[], jax.Array]
    fake_gradient: Callable[[], jax.Array]
    judge: Callable[[jax.Array, jax.Array | None], jax.Array]
    keys: jax.Array
    step: jax.Array


Penalty = Callable[[Forward, Disc], jax.Array]
Regularizer = Callable[[Any], jax.Array]


@dataclasses.dataclass(frozen=True)
class R1:
    """gamma / 2 times the mean over real images of |gradient of D in the image|^2 (arXiv:1801.04406, equation 9).

    The squares are summed over all pixels of an image. With transforms the gradient is in the image before them.
    """

    gamma: float

    def __call__(self, forward: Forward, disc: Disc) -> jax.Array:
        """The penalty of that pass."""
        return self.gamma / 2 * jnp.mean(jnp.sum(jnp.square(disc.real_gradient()), axis=(1, 2, 3)))


@dataclasses.dataclass(frozen=True)
class L2:
    """`weight` times the squared L2 norm of all parameters: the sum of the squares of all their values."""

    weight: float

    def __call__(self, params: Any) -> jax.Array:
        """The regulariser at those parameters."""
        return self.weight * sum(jnp.sum(jnp.square(x)) for x in jax.tree.leaves(params))
