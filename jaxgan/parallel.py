"""The same step on several devices, of one process or of several: the batch is split, the state copied.

Each device holds a share of the batch, and the step does what is the whole batch's over the axis: moments, minibatch
features, gradients and losses. Noise is keyed by the example's index in the whole batch. So the number of
devices is not a hyperparameter: it changes the order of sums, and nothing else.
"""

import dataclasses
from collections.abc import Callable, Sequence

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxgan.gan import GAN, GANState
from jaxgan.train_step import Metrics, train_step

AXIS = "batch"

Step = Callable[[GANState, np.ndarray], tuple[GANState, Metrics]]
Form = Callable[[GAN, Sequence[jax.Device]], Step]


def pmap_step(gan: GAN, devices: Sequence[jax.Device]) -> Step:
    """`train_step` under `jax.pmap`.

    Args:
      gan: the static description.
      devices: those of all processes, the same number of each, as from `choose_devices`.

    Returns:
      (state, images) -> (state, metrics), where `images` are this process's share of the batch. The state is
      donated.
    """
    gan, count = _on_axis(gan, devices), len(own(devices))
    step = jax.pmap(
        lambda state, images: train_step(gan, state, images),
        axis_name=AXIS,
        in_axes=(None, 0),
        out_axes=(None, None),
        devices=devices,
        donate_argnums=0,
    )
    return lambda state, images: step(state, images.reshape(count, -1, *images.shape[1:]))


def shard_map_step(gan: GAN, devices: Sequence[jax.Device]) -> Step:
    """`train_step` under `jax.shard_map`, which also proves, when it is traced, that the state stays the same everywhere.

    As `pmap_step`.
    """
    gan = _on_axis(gan, devices)
    mesh = Mesh(np.array(devices), (AXIS,))
    copied, split = PartitionSpec(), PartitionSpec(gan.axis_name)
    step = jax.jit(
        jax.shard_map(
            lambda state, images: train_step(gan, state, images),
            mesh=mesh,
            in_specs=(copied, split),
            out_specs=(copied, copied),
        ),
        donate_argnums=0,
    )
    placed = NamedSharding(mesh, split)
    return lambda state, images: step(state, jax.make_array_from_process_local_data(placed, images))


def place(state: GANState, devices: Sequence[jax.Device]) -> GANState:
    """The state, the same in every process, copied to each of the devices."""
    everywhere = NamedSharding(Mesh(np.array(devices), (AXIS,)), PartitionSpec())
    data = state.replace(key=jax.random.key_data(state.key))
    data = jax.tree.map(lambda x: jax.make_array_from_process_local_data(everywhere, np.asarray(x)), data)
    return data.replace(key=jax.random.wrap_key_data(data.key, impl=str(jax.random.key_impl(state.key))))


def own_copy(state: GANState) -> GANState:
    """The copy of the state on this process's first device: for what one process does without the others."""
    return jax.tree.map(lambda x: x.addressable_data(0), state)


def own(devices: Sequence[jax.Device]) -> list[jax.Device]:
    """Those of them that are this process's."""
    return [device for device in devices if device.process_index == jax.process_index()]


def _on_axis(gan: GAN, devices: Sequence[jax.Device]) -> GAN:
    """The same for an axis of devices. One alone runs the plain step, which XLA fuses better than means over itself."""
    return dataclasses.replace(gan, axis_name=AXIS if len(devices) > 1 else None)
