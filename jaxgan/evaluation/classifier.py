"""The small classifiers whose features and class probabilities score images."""

import flax.linen as nn
import jax

from jaxgan.networks.layers import Context, Conv, batch_norm


class Classifier(nn.Module):
    """A convolutional classifier: each stage is a convolution, max pooling by 2, and one more convolution.

    Each convolution is of 3x3 pixels, and batch normalisation and ReLU follow it.

    Attributes:
      widths: the channels of each stage.
      classes: how many classes there are.
    """

    widths: tuple[int, ...]
    classes: int

    @nn.compact
    def __call__(self, images: jax.Array, context: Context) -> tuple[jax.Array, jax.Array]:
        """Features and logits.

        Args:
          images: [B, H, W, C], from 0 to 1.
          context: whether this is training.

        Returns:
          Features [B, widths[-1]], the mean over the last map, none below 0; and logits [B, classes].
        """
        x = (images - 0.5) / 0.25
        for width in self.widths:
            x = max_pool(Conv(width, 3, use_bias=False)(x))
            x = nn.relu(batch_norm(context, 0.9)(x))
            x = nn.relu(batch_norm(context, 0.9)(Conv(width, 3, use_bias=False)(x)))
        features = x.mean((1, 2))
        return features, nn.Dense(self.classes)(features)


def max_pool(x: jax.Array) -> jax.Array:
    """The largest of each 2x2 pixels: [B, H, W, C] -> [B, H // 2, W // 2, C].

    `flax.linen.max_pool` does the same; the gradient of this is many times faster on a CPU.
    """
    b, h, w, c = x.shape
    return x[:, : h // 2 * 2, : w // 2 * 2].reshape(b, h // 2, 2, w // 2, 2, c).max((2, 4))
