"""jaxgan: GANs in JAX, both networks updated from one shared forward pass.

This package needs jax, flax, optax and numpy; what else a room uses (Orbax for `run`, say) is imported when it is used.
"""

from jaxgan import (
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
from jaxgan.losses import Forward, Loss
from jaxgan.networks import Context
from jaxgan.sampling import sample
from jaxgan.train_step import advance, descend, gradients, train_step, train_steps

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
    "convolutions",
    "data",
    "descend",
    "evaluation",
    "gan",
    "gradients",
    "images",
    "init",
    "losses",
    "networks",
    "parallel",
    "penalties",
    "randomness",
    "sample",
    "sampling",
    "schedules",
    "train_step",
    "train_steps",
    "transforms",
]
