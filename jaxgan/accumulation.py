"""Gradients of a whole batch, of which each device, and each microbatch, sees a part."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxgan.gan import GAN, Batch, GANState

Metrics = dict[str, jax.Array]
Grads = dict[str, Any]  # of "gen", of "disc", or of both


class Aux(NamedTuple):
    """What a pass gives beside its losses: both networks' batch statistics after it, and scalar metrics."""

    gen_stats: Any
    disc_stats: Any
    metrics: Metrics


Gradients = Callable[[GAN, GANState, Batch, jax.Array], tuple[Grads, Aux]]


def mean_gradients(
    gradients: Gradients, gan: GAN, state: GANState, batch: Batch, indices: jax.Array
) -> tuple[Grads, Aux]:
    """The mean of `gradients`, and of its metrics, over the microbatches and over the devices that share the batch.

    Batch statistics are those after the last microbatch.
    """
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
        return grads, aux._replace(metrics=jax.lax.pmean(aux.metrics, gan.axis_name))


def position(gan: GAN) -> tuple[jax.Array | int, int]:
    """Which device this is of how many."""
    return (0, 1) if gan.axis_name is None else (jax.lax.axis_index(gan.axis_name), jax.lax.axis_size(gan.axis_name))


def _over_microbatches(
    gradients: Gradients, gan: GAN, state: GANState, batch: Batch, indices: jax.Array
) -> tuple[Grads, Aux]:
    """The mean over the microbatches, taken one after the other: microbatch k is the examples k::accumulate."""
    if gan.accumulate == 1:
        return gradients(gan, state, batch, indices)

    def of_microbatch(stats: tuple[Any, Any], micro: tuple[Batch, jax.Array]) -> tuple[tuple[Any, Any], Any]:
        gen, disc = state.gen.replace(batch_stats=stats[0]), state.disc.replace(batch_stats=stats[1])
        grads, aux = gradients(gan, state.replace(gen=gen, disc=disc), *micro)
        return (aux.gen_stats, aux.disc_stats), (grads, aux.metrics)

    def add(carry: tuple[Any, Any], micro: tuple[Batch, jax.Array]) -> tuple[tuple[Any, Any], None]:
        stats, new = of_microbatch(carry[0], micro)
        return (stats, jax.tree.map(jnp.add, carry[1], new)), None

    k = gan.accumulate
    micro = jax.tree.map(lambda x: x.reshape(-1, k, *x.shape[1:]).swapaxes(0, 1), (batch, indices))
    stats = (state.gen.batch_stats, state.disc.batch_stats)
    _, like = jax.eval_shape(of_microbatch, stats, jax.tree.map(lambda x: x[0], micro))
    zeros = _on_each_device(gan, jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), like))
    (stats, total), _ = jax.lax.scan(add, (stats, zeros), micro)
    grads, metrics = jax.tree.map(lambda x: x / k, total)
    return grads, Aux(stats[0], stats[1], metrics)


def _on_each_device(gan: GAN, tree: Any) -> Any:
    """The same values, but each device's own: what is computed from them may differ between devices."""
    if gan.axis_name is None:
        return tree
    return jax.tree.map(lambda x: jax.lax.pcast(x, gan.axis_name, to="varying"), tree)
