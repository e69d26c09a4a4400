"""Small networks for the embedded handwritten digits, 8x8: a DCGAN, and dense ones.

All are conditional where they are given labels.
"""

from functools import partial

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from jaxgan.networks.conditional import append_embedding, projection
from jaxgan.networks.layers import Context, Conv, Dense, batch_norm, depth_to_space, flat, flat_logits


class DigitsGen(nn.Module):
    """The generator: z [B, z_size] -> images [B, 8, 8, 1] in [-1, 1].

    Attributes:
      classes: where not 0, labels are embedded beside z.
    """

    classes: int = 0

    @nn.compact
    def __call__(self, z: Array, labels: Array | None, context: Context) -> Array:
        norm = partial(batch_norm, context, momentum=0.9)
        if self.classes:
            z = append_embedding(z, labels, self.classes)
        x = Dense(4 * 4 * 64, use_bias=False)(z).reshape(-1, 4, 4, 64)
        x = nn.relu(norm()(x))
        x = Conv(64, 3, use_bias=False)(x)
        x = nn.relu(norm()(x))
        x = depth_to_space(Conv(4 * 32, 3, use_bias=False)(x), 2)
        x = nn.relu(norm()(x))
        return jnp.tanh(Conv(1, 3)(x))


class DigitsDisc(nn.Module):
    """The discriminator: images [B, 8, 8, 1] -> logits [B].

    Attributes:
      classes: where not 0, the logit has the label's projection on the last features added.
    """

    classes: int = 0

    @nn.compact
    def __call__(self, images: Array, labels: Array | None, context: Context) -> Array:
        norm = partial(batch_norm, context, momentum=0.9)
        x = nn.leaky_relu(Conv(32, 3)(images), 0.2)
        x = nn.leaky_relu(norm()(Conv(64, 3, 2, use_bias=False)(x)), 0.2)
        x = nn.leaky_relu(norm()(Conv(128, 3, 2, use_bias=False)(x)), 0.2)
        logits = flat_logits(x)
        if self.classes:
            logits += projection(flat(x), labels, self.classes)
        return logits


class DenseDigitsGen(nn.Module):
    """A dense generator: z [B, z_size] -> images [B, 8, 8, 1] in [-1, 1].

    Attributes:
      classes: where not 0, labels are embedded beside z.
      width: of the two hidden layers.
    """

    classes: int = 0
    width: int = 256

    @nn.compact
    def __call__(self, z: Array, labels: Array | None, context: Context) -> Array:
        x = append_embedding(z, labels, self.classes) if self.classes else z
        for _ in range(2):
            x = nn.relu(Dense(self.width)(x))
        return jnp.tanh(Dense(8 * 8)(x)).reshape(-1, 8, 8, 1)


class DenseDigitsDisc(nn.Module):
    """A dense discriminator, which judges each image alone: images [B, 8, 8, 1] -> logits [B].

    Attributes:
      classes: where not 0, the logit has the label's projection on the last features added.
      width: of the two hidden layers.
    """

    classes: int = 0
    width: int = 256

    @nn.compact
    def __call__(self, images: Array, labels: Array | None, context: Context) -> Array:
        x = flat(images)
        for _ in range(2):
            x = nn.leaky_relu(Dense(self.width)(x), 0.2)
        logits = flat_logits(x)
        if self.classes:
            logits += projection(x, labels, self.classes)
        return logits
