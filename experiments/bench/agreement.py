"""How well several devices agree with a single one: `python -m experiments.bench.agreement [RECIPE …]`.

Each recipe trains on 1, 2, 4, … devices, under `jax.pmap` and under `jax.shard_map`, beside plain `train_steps` on one
device: the program that runs take, one update at a time. A row holds the largest relative difference of either loss,
over all of these:

float64     over all updates of independent runs
float32:
same state  of each update, from the plain run's state there
one update  after each update, likewise
5, 10, …    at that update of independent runs
one bit     at the last of those updates, of a plain run in which every weight of the generator starts one bit off
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
import tyro

import jaxgan
from jaxgan import parallel, recipes
from jaxgan.commands.cli import Cluster, RecipeNames, check_names, fail, one_line_errors, parse, run_script
from jaxgan.forward_pass import Metrics
from jaxgan.gan import GAN, Batch, GANState, image_shape
from jaxgan.run import processes

Update = Callable[[GANState, np.ndarray], tuple[GANState, Metrics]]  # (state, batch: int [B]) -> (state, metrics)


@dataclasses.dataclass(frozen=True)
class Agreement:
    """Trains for a few updates on several devices, and on one, and compares the losses."""

    recipes: RecipeNames = tuple(recipes.SYSTEMS)
    """Which ones."""
    devices: int = 8
    """The most devices, in each process. A machine without accelerators divides its CPU into as many."""
    updates: int = 20
    """How many updates."""
    batch_size: int = 8
    """Images in each, random ones."""
    cluster: Annotated[Cluster, tyro.conf.OmitArgPrefixes, tyro.conf.arg(name="several processes")] = Cluster()


def main() -> None:
    """Prints a row for each recipe."""
    flags = parse(Agreement, "experiments.bench.agreement")
    check_names(flags.recipes, recipes.RECIPES, "recipe")
    if flags.devices < 1 or flags.updates < 5:
        fail("--devices must be at least 1, and --updates at least 5")
    counts = [2**i for i in range(flags.devices.bit_length())]
    jax.config.update("jax_num_cpu_devices", counts[-1])
    with one_line_errors():
        processes.join(**vars(flags.cluster))
    if jax.local_device_count() < counts[-1]:
        fail(f"--devices {counts[-1]}: there are {jax.local_device_count()}")
    if flags.batch_size < 1 or flags.batch_size % (counts[-1] * jax.process_count()):
        fail(f"--batch-size must be a multiple of {counts[-1] * jax.process_count()}, not {flags.batch_size}")
    marks = [t for t in (5, 10, 20, 50, 100) if t <= flags.updates]
    show = functools.partial(print, flush=True) if processes.is_leader() else lambda *_: None
    show("| recipe | float64 | same state | one update |", *(f"{t} |" for t in marks), f"one bit, {marks[-1]} |")
    show("|---" * (5 + len(marks)) + "|")
    for name in flags.recipes:
        gan = recipes.get(name).build()
        dataset, batches = random_data(gan, flags.updates, flags.batch_size)
        show(f"| `{name}` |", *(f"{d:.1e} |" for d in _row(gan, dataset, batches, counts, marks)))


def _row(gan: GAN, dataset: Batch, batches: np.ndarray, counts: Sequence[int], marks: Sequence[int]) -> list[float]:
    """The columns of a recipe."""
    variants = [(form, parallel.choose_devices(n)) for form in parallel.FORMS for n in counts]
    state = jaxgan.init(gan, jax.random.key(0))
    with jax.enable_x64(True):
        state64 = as_float64(state)
        losses = run(plain(gan, dataset), state64, batches)
        float64 = max(
            difference(
                run(several(gan, dataset, devices, form), parallel.replicate(state64, devices), batches), losses
            ).max()
            for form, devices in variants
        )
    one = plain(gan, dataset)
    losses = run(one, state, batches)
    updates = [(several(gan, dataset, devices, form), devices) for form, devices in variants]
    free = [difference(run(update, parallel.replicate(state, devices), batches), losses) for update, devices in updates]
    each = difference_of_each(one, updates, state, batches)
    bit = difference(run(one, _one_bit_off(state), batches), losses)
    return [float64, *each, *(np.max(free, axis=0)[t - 1] for t in marks), bit[marks[-1] - 1]]


def random_data(gan: GAN, updates: int, batch_size: int) -> tuple[Batch, np.ndarray]:
    """Random images with random labels and all else that the GAN takes, and which of them each update takes, each once.

    Returns:
      A dataset of N = updates * batch_size * training_ratio images, and int32 [updates, batch_size * training_ratio].
    """
    rng, size = np.random.default_rng(0), batch_size * gan.training_ratio
    images = rng.integers(0, 256, (updates * size, *image_shape(gan)), np.uint8)
    labels = rng.integers(0, gan.classes, len(images), np.int32) if gan.classes else None
    others = {name: rng.integers(0, 256, (len(images), *shape), np.uint8) for name, shape in gan.others}
    return Batch(images, labels, others or None), np.arange(len(images), dtype=np.int32).reshape(updates, size)


def plain(gan: GAN, dataset: Batch) -> Update:
    """An update by `train_steps` on one device; the state is not donated."""
    steps = jax.jit(jaxgan.train_steps, static_argnums=0)
    return lambda state, batch: steps(gan, state, dataset, batch[None], 1)


def several(gan: GAN, dataset: Batch, devices: Sequence[jax.Device], form: parallel.Form) -> Update:
    """An update by `train_steps` on several devices, from a state as from `parallel.replicate`, which is donated."""
    steps, placed = parallel.steps_on(gan, devices, form), parallel.replicate(dataset, devices)

    def update(state: GANState, batch: np.ndarray) -> tuple[GANState, Metrics]:
        share = np.split(batch, jax.process_count())[jax.process_index()]
        return steps(state, placed, share[None], np.int32(1))

    return update


def run(update: Update, state: GANState, batches: np.ndarray) -> np.ndarray:
    """The losses [updates, 2] of a run from that state."""
    losses = []
    for batch in batches:
        state, metrics = update(state, batch)
        losses.append([float(metrics["loss_gen"]), float(metrics["loss_disc"])])
    return np.array(losses)


def difference_of_each(
    one: Update, updates: Sequence[tuple[Update, Sequence[jax.Device]]], state: GANState, batches: np.ndarray
) -> np.ndarray:
    """The largest `difference` [2] of an update and of the next, each time from a state of the plain run.

    Args:
      one: the plain update.
      updates: those to compare, with their devices.
      state: where the plain run begins.
      batches: its batches, int32 [updates, batch_size].
    """
    largest, losses = np.zeros(2), run(one, state, batches)
    for t in range(len(batches) - 1):
        for update, devices in updates:
            got = run(update, parallel.replicate(state, devices), batches[t : t + 2])
            largest = np.maximum(largest, difference(got, losses[t : t + 2]))
        state, _ = one(state, batches[t])
    return largest


def difference(losses: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """The relative difference of either loss from the plain run's, whichever is larger: [updates]."""
    return np.abs(losses / expected - 1).max(axis=-1)


def as_float64(state: GANState) -> GANState:
    """The state with all its floats in float64, where `jax.enable_x64` allows them."""
    return jax.tree.map(lambda x: x.astype(jnp.float64) if x.dtype == jnp.float32 else x, state)


def _one_bit_off(state: GANState) -> GANState:
    """The state with each weight of the generator moved to its neighbour among the floats."""
    params = jax.tree.map(lambda x: jnp.nextafter(x, jnp.float32(jnp.inf)), state.gen.params)
    return state.replace(gen=state.gen.replace(params=params))


if __name__ == "__main__":
    run_script(main)
