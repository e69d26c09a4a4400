"""The forward pass of both networks, and both losses. All else in a step differentiates it."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxgan.gan import (
    GAN,
    Batch,
    GANState,
    Purpose,
    draw_labels,
    draw_z,
    example_keys,
    judges_alone,
    step_key,
)
from jaxgan.losses import Forward
from jaxgan.networks.layers import Context
from jaxgan.penalties import Disc
from jaxgan.transforms import Transform
from jaxgan.whole_batch import Aux


def losses(
    gan: GAN, state: GANState, gen_params: Any, disc_params: Any, batch: Batch, indices: jax.Array
) -> tuple[tuple[jax.Array, jax.Array], Aux]:
    """The forward pass of both networks, and both losses.

    Args:
      gan: the static description.
      state: gives batch statistics, the step and the key.
      gen_params: the generator's parameters.
      disc_params: the discriminator's parameters.
      batch: real images, [B, H, W, C] in `gan.image_range`, and their labels.
      indices: int [B], which example of the step each one is; decides its noise.

    Returns:
      (loss_gen, loss_disc), aux. What the caller does not use of it the compiler does not compute.
    """
    real_images = _passed(gan.augmentations, Purpose.AUGMENTATION, state, batch.images, indices)
    z = draw_z(gan, step_key(state, Purpose.Z), indices)
    generated_labels = batch.labels
    if gan.generated_labels == "uniform":
        generated_labels = draw_labels(gan, step_key(state, Purpose.LABELS), indices)
    keys = example_keys(step_key(state, Purpose.DROPOUT_GEN), indices)
    generated, gen_stats = _apply(gan, gan.gen, gen_params, state.gen.batch_stats, z, generated_labels, keys)

    def judge(images: jax.Array, labels: jax.Array | None, stats: Any, real: bool) -> tuple[jax.Array, Any]:
        purpose = Purpose.TRANSFORM_REAL if real else Purpose.TRANSFORM_FAKE
        images = _passed(gan.transforms, purpose, state, images, indices)
        keys = example_keys(step_key(state, Purpose.DROPOUT_REAL if real else Purpose.DROPOUT_FAKE), indices)
        judged, stats = _apply(gan, gan.disc, disc_params, stats, images, labels, keys)
        logits, extra = judged if isinstance(judged, tuple) else (judged, None)
        if logits.shape != (images.shape[0],):
            raise ValueError(f"the discriminator must give one logit for each image, [B], not {list(logits.shape)}")
        return logits, (extra, stats)

    fake_logits, (fake_extra, disc_stats), pull_fake = _with_pullback(
        gan, lambda images: judge(images, generated_labels, state.disc.batch_stats, real=False), generated
    )
    real_logits, (real_extra, disc_stats), pull_real = _with_pullback(
        gan, lambda images: judge(images, batch.labels, disc_stats, real=True), real_images
    )
    forward = Forward(
        images=real_images,
        labels=batch.labels,
        z=z,
        generated=generated,
        generated_labels=generated_labels,
        real_logits=real_logits,
        fake_logits=fake_logits,
        real_extra=real_extra,
        fake_extra=fake_extra,
    )
    fake_gradient = None if pull_fake is None else pull_fake(jnp.ones_like(fake_logits))[0]
    loss_gen = _scalar("loss.gen", gan.loss.gen(_with_known_gradient(gan, forward, fake_gradient)))
    loss_disc = _scalar("loss.disc", gan.loss.disc(forward))
    for regularizer in gan.regularizers:
        loss_gen += _scalar("a regularizer", regularizer(gen_params))
    for i, penalty in enumerate(gan.penalties):
        disc = Disc(
            real_gradient=lambda: pull_real(jnp.ones_like(real_logits))[0],
            fake_gradient=lambda: fake_gradient,
            judge=lambda images, labels: judge(images, labels, disc_stats, real=True)[0],
            keys=example_keys(step_key(state, Purpose.PENALTIES + 1000 * i), indices),
            step=state.step,
        )
        loss_disc += _scalar("a penalty", penalty(forward, disc))
    metrics = {
        "loss_gen": loss_gen,
        "loss_disc": loss_disc,
        "logit_real": jnp.mean(real_logits),
        "logit_fake": jnp.mean(fake_logits),
    }
    return (loss_gen, loss_disc), Aux(gen_stats, disc_stats, metrics)


def _with_pullback(gan: GAN, judge: Callable, images: jax.Array) -> tuple[jax.Array, Any, Callable | None]:
    """judge(images) -> (logits, aux), and from cotangents of the logits to those of the images where penalties ask."""
    if not gan.penalties:
        return *judge(images), None
    logits, pull, aux = jax.vjp(judge, images, has_aux=True)
    return logits, aux, pull


def _with_known_gradient(gan: GAN, forward: Forward, fake_gradient: jax.Array | None) -> Forward:
    """The pass as the generator's loss sees it, which takes D's gradient as known where it can.

    By the chain rule the gradient of a loss in generated image i is its derivative in logit i times the gradient of
    that logit in the image, where no other logit depends on it. The second factor is what R2 has computed. So no pass
    back through D is left for the generator, and the numbers are the same up to rounding.
    """
    if fake_gradient is None or not judges_alone(gan, train=True):
        return forward
    constants = jax.lax.stop_gradient((forward.fake_logits, fake_gradient))
    return forward.replace(fake_logits=_logits_of_known_gradient(forward.generated, *constants))


@jax.custom_jvp
def _logits_of_known_gradient(images: jax.Array, logits: jax.Array, gradient: jax.Array) -> jax.Array:
    """`logits` [B], as a function of images [B, H, W, C] whose gradient is [B, H, W, C]."""
    return logits


@_logits_of_known_gradient.defjvp
def _logits_tangent(primals: tuple, tangents: tuple) -> tuple[jax.Array, jax.Array]:
    _, logits, gradient = primals
    return logits, jnp.sum(gradient * tangents[0], axis=(1, 2, 3))


def _scalar(what: str, value: jax.Array) -> jax.Array:
    """The value of a function of the user's, if it is one number."""
    if jnp.shape(value) != ():
        raise ValueError(f"{what} must give a scalar, a mean over examples, not shape {list(jnp.shape(value))}")
    return value


def _passed(
    transforms: tuple[Transform, ...], purpose: int, state: GANState, images: jax.Array, indices: jax.Array
) -> jax.Array:
    """The images after some transforms, each with draws of its own."""
    for i, transform in enumerate(transforms):
        images = transform(images, example_keys(step_key(state, purpose + 1000 * i), indices), state.step)
    return images


def _apply(
    gan: GAN, net: nn.Module, params: Any, stats: Any, x: jax.Array, labels: jax.Array | None, keys: jax.Array
) -> tuple[Any, Any]:
    """Applies a network in training mode: its output, and its batch statistics updated; both in float32 at least."""
    if gan.precision == "bf16":
        params, x = jax.tree.map(lambda value: value.astype(jnp.bfloat16), (params, x))
    context = Context(train=True, keys=keys, axis_name=gan.axis_name)
    variables = {"params": params, "batch_stats": stats}
    out, updated = net.apply(variables, x, labels, context, mutable=["batch_stats"])
    out = jax.tree.map(lambda x: x.astype(jnp.promote_types(x.dtype, jnp.float32)), out)
    return out, updated.get("batch_stats", {})
