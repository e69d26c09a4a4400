"""The training step: `train_step(gan, state, batch) -> (state, metrics)`, a pure function to be jitted.

    step = jax.jit(train_step, static_argnums=0, donate_argnums=1)

`train_steps` is several of them in one program, which is what runs take.

`losses` states the forward pass and both losses; all else differentiates it. The shared step runs the generator once
and the discriminator once on each batch, and takes both networks' gradients from that single pass ("Fast DCGAN in
Keras"). The alternating step is what most codebases do: a pass for the discriminator's update, then a second one for
the generator's.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxgan.accumulation import Aux, Grads, Metrics, mean_gradients, position
from jaxgan.forward_pass import losses
from jaxgan.gan import GAN, Batch, GANState, NetState, image_shape
from jaxgan.images import from_uint8
from jaxgan.labels import checked_labels
from jaxgan.networks.spectral import power_iteration


def train_step(gan: GAN, state: GANState, batch: Batch | jax.Array) -> tuple[GANState, Metrics]:
    """One update of the generator, and `gan.training_ratio` of the discriminator.

    On an axis of devices (`gan.axis_name`) each holds its share of the batch and a copy of the state; what comes
    out is the whole batch's, the same on all of them.

    Args:
      gan: the static description; `gan.update` says which step this is.
      state: the state to start from.
      batch: real images, uint8 [B * training_ratio, H, W, C], with their labels where the GAN has classes; images
        alone where it has none. The discriminator's update j takes examples j::training_ratio.

    Returns:
      The next state, and scalars: `loss_gen` and `loss_disc`, each at the weights that its gradient was taken at;
      `logit_real` and `logit_fake`, the discriminator's mean logits when it was updated (the last time);
      `grad_norm_gen` and `grad_norm_disc`, the L2 norms of the gradients; and those of `gan.schedules`.

    Raises:
      TypeError: the images are not uint8.
      ValueError: the images are not of the generator's shape, they cannot be split evenly between the updates, and
        those into microbatches, or labels are missing or not as `checked_labels` wants them; raised when the step is
        traced. A compiled step does not see the values of labels: those of a `Dataset` have been checked.
    """
    batch = _checked(gan, batch)
    update = {"shared": shared_update, "alternating": alternating_update}[gan.update]
    gen, disc, metrics = update(gan, state, batch)
    metrics |= {name: schedule(state.step) for name, schedule in gan.schedules}
    averaged_gen = _average(gan.ema_decay, state.step, state.averaged_gen, gen.variables)
    state = state.replace(step=state.step + 1, gen=gen, disc=disc, averaged_gen=averaged_gen)
    return state, metrics


def train_steps(
    gan: GAN, state: GANState, dataset: Batch | jax.Array, batches: jax.Array, count: jax.Array | int
) -> tuple[GANState, Metrics]:
    """Several updates in one program, each on its own batch of a dataset that is on the device.

        steps = jax.jit(train_steps, static_argnums=0, donate_argnums=1)

    The host then has work to do once for all of them.

    Args:
      gan: the static description.
      state: the state to start from.
      dataset: all images, uint8 [N, H, W, C], and their labels [N], as in a batch.
      batches: int [capacity, B * training_ratio], which of them each update takes.
      count: how many updates, from 1 to capacity. It is not static: any number of them is the same program, so that
        how a run is divided leaves no trace in its bits.

    Returns:
      The state after them, and the metrics of the last.

    Raises:
      TypeError, ValueError: as `train_step`.
    """
    if gan.classes and isinstance(dataset, Batch) and dataset.labels is not None:
        checked_labels(dataset.labels, len(dataset.images), gan.classes)  # in the program below none has a value

    # Traced once, though it is called twice; inlined, so that the program is what it would be without `jit`.
    @functools.partial(jax.jit, inline=True)
    def update(state: GANState, batches: jax.Array, dataset: Batch | jax.Array, i: int) -> tuple[GANState, Metrics]:
        batch = jax.tree.map(lambda x: jnp.take(x, batches[i], axis=0, mode="clip"), dataset)
        return train_step(gan, state, batch)

    _, metrics = jax.eval_shape(update, state, batches, dataset, 0)
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), metrics)
    return jax.lax.fori_loop(0, count, lambda i, carry: update(carry[0], batches, dataset, i), (state, zeros))


def shared_gradients(gan: GAN, state: GANState, batch: Batch, indices: jax.Array) -> tuple[Grads, Aux]:
    """The gradient of each loss for its own network, from one shared forward pass.

    One `jax.vjp` of both losses in both networks' parameters, pulled back twice: the cotangent (1, 0) gives the
    generator's gradient, (0, 1) the discriminator's. The compiler drops the unused half of each pullback. What remains
    is one forward pass of G, two of D, and the three backward passes that any method needs: D's loss through D, G's
    loss through D(fake), and on through G. With R2, where each logit depends on one image, one of them is R2's own.

    The arguments are those of `losses`. On an axis of devices, gradients and metrics are those of the device's share:
    their mean over the axis is the whole batch's.
    """

    def both(gen_params: Any, disc_params: Any) -> tuple[tuple[jax.Array, jax.Array], Aux]:
        return losses(gan, state, gen_params, disc_params, batch, indices, reuse_gradient=True)

    (loss_gen, loss_disc), pullback, aux = jax.vjp(both, state.gen.params, state.disc.params, has_aux=True)
    gen_grads, _ = pullback((jnp.ones_like(loss_gen), jnp.zeros_like(loss_disc)))
    _, disc_grads = pullback((jnp.zeros_like(loss_gen), jnp.ones_like(loss_disc)))
    return {"gen": gen_grads, "disc": disc_grads}, aux


def gen_gradients(gan: GAN, state: GANState, batch: Batch, indices: jax.Array) -> tuple[Grads, Aux]:
    """The gradient of the generator's loss alone, as `shared_gradients`."""

    def loss(gen_params: Any) -> tuple[jax.Array, Aux]:
        (loss_gen, _), aux = losses(gan, state, gen_params, state.disc.params, batch, indices)
        return loss_gen, aux

    grads, aux = jax.grad(loss, has_aux=True)(state.gen.params)
    return {"gen": grads}, aux._replace(disc_stats=state.disc.batch_stats)


def disc_gradients(gan: GAN, state: GANState, batch: Batch, indices: jax.Array) -> tuple[Grads, Aux]:
    """The gradient of the discriminator's loss alone, as `shared_gradients`."""

    def loss(disc_params: Any) -> tuple[jax.Array, Aux]:
        (_, loss_disc), aux = losses(gan, state, state.gen.params, disc_params, batch, indices)
        return loss_disc, aux

    grads, aux = jax.grad(loss, has_aux=True)(state.disc.params)
    return {"disc": grads}, aux._replace(gen_stats=state.gen.batch_stats)


def shared_update(gan: GAN, state: GANState, batch: Batch) -> tuple[NetState, NetState, Metrics]:
    """Updates both networks from one forward pass, both at the old weights (simultaneous descent)."""
    batches = _batches(gan, batch)
    if gan.training_ratio > 1:
        state, _ = _update_disc(gan, state, *jax.tree.map(lambda x: x[:-1], batches))
    last, indices = jax.tree.map(lambda x: x[-1], batches)
    state = state.replace(gen=_ready(state.gen), disc=_ready(state.disc))
    grads, aux = mean_gradients(shared_gradients, gan, state, last, indices)
    gen, gen_norm = _descend("gen", gan.gen_optimizer, state.gen, grads, aux.gen_stats)
    disc, disc_norm = _descend("disc", gan.disc_optimizer, state.disc, grads, aux.disc_stats)
    return gen, disc, aux.metrics | gen_norm | disc_norm


def alternating_update(gan: GAN, state: GANState, batch: Batch) -> tuple[NetState, NetState, Metrics]:
    """Updates D, once for each of its batches, and then G on fresh noise against the new D.

    The batch statistics of each network change in its own updates only.
    """
    batches = _batches(gan, batch)
    state, metrics = _update_disc(gan, state, *batches)
    last, indices = jax.tree.map(lambda x: x[-1], batches)
    device, devices = position(gan)
    share, all_images = len(indices), len(batch.images)
    fresh = devices * all_images + device * share + jnp.arange(share)  # examples that D has not seen
    state = state.replace(gen=_ready(state.gen))
    grads, aux = mean_gradients(gen_gradients, gan, state, last, fresh)
    gen, gen_norm = _descend("gen", gan.gen_optimizer, state.gen, grads, aux.gen_stats)
    return gen, state.disc, metrics | {"loss_gen": aux.metrics["loss_gen"]} | gen_norm


def _checked(gan: GAN, batch: Batch | jax.Array) -> Batch:
    """The batch with its images in `gan.image_range`; refuses one that does not fit the GAN."""
    images, labels = batch if isinstance(batch, Batch) else Batch(batch)
    if images.shape[1:] != image_shape(gan):
        raise ValueError(
            f"the batch has images of shape {list(images.shape[1:])}, the generator makes {list(image_shape(gan))}; "
            "load the data with that image_shape, or change the networks"
        )
    if len(images) % (gan.training_ratio * gan.accumulate):
        raise ValueError(
            f"a step takes a batch for each update of the discriminator: {len(images)} images cannot be split between "
            f"training_ratio={gan.training_ratio} updates of accumulate={gan.accumulate} microbatches"
        )
    if not gan.classes:
        labels = None
    elif labels is None:
        raise ValueError(f"the GAN has {gan.classes} classes, and the batch no labels; give Batch(images, labels)")
    else:
        labels = checked_labels(labels, len(images), gan.classes)
    return Batch(from_uint8(images, gan.image_range), labels)


def _batches(gan: GAN, batch: Batch) -> tuple[Batch, jax.Array]:
    """The batch of each update of the discriminator, and which examples of the step it holds: [training_ratio, …].

    Taken in turn, so that the share of any device holds its share of each.
    """
    count, ratio = len(batch.images), gan.training_ratio
    indices = position(gan)[0] * count + jnp.arange(count)
    return jax.tree.map(lambda x: x.reshape(-1, ratio, *x.shape[1:]).swapaxes(0, 1), (batch, indices))


def _update_disc(gan: GAN, state: GANState, batches: Batch, indices: jax.Array) -> tuple[GANState, Metrics]:
    """The state after an update of the discriminator on each of `batches` and as many generated images.

    Several are a loop, so that a program does not grow with their number. The metrics are those of the last.
    """

    def update(disc: NetState, each: tuple[Batch, jax.Array]) -> tuple[NetState, Metrics]:
        disc = _ready(disc)
        grads, aux = mean_gradients(disc_gradients, gan, state.replace(disc=disc), *each)
        disc, norm = _descend("disc", gan.disc_optimizer, disc, grads, aux.disc_stats)
        return disc, aux.metrics | norm

    if len(indices) == 1:
        disc, metrics = update(state.disc, jax.tree.map(lambda x: x[0], (batches, indices)))
    else:
        disc, metrics = jax.lax.scan(update, state.disc, (batches, indices))
        metrics = jax.tree.map(lambda x: x[-1], metrics)
    return state.replace(disc=disc), metrics


def _ready(net: NetState) -> NetState:
    """A network before a pass for its own update: the vectors of spectral normalisation are advanced."""
    return net.replace(batch_stats=power_iteration(net.params, net.batch_stats))


def _descend(
    name: str, optimizer: optax.GradientTransformation, net: NetState, grads: Grads, stats: Any
) -> tuple[NetState, Metrics]:
    """The network after its update, and the norm of its gradient as a metric."""
    updates, opt_state = optimizer.update(grads[name], net.opt_state, net.params)
    return NetState(optax.apply_updates(net.params, updates), stats, opt_state), {
        f"grad_norm_{name}": _norm(grads[name])
    }


def _norm(tree: Any) -> jax.Array:
    """The L2 norm of all values of a tree."""
    # Rows are added up first, which a CPU does many values at a time; as one sum it would go value by value. What is
    # left is small, and added up at once: a sum for each array would be as many launches on an accelerator.
    rows = [jnp.sum(jnp.square(x), axis=tuple(range(x.ndim - 1))).reshape(-1) for x in jax.tree.leaves(tree)]
    return jnp.sqrt(jnp.sum(jax.lax.optimization_barrier(jnp.concatenate(rows))))


def _average(decay: float, step: jax.Array, average: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """The exponential moving average of the generator, over its batch statistics as well.

    Early on the decay is at most (1 + step) / (10 + step), so that the untrained weights are soon
    forgotten, as in TensorFlow's ExponentialMovingAverage.
    """
    if decay == 0:
        return new
    keep = jnp.minimum(decay, (1 + step) / (10 + step))
    return jax.tree.map(lambda a, n: (a + (1 - keep) * (n - a)).astype(a.dtype), average, new)
