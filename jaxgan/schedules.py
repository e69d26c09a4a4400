"""Schedules: functions of the step, for whatever changes over a run, such as a learning rate or a penalty's weight.

Any function (step) -> scalar is one. These are plain data, so that a run's `config.json` can say what they are.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp

Schedule = Callable[[jax.Array], jax.Array]


@dataclasses.dataclass(frozen=True)
class Linear:
    """start + (end - start) * t / steps at step t; `end` from step `steps` on.

    Attributes:
      start: the value at step 0.
      end: the value from step `steps` on.
      steps: how many, at least 1.
    """

    start: float
    end: float
    steps: int

    def __post_init__(self):
        """Refuses a schedule of no steps."""
        _check(self.steps)

    def __call__(self, step: jax.Array) -> jax.Array:
        """The value at a step."""
        return self.start + (self.end - self.start) * jnp.minimum(step / self.steps, 1.0)


@dataclasses.dataclass(frozen=True)
class Cosine:
    """end + (start - end) * (1 + cos(pi * t / steps)) / 2 at step t; `end` from step `steps` on (arXiv:1608.03983).

    The attributes are those of `Linear`.
    """

    start: float
    end: float
    steps: int

    def __post_init__(self):
        """Refuses a schedule of no steps."""
        _check(self.steps)

    def __call__(self, step: jax.Array) -> jax.Array:
        """The value at a step."""
        return self.end + (self.start - self.end) * (1 + jnp.cos(jnp.pi * jnp.minimum(step / self.steps, 1.0))) / 2


def at(value: float | Schedule, step: jax.Array) -> jax.Array | float:
    """A value at a step: what stays is a number, what changes a schedule."""
    return value(step) if callable(value) else value


def _check(steps: int) -> None:
    if not steps >= 1:
        raise ValueError(f"a schedule takes at least 1 step, not {steps}")
