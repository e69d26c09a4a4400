"""The usual game: D tells real images from those that G makes of latents. `GAN.loss` says what both are to minimise."""

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from jaxgan.forward_pass import Losses, Metrics, Pass, and_extra
from jaxgan.losses import Forward
from jaxgan.penalties import Disc, Gen
from jaxgan.per_example import mixing
from jaxgan.randomness import Purpose
from jaxgan.user_functions import joined, scalar

if TYPE_CHECKING:
    from jaxgan.gan import GAN


def adversarial(p: Pass, made: Any = None) -> Losses:
    """The usual game: D tells real images from those that G makes of latents.

    `GAN.loss`, `penalties` and `regularizers` are functions of this pass; its metrics are D's mean logits, `logit_real`
    and `logit_fake`.

    Args:
      p: the pass.
      made: what `p.gen` has given, where a game of one's own has called it.
    """
    gan, p.is_adversarial = p.gan, True
    generated, gen_extra = and_extra(p.gen(p.z, p.generated_labels) if made is None else made)

    def apply_disc(images: jax.Array, labels: Any, real: bool = True) -> tuple[jax.Array, Any]:
        images = p.transform(images, real)
        keys = p.keys(Purpose.DROPOUT_REAL if real else Purpose.DROPOUT_FAKE)
        logits, extra = and_extra(p.disc(images, labels, keys=keys))
        if logits.shape not in ((len(images),), (len(images) // gan.group,)):
            per = "image, [B]" if gan.group == 1 else f"image, [B], or for {gan.group} of them, [B / group]"
            raise ValueError(f"the discriminator must give one logit for each {per}, not {list(logits.shape)}")
        return logits, extra

    def with_gradient(images: jax.Array, labels: Any, real: bool) -> tuple[jax.Array, Any, Any]:
        """D's logits, what else it gives, and () -> the gradient of the logits where penalties may ask for it."""
        if not gan.penalties:
            return *apply_disc(images, labels, real), None
        logits, extra, pull = p.vjp(lambda x: apply_disc(x, labels, real), images)
        return logits, extra, lambda: pull(jnp.ones_like(logits))

    known = p.reuse_gradient and _is_known(gan, lambda x: apply_disc(x, p.generated_labels, real=False), generated)
    seen = _cut(generated) if known else generated
    fake_logits, fake_extra, pull_fake = with_gradient(seen, p.generated_labels, real=False)
    real_logits, real_extra, pull_real = with_gradient(p.images, p.labels, real=True)
    forward = Forward(
        images=p.images,
        labels=p.labels,
        z=p.z,
        generated=seen,
        generated_labels=p.generated_labels,
        real_logits=real_logits,
        fake_logits=fake_logits,
        real_extra=real_extra,
        fake_extra=fake_extra,
        gen_extra=gen_extra,
        memory=p.memory,
    )
    fake_gradient: Any = pull_fake() if known else None
    of_gen = _with_known_gradient(forward, generated, fake_gradient) if known else forward
    gen, disc = [scalar("loss.gen", gan.loss.gen(of_gen))], [scalar("loss.disc", gan.loss.disc(forward))]
    for i, regularizer in enumerate(gan.regularizers):
        asked = Gen(p.params["gen"], p.gen, p.keys(Purpose.REGULARIZERS + 1000 * i), p.step)
        gen.append(scalar("a regularizer", regularizer(of_gen, asked)))
    for i, penalty in enumerate(gan.penalties):
        asked = Disc(
            real_gradient=pull_real,
            fake_gradient=(lambda: fake_gradient) if known else pull_fake,
            apply=lambda images, labels: apply_disc(images, labels)[0],
            keys=p.keys(Purpose.PENALTIES + 1000 * i),
            step=p.step,
        )
        disc.append(scalar("a penalty", penalty(forward, asked)))
    logits = {"logit_real": jnp.mean(real_logits), "logit_fake": jnp.mean(fake_logits)}
    return Losses(_added(gen), _added(disc), logits)


def _added(terms: list[tuple[jax.Array, Metrics]]) -> tuple[jax.Array, Metrics]:
    """The sum of several terms of a loss, and all their metrics."""
    return functools.reduce(jnp.add, [value for value, _ in terms]), joined(*(metrics for _, metrics in terms))


def _is_known(gan: "GAN", disc_of_fake: Callable[..., Any], generated: jax.Array) -> bool:
    """Whether the generator's loss can take D's gradient in its images from the penalties, as follows.

    By the chain rule the gradient of a loss in generated image i is its derivative in logit i times the gradient of
    that logit in the image: where no other logit depends on it, and D returns nothing else that the loss could see.
    The second factor is what R2 computes. So no pass back through D is left for the generator, and the numbers are the
    same up to rounding.
    """
    if not gan.penalties or gan.group > 1 or jax.eval_shape(disc_of_fake, generated)[1] is not None:
        return False
    return mixing(lambda images: disc_of_fake(images)[0], generated) is None


def _with_known_gradient(forward: Forward, generated: jax.Array, gradient: jax.Array) -> Forward:
    """The pass as the generator's loss sees it: its logits are functions of the images alone, of known gradients."""
    fake_logits = _logits_of_known_gradient(generated, forward.fake_logits, gradient)
    return forward.replace(generated=generated, fake_logits=fake_logits)


# Both functions below change what a pullback through them gives, and nothing else: where the gradients of a step are
# differentiated themselves, they are the identity.


@jax.custom_vjp
def _cut(images: jax.Array) -> jax.Array:
    """The images, of which no loss that sees them has a gradient."""
    return images


@jax.custom_vjp
def _logits_of_known_gradient(images: jax.Array, logits: jax.Array, gradient: jax.Array) -> jax.Array:
    """`logits` [B], as a function of images [B, ...] alone, whose gradient is [B, ...]."""
    return logits


_cut.defvjp(lambda images: (images, None), lambda _, cotangent: (None,))
_logits_of_known_gradient.defvjp(
    lambda images, logits, gradient: (logits, gradient),
    lambda gradient, cotangent: (cotangent.reshape(-1, *[1] * (gradient.ndim - 1)) * gradient, None, None),
)
