"""The same step on several devices, of one process or of several: the batch is split, the state copied.

Each device holds a share of the batch, and what is the whole batch's goes over the axis: moments, minibatch
features, gradients and losses. Noise is keyed by the example's index in the whole batch. So the number of
devices is not a hyperparameter: it changes the order of sums, and nothing else.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxgan.gan import GAN, GANState
from jaxgan.train_step import Metrics, train_step, train_steps

AXIS = "batch"

Step = Callable[[GANState, np.ndarray], tuple[GANState, Metrics]]
Steps = Callable[[GANState, jax.Array, np.ndarray, int], tuple[GANState, Metrics]]


def choose_devices(count: int | None = None) -> list[jax.Device]:
    """The first `count` devices of each process, or all there are; process by process.

    Raises:
      ValueError: there are fewer.
    """
    processes = [jax.local_devices(process) for process in range(jax.process_count())]
    available = len(processes[0])  # in each of them
    count = available if count is None else count
    if not 1 <= count <= available:
        raise ValueError(f"{count} devices asked for, {available} available ({processes[0][0].platform})")
    return [device for local in processes for device in local[:count]]


def meet(devices: Sequence[jax.Device]) -> None:
    """Connects the devices of several processes while none of them keeps the others waiting.

    Some backends give up after half a minute, and loading data or compiling may take one process longer.
    """
    if jax.process_count() == 1:
        return
    add = jax.shard_map(
        lambda: jax.lax.psum(1.0, AXIS), mesh=_mesh(devices), in_specs=(), out_specs=PartitionSpec(), check_vma=False
    )
    jax.block_until_ready(jax.jit(add)())


def place(state: GANState, devices: Sequence[jax.Device]) -> GANState:
    """The state, the same in every process, copied to each of the devices."""
    data = state.replace(key=jax.random.key_data(state.key))
    data = jax.tree.map(functools.partial(copies, devices=devices), data)
    return data.replace(key=jax.random.wrap_key_data(data.key, impl=str(jax.random.key_impl(state.key))))


def copies(x: jax.Array | np.ndarray, devices: Sequence[jax.Device]) -> jax.Array:
    """An array, the same in every process, copied to each of the devices."""
    return jax.make_array_from_process_local_data(NamedSharding(_mesh(devices), PartitionSpec()), np.asarray(x))


def own_copy(state: GANState) -> GANState:
    """The copy of the state on this process's first device: for what a process does without the others."""
    return jax.tree.map(lambda x: x.addressable_data(0), state)


def pmap_step(gan: GAN, devices: Sequence[jax.Device]) -> Step:
    """`train_step` under `jax.pmap`.

    Args:
      gan: the static description.
      devices: as from `choose_devices`: those of all processes, the same number of each.

    Returns:
      (state, images) -> (state, metrics). The state is as from `place`, and donated; the images are this
      process's contiguous share of the batch, uint8 [B * training_ratio / processes, H, W, C].
    """
    step = pmapped(gan, devices)
    count = len(devices) // jax.process_count()
    return lambda state, images: step(state, images.reshape(count, -1, *images.shape[1:]))


def shard_map_step(gan: GAN, devices: Sequence[jax.Device]) -> Step:
    """`train_step` under `jax.shard_map`; as `pmap_step`."""
    step = shard_mapped(gan, devices)
    split = NamedSharding(_mesh(devices), PartitionSpec(AXIS))
    return lambda state, images: step(state, jax.make_array_from_process_local_data(split, images))


FORMS = {"pmap": pmap_step, "shard_map": shard_map_step}


def pmap_steps(gan: GAN, devices: Sequence[jax.Device]) -> Steps:
    """`train_steps` under `jax.pmap`.

    Args:
      gan: the static description.
      devices: as from `choose_devices`.

    Returns:
      (state, images, batches, count) -> (state, metrics). The state is as from `place`, and donated; the images are
      the whole dataset as from `copies`; the batches are this process's contiguous share of each, int32
      [capacity, B * training_ratio / processes].
    """
    steps = _pmap(train_steps, gan, devices, (None, None, 0, None))
    local = len(devices) // jax.process_count()

    def call(state: GANState, images: jax.Array, batches: np.ndarray, count: int) -> tuple[GANState, Metrics]:
        return steps(state, images, batches.reshape(len(batches), local, -1).swapaxes(0, 1), np.int32(count))

    return call


def shard_map_steps(gan: GAN, devices: Sequence[jax.Device]) -> Steps:
    """`train_steps` under `jax.shard_map`; as `pmap_steps`."""
    split = PartitionSpec(None, _axis(devices))
    steps = _shard_map(train_steps, gan, devices, (PartitionSpec(), PartitionSpec(), split, PartitionSpec()))
    split = NamedSharding(_mesh(devices), split)

    def call(state: GANState, images: jax.Array, batches: np.ndarray, count: int) -> tuple[GANState, Metrics]:
        return steps(state, images, jax.make_array_from_process_local_data(split, batches), np.int32(count))

    return call


STEPS = {"pmap": pmap_steps, "shard_map": shard_map_steps}


def pmapped(gan: GAN, devices: Sequence[jax.Device]) -> Callable:
    """(state, images [devices of this process, share, H, W, C]) -> (state, metrics), the state donated."""
    return _pmap(train_step, gan, devices, (None, 0))


def shard_mapped(gan: GAN, devices: Sequence[jax.Device]) -> Callable:
    """(state, images [B, H, W, C] split between the devices) -> (state, metrics), the state donated.

    JAX checks here, when the step is traced, that the state cannot come to differ between devices.
    """
    return _shard_map(train_step, gan, devices, (PartitionSpec(), PartitionSpec(_axis(devices))))


def _pmap(function: Callable, gan: GAN, devices: Sequence[jax.Device], in_axes: tuple) -> Callable:
    return jax.pmap(
        functools.partial(function, _on_axis(gan, devices)),
        axis_name=AXIS,
        in_axes=in_axes,
        out_axes=(None, None),  # metrics, too, are the same on all devices
        devices=devices,
        donate_argnums=0,
    )


def _shard_map(function: Callable, gan: GAN, devices: Sequence[jax.Device], in_specs: tuple) -> Callable:
    function = functools.partial(function, _on_axis(gan, devices))
    outputs = (PartitionSpec(), PartitionSpec())
    function = jax.shard_map(function, mesh=_mesh(devices), in_specs=in_specs, out_specs=outputs)
    return jax.jit(function, donate_argnums=0)


def _mesh(devices: Sequence[jax.Device]) -> Mesh:
    return Mesh(np.array(devices), (AXIS,))


def _on_axis(gan: GAN, devices: Sequence[jax.Device]) -> GAN:
    """The same for an axis of devices."""
    return dataclasses.replace(gan, axis_name=_axis(devices))


def _axis(devices: Sequence[jax.Device]) -> str | None:
    """What a batch is split over. One device alone runs the plain step: XLA fuses it better than means over itself."""
    return AXIS if len(devices) > 1 else None
