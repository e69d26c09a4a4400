"""The networks of "Fast DCGAN in Keras"; with labels, or with a discriminator that judges each image alone."""

from functools import partial

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from jaxgan.networks.conditional import ConditionalBatchNorm, projection
from jaxgan.networks.layers import Context, Conv, ConvTranspose, as_map, batch_norm
from jaxgan.networks.minibatch_features import append_diff


class KerasDCGANGen(nn.Module):
    """The generator of "Fast DCGAN in Keras": z [B, 100] -> images [B, 32, 32, 3] in [-1, 1].

    Fully convolutional: z [B, h, w, 100] -> [B, 8 * (h + 3), 8 * (w + 3), 3].

    Attributes:
      classes: where not 0, batch normalisation has a scale and a shift for each class.
    """

    classes: int = 0

    @nn.compact
    def __call__(self, z: Array, labels: Array | None, context: Context) -> Array:

        def norm(x: Array) -> Array:
            return ConditionalBatchNorm(context, self.classes)(x, labels) if self.classes else batch_norm(context)(x)

        x = ConvTranspose(192, 4, padding="VALID")(as_map(z))
        x = nn.leaky_relu(norm(x), 0.2)
        for features in (96, 48, 24):
            x = nn.leaky_relu(norm(ConvTranspose(features, 4, 2)(x)), 0.2)
        return jnp.tanh(ConvTranspose(3, 4)(x))


class KerasDCGANDisc(nn.Module):
    """The discriminator of "Fast DCGAN in Keras": images [B, 32, 32, 3] -> logits [B].

    Attributes:
      classes: where not 0, the logit has the label's projection on the last features, summed over the map, added.
      alone: whether each image is judged alone: no batch normalisation, and no features of the batch's other images.
    """

    classes: int = 0
    alone: bool = False

    @nn.compact
    def __call__(self, images: Array, labels: Array | None, context: Context) -> Array:
        norm = (lambda: lambda x: x) if self.alone else partial(batch_norm, context)
        beside_others = (lambda x: x) if self.alone else partial(append_diff, axis_name=context.axis_name)
        x = beside_others(nn.leaky_relu(Conv(24, 4, 2)(images), 0.2))
        for features in (48, 96, 192):
            x = beside_others(nn.leaky_relu(norm()(Conv(features, 4, 2)(x)), 0.2))
        logits = Conv(1, 2, padding="VALID")(x).reshape(-1)
        return logits + projection(jnp.sum(x, (1, 2)), labels, self.classes) if self.classes else logits
