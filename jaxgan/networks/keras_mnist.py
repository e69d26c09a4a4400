"""The networks of "GAN by Example using Keras"."""

from functools import partial

import flax.linen as nn
from jax import Array

from jaxgan.networks.layers import Context, Conv, Dense, UpsampleConv, batch_norm, dropout, flat_logits


class KerasMNISTGen(nn.Module):
    """The generator of "GAN by Example using Keras": z [B, 100] -> images [B, 28, 28, 1] in [0, 1]."""

    @nn.compact
    def __call__(self, z: Array, labels: Array | None, context: Context) -> Array:
        norm = partial(batch_norm, context, momentum=0.9)
        x = nn.relu(norm()(Dense(7 * 7 * 256)(z)))
        x = dropout(x.reshape(-1, 7, 7, 256), 0.4, context.keys, layer=0)
        x = nn.relu(norm()(UpsampleConv(128, 5)(x)))
        x = nn.relu(norm()(UpsampleConv(64, 5)(x)))
        x = nn.relu(norm()(Conv(32, 5)(x)))
        return nn.sigmoid(Conv(1, 5)(x))


class KerasMNISTDisc(nn.Module):
    """The discriminator of "GAN by Example using Keras": images [B, 28, 28, 1] -> logits [B]."""

    @nn.compact
    def __call__(self, images: Array, labels: Array | None, context: Context) -> Array:
        x = images
        for layer, (features, stride) in enumerate([(64, 2), (128, 2), (256, 2), (512, 1)]):
            x = dropout(nn.leaky_relu(Conv(features, 5, stride)(x), 0.2), 0.4, context.keys, layer)
        return flat_logits(x)
