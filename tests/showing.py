"""A discriminator that shows what it was given, for the tests of what images pass on their way to it."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from common import STEP, in_range, real_batch, small_state, written_out

from jaxgan.losses import Loss


class Showing(nn.Module):
    """Logits, and the images that it was given."""

    @nn.compact
    def __call__(self, images, labels, context):
        return jnp.mean(images, axis=(1, 2, 3)) * self.param("one", nn.initializers.ones, ()), images


def shown(gan, state, batch):
    """The real and the generated images that D was given in a step of one forward pass, and the state after it."""
    seen = {}

    def record(forward):
        keep = lambda real, fake: seen.update(real=np.asarray(real), fake=np.asarray(fake))  # noqa: E731
        jax.debug.callback(keep, forward.real_extra, forward.fake_extra)
        return jnp.mean(forward.real_logits)

    loss = Loss(lambda forward: jnp.mean(forward.fake_logits), record)
    state, _ = STEP(dataclasses.replace(gan, disc=Showing(), loss=loss), state, batch)
    jax.effects_barrier()
    return seen["real"], seen["fake"], state


def start(gan, count, step=0):
    """A state, a batch, and the images before any transform: real and generated."""
    gan = dataclasses.replace(gan, disc=Showing())
    state, batch = small_state(gan), real_batch(gan, count)
    state = state.replace(step=jnp.int32(step))
    nothing = lambda real, fake: 0.0  # noqa: E731
    want = written_out(gan, state, in_range(gan, batch), range(count), gen=nothing, disc=nothing).forward
    return state, batch, np.asarray(want.images), np.asarray(want.fake)
