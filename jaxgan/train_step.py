"""The training step: `train_step(gan, state, batch) -> (state, metrics)`, a pure function to be jitted.

    step = jax.jit(train_step, static_argnums=0, donate_argnums=1)

`train_steps` is several of them in one program, which is what runs take.

The shared step runs the generator once and the discriminator once on each batch, and takes both networks' gradients
from that single pass ("Fast DCGAN in Keras"). The alternating step is what most codebases do: a pass for the
discriminator's update, then a second one for the generator's. Both are made of `gradients`, `descend` and `advance`, as
is an update of one's own.
"""

import functools
from collections.abc import Collection
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.interpreters.ad import Zero

from jaxgan.accumulation import Grads, mean_gradients, position, split
from jaxgan.forward_pass import Aux, Metrics, losses
from jaxgan.gan import GAN, Batch, GANState, NetState, Seen, as_floats, image_shape
from jaxgan.labels import checked_labels
from jaxgan.networks.spectral import power_iteration
from jaxgan.schedules import at
from jaxgan.user_functions import joined, keys_named, place


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
      TypeError: the images are neither uint8 nor floats.
      ValueError: the images are not of the generator's shape, they cannot be split evenly between the updates, and
        those into microbatches, or labels are missing or not as `checked_labels` wants them; raised when the step is
        traced. A compiled step does not see the values of labels: those of a `Dataset` have been checked.
    """
    update = gan.update if callable(gan.update) else UPDATES[gan.update]
    batch = _checked(gan, batch)
    with keys_named(lambda: {"state.memory": state.memory, "batch.others": batch.others or {}}):
        found = update(gan, state, batch)
    if not (isinstance(found, tuple) and len(found) == 2 and isinstance(found[0], GANState)):
        raise ValueError(f"{place(update)} must give (state, metrics)")
    if found[0].step is state.step:
        raise ValueError(f"{place(update)} must end with jaxgan.advance: the step that it gives is the one it got")
    return found[0], joined(found[1], {name: schedule(state.step) for name, schedule in gan.schedules})


def train_steps(
    gan: GAN, state: GANState, dataset: Batch | jax.Array, batches: jax.Array | Batch, count: jax.Array | int
) -> tuple[GANState, Metrics]:
    """Several updates in one program, each on its own batch of a dataset that is on the device.

        steps = jax.jit(train_steps, static_argnums=0, donate_argnums=1)

    The host then has work to do once for all of them.

    Args:
      gan: the static description.
      state: the state to start from.
      dataset: all images, uint8 [N, H, W, C], and their labels [N], as in a batch.
      batches: int [capacity, B * training_ratio], which of them each update takes; or a `Batch` of such arrays, one for
        each of the dataset's, where other examples do not belong to the images.
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
    def update(state: GANState, batches: Any, dataset: Batch | jax.Array, i: int) -> tuple[GANState, Metrics]:
        rows = batches if isinstance(batches, Batch) else jax.tree.map(lambda _: batches, dataset)
        return train_step(
            gan, state, jax.tree.map(lambda x, of: jnp.take(x, of[i], axis=0, mode="clip"), dataset, rows)
        )

    _, metrics = jax.eval_shape(update, state, batches, dataset, 0)
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), metrics)
    return jax.lax.fori_loop(0, count, lambda i, carry: update(carry[0], batches, dataset, i), (state, zeros))


def gradients(
    gan: GAN,
    state: GANState,
    batch: Batch,
    players: Collection[str] = ("gen", "disc"),
    indices: jax.Array | None = None,
) -> tuple[Grads, Aux]:
    """The gradient of each player's loss in its own parameters, from one forward pass: a piece of an update.

    One `jax.vjp` of both losses in both networks' parameters, pulled back twice: the cotangent (1, 0) gives the
    generator's gradient, (0, 1) the discriminator's. The compiler drops the unused half of each pullback. What remains
    is one forward pass of G, two of D, and the three backward passes that any method needs: D's loss through D, G's
    loss through D(fake), and on through G. With R2, where each logit depends on one image, one of them is R2's own.

    Args:
      gan: the static description.
      state: gives the parameters, the batch statistics, the step, the key and the memory. The vectors of spectral
        normalisation of these players are advanced before the pass.
      batch: as an update gets it.
      players: of which to take the gradient. The batch statistics of the other stay as they are.
      indices: int [B], which example of the step each one is, and so its noise; by default the batch's own. The step's
        examples are numbered from 0: what lies beyond them is noise that no pass has seen.

    Returns:
      The gradients by player, and what the pass gave beside its losses; both are the whole batch's, over devices and
      microbatches.
    """
    if indices is None:
        indices = position(gan)[0] * len(batch.images) + jnp.arange(len(batch.images))
    players = (players,) if isinstance(players, str) else tuple(players)
    state = state.replace(**{player: _ready(getattr(state, player)) for player in players})
    return mean_gradients(functools.partial(pass_gradients, players), gan, state, batch, indices)


def pass_gradients(
    players: tuple[str, ...], gan: GAN, state: GANState, batch: Batch, indices: jax.Array
) -> tuple[Grads, Aux]:
    """The gradients of one pass over a device's share, or a microbatch of it; the last arguments are those of `losses`.

    `Zero` is known to be one while the step is traced: what only the other loss depends on needs no pass back.
    """

    def both(gen_params: Any, disc_params: Any) -> tuple[tuple[jax.Array, jax.Array], Aux]:
        return losses(gan, state, gen_params, disc_params, batch, indices, reuse_gradient=len(players) == 2)

    (loss_gen, loss_disc), pullback, aux = jax.vjp(both, state.gen.params, state.disc.params, has_aux=True)
    grads, stats = {}, {"gen": state.gen.batch_stats, "disc": state.disc.batch_stats}
    if "gen" in players:
        grads["gen"], _ = pullback((jnp.ones_like(loss_gen), Zero(jax.typeof(loss_disc))))
    if "disc" in players:
        _, grads["disc"] = pullback((Zero(jax.typeof(loss_gen)), jnp.ones_like(loss_disc)))
    return grads, aux._replace(stats=stats | {player: aux.stats[player] for player in players})


def descend(gan: GAN, state: GANState, grads: Grads, aux: Aux) -> tuple[GANState, Metrics]:
    """The state after a step of the optimisers along `grads`, for the players that these are of: a piece of an update.

    Returns:
      The state, with the batch statistics of `aux`; and the L2 norm of each gradient, as metrics.
    """
    norms = {}
    for player, grad in grads.items():
        optimizer, net = getattr(gan, f"{player}_optimizer"), getattr(state, player)
        updates, opt_state = optimizer.update(grad, net.opt_state, net.params)
        net = NetState(optax.apply_updates(net.params, updates), aux.stats[player], opt_state)
        state = state.replace(**{player: net})
        norms[f"grad_norm_{player}"] = _norm(grad)
    return state, norms


def advance(gan: GAN, state: GANState, aux: Aux, metrics: Metrics) -> tuple[GANState, Metrics]:
    """The state at the end of a step: its number, the average of G, and the memory. The last piece of an update.

    Args:
      gan: the static description.
      state: the state after `descend`.
      aux: of the pass that the memory is to see.
      metrics: the scalars of the step, which the memory sees as well.

    Returns:
      The state, and the metrics.

    Raises:
      ValueError: the memory has another shape than before.
    """
    averaged_gen = _average(gan, state.step, state.averaged_gen, state.gen.variables)
    memory = state.memory
    if gan.memory:
        seen = Seen(metrics, aux.means, aux.examples, aux.images)
        with keys_named(lambda: {"the memory": memory, **{f"seen.{name}": x for name, x in seen._asdict().items()}}):
            memory = gan.memory.update(memory, seen)
        before, after = _kinds(state.memory), _kinds(memory)
        for name in (name for name in before | after if before.get(name) != after.get(name)):
            was, now = before.get(name, "not there"), after.get(name, "not there")
            raise ValueError(f"{place(gan.memory.update)}: the memory{name} was {was}, and is now {now}; keep its kind")
    return state.replace(step=state.step + 1, averaged_gen=averaged_gen, memory=memory), metrics


def _kinds(memory: Any) -> dict[str, str]:
    """The type and the shape of each array of a memory, by where it is."""
    leaves = jax.tree_util.tree_leaves_with_path(memory)
    return {jax.tree_util.keystr(path): f"{jnp.result_type(x)}{list(jnp.shape(x))}" for path, x in leaves}


def shared(gan: GAN, state: GANState, batch: Batch) -> tuple[GANState, Metrics]:
    """Updates both networks from one forward pass, both at the old weights (simultaneous descent)."""
    batches = _batches(gan, batch)
    if gan.training_ratio > 1:
        state, _, _ = _update_disc(gan, state, *jax.tree.map(lambda x: x[:-1], batches))
    last, indices = jax.tree.map(lambda x: x[-1], batches)
    grads, aux = gradients(gan, state, last, indices=indices)
    state, norms = descend(gan, state, grads, aux)
    return advance(gan, state, aux, joined(*aux.metrics.values(), norms))


def alternating(gan: GAN, state: GANState, batch: Batch) -> tuple[GANState, Metrics]:
    """Updates D, once for each of its batches, and then G on fresh noise against the new D.

    The batch statistics of each network change in its own updates only. A memory sees D's last pass.
    """
    batches = _batches(gan, batch)
    state, of_disc, norm_disc = _update_disc(gan, state, *batches)
    last, indices = jax.tree.map(lambda x: x[-1], batches)
    device, devices = position(gan)
    share, all_images = len(indices), len(batch.images)
    fresh = devices * all_images + device * share + jnp.arange(share)  # examples that D has not seen
    grads, aux = gradients(gan, state, last, ("gen",), fresh)
    state, norm_gen = descend(gan, state, grads, aux)
    return advance(gan, state, of_disc, joined(of_disc.metrics["disc"], aux.metrics["gen"], norm_disc, norm_gen))


UPDATES = {"shared": shared, "alternating": alternating}


def _checked(gan: GAN, batch: Batch | jax.Array) -> Batch:
    """The batch with its images in `gan.image_range`; refuses one that does not fit the GAN."""
    images, labels, others = batch if isinstance(batch, Batch) else Batch(batch)
    shapes = {"images": image_shape(gan), **dict(gan.others)}
    given = {"images": images, **{name: x for name, x in (others or {}).items() if name in shapes}}
    for name, shape in shapes.items():
        if name not in given:
            raise ValueError(f"the batch has no {name!r}, which the GAN needs; give Batch(images, labels, others)")
        if len(given[name]) != len(images):
            raise ValueError(f"the batch has {len(images)} images, and {len(given[name])} of {name!r}")
        if given[name].shape[1:] != shape:
            wants = "the generator makes" if name == "images" else "the GAN takes"
            raise ValueError(
                f"the batch has {name} of shape {list(given[name].shape[1:])}, {wants} {list(shape)}; "
                "load the data with that shape, or change the networks"
            )
    if len(images) % (gan.training_ratio * gan.accumulate * gan.group):
        groups = f" of groups of {gan.group}" if gan.group > 1 else ""
        raise ValueError(
            f"a step takes a batch for each update of the discriminator: {len(images)} images cannot be split between "
            f"training_ratio={gan.training_ratio} updates of accumulate={gan.accumulate} microbatches{groups}"
        )
    if not gan.classes:
        labels = None
    elif labels is None:
        raise ValueError(f"the GAN has {gan.classes} classes, and the batch no labels; give Batch(images, labels)")
    else:
        labels = checked_labels(labels, len(images), gan.classes)
    floats = {name: as_floats(gan, x) for name, x in given.items()}
    return Batch(floats.pop("images"), labels, floats or None)


def _batches(gan: GAN, batch: Batch) -> tuple[Batch, jax.Array]:
    """The batch of each update of the discriminator, and which examples of the step it holds: [training_ratio, …].

    Taken in turn, so that the share of any device holds its share of each.
    """
    count = len(batch.images)
    indices = position(gan)[0] * count + jnp.arange(count)
    return split(gan, (batch, indices), gan.training_ratio)


def _update_disc(gan: GAN, state: GANState, batches: Batch, indices: jax.Array) -> tuple[GANState, Aux, Metrics]:
    """The state after an update of the discriminator on each of `batches` and as many generated images.

    Several are a loop, so that a program does not grow with their number. The rest is of the last: what its pass gave,
    and the norm of its gradient.
    """

    def update(disc: NetState, each: tuple[Batch, jax.Array]) -> tuple[NetState, tuple[Aux, Metrics]]:
        before = state.replace(disc=disc)
        grads, aux = gradients(gan, before, each[0], ("disc",), each[1])
        after, norm = descend(gan, before, grads, aux)
        return after.disc, (aux._replace(stats={}), norm)

    if len(indices) == 1:
        disc, seen = update(state.disc, jax.tree.map(lambda x: x[0], (batches, indices)))
    else:
        disc, seen = jax.lax.scan(update, state.disc, (batches, indices))
        seen = jax.tree.map(lambda x: x[-1], seen)
    return state.replace(disc=disc), seen[0], seen[1]


def _ready(net: NetState) -> NetState:
    """A network before a pass for its own update: the vectors of spectral normalisation are advanced."""
    return net.replace(batch_stats=power_iteration(net.params, net.batch_stats))


def _norm(tree: Any) -> jax.Array:
    """The L2 norm of all values of a tree; 0 of none."""
    if not jax.tree.leaves(tree):
        return jnp.zeros(())
    # Rows are added up first, which a CPU does many values at a time; as one sum it would go value by value. What is
    # left is small, and added up at once: a sum for each array would be as many launches on an accelerator.
    rows = [jnp.sum(jnp.square(x), axis=tuple(range(x.ndim - 1))).reshape(-1) for x in jax.tree.leaves(tree)]
    return jnp.sqrt(jnp.sum(jax.lax.optimization_barrier(jnp.concatenate(rows))))


def _average(gan: GAN, step: jax.Array, average: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """The exponential moving average of the generator, over its batch statistics as well."""
    if gan.ema_decay == 0:
        return new
    keep = at(gan.ema_decay, step)
    if gan.ema_ramp:
        keep = jnp.minimum(keep, (1 + step) / (10 + step))
    return jax.tree.map(lambda a, n: (a + (1 - keep) * (n - a)).astype(a.dtype), average, new)
