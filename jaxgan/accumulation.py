"""Gradients of a whole batch, of which each device, and each microbatch, sees a part."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxgan.adversarial import adversarial
from jaxgan.convolutions.linear import transposes
from jaxgan.forward_pass import Aux, and_extra, transformed
from jaxgan.gan import GAN, Batch, GANState, image_shape, some_labels
from jaxgan.networks.layers import Context
from jaxgan.per_example import Mixing, mixing

Grads = dict[str, Any]  # of "gen", of "disc", or of both


Gradients = Callable[[GAN, GANState, Batch, jax.Array], tuple[Grads, Aux]]


def mean_gradients(
    gradients: Gradients, gan: GAN, state: GANState, batch: Batch, indices: jax.Array
) -> tuple[Grads, Aux]:
    """The mean of `gradients`, and of its metrics, over the microbatches and over the devices that share the batch.

    Batch statistics are those after the last microbatch. Arrays of examples are the whole batch's.
    """
    check_transforms(gan, batch.images, state.memory)
    # Each device's own copy: differentiated as one, parameters would be summed over the devices wherever they are used.
    state = state.replace(
        gen=state.gen.replace(params=_on_each_device(gan, state.gen.params)),
        disc=state.disc.replace(params=_on_each_device(gan, state.disc.params)),
    )
    grads, aux = _over_microbatches(gradients, gan, state, batch, indices)
    if gan.axis_name is None:
        return grads, aux
    with jax.named_scope("gradients"):
        grads = jax.lax.pmean(grads, gan.axis_name)
    with jax.named_scope("losses"):
        metrics, means = jax.lax.pmean((aux.metrics, aux.means), gan.axis_name)
    examples, images = _of_all_devices(gan, aux.examples), aux.images * jax.lax.axis_size(gan.axis_name)
    return grads, aux._replace(metrics=metrics, means=means, examples=examples, images=images)


def position(gan: GAN) -> tuple[jax.Array | int, int]:
    """Which device this is of how many."""
    return (0, 1) if gan.axis_name is None else (jax.lax.axis_index(gan.axis_name), jax.lax.axis_size(gan.axis_name))


def split(gan: GAN, tree: Any, parts: int) -> Any:
    """Arrays [B, ...] in parts [parts, B / parts, ...]: groups of consecutive examples go to the parts in turn."""

    def of_array(x: jax.Array) -> jax.Array:
        if gan.group == 1:
            return x.reshape(-1, parts, *x.shape[1:]).swapaxes(0, 1)
        groups = x.reshape(-1, parts, gan.group, *x.shape[1:]).swapaxes(0, 1)
        return groups.reshape(parts, -1, *x.shape[1:])

    return jax.tree.map(of_array, tree)


def _joined(gan: GAN, tree: Any, parts: int) -> Any:
    """The inverse of `split`."""

    def of_array(x: jax.Array) -> jax.Array:
        return x.reshape(parts, -1, gan.group, *x.shape[2:]).swapaxes(0, 1).reshape(-1, *x.shape[2:])

    return jax.tree.map(of_array, tree)


def _over_microbatches(
    gradients: Gradients, gan: GAN, state: GANState, batch: Batch, indices: jax.Array
) -> tuple[Grads, Aux]:
    """The mean over the microbatches, taken one after the other: microbatch k is the examples k::accumulate."""
    if gan.accumulate == 1:
        return gradients(gan, state, batch, indices)

    def of_microbatch(stats: dict[str, Any], micro: tuple[Batch, jax.Array]) -> tuple[Any, Any, Any]:
        gen, disc = state.gen.replace(batch_stats=stats["gen"]), state.disc.replace(batch_stats=stats["disc"])
        grads, aux = gradients(gan, state.replace(gen=gen, disc=disc), *micro)
        return aux.stats, (grads, aux.metrics, aux.means), aux.examples

    def add(carry: tuple[Any, Any], micro: tuple[Batch, jax.Array]) -> tuple[tuple[Any, Any], Any]:
        stats, new, examples = of_microbatch(carry[0], micro)
        return (stats, jax.tree.map(jnp.add, carry[1], new)), examples

    micro = split(gan, (batch, indices), gan.accumulate)
    stats = {"gen": state.gen.batch_stats, "disc": state.disc.batch_stats}
    _, like, _ = jax.eval_shape(of_microbatch, stats, jax.tree.map(lambda x: x[0], micro))
    zeros = _on_each_device(gan, jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), like))
    (stats, total), examples = jax.lax.scan(add, (stats, zeros), micro)
    grads, metrics, means = jax.tree.map(lambda x: x / gan.accumulate, total)
    return grads, Aux(stats, metrics, means, _joined(gan, examples, gan.accumulate), len(batch.images))


# Where `gradients` are differentiated themselves, the gradient in a device's own copy is the mean over the devices.
# `jax.shard_map` knows that of `pcast`; under `jax.pmap` the transpose has to be given.
_own, _ = transposes("own", lambda x, y, d, axis_name: d, lambda x, y, d, axis_name: jax.lax.pmean(d, axis_name))


def _on_each_device(gan: GAN, tree: Any) -> Any:
    """The same values, but each device's own: what is computed from them may differ between devices."""
    if gan.axis_name is None:
        return tree

    def own(x: jax.Array) -> jax.Array:
        varying = jax.lax.pcast(x, gan.axis_name, to="varying")
        return varying if jax.typeof(varying).manual_axis_type.varying else _own(0.0, 0.0, x, gan.axis_name)

    return jax.tree.map(own, tree)


def _of_all_devices(gan: GAN, tree: Any) -> Any:
    """Arrays of the examples of all devices, in their order: [b, ...] -> [devices * b, ...], the same on each."""
    device, devices = position(gan)

    def of_array(x: jax.Array) -> jax.Array:
        own = jnp.zeros((devices, *x.shape), x.dtype).at[device].set(x)
        return jax.lax.psum(own, gan.axis_name).reshape(-1, *x.shape[1:])

    return jax.tree.map(of_array, tree)


def check_transforms(gan: GAN, images: Any, memory: Any = None) -> None:
    """Refuses transforms that mix the images of a batch, where each part of it would be mixed by itself.

    Args:
      gan: the static description.
      images: [B, H, W, C], or their shape and type.
      memory: what the GAN's `Memory` keeps, likewise.

    Raises:
      ValueError: one does, and the batch is divided between devices or microbatches.
    """
    if gan.axis_name is None and gan.accumulate == 1:
        return
    keys, step = jax.eval_shape(lambda: (jax.random.split(jax.random.key(0), images.shape[0]), jnp.int32(0)))
    for transform in (*gan.augmentations, *gan.transforms):
        of_memory = lambda images, keys, step, memory, t=transform: transformed(t, images, keys, step, lambda: memory)  # noqa: E731
        mixed = mixing(of_memory, images, keys, step, memory)
        if mixed and mixed.certain:
            raise ValueError(
                f"a transform mixes the images of a batch ({mixed.where}), which several devices or microbatches "
                "divide: each would mix its own alone; use one device and accumulate=1"
            )


def disc_mixing(gan: GAN, train: bool = False) -> Mixing | None:
    """Why D may judge an image by the others of its batch: minibatch features, say; None where it does not.

    With `train` batch normalisation counts as well, which uses the batch's own moments then. What is stated is
    believed: None for a D that looks at groups (`GAN.group`), and for a game of one's own, which says what its D gets.
    """
    if gan.group > 1 or gan.game is not adversarial:
        return None
    images = jax.ShapeDtypeStruct((2, *image_shape(gan)), jnp.float32)
    keys, labels = jax.eval_shape(lambda: (jax.random.split(jax.random.key(0), 2), some_labels(gan, 2)))
    variables = jax.eval_shape(gan.disc.init, jax.random.key(0), images, labels, Context())

    def logits(images: jax.Array, variables: Any, labels: jax.Array | None, keys: jax.Array) -> jax.Array:
        judged, _ = gan.disc.apply(variables, images, labels, Context(train, keys), mutable=["batch_stats"])
        return and_extra(judged)[0]

    return mixing(logits, images, variables, labels, keys)
