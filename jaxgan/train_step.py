"""The training step: `train_step(gan, state, images) -> (state, metrics)`, a pure function to be jitted.

    step = jax.jit(train_step, static_argnums=0, donate_argnums=1)

The shared step runs the generator once and the discriminator once on each batch, and takes both
networks' gradients from that single pass ("Fast DCGAN in Keras"). The alternating step is what most
codebases do: a pass for the discriminator's update, then a second one for the generator's.
"""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from jaxgan.gan import GAN, GANState, NetState, Purpose, draw_z, example_keys, from_uint8
from jaxgan.losses import squared_norm

Metrics = dict[str, jax.Array]


def train_step(gan: GAN, state: GANState, images: jax.Array) -> tuple[GANState, Metrics]:
    """One update of the generator, and `gan.training_ratio` of the discriminator.

    Args:
      gan: the static description; `gan.update` says which step this is.
      state: the state to start from.
      images: uint8 [B * training_ratio, H, W, C], a batch of real images for each of the
        discriminator's updates: that of update j is images[j::training_ratio].

    Returns:
      The next state, and scalars: `loss_gen` and `loss_disc`, each at the weights that its
      gradient was taken at; `logit_real` and `logit_fake`, the discriminator's mean logits when
      it was updated (the last time).

    Raises:
      TypeError: the images are not uint8.
      ValueError: they cannot be split evenly between the updates.
    """
    if len(images) % gan.training_ratio:
        raise ValueError(f"{len(images)} images cannot be split between training_ratio={gan.training_ratio} updates")
    update = {"shared": shared_update, "alternating": alternating_update}[gan.update]
    gen, disc, metrics = update(gan, state, from_uint8(images, gan.image_range))
    averaged_gen = _average(gan.ema_decay, state.step, state.averaged_gen, gen.variables)
    state = state.replace(step=state.step + 1, gen=gen, disc=disc, averaged_gen=averaged_gen)
    return state, metrics


def shared_update(gan: GAN, state: GANState, images: jax.Array) -> tuple[NetState, NetState, Metrics]:
    """Updates both networks from one forward pass, both at the old weights (simultaneous descent)."""
    *earlier, (last, indices) = _batches(gan, images)
    for batch in earlier:
        state = state.replace(disc=_update_disc(gan, state, *batch)[0])
    (gen_grads, disc_grads), (gen_stats, disc_stats), metrics = shared_gradients(gan, state, last, indices)
    gen = _apply_gradients(gan.gen_optimizer, state.gen, gen_grads, gen_stats)
    disc = _apply_gradients(gan.disc_optimizer, state.disc, disc_grads, disc_stats)
    return gen, disc, metrics


def shared_gradients(
    gan: GAN, state: GANState, images: jax.Array, indices: jax.Array
) -> tuple[tuple[Any, Any], tuple[Any, Any], Metrics]:
    """The gradient of each loss for its own network, from one shared forward pass.

    One `jax.vjp` of both losses in both networks' parameters, pulled back twice: the cotangent
    (1, 0) gives the generator's gradient, (0, 1) the discriminator's. The compiler drops the unused
    half of each pullback, so that what remains is one forward pass of G, two of D, and
    the three backward passes that any method needs: D's loss through D, G's loss through D(fake), and on through G.

    Args:
      gan: the static description.
      state: the state to take gradients at.
      images: [B, H, W, C] in `gan.image_range`.
      indices: int [B], which example of the step each one is; decides its noise.

    Returns:
      (gen_grads, disc_grads), (gen_batch_stats, disc_batch_stats), metrics.
    """

    def losses(gen_params, disc_params):
        fake, gen_stats = _generate(gan, state, gen_params, indices)
        loss_disc, (disc_stats, real_logits, fake_logits) = _disc_loss(gan, state, disc_params, fake, images, indices)
        loss_gen = _gen_loss(gan, gen_params, fake_logits)
        metrics = _metrics(loss_gen, loss_disc, real_logits, fake_logits)
        return (loss_gen, loss_disc), ((gen_stats, disc_stats), metrics)

    both, pullback, (stats, metrics) = jax.vjp(losses, state.gen.params, state.disc.params, has_aux=True)
    one, zero = jnp.ones_like(both[0]), jnp.zeros_like(both[0])
    gen_grads, _ = pullback((one, zero))
    _, disc_grads = pullback((zero, one))
    return (gen_grads, disc_grads), stats, metrics


def alternating_update(gan: GAN, state: GANState, images: jax.Array) -> tuple[NetState, NetState, Metrics]:
    """Updates D, once for each of its batches, and then G on fresh latents against the new D.

    The batch statistics of each network change in its own updates only.
    """
    batches = _batches(gan, images)
    for batch in batches:
        disc, (loss_disc, real_logits, fake_logits) = _update_disc(gan, state, *batch)
        state = state.replace(disc=disc)
    indices = len(images) + jnp.arange(len(batches[0][0]))  # after the discriminator's own

    def gen_loss(params):
        fake, stats = _generate(gan, state, params, indices)
        fake_logits, _ = _judge(gan, state, disc.params, disc.batch_stats, fake, indices, real=False)
        return _gen_loss(gan, params, fake_logits), stats

    (loss_gen, gen_stats), grads = jax.value_and_grad(gen_loss, has_aux=True)(state.gen.params)
    gen = _apply_gradients(gan.gen_optimizer, state.gen, grads, gen_stats)
    return gen, disc, _metrics(loss_gen, loss_disc, real_logits, fake_logits)


def _batches(gan: GAN, images: jax.Array) -> list[tuple[jax.Array, jax.Array]]:
    """The images of each update of the discriminator, and which examples of the step they are.

    Taken in turn, so that the share of any device holds its share of each.
    """
    ratio, indices = gan.training_ratio, jnp.arange(len(images))
    return [(images[j::ratio], indices[j::ratio]) for j in range(ratio)]


def _update_disc(gan: GAN, state: GANState, images: jax.Array, indices: jax.Array) -> tuple[NetState, tuple]:
    """The discriminator after one update on `images` and as many generated ones; its loss and logits."""
    fake, _ = _generate(gan, state, state.gen.params, indices)
    loss = functools.partial(_disc_loss, gan, state, fake=fake, images=images, indices=indices)
    (loss_disc, (stats, *logits)), grads = jax.value_and_grad(loss, has_aux=True)(state.disc.params)
    return _apply_gradients(gan.disc_optimizer, state.disc, grads, stats), (loss_disc, *logits)


def _disc_loss(
    gan: GAN, state: GANState, params: Any, fake: jax.Array, images: jax.Array, indices: jax.Array
) -> tuple[jax.Array, tuple[Any, jax.Array, jax.Array]]:
    """The discriminator's loss, with its batch statistics after both batches, and its logits on each."""
    fake_logits, stats = _judge(gan, state, params, state.disc.batch_stats, fake, indices, real=False)
    real_logits, stats = _judge(gan, state, params, stats, images, indices, real=True)
    return gan.disc_loss(real_logits, fake_logits), (stats, real_logits, fake_logits)


def _gen_loss(gan: GAN, params: Any, fake_logits: jax.Array) -> jax.Array:
    loss = gan.gen_loss(fake_logits)
    return loss + gan.gen_l2 * squared_norm(params) if gan.gen_l2 else loss


def _generate(gan: GAN, state: GANState, params: Any, indices: jax.Array) -> tuple[jax.Array, Any]:
    """The generator in training mode, on the latents of the step's examples `indices`."""
    z = draw_z(gan, _step_key(state, Purpose.Z), indices)
    keys = example_keys(_step_key(state, Purpose.DROPOUT_GEN), indices)
    return _apply(gan.gen, params, state.gen.batch_stats, z, keys)


def _judge(
    gan: GAN, state: GANState, params: Any, batch_stats: Any, images: jax.Array, indices: jax.Array, real: bool
) -> tuple[jax.Array, Any]:
    """The discriminator in training mode, on images with the instance noise of this step."""
    if gan.instance_noise:
        keys = example_keys(_step_key(state, Purpose.NOISE_REAL if real else Purpose.NOISE_FAKE), indices)
        noise = jax.vmap(lambda key: jax.random.normal(key, images.shape[1:]))(keys)
        images = images + gan.instance_noise(state.step) * noise
    keys = example_keys(_step_key(state, Purpose.DROPOUT_REAL if real else Purpose.DROPOUT_FAKE), indices)
    return _apply(gan.disc, params, batch_stats, images, keys)


def _step_key(state: GANState, purpose: Purpose) -> jax.Array:
    return jax.random.fold_in(jax.random.fold_in(state.key, purpose), state.step)


def _apply(net: nn.Module, params: Any, batch_stats: Any, x: jax.Array, keys: jax.Array) -> tuple[jax.Array, Any]:
    """Applies a network in training mode: its output, and its batch statistics updated."""
    variables = {"params": params, "batch_stats": batch_stats}
    out, updated = net.apply(variables, x, train=True, keys=keys, mutable=["batch_stats"])
    return out, updated.get("batch_stats", {})


def _apply_gradients(optimizer: optax.GradientTransformation, net: NetState, grads: Any, stats: Any) -> NetState:
    updates, opt_state = optimizer.update(grads, net.opt_state, net.params)
    return NetState(optax.apply_updates(net.params, updates), stats, opt_state)


def _average(decay: float, step: jax.Array, average: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """The exponential moving average of the generator, over its batch statistics as well.

    Early on the decay is at most (1 + step) / (10 + step), so that the untrained weights are soon
    forgotten, as in TensorFlow's ExponentialMovingAverage.
    """
    if decay == 0:
        return new
    keep = jnp.minimum(decay, (1 + step) / (10 + step))
    return jax.tree.map(lambda a, n: (a + (1 - keep) * (n - a)).astype(a.dtype), average, new)


def _metrics(loss_gen: jax.Array, loss_disc: jax.Array, real_logits: jax.Array, fake_logits: jax.Array) -> Metrics:
    return {
        "loss_gen": loss_gen,
        "loss_disc": loss_disc,
        "logit_real": jnp.mean(real_logits),
        "logit_fake": jnp.mean(fake_logits),
    }
