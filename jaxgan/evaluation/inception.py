"""InceptionV3 as the Fréchet inception distance uses it, whose features and logits score RGB images.

The network is that of Szegedy et al. 2015, arXiv:1512.00567, as TensorFlow published it on 5 December 2015. Heusel et
al. 2017, arXiv:1706.08500, measure FID with its features, so its peculiarities are kept:

- images are resized as TensorFlow 1 did, with no half-pixel centres;
- average pooling divides by the pixels within the map alone;
- the pooling branch of the last block takes the maximum, where all others of its kind take the mean;
- there are 1008 classes, of which 1000 are ImageNet's.

Modules are named as in PyTorch's InceptionV3. `jaxgan.evaluation.inception_weights` reads its weights.
"""

from collections.abc import Callable, Iterable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

SIZE = 299  # height and width of the images that the network sees
CLASSES = 1008

Layer = Callable[[jax.Array], jax.Array]
Kernel = int | tuple[int, int]


class InceptionV3(nn.Module):
    """Images -> the 2048 features of FID, and the logits of the inception score.

    Variables are `params` and `batch_stats`, in float32. Batch normalisation always uses its running averages.
    Every image takes about 35 MB while it is in the network, so many of them are best given in pieces.

    Attributes:
      biased: whether logits contain the bias of the last layer. The inception score leaves it out, as the script of
        Salimans et al. 2016, arXiv:1606.03498, did: it multiplied features by the last layer's weights alone.
    """

    biased: bool = False

    @nn.compact
    def __call__(self, images: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Features and logits.

        Args:
          images: [B, H, W, 3] of any size, uint8, or floats from 0 to 255.

        Returns:
          Features [B, 2048], the mean over the last map, none below 0; and logits [B, 1008]; both float32.

        Raises:
          ValueError: where images are not [B, H, W, 3].
        """
        if images.ndim != 4 or images.shape[-1] != 3:
            raise ValueError(f"InceptionV3 takes RGB images [B, H, W, 3], not {list(images.shape)}")
        x = (resize(images, SIZE, SIZE) - 128) / 128
        x = chain(STEM, x)
        for name, block in BLOCKS.items():
            x = Block(block, name=name)(x)
        features = x.mean((1, 2))
        return features, nn.Dense(CLASSES, self.biased, precision=lax.Precision.HIGHEST, name="fc")(features)


def resize(images: jax.Array, height: int, width: int) -> jax.Array:
    """Bilinear resizing as in TensorFlow 1: [B, H, W, C] -> [B, height, width, C], float32.

    Row i is taken at i * H / height of the image, and columns alike: corners are not aligned, pixels have no
    half-pixel centres, and nothing is smoothed where an image is made smaller. This is `tf.image.resize_bilinear`
    with its defaults.

    Args:
      images: of any type of number.
      height: of the result.
      width: of the result.
    """
    return _resize_axis(_resize_axis(images.astype(jnp.float32), 2, width), 1, height)


def _resize_axis(x: jax.Array, axis: int, size: int) -> jax.Array:
    # The positions are computed in float32, as in TensorFlow.
    position = np.arange(size, dtype=np.float32) * np.float32(x.shape[axis] / size)
    low = np.minimum(position.astype(int), x.shape[axis] - 1)
    high = np.minimum(low + 1, x.shape[axis] - 1)
    weight = np.expand_dims(position - low.astype(np.float32), [i for i in range(x.ndim) if i != axis])
    low, high = jnp.take(x, low, axis), jnp.take(x, high, axis)
    return low + (high - low) * weight


class ConvNorm(nn.Module):
    """A convolution without bias, batch normalisation, and ReLU: [B, H, W, C] -> [B, H', W', features]."""

    features: int
    kernel: tuple[int, int]
    stride: int
    padding: str

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        # A GPU or TPU would otherwise round what it multiplies, and scores would depend on the device.
        precision, strides = lax.Precision.HIGHEST, (self.stride, self.stride)
        x = nn.Conv(
            self.features, self.kernel, strides, self.padding, use_bias=False, precision=precision, name="conv"
        )(x)
        return nn.relu(nn.BatchNorm(use_running_average=True, epsilon=1e-3, name="bn")(x))


class Block(nn.Module):
    """A layer under a name, which those within it share: Mixed_5b of Mixed_5b.branch1x1."""

    layer: Layer

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return self.layer(x)


def conv(name: str, features: int, kernel: Kernel = 1, stride: int = 1, padding: str | None = None) -> Layer:
    """A `ConvNorm`, made where it is called; by default padded (SAME) unless it has a stride (VALID)."""
    size = (kernel, kernel) if isinstance(kernel, int) else kernel
    padding = padding or ("SAME" if stride == 1 else "VALID")
    return lambda x: ConvNorm(features, size, stride, padding, name=name)(x)


def convs(name: str, *sizes: tuple[int, Kernel], stride: int = 1) -> list[Layer]:
    """Convolutions name_1, name_2, …, each of (features, kernel); the last one has the stride."""
    strides = [1] * (len(sizes) - 1) + [stride]
    return [
        conv(f"{name}_{i}", *size, stride) for i, (size, stride) in enumerate(zip(sizes, strides, strict=True), start=1)
    ]


def chain(layers: Iterable[Layer], x: jax.Array) -> jax.Array:
    """Applies one layer after another."""
    for layer in layers:
        x = layer(x)
    return x


def fork(*branches: list[Layer]) -> Layer:
    """Chains of layers that all see the same map; their channels are put side by side."""
    return lambda x: jnp.concatenate([chain(branch, x) for branch in branches], axis=-1)


def shrinking_max_pool(x: jax.Array) -> jax.Array:
    """The largest of 3x3 pixels, at every second pixel, with no padding."""
    return nn.max_pool(x, (3, 3), (2, 2), "VALID")


def max_pool(x: jax.Array) -> jax.Array:
    """The largest of the 3x3 pixels around each."""
    return nn.max_pool(x, (3, 3), (1, 1), "SAME")


def mean_pool(x: jax.Array) -> jax.Array:
    """The mean of the 3x3 pixels around each; beyond the border there are none, so fewer are averaged there."""
    return nn.avg_pool(x, (3, 3), (1, 1), "SAME", count_include_pad=False)


def _block_5(pool_features: int) -> Layer:
    """35x35 pixels."""
    return fork(
        [conv("branch1x1", 64)],
        convs("branch5x5", (48, 1), (64, 5)),
        convs("branch3x3dbl", (64, 1), (96, 3), (96, 3)),
        [mean_pool, conv("branch_pool", pool_features)],
    )


def _block_6a() -> Layer:
    """From 35x35 to 17x17 pixels."""
    return fork(
        [conv("branch3x3", 384, 3, stride=2)],
        convs("branch3x3dbl", (64, 1), (96, 3), (96, 3), stride=2),
        [shrinking_max_pool],
    )


def _block_6(width: int) -> Layer:
    """17x17 pixels: kernels of 7x7 as a row and a column."""
    row, column = (1, 7), (7, 1)
    return fork(
        [conv("branch1x1", 192)],
        convs("branch7x7", (width, 1), (width, row), (192, column)),
        convs("branch7x7dbl", (width, 1), (width, column), (width, row), (width, column), (192, row)),
        [mean_pool, conv("branch_pool", 192)],
    )


def _block_7a() -> Layer:
    """From 17x17 to 8x8 pixels."""
    return fork(
        convs("branch3x3", (192, 1), (320, 3), stride=2),
        convs("branch7x7x3", (192, 1), (192, (1, 7)), (192, (7, 1)), (192, 3), stride=2),
        [shrinking_max_pool],
    )


def _block_7(pool: Layer) -> Layer:
    """8x8 pixels: branches that fork once more."""

    def row_and_column(name: str) -> Layer:
        return fork([conv(f"{name}a", 384, (1, 3))], [conv(f"{name}b", 384, (3, 1))])

    return fork(
        [conv("branch1x1", 320)],
        [conv("branch3x3_1", 384), row_and_column("branch3x3_2")],
        [*convs("branch3x3dbl", (448, 1), (384, 3)), row_and_column("branch3x3dbl_3")],
        [pool, conv("branch_pool", 192)],
    )


STEM = (  # from 299x299 to 35x35 pixels
    conv("Conv2d_1a_3x3", 32, 3, stride=2),
    conv("Conv2d_2a_3x3", 32, 3, padding="VALID"),
    conv("Conv2d_2b_3x3", 64, 3),
    shrinking_max_pool,
    conv("Conv2d_3b_1x1", 80),
    conv("Conv2d_4a_3x3", 192, 3, padding="VALID"),
    shrinking_max_pool,
)
BLOCKS = {
    "Mixed_5b": _block_5(pool_features=32),
    "Mixed_5c": _block_5(pool_features=64),
    "Mixed_5d": _block_5(pool_features=64),
    "Mixed_6a": _block_6a(),
    "Mixed_6b": _block_6(width=128),
    "Mixed_6c": _block_6(width=160),
    "Mixed_6d": _block_6(width=160),
    "Mixed_6e": _block_6(width=192),
    "Mixed_7a": _block_7a(),
    "Mixed_7b": _block_7(mean_pool),
    "Mixed_7c": _block_7(max_pool),
}
