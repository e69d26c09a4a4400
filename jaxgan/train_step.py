"""The training step: `train_step(gan, state, images) -> (state, metrics)`, a pure function to be jitted.

    step = jax.jit(train_step, static_argnums=0, donate_argnums=1)

`train_steps` is several of them in one program, which is what runs take.

The shared step runs the generator once and the discriminator once on each batch, and takes both
networks' gradients from that single pass ("Fast DCGAN in Keras"). The alternating step is what most
codebases do: a pass for the discriminator's update, then a second one for the generator's.
"""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from jaxgan.gan import GAN, GANState, NetState, Purpose, draw_z, example_keys, from_uint8
from jaxgan.losses import squared_norm

Metrics = dict[str, jax.Array]
Gradients = tuple[Any, tuple[Any, Any], Metrics]  # of either network or both, the batch statistics after, metrics


def train_step(gan: GAN, state: GANState, images: jax.Array) -> tuple[GANState, Metrics]:
    """One update of the generator, and `gan.training_ratio` of the discriminator.

    On an axis of devices (`gan.axis_name`) each holds its share of the images and a copy of the state; what comes
    out is the whole batch's, the same on all of them.

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
      ValueError: they cannot be split evenly between the updates, and those into microbatches.
    """
    if len(images) % (gan.training_ratio * gan.accumulate):
        raise ValueError(
            f"{len(images)} images cannot be split between training_ratio={gan.training_ratio} updates "
            f"of accumulate={gan.accumulate} microbatches"
        )
    update = {"shared": shared_update, "alternating": alternating_update}[gan.update]
    gen, disc, metrics = update(gan, state, from_uint8(images, gan.image_range))
    averaged_gen = _average(gan.ema_decay, state.step, state.averaged_gen, gen.variables)
    state = state.replace(step=state.step + 1, gen=gen, disc=disc, averaged_gen=averaged_gen)
    return state, metrics


def train_steps(
    gan: GAN, state: GANState, images: jax.Array, batches: jax.Array, count: jax.Array | int
) -> tuple[GANState, Metrics]:
    """Several updates in one program, each on its own batch of a dataset that is on the device.

        steps = jax.jit(train_steps, static_argnums=0, donate_argnums=1)

    Python is met once for all of them, and memory is asked for once.

    Args:
      gan: the static description.
      state: the state to start from.
      images: uint8 [N, H, W, C], the dataset.
      batches: int [capacity, B * training_ratio], which of them each update takes.
      count: how many updates, from 1 to capacity. It is not static: any number of them is the same program, so that
        how a run is divided leaves no trace in its bits.

    Returns:
      The state after them, and the metrics of the last.
    """

    def update(i: jax.Array, carry: tuple[GANState, Metrics]) -> tuple[GANState, Metrics]:
        return train_step(gan, carry[0], jnp.take(images, batches[i], axis=0, mode="clip"))

    _, metrics = jax.eval_shape(update, jax.ShapeDtypeStruct((), jnp.int32), (state, None))
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), metrics)
    return jax.lax.fori_loop(0, count, update, (state, zeros))


def shared_update(gan: GAN, state: GANState, images: jax.Array) -> tuple[NetState, NetState, Metrics]:
    """Updates both networks from one forward pass, both at the old weights (simultaneous descent)."""
    *earlier, last = _batches(gan, images)
    for batch in earlier:
        state, _ = _update_disc(gan, state, *batch)
    gradients = one_pullback_gradients if gan.one_pullback else shared_gradients
    (gen_grads, disc_grads), (gen_stats, disc_stats), metrics = _whole(gradients, gan, state, *last)
    gen = _apply_gradients(gan.gen_optimizer, state.gen, gen_grads, gen_stats)
    disc = _apply_gradients(gan.disc_optimizer, state.disc, disc_grads, disc_stats)
    return gen, disc, metrics


def alternating_update(gan: GAN, state: GANState, images: jax.Array) -> tuple[NetState, NetState, Metrics]:
    """Updates D, once for each of its batches, and then G on fresh latents against the new D.

    The batch statistics of each network change in its own updates only.
    """
    batches = _batches(gan, images)
    for batch in batches:
        state, metrics = _update_disc(gan, state, *batch)
    _, indices = batches[-1]
    device, devices = _position(gan)
    indices = devices * len(images) + device * len(indices) + jnp.arange(len(indices))  # after D's own
    grads, (stats, _), gen_metrics = _whole(gen_gradients, gan, state, None, indices)
    gen = _apply_gradients(gan.gen_optimizer, state.gen, grads, stats)
    return gen, state.disc, gen_metrics | metrics


def shared_gradients(gan: GAN, state: GANState, images: jax.Array, indices: jax.Array) -> Gradients:
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
      (gen_grads, disc_grads), (gen_batch_stats, disc_batch_stats), metrics. On an axis of devices, gradients and
      metrics are those of the share: their mean over the axis is the whole batch's.
    """

    def losses(gen_params, disc_params):
        fake, gen_stats = _generate(gan, state, gen_params, indices)
        loss_disc, (disc_stats, logits) = _disc_loss(gan, state, disc_params, fake, images, indices)
        loss_gen = _gen_loss(gan, gen_params, logits["fake"])
        metrics = {"loss_gen": loss_gen, "loss_disc": loss_disc} | _mean_logits(logits)
        return (loss_gen, loss_disc), ((gen_stats, disc_stats), metrics)

    both, pullback, (stats, metrics) = jax.vjp(losses, state.gen.params, state.disc.params, has_aux=True)
    one, zero = jnp.ones_like(both[0]), jnp.zeros_like(both[0])
    gen_grads, _ = pullback((one, zero))
    _, disc_grads = pullback((zero, one))
    return (gen_grads, disc_grads), stats, metrics


def one_pullback_gradients(gan: GAN, state: GANState, images: jax.Array, indices: jax.Array) -> Gradients:
    """As `shared_gradients`, with one backward pass through D(fake) for both losses, for a D that judges each alone.

    The logit of a fake image then depends on that image only, and the two pullbacks of it differ by one factor: the
    ratio of the losses' derivatives in that logit. That of D's loss, sigmoid(logit) / B for cross-entropy, is held
    above 1e-30, for the factor to stay finite where D is sure beyond reason (below -65).
    """

    def generate(params):
        return _generate(gan, state, params, indices)

    def judge(params, fake):
        fake_logits, stats = _judge(gan, state, params, state.disc.batch_stats, fake, indices, real=False)
        real_logits, stats = _judge(gan, state, params, stats, images, indices, real=True)
        return (real_logits, fake_logits), stats

    fake, pull_gen, gen_stats = jax.vjp(generate, state.gen.params, has_aux=True)
    (real_logits, fake_logits), pull_disc, disc_stats = jax.vjp(judge, state.disc.params, fake, has_aux=True)
    loss_disc, (real_bar, fake_bar) = jax.value_and_grad(gan.disc_loss, (0, 1))(real_logits, fake_logits)
    loss_gen, (own_grads, gen_bar) = jax.value_and_grad(_gen_loss, (1, 2))(gan, state.gen.params, fake_logits)
    fake_bar = jnp.maximum(fake_bar, 1e-30)
    disc_grads, images_bar = pull_disc((real_bar, fake_bar))
    factor = (gen_bar / fake_bar).reshape(-1, *(1,) * (fake.ndim - 1))
    gen_grads = jax.tree.map(jnp.add, own_grads, *pull_gen(images_bar * factor))
    metrics = {"loss_gen": loss_gen, "loss_disc": loss_disc} | _mean_logits({"real": real_logits, "fake": fake_logits})
    return (gen_grads, disc_grads), (gen_stats, disc_stats), metrics


def disc_gradients(gan: GAN, state: GANState, images: jax.Array, indices: jax.Array) -> Gradients:
    """The gradient of the discriminator's loss alone; as `shared_gradients`, with disc_grads for its first result."""
    fake, _ = _generate(gan, state, state.gen.params, indices)
    loss = functools.partial(_disc_loss, gan, state, fake=fake, images=images, indices=indices)
    (loss_disc, (stats, logits)), grads = jax.value_and_grad(loss, has_aux=True)(state.disc.params)
    return grads, (state.gen.batch_stats, stats), {"loss_disc": loss_disc} | _mean_logits(logits)


def gen_gradients(gan: GAN, state: GANState, images: None, indices: jax.Array) -> Gradients:
    """The gradient of the generator's loss alone, without `images`; as `shared_gradients`, with gen_grads first."""

    def loss(params):
        fake, stats = _generate(gan, state, params, indices)
        logits, _ = _judge(gan, state, state.disc.params, state.disc.batch_stats, fake, indices, real=False)
        return _gen_loss(gan, params, logits), stats

    (loss_gen, stats), grads = jax.value_and_grad(loss, has_aux=True)(state.gen.params)
    return grads, (stats, state.disc.batch_stats), {"loss_gen": loss_gen}


def _whole(gradients: Callable, gan: GAN, state: GANState, images: jax.Array | None, indices: jax.Array) -> Gradients:
    """`gradients` of the whole batch: the mean over its microbatches, and over the devices that share it.

    Batch statistics are those after the last microbatch.
    """
    nets = (state.gen, state.disc)
    # A copy for each device: differentiated as one, they would be summed over the devices wherever they are used.
    params = _on_each_device(gan, [net.params for net in nets])

    def of_microbatch(stats, batch):
        gen, disc = (net.replace(params=p, batch_stats=s) for net, p, s in zip(nets, params, stats, strict=True))
        grads, stats, metrics = gradients(gan, state.replace(gen=gen, disc=disc), *batch)
        return stats, (grads, metrics)

    stats, batch = tuple(net.batch_stats for net in nets), (images, indices)
    if gan.accumulate == 1:
        stats, mean = of_microbatch(stats, batch)
    else:
        micro = jax.tree.map(lambda x: x.reshape(-1, gan.accumulate, *x.shape[1:]).swapaxes(0, 1), batch)
        _, like = jax.eval_shape(of_microbatch, stats, jax.tree.map(lambda x: x[0], micro))
        zeros = _on_each_device(gan, jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), like))

        def add(carry, batch):
            stats, new = of_microbatch(carry[0], batch)
            return (stats, jax.tree.map(jnp.add, carry[1], new)), None

        (stats, total), _ = jax.lax.scan(add, (stats, zeros), micro)
        mean = jax.tree.map(lambda x: x / gan.accumulate, total)
    grads, metrics = mean
    if gan.axis_name is not None:
        with jax.named_scope("gradients"):
            grads = jax.lax.pmean(grads, gan.axis_name)
        with jax.named_scope("losses"):
            metrics = jax.lax.pmean(metrics, gan.axis_name)
    return grads, stats, metrics


def _on_each_device(gan: GAN, tree: Any) -> Any:
    """The same values, but each device's own: what is computed from them may differ between devices."""
    if gan.axis_name is None:
        return tree
    return jax.tree.map(lambda x: jax.lax.pcast(x, gan.axis_name, to="varying"), tree)


def _position(gan: GAN) -> tuple[jax.Array | int, int]:
    """Which device this is of how many."""
    return (0, 1) if gan.axis_name is None else (jax.lax.axis_index(gan.axis_name), jax.lax.axis_size(gan.axis_name))


def _batches(gan: GAN, images: jax.Array) -> list[tuple[jax.Array, jax.Array]]:
    """The images of each update of the discriminator, and which examples of the step they are.

    Taken in turn, so that the share of any device holds its share of each.
    """
    ratio, indices = gan.training_ratio, _position(gan)[0] * len(images) + jnp.arange(len(images))
    return [(images[j::ratio], indices[j::ratio]) for j in range(ratio)]


def _update_disc(gan: GAN, state: GANState, images: jax.Array, indices: jax.Array) -> tuple[GANState, Metrics]:
    """The state after one update of the discriminator, on `images` and as many generated ones."""
    grads, (_, stats), metrics = _whole(disc_gradients, gan, state, images, indices)
    return state.replace(disc=_apply_gradients(gan.disc_optimizer, state.disc, grads, stats)), metrics


def _disc_loss(
    gan: GAN, state: GANState, params: Any, fake: jax.Array, images: jax.Array, indices: jax.Array
) -> tuple[jax.Array, tuple[Any, dict[str, jax.Array]]]:
    """The discriminator's loss, with its batch statistics after both batches, and its logits on each."""
    fake_logits, stats = _judge(gan, state, params, state.disc.batch_stats, fake, indices, real=False)
    real_logits, stats = _judge(gan, state, params, stats, images, indices, real=True)
    return gan.disc_loss(real_logits, fake_logits), (stats, {"real": real_logits, "fake": fake_logits})


def _mean_logits(logits: dict[str, jax.Array]) -> Metrics:
    return {f"logit_{kind}": jnp.mean(values) for kind, values in logits.items()}


def _gen_loss(gan: GAN, params: Any, fake_logits: jax.Array) -> jax.Array:
    loss = gan.gen_loss(fake_logits)
    return loss + gan.gen_l2 * squared_norm(params) if gan.gen_l2 else loss


def _generate(gan: GAN, state: GANState, params: Any, indices: jax.Array) -> tuple[jax.Array, Any]:
    """The generator in training mode, on the latents of the step's examples `indices`."""
    z = draw_z(gan, _step_key(state, Purpose.Z), indices)
    keys = example_keys(_step_key(state, Purpose.DROPOUT_GEN), indices)
    return _apply(gan, gan.gen, params, state.gen.batch_stats, z, keys)


def _judge(
    gan: GAN, state: GANState, params: Any, batch_stats: Any, images: jax.Array, indices: jax.Array, real: bool
) -> tuple[jax.Array, Any]:
    """The discriminator in training mode, on images with the instance noise of this step."""
    if gan.instance_noise:
        keys = example_keys(_step_key(state, Purpose.NOISE_REAL if real else Purpose.NOISE_FAKE), indices)
        noise = jax.vmap(lambda key: jax.random.normal(key, images.shape[1:]))(keys)
        images = images + gan.instance_noise(state.step) * noise
    keys = example_keys(_step_key(state, Purpose.DROPOUT_REAL if real else Purpose.DROPOUT_FAKE), indices)
    return _apply(gan, gan.disc, params, batch_stats, images, keys)


def _step_key(state: GANState, purpose: Purpose) -> jax.Array:
    return jax.random.fold_in(jax.random.fold_in(state.key, purpose), state.step)


def _apply(
    gan: GAN, net: nn.Module, params: Any, batch_stats: Any, x: jax.Array, keys: jax.Array
) -> tuple[jax.Array, Any]:
    """Applies a network in training mode: its output, and its batch statistics updated; both in float32 at least."""
    if gan.precision == "bf16":
        params, x = jax.tree.map(lambda value: value.astype(jnp.bfloat16), (params, x))
    variables = {"params": params, "batch_stats": batch_stats}
    out, updated = net.apply(variables, x, train=True, keys=keys, axis_name=gan.axis_name, mutable=["batch_stats"])
    return out.astype(jnp.promote_types(out.dtype, jnp.float32)), updated.get("batch_stats", {})


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
