"""Penalties: what is added to a network's loss beside the loss proper.

A penalty of the discriminator is a function (forward, disc) -> scalar. It may use D's gradients in its own inputs,
which the pass at hand gives, or ask D for its logits at other points. A regulariser of the generator is a function
(forward, gen) -> scalar. Either may give a pair of the scalar and metrics. Like losses, both are means over examples
where they look at examples.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxgan.losses import Forward
from jaxgan.schedules import Schedule, at


class Disc(NamedTuple):
    """What a penalty may ask of the discriminator, in the training mode of the pass at hand.

    What is not called is not computed.

    Attributes:
      real_gradient: () -> the gradient of each real image's logit in that image, [B, H, W, C].
      fake_gradient: () -> the same for the generated images.
      apply: (images [B, H, W, C], labels [B] or None) -> logits [B], of as many other images. They pass through the
        GAN's transforms as real images do.
      keys: [B], a key for each example, for a penalty's own draws.
      step: int32 scalar, the updates done.
    """

    real_gradient: Callable[[], jax.Array]
    fake_gradient: Callable[[], jax.Array]
    apply: Callable[[jax.Array, jax.Array | None], jax.Array]
    keys: jax.Array
    step: jax.Array


class Gen(NamedTuple):
    """What a regulariser may ask of the generator, likewise.

    Attributes:
      params: its parameters, at which the loss is differentiated.
      apply: (*arrays, method=None) -> what the module makes of them, called by one of its methods.
      keys: [B], a key for each example, for a regulariser's own draws.
      step: int32 scalar, the updates done.
    """

    params: Any
    apply: Callable[..., Any]
    keys: jax.Array
    step: jax.Array


Penalty = Callable[[Forward, Disc], Any]
Regularizer = Callable[[Forward, Gen], Any]


@dataclasses.dataclass(frozen=True)
class R1:
    """gamma / 2 times the mean over real images of |gradient of D in the image|^2 (arXiv:1801.04406, equation 9).

    The squares are summed over all pixels of an image. With transforms the gradient is in the image before them.

    Attributes:
      gamma: the weight, or a schedule of it: a function of the step.
    """

    gamma: float | Schedule

    def __call__(self, forward: Forward, disc: Disc) -> jax.Array:
        return at(self.gamma, disc.step) / 2 * jnp.mean(_squares(disc.real_gradient()))


@dataclasses.dataclass(frozen=True)
class R2:
    """`R1`, at the generated images (arXiv:1801.04406, section 4.1).

    Where D and the transforms take each image alone, the generator's gradient is taken from the same gradients of D: R2
    in every step then makes the generator's pass back through D unnecessary (`forward_pass.losses`).

    Attributes:
      gamma: the weight, or a schedule of it: a function of the step.
    """

    gamma: float | Schedule

    def __call__(self, forward: Forward, disc: Disc) -> jax.Array:
        return at(self.gamma, disc.step) / 2 * jnp.mean(_squares(disc.fake_gradient()))


@dataclasses.dataclass(frozen=True)
class WGANGP:
    """`weight` times the mean of (|gradient of D| - 1)^2 between real and generated images.

    Each is taken at u * real image + (1 - u) * generated image, with u from U(0, 1) for each pair (Gulrajani et al.
    2017, arXiv:1704.00028, algorithm 1). D is asked with the real images' labels. It must be without batch
    normalisation: a norm is each image's own.

    Attributes:
      weight: of the penalty; lambda in the paper.
    """

    weight: float = 10.0

    def __call__(self, forward: Forward, disc: Disc) -> jax.Array:
        u = jax.vmap(lambda key: jax.random.uniform(key, (1,) * (forward.images.ndim - 1)))(disc.keys)
        mixed = u * forward.images + (1 - u) * forward.generated
        gradient = jax.grad(lambda images: jnp.sum(disc.apply(images, forward.labels)))(mixed)
        return self.weight * jnp.mean(jnp.square(_norm(gradient) - 1))


@dataclasses.dataclass(frozen=True)
class Lazy:
    """A penalty, or a regulariser, at every k-th step only, with k times its weight (arXiv:1912.04958, section 3.1).

    Its metrics are 0 in the other steps.

    Attributes:
      penalty: which.
      every: k, at least 1; step 0 has it.
    """

    penalty: Penalty | Regularizer
    every: int

    def __post_init__(self):
        if not (isinstance(self.every, int) and self.every >= 1):
            raise ValueError(f"every must be a whole number of steps, at least 1, not {self.every!r}")

    def __call__(self, forward: Forward, asked: Any) -> Any:
        nothing = jnp.sum(forward.fake_logits[:0])  # as each device has its own share, so is what this adds up

        def penalty() -> Any:
            found = self.penalty(forward, asked)
            value, metrics = found if isinstance(found, tuple) else (found, None)
            value = self.every * value + nothing
            return value if metrics is None else (value, jax.tree.map(lambda x: x + nothing, metrics))

        like = jax.eval_shape(penalty)
        zeros = lambda: jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype) + nothing.astype(x.dtype), like)  # noqa: E731
        return jax.lax.cond(asked.step % self.every == 0, penalty, zeros)


@dataclasses.dataclass(frozen=True)
class L2:
    """`weight` times the squared L2 norm of all parameters: the sum of the squares of all their values."""

    weight: float

    def __call__(self, forward: Forward, gen: Gen) -> jax.Array:
        return jnp.asarray(self.weight * sum(jnp.sum(jnp.square(x)) for x in jax.tree.leaves(gen.params)))


def _squares(gradient: jax.Array) -> jax.Array:
    """The squared norm of each image's gradient: [B, ...] -> [B]."""
    return jnp.sum(jnp.square(gradient), axis=range(1, gradient.ndim))


def _norm(gradient: jax.Array) -> jax.Array:
    """The norm of each image's gradient, [B, H, W, C] -> [B], whose own gradient at zero is zero and not NaN."""
    squares = _squares(gradient)
    none = squares == 0
    return jnp.where(none, 0, jnp.sqrt(jnp.where(none, 1, squares)))
