"""Layers of the discriminator that stay as they are: FreezeD (Mo et al. 2020, arXiv:2002.10964)."""

import functools
from typing import Any

import flax.linen as nn
import jax
import optax

from jaxgan.gan import GAN, init


@functools.lru_cache(maxsize=8)
def layers_of(gan: GAN) -> tuple[str, ...]:
    """The names of the discriminator's layers, in the order that they are first called in: those with parameters."""
    names: list[str] = []

    def note(next_function: Any, args: Any, kwargs: Any, context: Any) -> Any:
        module = context.module
        if len(module.path) == 1 and isinstance(module.parent, type(gan.disc)):
            names.append(module.name)
        return next_function(*args, **kwargs)

    with nn.intercept_methods(note):
        state = jax.eval_shape(lambda: init(gan, jax.random.key(0)))
    return tuple(name for name in dict.fromkeys(names) if name in state.disc.params)


def first_layers(gan: GAN, count: int) -> tuple[str, ...]:
    """The names of so many of the discriminator's layers, from the image on.

    Raises:
      ValueError: it has no more than these.
    """
    names = layers_of(gan)
    if count >= len(names):
        raise ValueError(f"`freeze_disc` must be below {len(names)}, not {count}: D has the layers {', '.join(names)}")
    return names[:count]


def frozen(optimizer: optax.GradientTransformation, names: tuple[str, ...]) -> optax.GradientTransformation:
    """An optimiser under which these layers stay as they are."""

    def kinds(params: Any) -> dict[str, str]:
        return {name: "frozen" if name in names else "trained" for name in params}

    return optax.partition({"trained": optimizer, "frozen": optax.set_to_zero()}, kinds)
