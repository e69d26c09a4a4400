"""Generators and discriminators, as Flax modules.

A generator maps latents `z` [B, z_size] to images [B, H, W, C] in the range that its last
activation gives; a discriminator maps images to logits [B]. Both take `train`: batch normalisation
then uses the batch's own moments and updates the running ones, which it uses otherwise. Both take
`keys` [B], one for each example, which dropout draws from; without them nothing is dropped. Where
the batch is split over the devices of a `jax.pmap` or `jax.shard_map` axis, they take its `axis_name`, and
what depends on the batch (its moments, minibatch features) is the whole batch's.

A generator without a dense layer takes a grid of latents too, [B, h, w, z_size], and makes one large
image of it.
"""

from functools import partial

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from jaxgan.layers import (
    BatchNorm,
    Conv,
    ConvTranspose,
    Dense,
    SubPixelConv,
    UpsampleConv,
    append_diff,
    append_similarity,
    depth_to_space,
    dropout,
)


class DigitsGen(nn.Module):
    """The generator for scikit-learn's 8x8 digits: z [B, z_size] -> images [B, 8, 8, 1] in [-1, 1]."""

    @nn.compact
    def __call__(self, z: Array, train: bool, keys: Array | None = None, axis_name: str | None = None) -> Array:
        """Generates one image for each latent."""
        norm = partial(BatchNorm, not train, momentum=0.9, axis_name=axis_name)
        x = Dense(4 * 4 * 64, use_bias=False)(z).reshape(-1, 4, 4, 64)
        x = nn.relu(norm()(x))
        x = Conv(64, 3, use_bias=False)(x)
        x = nn.relu(norm()(x))
        x = depth_to_space(Conv(4 * 32, 3, use_bias=False)(x), 2)
        x = nn.relu(norm()(x))
        return jnp.tanh(Conv(1, 3)(x))


class DigitsDisc(nn.Module):
    """The discriminator for scikit-learn's 8x8 digits: images [B, 8, 8, 1] -> logits [B]."""

    @nn.compact
    def __call__(self, images: Array, train: bool, keys: Array | None = None, axis_name: str | None = None) -> Array:
        """Judges each image."""
        norm = partial(BatchNorm, not train, momentum=0.9, axis_name=axis_name)
        x = nn.leaky_relu(Conv(32, 3)(images), 0.2)
        x = nn.leaky_relu(norm()(Conv(64, 3, 2, use_bias=False)(x)), 0.2)
        x = nn.leaky_relu(norm()(Conv(128, 3, 2, use_bias=False)(x)), 0.2)
        return _flat_logits(x)


class KerasDCGANGen(nn.Module):
    """The generator of "Fast DCGAN in Keras": z [B, 100] -> images [B, 32, 32, 3] in [-1, 1].

    Fully convolutional: z [B, h, w, 100] -> [B, 8 * (h + 3), 8 * (w + 3), 3].
    """

    @nn.compact
    def __call__(self, z: Array, train: bool, keys: Array | None = None, axis_name: str | None = None) -> Array:
        """Generates one image for each latent, or for each grid of them."""
        norm = partial(BatchNorm, not train, axis_name=axis_name)
        x = ConvTranspose(192, 4, padding="VALID")(_as_map(z))
        x = nn.leaky_relu(norm()(x), 0.2)
        for features in (96, 48, 24):
            x = nn.leaky_relu(norm()(ConvTranspose(features, 4, 2)(x)), 0.2)
        return jnp.tanh(ConvTranspose(3, 4)(x))


class KerasDCGANDisc(nn.Module):
    """The discriminator of "Fast DCGAN in Keras": images [B, 32, 32, 3] -> logits [B]."""

    @nn.compact
    def __call__(self, images: Array, train: bool, keys: Array | None = None, axis_name: str | None = None) -> Array:
        """Judges each image, beside the others of its batch."""
        norm = partial(BatchNorm, not train, axis_name=axis_name)
        x = append_diff(nn.leaky_relu(Conv(24, 4, 2)(images), 0.2), axis_name)
        for features in (48, 96, 192):
            x = append_diff(nn.leaky_relu(norm()(Conv(features, 4, 2)(x)), 0.2), axis_name)
        return Conv(1, 2, padding="VALID")(x).reshape(-1)


class KerasMNISTGen(nn.Module):
    """The generator of "GAN by Example using Keras": z [B, 100] -> images [B, 28, 28, 1] in [0, 1]."""

    @nn.compact
    def __call__(self, z: Array, train: bool, keys: Array | None = None, axis_name: str | None = None) -> Array:
        """Generates one image for each latent."""
        norm = partial(BatchNorm, not train, momentum=0.9, axis_name=axis_name)
        x = nn.relu(norm()(Dense(7 * 7 * 256)(z)))
        x = dropout(x.reshape(-1, 7, 7, 256), 0.4, keys, layer=0)
        x = nn.relu(norm()(UpsampleConv(128, 5)(x)))
        x = nn.relu(norm()(UpsampleConv(64, 5)(x)))
        x = nn.relu(norm()(Conv(32, 5)(x)))
        return nn.sigmoid(Conv(1, 5)(x))


class KerasMNISTDisc(nn.Module):
    """The discriminator of "GAN by Example using Keras": images [B, 28, 28, 1] -> logits [B]."""

    @nn.compact
    def __call__(self, images: Array, train: bool, keys: Array | None = None, axis_name: str | None = None) -> Array:
        """Judges each image."""
        x = images
        for layer, (features, stride) in enumerate([(64, 2), (128, 2), (256, 2), (512, 1)]):
            x = dropout(nn.leaky_relu(Conv(features, 5, stride)(x), 0.2), 0.4, keys, layer)
        return _flat_logits(x)


class CantonLSGANGen(nn.Module):
    """The generator of "Fast LSGAN in Canton": z [B, 100] -> images [B, 32, 32, 3] in [-1, 1].

    Fully convolutional: z [B, h, w, 100] -> [B, 32 * h, 32 * w, 3].

    Attributes:
      subpixel: enlarge by sub-pixel convolution (ESPCN), which the document recommends, and not by
        nearest neighbours and a convolution, which it uses.
    """

    subpixel: bool = False

    @nn.compact
    def __call__(self, z: Array, train: bool, keys: Array | None = None, axis_name: str | None = None) -> Array:
        """Generates one image for each latent, or for each grid of them."""
        norm = partial(BatchNorm, not train, axis_name=axis_name)
        enlarge = SubPixelConv if self.subpixel else UpsampleConv
        x = _as_map(z)
        for features, factor in ((256, 4), (128, 2), (64, 2), (32, 2)):
            x = nn.relu(norm()(enlarge(features, 4, factor, use_bias=False)(x)))
        return jnp.tanh(Conv(3, 4)(x))


class CantonLSGANDisc(nn.Module):
    """The discriminator of "Fast LSGAN in Canton": images [B, 32, 32, 3] -> logits [B]."""

    @nn.compact
    def __call__(self, images: Array, train: bool, keys: Array | None = None, axis_name: str | None = None) -> Array:
        """Judges each image, beside the others of its batch."""
        norm = partial(BatchNorm, not train, axis_name=axis_name)
        x = append_similarity(nn.leaky_relu(Conv(32, 4, 2, use_bias=False)(images), 0.2), axis_name)
        for features in (64, 128, 256):
            x = norm()(Conv(features, 4, 2, use_bias=False)(x))
            x = append_similarity(nn.leaky_relu(x, 0.2), axis_name)
        return Conv(1, 2, padding="VALID")(x).reshape(-1)


class TF2GANGen(nn.Module):
    """The dense generator of "GAN and DCGAN in Tensorflow": z [B, 100] -> images [B, 28, 28, 1] in [-1, 1]."""

    @nn.compact
    def __call__(self, z: Array, train: bool, keys: Array | None = None, axis_name: str | None = None) -> Array:
        """Generates one image for each latent."""
        x = nn.leaky_relu(Dense(128)(z), 0.01)
        return jnp.tanh(Dense(28 * 28)(x)).reshape(-1, 28, 28, 1)


class TF2GANDisc(nn.Module):
    """The dense discriminator of "GAN and DCGAN in Tensorflow": images [B, 28, 28, 1] -> logits [B]."""

    @nn.compact
    def __call__(self, images: Array, train: bool, keys: Array | None = None, axis_name: str | None = None) -> Array:
        """Judges each image."""
        x = nn.leaky_relu(Dense(128)(images.reshape(images.shape[0], -1)), 0.01)
        return _flat_logits(x)


class TF2DCGANGen(nn.Module):
    """The DCGAN generator of "GAN and DCGAN in Tensorflow": z [B, 100] -> images [B, 28, 28, 1] in [-1, 1]."""

    @nn.compact
    def __call__(self, z: Array, train: bool, keys: Array | None = None, axis_name: str | None = None) -> Array:
        """Generates one image for each latent."""
        norm = partial(BatchNorm, not train, axis_name=axis_name)
        x = Dense(7 * 7 * 256, use_bias=False)(z)
        x = nn.leaky_relu(norm()(x), 0.3).reshape(-1, 7, 7, 256)
        x = ConvTranspose(128, 5, 1, use_bias=False)(x)
        x = nn.leaky_relu(norm()(x), 0.3)
        x = ConvTranspose(64, 5, 2, use_bias=False)(x)
        x = nn.leaky_relu(norm()(x), 0.3)
        return jnp.tanh(ConvTranspose(1, 5, 2, use_bias=False)(x))


class TF2DCGANDisc(nn.Module):
    """The DCGAN discriminator of "GAN and DCGAN in Tensorflow": images [B, 28, 28, 1] -> logits [B]."""

    @nn.compact
    def __call__(self, images: Array, train: bool, keys: Array | None = None, axis_name: str | None = None) -> Array:
        """Judges each image."""
        norm = partial(BatchNorm, not train, axis_name=axis_name)
        x = nn.leaky_relu(Conv(32, 3, 2)(images), 0.01)
        x = nn.leaky_relu(norm()(Conv(64, 3, 2)(x)), 0.01)
        x = nn.leaky_relu(norm()(Conv(128, 3, 2)(x)), 0.01)
        return _flat_logits(x)


class GANElementsGen(nn.Module):
    """The generator of "The Elements of GANs, Part 1": z [B, 64] -> images [B, 32, 32, 1] in [-1, 1]."""

    @nn.compact
    def __call__(self, z: Array, train: bool, keys: Array | None = None, axis_name: str | None = None) -> Array:
        """Generates one image for each latent."""
        norm = partial(BatchNorm, not train, momentum=0.8, axis_name=axis_name)
        x = nn.leaky_relu(Dense(8 * 8 * 256)(z), 0.2).reshape(-1, 8, 8, 256)
        for features in (128, 64):
            x = nn.leaky_relu(norm()(UpsampleConv(features, 3)(x)), 0.2)
        return jnp.tanh(Conv(1, 3)(x))


class GANElementsDisc(nn.Module):
    """The discriminator of "The Elements of GANs, Part 1": images [B, 32, 32, 1] -> logits [B]."""

    @nn.compact
    def __call__(self, images: Array, train: bool, keys: Array | None = None, axis_name: str | None = None) -> Array:
        """Judges each image."""
        x = images
        for features, stride in ((64, 1), (128, 2), (256, 2)):
            x = nn.leaky_relu(Conv(features, 3, stride)(x), 0.2)
        return _flat_logits(x)


def _as_map(z: Array) -> Array:
    """Latents as a map: [B, z_size] -> [B, 1, 1, z_size]; a grid of them is one already."""
    return z.reshape(z.shape[0], 1, 1, -1) if z.ndim == 2 else z


def _flat_logits(x: Array) -> Array:
    """A dense layer over all of each example's values: [B, ...] -> logits [B]."""
    return Dense(1)(x.reshape(x.shape[0], -1))[:, 0]
