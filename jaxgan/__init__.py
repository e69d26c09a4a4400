"""jaxgan: GANs in JAX, both networks updated from one shared forward pass.

This package needs jax, flax, optax and numpy; what else a room uses (Orbax for `checkpoint`, say)
is imported when it is used.
"""

from jaxgan import convolutions, data, gan, images, layers, losses, networks, parallel, sampling
from jaxgan.gan import GAN, GANState, init
from jaxgan.sampling import sample
from jaxgan.train_step import train_step

__all__ = [
    "GAN",
    "GANState",
    "convolutions",
    "data",
    "gan",
    "images",
    "init",
    "layers",
    "losses",
    "networks",
    "parallel",
    "sample",
    "sampling",
    "train_step",
]
