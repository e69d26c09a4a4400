"""The forward pass of both networks, and both losses. All else in a step differentiates it."""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxgan.accumulation import Aux
from jaxgan.gan import GAN, Batch, GANState, image_shape
from jaxgan.losses import Forward
from jaxgan.networks.layers import Context
from jaxgan.penalties import Disc
from jaxgan.per_example import Mixing, mixing
from jaxgan.randomness import Purpose, draw_labels, draw_z, example_keys, step_key
from jaxgan.transforms import Transform


def losses(
    gan: GAN,
    state: GANState,
    gen_params: Any,
    disc_params: Any,
    batch: Batch,
    indices: jax.Array,
    reuse_gradient: bool = False,
) -> tuple[tuple[jax.Array, jax.Array], Aux]:
    """The forward pass of both networks, and both losses.

    Args:
      gan: the static description.
      state: gives batch statistics, the step and the key.
      gen_params: the generator's parameters.
      disc_params: the discriminator's parameters.
      batch: real images, [B, H, W, C] in `gan.image_range`, and their labels.
      indices: int [B], which example of the step each one is; decides its noise.
      reuse_gradient: whether, where the penalties' gradient of D in the generated images serves G's loss as well, it
        does (`_is_known`). The generator's loss is then to be differentiated in the generator's parameters alone.

    Returns:
      (loss_gen, loss_disc), aux. What the caller does not use the compiler does not compute.

    Raises:
      ValueError: a function of the user's gives another shape than it must; or a transform mixes the images of a batch
        that is divided between devices or microbatches.
    """
    check_transforms(gan, batch.images)
    disc = functools.partial(_apply_disc, gan, state, disc_params, indices)
    images = _passed(gan.augmentations, Purpose.AUGMENTATION, state, batch.images, indices)
    z, labels, generated, gen_stats = _generate(gan, state, gen_params, batch, indices)

    def disc_of_fake(images: jax.Array) -> tuple[jax.Array, Any]:
        return disc(images, labels, state.disc.batch_stats, real=False)

    known = reuse_gradient and _is_known(gan, disc_of_fake, generated)
    seen = _cut(generated) if known else generated
    fake_logits, (fake_extra, stats), pull_fake = _with_pullback(gan, disc_of_fake, seen)
    disc_of_real = functools.partial(disc, labels=batch.labels, stats=stats, real=True)
    real_logits, (real_extra, stats), pull_real = _with_pullback(gan, disc_of_real, images)
    forward = Forward(images, batch.labels, z, seen, labels, real_logits, fake_logits, real_extra, fake_extra)
    fake_gradient: Any = pull_fake(jnp.ones_like(fake_logits))[0] if pull_fake else None
    of_gen = _with_known_gradient(forward, generated, fake_gradient) if known else forward
    loss_gen = _scalar("loss.gen", gan.loss.gen(of_gen))
    for regularizer in gan.regularizers:
        loss_gen += _scalar("a regularizer", regularizer(gen_params))
    loss_disc = _scalar("loss.disc", gan.loss.disc(forward))
    for i, penalty in enumerate(gan.penalties):
        asked = Disc(
            real_gradient=lambda: pull_real(jnp.ones_like(real_logits))[0],
            fake_gradient=lambda: fake_gradient,
            judge=lambda images, labels: disc(images, labels, stats, real=True)[0],
            keys=example_keys(step_key(state, Purpose.PENALTIES + 1000 * i), indices),
            step=state.step,
        )
        loss_disc += _scalar("a penalty", penalty(forward, asked))
    metrics = {"loss_gen": loss_gen, "loss_disc": loss_disc}
    metrics |= {"logit_real": jnp.mean(real_logits), "logit_fake": jnp.mean(fake_logits)}
    return (loss_gen, loss_disc), Aux(gen_stats, stats, metrics)


def _generate(
    gan: GAN, state: GANState, params: Any, batch: Batch, indices: jax.Array
) -> tuple[jax.Array, jax.Array | None, jax.Array, Any]:
    """The latents, the labels, the images that G makes of them, and its batch statistics after that."""
    z = draw_z(gan, step_key(state, Purpose.Z), indices)
    labels = batch.labels
    if gan.generated_labels == "uniform":
        labels = draw_labels(gan, step_key(state, Purpose.LABELS), indices)
    keys = example_keys(step_key(state, Purpose.DROPOUT_GEN), indices)
    return z, labels, *_apply(gan, gan.gen, params, state.gen.batch_stats, z, labels, keys)


def _apply_disc(
    gan: GAN,
    state: GANState,
    params: Any,
    indices: jax.Array,
    images: jax.Array,
    labels: jax.Array | None,
    stats: Any,
    real: bool,
) -> tuple[jax.Array, tuple[Any, Any]]:
    """The transforms, and D: its logits [B], and (what else it returned, its batch statistics)."""
    purpose = Purpose.TRANSFORM_REAL if real else Purpose.TRANSFORM_FAKE
    images = _passed(gan.transforms, purpose, state, images, indices)
    keys = example_keys(step_key(state, Purpose.DROPOUT_REAL if real else Purpose.DROPOUT_FAKE), indices)
    found, stats = _apply(gan, gan.disc, params, stats, images, labels, keys)
    logits, extra = found if isinstance(found, tuple) else (found, None)
    if logits.shape != (images.shape[0],):
        raise ValueError(f"the discriminator must give one logit for each image, [B], not {list(logits.shape)}")
    return logits, (extra, stats)


def _with_pullback(gan: GAN, disc: Callable[..., Any], images: jax.Array) -> tuple[jax.Array, Any, Any]:
    """disc(images) -> (logits, aux), and from cotangents of the logits to those of the images where penalties ask."""
    if not gan.penalties:
        return *disc(images), None
    logits, pull, aux = jax.vjp(disc, images, has_aux=True)
    return logits, aux, pull


def _is_known(gan: GAN, disc_of_fake: Callable[..., Any], generated: jax.Array) -> bool:
    """Whether the generator's loss can take D's gradient in its images from the penalties, as follows.

    By the chain rule the gradient of a loss in generated image i is its derivative in logit i times the gradient of
    that logit in the image: where no other logit depends on it, and D returns nothing else that the loss could see.
    The second factor is what R2 computes. So no pass back through D is left for the generator, and the numbers are the
    same up to rounding.
    """
    if not gan.penalties or jax.eval_shape(disc_of_fake, generated)[1][0] is not None:
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
    """`logits` [B], as a function of images [B, H, W, C] alone, whose gradient is [B, H, W, C]."""
    return logits


_cut.defvjp(lambda images: (images, None), lambda _, cotangent: (None,))
_logits_of_known_gradient.defvjp(
    lambda images, logits, gradient: (logits, gradient),
    lambda gradient, cotangent: (cotangent[:, None, None, None] * gradient, None, None),
)


def disc_mixing(gan: GAN, train: bool = False) -> Mixing | None:
    """Why D may judge an image by the others of its batch: minibatch features, say; None where it does not.

    With `train` batch normalisation counts as well, which uses the batch's own moments then.
    """
    images = jax.ShapeDtypeStruct((2, *image_shape(gan)), jnp.float32)
    keys, labels = jax.eval_shape(lambda: (jax.random.split(jax.random.key(0), 2), jnp.zeros(2, jnp.int32)))
    labels = labels if gan.classes else None
    variables = jax.eval_shape(gan.disc.init, jax.random.key(0), images, labels, Context())

    def logits(images: jax.Array, variables: Any, labels: jax.Array | None, keys: jax.Array) -> jax.Array:
        judged, _ = gan.disc.apply(variables, images, labels, Context(train, keys), mutable=["batch_stats"])
        return judged[0] if isinstance(judged, tuple) else judged

    return mixing(logits, images, variables, labels, keys)


def check_transforms(gan: GAN, images: Any) -> None:
    """Refuses transforms that mix the images of a batch, where each part of it would be mixed by itself.

    Args:
      gan: the static description.
      images: [B, H, W, C], or their shape and type.

    Raises:
      ValueError: one does, and the batch is divided between devices or microbatches.
    """
    if gan.axis_name is None and gan.accumulate == 1:
        return
    keys, step = jax.eval_shape(lambda: (jax.random.split(jax.random.key(0), images.shape[0]), jnp.int32(0)))
    for transform in (*gan.augmentations, *gan.transforms):
        mixed = mixing(transform, images, keys, step)
        if mixed and mixed.certain:
            raise ValueError(
                f"a transform mixes the images of a batch ({mixed.where}), which several devices or microbatches "
                "divide: each would mix its own alone; use one device and accumulate=1"
            )


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
