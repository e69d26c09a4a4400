"""How networks use labels: an embedding beside the latent, a class's own scale and shift, and projection.

All are called within a module's compact `__call__`, whose parameters theirs become.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxgan.networks.layers import Context
from jaxgan.networks.normalisation import BatchNorm


def append_embedding(z: jax.Array, labels: jax.Array | None, classes: int) -> jax.Array:
    """Latents with an embedding of their labels beside them, of the same length: [B, z_size] -> [B, 2 * z_size]."""
    return jnp.concatenate([z, nn.Embed(classes, z.shape[-1])(labels).astype(z.dtype)], axis=-1)


def projection(features: jax.Array, labels: jax.Array | None, classes: int) -> jax.Array:
    """What a label adds to a logit: <embedding(label), features>, [B] (Miyato and Koyama 2018, arXiv:1802.05637).

    Args:
      features: D's last, [B, C].
      labels: int32 [B].
      classes: how many there are. All embeddings start at zero: at first no label tells anything.
    """
    of_class = nn.Embed(classes, features.shape[-1], embedding_init=nn.initializers.zeros)(labels)
    return jnp.sum(of_class.astype(features.dtype) * features, axis=-1)


class ConditionalBatchNorm(nn.Module):
    """Batch normalisation with a scale and a shift for each class (de Vries et al. 2017, arXiv:1707.00683).

    Scales start at 1 and shifts at 0.

    Attributes:
      context: how the network is called.
      classes: how many there are.
      momentum: the share of the old running average that is kept.
    """

    context: Context
    classes: int
    momentum: float = 0.99

    @nn.compact
    def __call__(self, x: jax.Array, labels: jax.Array | None) -> jax.Array:
        """Normalises x [B, ..., C] by the moments of all classes together; labels are int32 [B]."""
        context = self.context
        normalised = BatchNorm(context.train, self.momentum, affine=False, axis_name=context.axis_name)(x)
        shape = (x.shape[0], *[1] * (x.ndim - 2), x.shape[-1])
        scale, shift = (
            nn.Embed(self.classes, x.shape[-1], embedding_init=start, name=name)(labels).astype(x.dtype).reshape(shape)
            for name, start in (("scale", nn.initializers.ones), ("bias", nn.initializers.zeros))
        )
        return normalised * scale + shift
