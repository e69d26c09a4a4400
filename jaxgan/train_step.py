"""The training step: `train_step(gan, state, images) -> (state, metrics)`, a pure function to be jitted.

    step = jax.jit(train_step, static_argnums=0, donate_argnums=1)

The shared step runs the generator once and the discriminator once on each batch, and takes both
networks' gradients from that single pass ("Fast DCGAN in Keras"). The alternating step is what most
codebases do: a pass for the discriminator's update, then a second one for the generator's.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from jaxgan.gan import GAN, GANState, NetState, Purpose, draw_z, from_uint8

Metrics = dict[str, jax.Array]


def train_step(gan: GAN, state: GANState, images: jax.Array) -> tuple[GANState, Metrics]:
    """One update of both networks.

    Args:
      gan: the static description; `gan.update` says which step this is.
      state: the state to start from.
      images: uint8 [B, H, W, C], a batch of real images.

    Returns:
      The next state, and scalars: `loss_gen` and `loss_disc`, each at the weights that its
      gradient was taken at; `logit_real` and `logit_fake`, the discriminator's mean logits when
      it was updated.
    """
    update = {"shared": shared_update, "alternating": alternating_update}[gan.update]
    gen, disc, metrics = update(gan, state, from_uint8(images, gan.image_range))
    averaged_gen = _average(gan.ema_decay, state.step, state.averaged_gen, gen.variables)
    state = state.replace(step=state.step + 1, gen=gen, disc=disc, averaged_gen=averaged_gen)
    return state, metrics


def shared_update(gan: GAN, state: GANState, images: jax.Array) -> tuple[NetState, NetState, Metrics]:
    """Updates both networks from one forward pass, both at the old weights (simultaneous descent)."""
    (gen_grads, disc_grads), (gen_stats, disc_stats), metrics = shared_gradients(gan, state, images)
    gen = _apply_gradients(gan.gen_optimizer, state.gen, gen_grads, gen_stats)
    disc = _apply_gradients(gan.disc_optimizer, state.disc, disc_grads, disc_stats)
    return gen, disc, metrics


def shared_gradients(gan: GAN, state: GANState, images: jax.Array) -> tuple[tuple, tuple, Metrics]:
    """The gradient of each loss for its own network, from one shared forward pass.

    One `jax.vjp` of both losses in both networks' parameters, pulled back twice: the cotangent
    (1, 0) gives the generator's gradient, (0, 1) the discriminator's. The compiler drops the unused
    half of each pullback, so that what remains is one forward pass of G, two of D, and
    the three backward passes that any method needs: D's loss through D, G's loss through D(fake), and on through G.

    Args:
      gan: the static description.
      state: the state to take gradients at.
      images: [B, H, W, C] in `gan.image_range`.

    Returns:
      (gen_grads, disc_grads), (gen_batch_stats, disc_batch_stats), metrics.
    """
    z = _step_z(gan, state, images.shape[0], Purpose.Z)

    def losses(gen_params, disc_params):
        fake, gen_stats = _apply(gan.gen, gen_params, state.gen.batch_stats, z)
        fake_logits, disc_stats = _apply(gan.disc, disc_params, state.disc.batch_stats, fake)
        real_logits, disc_stats = _apply(gan.disc, disc_params, disc_stats, images)
        loss_gen, loss_disc = gan.gen_loss(fake_logits), gan.disc_loss(real_logits, fake_logits)
        metrics = _metrics(loss_gen, loss_disc, real_logits, fake_logits)
        return (loss_gen, loss_disc), ((gen_stats, disc_stats), metrics)

    both, pullback, (stats, metrics) = jax.vjp(losses, state.gen.params, state.disc.params, has_aux=True)
    one, zero = jnp.ones_like(both[0]), jnp.zeros_like(both[0])
    gen_grads, _ = pullback((one, zero))
    _, disc_grads = pullback((zero, one))
    return (gen_grads, disc_grads), stats, metrics


def alternating_update(gan: GAN, state: GANState, images: jax.Array) -> tuple[NetState, NetState, Metrics]:
    """Updates D, then G on fresh latents against the new D.

    The batch statistics of each network change in its own update only.
    """
    z = _step_z(gan, state, images.shape[0], Purpose.Z)
    fake, _ = _apply(gan.gen, state.gen.params, state.gen.batch_stats, z)

    def disc_loss(params):
        fake_logits, stats = _apply(gan.disc, params, state.disc.batch_stats, fake)
        real_logits, stats = _apply(gan.disc, params, stats, images)
        return gan.disc_loss(real_logits, fake_logits), (stats, real_logits, fake_logits)

    (loss_disc, aux), grads = jax.value_and_grad(disc_loss, has_aux=True)(state.disc.params)
    disc_stats, real_logits, fake_logits = aux
    disc = _apply_gradients(gan.disc_optimizer, state.disc, grads, disc_stats)

    z = _step_z(gan, state, images.shape[0], Purpose.Z_GEN)

    def gen_loss(params):
        fake, stats = _apply(gan.gen, params, state.gen.batch_stats, z)
        return gan.gen_loss(_apply(gan.disc, disc.params, disc.batch_stats, fake)[0]), stats

    (loss_gen, gen_stats), grads = jax.value_and_grad(gen_loss, has_aux=True)(state.gen.params)
    gen = _apply_gradients(gan.gen_optimizer, state.gen, grads, gen_stats)
    return gen, disc, _metrics(loss_gen, loss_disc, real_logits, fake_logits)


def _step_z(gan: GAN, state: GANState, batch_size: int, purpose: Purpose) -> jax.Array:
    key = jax.random.fold_in(jax.random.fold_in(state.key, purpose), state.step)
    return draw_z(gan, key, jnp.arange(batch_size))


def _apply(net: nn.Module, params: Any, batch_stats: Any, x: jax.Array) -> tuple[jax.Array, Any]:
    """Applies a network in training mode: its output, and its batch statistics updated."""
    variables = {"params": params, "batch_stats": batch_stats}
    out, updated = net.apply(variables, x, train=True, mutable=["batch_stats"])
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
