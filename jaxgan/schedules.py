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
        _check(self.steps)

    def __call__(self, step: jax.Array) -> jax.Array:
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
        _check(self.steps)

    def __call__(self, step: jax.Array) -> jax.Array:
        return self.end + (self.start - self.end) * (1 + jnp.cos(jnp.pi * jnp.minimum(step / self.steps, 1.0))) / 2


@dataclasses.dataclass(frozen=True)
class PerStep:
    """A schedule of the step, for an optimiser that counts its own updates: several in each step.

    Attributes:
      schedule: of the step.
      updates: how many a step has.
    """

    schedule: Schedule
    updates: int

    def __call__(self, update: jax.Array) -> jax.Array:
        return self.schedule(update // self.updates)


@dataclasses.dataclass(frozen=True)
class TimeDecay:
    """rate / (1 + decay * t) at update t, as in Keras.

    Attributes:
      rate: the value at update 0.
      decay: at least 0.
    """

    rate: float
    decay: float

    def __call__(self, update: jax.Array) -> jax.Array:
        return self.rate / (1 + self.decay * update)


@dataclasses.dataclass(frozen=True)
class HalfLife:
    """The share of an average that is kept at each step, 0.5^(images / half_life(step)): 0 where that is 0.

    Attributes:
      half_life: a schedule, in real images, after so many of which half of the average is forgotten.
      images: real images in a step.
    """

    half_life: Schedule
    images: int

    def __call__(self, step: jax.Array) -> jax.Array:
        return 0.5 ** (self.images / jnp.maximum(self.half_life(step), 1e-8))


def at(value: float | Schedule, step: jax.Array) -> jax.Array | float:
    """The value at a step: of a schedule, or of a number, which stays the same."""
    return value(step) if callable(value) else value


def _check(steps: int) -> None:
    if not steps >= 1:
        raise ValueError(f"a schedule takes at least 1 step, not {steps}")
