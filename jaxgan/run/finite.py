"""Whether the numbers of a run are finite, and which operation of an update made the first that is not."""

import math
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxgan.gan import GAN, Batch, GANState
from jaxgan.train_step import train_steps

PARTS = {  # of a state
    "gen": "the generator",
    "disc": "the discriminator",
    "averaged_gen": "the averaged generator",
    "memory": "the memory",
}
LIBRARIES = "site-packages", "dist-packages"


def check_metrics(step: int, metrics: Mapping[str, jax.Array], advice: str) -> None:
    """Ends a run whose losses make no sense any more.

    Raises:
      FloatingPointError: a metric is not finite; the message ends with `advice`.
    """
    bad = [f"{name} is {float(value)}" for name, value in metrics.items() if not math.isfinite(value)]
    if bad:
        raise FloatingPointError(f"step {step}: {' and '.join(bad)}; {advice}")


def check_state(step: int, state: GANState, advice: str) -> None:
    """Ends a run whose state is not finite: the metrics of a step speak of the one before it.

    Raises:
      FloatingPointError: a float of the state is not; the message names whose, and ends with `advice`.
    """
    finite = _are_finite(state)
    bad = [part for name, part in PARTS.items() if not finite[name]]
    if bad:
        raise FloatingPointError(f"step {step}: numbers of {' and of '.join(bad)} are no longer finite; {advice}")


@jax.jit
def _are_finite(state: GANState) -> dict[str, jax.Array]:
    """By field of the state, whether every float is."""
    found = {}
    for name in PARTS:
        floats = [x for x in jax.tree.leaves(getattr(state, name)) if jnp.issubdtype(x.dtype, jnp.floating)]
        found[name] = jnp.all(jnp.array([jnp.all(jnp.isfinite(x)) for x in floats]))
    return found


def check_update(gan: GAN, state: GANState, dataset: Batch, batches: Any, after: GANState, metrics: Any) -> None:
    """Where an update made a number that is not finite, takes it again operation by operation, to find the first.

    Args:
      gan: the static description.
      state: the one before the update, on one device.
      dataset: as in `train_steps`.
      batches: likewise; the update takes the first of them.
      after: the state after it.
      metrics: of the update.

    Raises:
      FloatingPointError: the message names the operation, and the line of the file that asked for it.
    """
    if all(map(np.isfinite, metrics.values())) and all(_are_finite(after).values()):
        return
    step = int(state.step) + 1
    for what, watch in (("nan", jax.debug_nans), ("inf", jax.debug_infs)):
        try:
            with jax.disable_jit(), watch(True):
                train_steps(gan, state, dataset, batches, 1)
        except FloatingPointError as error:
            raise FloatingPointError(f"step {step}: {_operation(error)} gives {what} at {_place(error)}") from error
    raise FloatingPointError(f"step {step}: not finite as one program; operation by operation all of it is")


def _operation(error: FloatingPointError) -> str:
    """What JAX says it met the number in."""
    return str(error).partition("encountered in ")[2].split()[0].strip(".`'\"") or "an operation"


def _place(error: FloatingPointError) -> str:
    """The innermost line of a user's file or of jaxgan's that was under way; gradients are taken behind such a line."""
    ours = [f for f in traceback.extract_tb(error.__traceback__) if not any(part in f.filename for part in LIBRARIES)]
    at = ours[-1]
    return f"{Path(at.filename).name}, line {at.lineno}: {at.line}"
