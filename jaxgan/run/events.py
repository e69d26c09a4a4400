"""What happens between the turns of a run: an `Event` is a function with a period.

A recipe may carry events of its own, as a tuple `events`. They are called in the leading process alone, after the turn
that ends at their step and while the devices take the next one, and do not change the final state.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp

from jaxgan import parallel
from jaxgan.gan import GAN, GANState
from jaxgan.run.errors import RunError
from jaxgan.run.metrics import UNIT

# What every line of metrics.jsonl says itself.
RESERVED = ("step", "seconds", "images_per_second")


@dataclasses.dataclass(frozen=True, eq=False)
class Snapshot:
    """A run after one of its steps: what an event is given.

    Attributes:
      step: how many updates are done.
      gan: the static description.
      workdir: the run's folder.
      last: whether this is the run's last step.
      device_state: the state on the run's devices, until the next turn overwrites it. Use `state`.
      device_metrics: the metrics there. Use `metrics`.
      device_samples: the images of a sample grid, uint8 [N, H, W, C], where one is due.
      found: the scalars that the events before this one have found at this step; a scored run's scores come first.
    """

    step: int
    gan: GAN
    workdir: Path
    last: bool
    device_state: GANState
    device_metrics: Mapping[str, jax.Array]
    device_samples: jax.Array | None = None
    found: dict[str, float] = dataclasses.field(default_factory=dict[str, float])

    @functools.cached_property
    def state(self) -> GANState:
        """This process's own copy of the state, made at the first use; it may be kept."""
        return _copy(parallel.own_copy(self.device_state))

    @functools.cached_property
    def metrics(self) -> dict[str, float]:
        """The metrics of the last update."""
        return {name: float(value) for name, value in self.device_metrics.items()}


@dataclasses.dataclass(frozen=True)
class Event:
    """A function that a run calls at the multiples of a period, and at its last step.

    Attributes:
      name: what messages call it.
      every: the period, in steps; at least 1.
      call: given the snapshot; it returns scalars for that step's line of metrics.jsonl, by name, or None. Where scores
        are among them, `scored_by` may be a text, all that they depend on: only those of one text are compared.
      scalars: names of them; a run whose own metrics have one of these ends at its first turn.
      close: called when a run has ended, also where it was stopped or has met an error.
    """

    name: str
    every: int
    call: Callable[[Snapshot], Mapping[str, float | str] | None]
    scalars: tuple[str, ...] = ()
    close: Callable[[], None] = lambda: None


@jax.jit
def _copy(state: GANState) -> GANState:
    """One program for all arrays, which the devices are handed like any other: the host does not wait for it."""
    return jax.tree.map(jnp.copy, state)


def check_events(events: Sequence[Event]) -> None:
    """Refuses events that no run could call.

    Raises:
      RunError: one is no `Event`, or its period is no whole number above 0.
    """
    for event in events:
        if not isinstance(event, Event) or not callable(event.call):
            raise RunError(f"events of a recipe must be jaxgan.run.Event(name, every, function), not {event!r}")
        if type(event.every) is not int or event.every < 1:
            raise RunError(f"event {event.name!r}: every must be a whole number of at least 1, not {event.every!r}")


def check_names(events: Sequence[Event], metrics: Iterable[str]) -> None:
    """Refuses a run's metrics that have the names of an event's scalars.

    Raises:
      RunError: one has.
    """
    for event in events:
        for name in (name for name in metrics if name in event.scalars):
            raise RunError(f"the metric {name!r} has the name of what event {event.name!r} finds; give it another")


def call_all(events: Sequence[Event], snapshot: Snapshot) -> tuple[dict[str, float], dict[str, str]]:
    """Calls the events, in order; gives their scalars, and by name what each was measured in, where its event says so.

    The scalars are the snapshot's `found`, which so grows from event to event.

    Raises:
      RunError: what an event returns is not scalars by new names.
      Exception: whatever an event raises.
    """
    scalars = snapshot.found
    scalars.clear()  # of a turn that is finished again nothing is due, and nothing found
    units: dict[str, str] = {}
    for event in events:
        found = event.call(snapshot)
        if found is None:
            continue
        if not isinstance(found, Mapping):
            raise RunError(f"event {event.name!r} must return a dict of scalars or None, not {type(found).__name__}")
        for name, value in found.items():
            if name in RESERVED or name in snapshot.device_metrics or name in scalars:
                raise RunError(f"event {event.name!r}: {name!r} is the name of another metric; choose another")
            if name == UNIT:
                if not isinstance(value, str):
                    raise RunError(f"event {event.name!r}: {name!r} must be a text, not {value!r:.100}")
                units |= dict.fromkeys(found, value)
                continue
            try:
                scalars[str(name)] = float(value)
            except (TypeError, ValueError) as error:
                raise RunError(f"event {event.name!r}: {name!r} must be a scalar, not {value!r:.100}") from error
    return scalars, units
