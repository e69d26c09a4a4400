"""The networks of "Fast LSGAN in Canton"."""

from functools import partial

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from jaxgan.networks.layers import Context, Conv, SubPixelConv, UpsampleConv, as_map, batch_norm
from jaxgan.networks.minibatch_features import append_similarity


class CantonLSGANGen(nn.Module):
    """The generator of "Fast LSGAN in Canton": z [B, 100] -> images [B, 32, 32, 3] in [-1, 1].

    Fully convolutional: z [B, h, w, 100] -> [B, 32 * h, 32 * w, 3].

    Attributes:
      subpixel: enlarge by sub-pixel convolution (ESPCN), which the document recommends, and not by
        nearest neighbours and a convolution, which it uses.
    """

    subpixel: bool = False

    @nn.compact
    def __call__(self, z: Array, labels: Array | None, context: Context) -> Array:
        norm = partial(batch_norm, context)
        enlarge = SubPixelConv if self.subpixel else UpsampleConv
        x = as_map(z)
        for features, factor in ((256, 4), (128, 2), (64, 2), (32, 2)):
            x = nn.relu(norm()(enlarge(features, 4, factor, use_bias=False)(x)))
        return jnp.tanh(Conv(3, 4)(x))


class CantonLSGANDisc(nn.Module):
    """The discriminator of "Fast LSGAN in Canton": images [B, 32, 32, 3] -> logits [B]."""

    @nn.compact
    def __call__(self, images: Array, labels: Array | None, context: Context) -> Array:
        norm = partial(batch_norm, context)
        x = append_similarity(nn.leaky_relu(Conv(32, 4, 2, use_bias=False)(images), 0.2), context.axis_name)
        for features in (64, 128, 256):
            x = norm()(Conv(features, 4, 2, use_bias=False)(x))
            x = append_similarity(nn.leaky_relu(x, 0.2), context.axis_name)
        return Conv(1, 2, padding="VALID")(x).reshape(-1)
