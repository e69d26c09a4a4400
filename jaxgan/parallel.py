"""A function of a GAN on several devices, of one process or of several: the batch is split, the state copied.

Each device holds a share of the batch, and what is the whole batch's goes over the axis of devices: moments, minibatch
features, gradients and losses. Noise is keyed by the example's index in the whole batch. So the number of devices is
not a hyperparameter: it changes the order of sums, and nothing else.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxgan.forward_pass import Metrics
from jaxgan.gan import GAN, Batch, GANState
from jaxgan.labels import checked_labels
from jaxgan.randomness import key_data, with_keys
from jaxgan.train_step import train_step, train_steps

AXIS = "batch"

Form = Literal["pmap", "shard_map"]
Split = tuple[int | None, ...]
FORMS: tuple[Form, ...] = ("pmap", "shard_map")

# Which axis of each argument after the state is split between the devices; None is the same on all of them.
SPLIT = {train_step: (0,), train_steps: (None, 1, None)}
STREAMED = (0, 1, None)  # of `train_steps`, where each device has the images of its own share alone


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


def warm_up(devices: Sequence[jax.Device]) -> None:
    """Connects the devices of several processes while none of them keeps the others waiting.

    Some backends give up after half a minute, and loading data or compiling may take one process longer.
    """
    if jax.process_count() == 1:
        return
    add = jax.shard_map(
        lambda: jax.lax.psum(1.0, AXIS), mesh=_mesh(devices), in_specs=(), out_specs=PartitionSpec(), check_vma=False
    )
    jax.block_until_ready(jax.jit(add)())


def replicate(tree: Any, devices: Sequence[jax.Device]) -> Any:
    """A tree of arrays and typed keys, the same in every process, copied to each of the devices."""
    return with_keys(tree, _to_devices(key_data(tree), NamedSharding(_mesh(devices), PartitionSpec())))


def own_copy(state: GANState) -> GANState:
    """The copy of the state on this process's first device: for what a process does without the others."""
    return jax.tree.map(lambda x: x.addressable_data(0), state)


def steps_on(
    gan: GAN, devices: Sequence[jax.Device], form: Form = "shard_map", streamed: bool = False
) -> Callable[[GANState, Batch, np.ndarray | Batch, int | np.integer], tuple[GANState, Metrics]]:
    """`train_steps` on the devices: what runs take.

    Returns:
      (state, dataset, batches, count) -> (state, metrics). State and dataset are as from `replicate`, and the state is
      donated; the batches are this process's contiguous share of each, int32
      [capacity, B * training_ratio / processes]. Where it is `streamed`, dataset and batches are as from
      `shard_images`.
    """
    return on_devices(train_steps, gan, devices, form, STREAMED if streamed else None)


def shard_images(batches: Sequence[Batch], capacity: int, devices: int) -> tuple[Batch, np.ndarray]:
    """Batches that were read for several steps, laid out so that each device gets the images of its own share.

    Args:
      batches: of each step this process's share, NumPy arrays; at least one.
      capacity: for how many steps there is room; what is not filled is 0, and not taken.
      devices: how many this process has.

    Returns:
      The images, uint8 [devices * capacity * b, H, W, C] for b to each device, and their labels likewise; and which of
      its own each device takes at each step, int32 [capacity, devices * b].
    """
    share = len(batches[0].images) // devices

    def laid_out(*steps: np.ndarray) -> np.ndarray:
        rows = np.zeros((devices, capacity, share, *steps[0].shape[1:]), steps[0].dtype)
        for i, step in enumerate(steps):
            rows[:, i] = step.reshape(devices, share, *step.shape[1:])
        return rows.reshape(-1, *steps[0].shape[1:])

    which = np.arange(capacity * share, dtype=np.int32).reshape(capacity, share)
    return jax.tree.map(laid_out, *batches), np.tile(which, devices)


def on_devices(
    function: Callable[..., Any],
    gan: GAN,
    devices: Sequence[jax.Device],
    form: Form = "shard_map",
    split: Split | None = None,
) -> Callable[..., Any]:
    """One of `SPLIT`'s functions, (gan, state, …) -> (state, metrics), on the devices.

    Args:
      function: `train_step` or `train_steps`.
      gan: the static description.
      devices: as from `choose_devices`: those of all processes, the same number of each.
      form: what runs it there, `jax.shard_map` or `jax.pmap`; both do the same.
      split: which axis of each argument after the state is split between the devices; by default as in `SPLIT`.

    Returns:
      (state, …) -> (state, metrics). The state is as from `replicate`, and donated; the arguments that are split are
      this process's contiguous share, such as a batch of images uint8 [B * training_ratio / processes, H, W, C] for
      `train_step`. It raises ValueError for labels in the host's memory that are not as `checked_labels` wants them.
    """
    split = split or SPLIT[function]
    run = _pmapped(function, gan, devices, split) if form == "pmap" else _sharded(function, gan, devices, split)

    def call(state: GANState, images: Batch | jax.Array, *args: Any) -> tuple[GANState, Metrics]:
        if gan.classes and isinstance(images, Batch) and isinstance(images.labels, np.ndarray):
            checked_labels(images.labels, len(images.images), gan.classes)
        return run(state, images, *args)

    return call


def _sharded(function: Callable[..., Any], gan: GAN, devices: Sequence[jax.Device], split: Split) -> Callable[..., Any]:
    """`function` under `jax.shard_map`, each argument given as this process's part of it."""
    compiled, mesh = shard_mapped(function, gan, devices, split), _mesh(devices)
    shardings = [axis if axis is None else NamedSharding(mesh, _spec(devices, axis)) for axis in split]

    def call(state: GANState, *args: Any) -> tuple[GANState, Metrics]:
        pairs = zip(args, shardings, strict=True)
        return compiled(state, *(x if sharding is None else _to_devices(x, sharding) for x, sharding in pairs))

    return call


def shard_mapped(
    function: Callable[..., Any], gan: GAN, devices: Sequence[jax.Device], split: Split | None = None
) -> Any:
    """`function` under `jax.shard_map`, jitted, the state donated; `lower` compiles it ahead of time.

    Its arguments are whole arrays on the devices. JAX checks when it is traced that the state cannot come to differ
    between devices.
    """
    specs = (PartitionSpec(), *(_spec(devices, axis) for axis in split or SPLIT[function]))
    outputs = (PartitionSpec(), PartitionSpec())
    function = functools.partial(function, _on_axis(gan, devices))
    return jax.jit(jax.shard_map(function, mesh=_mesh(devices), in_specs=specs, out_specs=outputs), donate_argnums=0)


def _pmapped(function: Callable[..., Any], gan: GAN, devices: Sequence[jax.Device], axes: Split) -> Callable[..., Any]:
    """`function` under `jax.pmap`, which wants an axis of the process's devices in what is split."""
    local = len(devices) // jax.process_count()
    compiled = jax.pmap(
        functools.partial(function, _on_axis(gan, devices)),
        axis_name=AXIS,
        in_axes=(None, *axes),
        out_axes=(None, None),  # metrics, too, are the same on all devices
        devices=devices,
        donate_argnums=0,
    )

    def divided(tree: Any, axis: int | None) -> Any:
        if axis is None:
            return tree
        return jax.tree.map(lambda x: x.reshape(*x.shape[:axis], local, -1, *x.shape[axis + 1 :]), tree)

    return lambda state, *args: compiled(state, *(divided(x, axis) for x, axis in zip(args, axes, strict=True)))


def _to_devices(tree: Any, sharding: NamedSharding) -> Any:
    """This process's part of a tree of arrays, as arrays on all devices."""
    return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, np.asarray(x)), tree)


def _mesh(devices: Sequence[jax.Device]) -> Mesh:
    return Mesh(np.array(devices), (AXIS,))


def _spec(devices: Sequence[jax.Device], axis: int | None) -> PartitionSpec:
    return PartitionSpec() if axis is None else PartitionSpec(*[None] * axis, _axis(devices))


def _on_axis(gan: GAN, devices: Sequence[jax.Device]) -> GAN:
    return dataclasses.replace(gan, axis_name=_axis(devices))


def _axis(devices: Sequence[jax.Device]) -> str | None:
    """What a batch is split over. One device alone runs the plain step: XLA fuses it better than means over itself."""
    return AXIS if len(devices) > 1 else None
