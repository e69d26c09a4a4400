"""How well a run on several devices agrees with one on a single device: `python -m experiments.agreement [RECIPE …]`.

Each recipe trains on 1, 2, 4, … devices, under `jax.pmap` and under `jax.shard_map`, beside the plain jitted step. A
row holds the largest relative difference of either loss, over all of these:

float64     over all updates of runs that go their own ways
float32:
same state  of each update, from the plain run's state there
one update  after each update, likewise
5, 10, …    at that update of runs that go their own ways
one bit     likewise at the last update, of a plain run whose generator began one bit off in every weight
"""

import dataclasses
import functools
from collections.abc import Iterable, Sequence
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
import tyro

import jaxgan
from experiments import recipes
from experiments.cli import Cluster, check_names, fail, one_line_errors, parse
from jaxgan import parallel
from jaxgan.gan import GAN, GANState, image_shape
from jaxgan.parallel import FORMS, Step
from jaxgan.run import processes


@dataclasses.dataclass(frozen=True)
class Agreement:
    """Trains for a few updates on several devices, and on one, and compares the losses."""

    recipes: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="[RECIPE …]")] = tuple(
        recipes.RECIPES
    )
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
    flags = parse(Agreement, "experiments.agreement")
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
        images = random_images(gan, flags.updates, flags.batch_size)
        show(f"| `{name}` |", *(f"{d:.1e} |" for d in _row(gan, images, counts, marks)))


def _row(gan: GAN, images: np.ndarray, counts: Sequence[int], marks: Sequence[int]) -> list[float]:
    """The columns of a recipe."""
    variants = [(form, parallel.choose_devices(n)) for form in FORMS.values() for n in counts]
    share = own_share(images)
    state, plain = jaxgan.init(gan, jax.random.key(0)), plain_step(gan)
    with jax.enable_x64(True):
        state64 = as_float64(state)
        losses = run(plain, state64, images)
        float64 = max(
            difference(run(form(gan, devices), parallel.place(state64, devices), share), losses).max()
            for form, devices in variants
        )
    losses = run(plain, state, images)
    steps = [(form(gan, devices), devices) for form, devices in variants]
    free = [difference(run(step, parallel.place(state, devices), share), losses) for step, devices in steps]
    each = difference_of_each(plain, steps, state, images)
    bit = difference(run(plain, _one_bit_off(state), images), losses)
    return [float64, *each, *(np.max(free, axis=0)[t - 1] for t in marks), bit[marks[-1] - 1]]


def random_images(gan: GAN, updates: int, batch_size: int) -> np.ndarray:
    """A batch for each update: uint8 [updates, batch_size * training_ratio, H, W, C]."""
    shape = (updates, batch_size * gan.training_ratio, *image_shape(gan))
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def own_share(images: np.ndarray) -> np.ndarray:
    """This process's part of each batch, of [updates, batch_size, H, W, C]."""
    return np.split(images, jax.process_count(), axis=1)[jax.process_index()]


def plain_step(gan: GAN) -> Step:
    """The jitted step, on one device; the state is not donated."""
    step = jax.jit(jaxgan.train_step, static_argnums=0)
    return lambda state, images: step(gan, state, images)


def run(step: Step, state: GANState, images: Iterable[np.ndarray]) -> np.ndarray:
    """The losses [updates, 2] of a run from that state."""
    losses = []
    for batch in images:
        state, metrics = step(state, batch)
        losses.append([float(metrics["loss_gen"]), float(metrics["loss_disc"])])
    return np.array(losses)


def difference_of_each(
    plain: Step, steps: Sequence[tuple[Step, Sequence[jax.Device]]], state: GANState, images: np.ndarray
) -> np.ndarray:
    """The largest `difference` [2] of an update and of the next, each time from a state of the plain run.

    Args:
      plain: the plain step.
      steps: those to compare, with their devices.
      state: where the plain run begins.
      images: its batches, [updates, batch_size, H, W, C].
    """
    largest, losses, share = np.zeros(2), run(plain, state, images), own_share(images)
    for t in range(len(images) - 1):
        for step, devices in steps:
            got = run(step, parallel.place(state, devices), share[t : t + 2])
            largest = np.maximum(largest, difference(got, losses[t : t + 2]))
        state, _ = plain(state, images[t])
    return largest


def difference(losses: np.ndarray, plain: np.ndarray) -> np.ndarray:
    """The relative difference of either loss from the plain run's, whichever is larger: [updates]."""
    return np.abs(losses / plain - 1).max(axis=-1)


def as_float64(state: GANState) -> GANState:
    """The state with all its floats in float64, where `jax.enable_x64` allows them."""
    return jax.tree.map(lambda x: x.astype(jnp.float64) if x.dtype == jnp.float32 else x, state)


def _one_bit_off(state: GANState) -> GANState:
    """The state with each weight of the generator moved to its neighbour among the floats."""
    params = jax.tree.map(lambda x: jnp.nextafter(x, jnp.float32(jnp.inf)), state.gen.params)
    return state.replace(gen=state.gen.replace(params=params))


if __name__ == "__main__":
    main()
