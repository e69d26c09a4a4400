"""jaxgan: GANs in JAX, both networks updated from one shared forward pass.

This package needs jax, flax, optax and numpy; what else a room uses (Orbax for `run`, say) is imported when it is used.
"""

from typing import TYPE_CHECKING, Any

from jaxgan import (
    augmentation,
    convolutions,
    data,
    evaluation,
    gan,
    images,
    losses,
    networks,
    parallel,
    penalties,
    randomness,
    sampling,
    schedules,
    transforms,
)
from jaxgan.forward_pass import Losses, Pass
from jaxgan.gan import GAN, Batch, GANState, Memory, init
from jaxgan.images import from_uint8, to_uint8
from jaxgan.losses import Forward, Loss
from jaxgan.networks import Context
from jaxgan.sampling import generate, sample
from jaxgan.train_step import advance, descend, gradients, train_step, train_steps

if TYPE_CHECKING:
    from jaxgan.recipes.trained import load

__version__ = "0.1.0"

__all__ = [
    "GAN",
    "Batch",
    "Context",
    "Forward",
    "GANState",
    "Loss",
    "Losses",
    "Memory",
    "Pass",
    "__version__",
    "advance",
    "augmentation",
    "convolutions",
    "data",
    "descend",
    "evaluation",
    "from_uint8",
    "gan",
    "generate",
    "gradients",
    "images",
    "init",
    "load",
    "losses",
    "networks",
    "parallel",
    "penalties",
    "randomness",
    "sample",
    "sampling",
    "schedules",
    "to_uint8",
    "train_step",
    "train_steps",
    "transforms",
]


def __getattr__(name: str) -> Any:
    """`jaxgan.load`, imported when it is first used: it needs Orbax."""
    if name != "load":
        raise AttributeError(f"module 'jaxgan' has no attribute {name!r}")
    from jaxgan.recipes.trained import load

    return load
