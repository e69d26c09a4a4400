"""The networks of StyleGAN2 (Karras et al. 2020, arXiv:1912.04958), configuration F.

Both have one stage for each size, from 4x4 on, or another `base`: `widths` are the channels of the stages in that
order, which the generator goes through upwards and the discriminator downwards. As published, a stage of r pixels a
side has min(32768 / r, 512) channels, half as many of 64 pixels and more in the settings of StyleGAN2-ADA for less than
512 pixels (arXiv:2006.06676, appendix C).

Kernels start as N(0, 1), and are divided by the root of their fan-in where they are used (equalised learning rates,
arXiv:1710.10196). Activations are leaky ReLUs of slope 0.2, times sqrt(2).
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype
from jax import Array

from jaxgan.convolutions import conv, conv_transpose
from jaxgan.networks.layers import Context, flat
from jaxgan.networks.minibatch_features import append_deviation
from jaxgan.networks.resampling import downsample, smooth, upsample

EPSILON = 1e-8


class StyleGAN2Gen(nn.Module):
    """The generator: z [B, z_size] -> images [B, H, H, channels] without a last activation, and their styles.

    `styles` maps a latent to w, and `synthesize` makes an image of a w for each layer. In training two latents may be
    mixed: layers from a random one on then have the w of another latent (section 3.3 of arXiv:1812.04948). Noise is
    drawn from the context's keys; without keys it is the same for all images.

    Attributes:
      widths: the channels of each stage.
      w_size: the length of w.
      layers: of the mapping from z to w.
      classes: where not 0, an embedding of the label, as long as w, stands beside z.
      channels: of the images.
      mixing: the share of images that are mixed in training.
      base: height and width of the first stage.
    """

    widths: tuple[int, ...] = (512, 512, 512, 512, 256, 128, 64)
    w_size: int = 512
    layers: int = 2
    classes: int = 0
    channels: int = 3
    mixing: float = 0.9
    base: tuple[int, int] = (4, 4)

    def setup(self):
        self.mapping = Mapping(self.w_size, self.layers, self.classes)
        self.synthesis = Synthesis(self.widths, self.channels, self.base)

    def __call__(self, z: Array, labels: Array | None, context: Context) -> tuple[Array, Array]:
        """The images, and w [B, layers of the synthesis, w_size]."""
        w = self.styles(z, labels, context)
        return self.synthesize(w, context), w

    def styles(self, z: Array, labels: Array | None, context: Context) -> Array:
        """Z [B, z_size] -> w [B, layers of the synthesis, w_size]: of all layers the same, but for mixing."""
        count = 2 * len(self.widths)
        w = jnp.repeat(self.mapping(z, labels)[:, None], count, axis=1)
        if not (context.train and context.keys is not None and self.mixing):
            return w

        def draw(key: Array) -> tuple[Array, Array]:
            of_z, of_first, of_whether = (jax.random.fold_in(key, i) for i in range(3))
            first = jax.random.randint(of_first, (), 1, count)
            mixed = jax.random.uniform(of_whether) < self.mixing
            return jax.random.normal(of_z, z.shape[1:], z.dtype), jnp.where(mixed, first, count)

        other, first = jax.vmap(draw)(context.keys)
        of_other = self.mapping(other, labels)[:, None]
        return jnp.where((jnp.arange(count)[None] < first[:, None])[..., None], w, of_other)

    def synthesize(self, w: Array, context: Context) -> Array:
        """W [B, w_size], or one for each layer, [B, layers of the synthesis, w_size] -> images."""
        if w.ndim == 2:
            w = jnp.repeat(w[:, None], 2 * len(self.widths), axis=1)
        return self.synthesis(w, context)


class StyleGAN2Disc(nn.Module):
    """The discriminator: images [B, H, H, C] -> logits [B].

    Residual blocks down to the first stage; there the standard deviation over groups of consecutive images is one more
    channel. Attributes are the generator's. With classes the logit is the product of what would be the logit, w_size
    values, with a mapped embedding of the label, divided by sqrt(w_size) (projection, Miyato and Koyama 2018,
    arXiv:1802.05637).

    Attributes:
      group: images in a group; all where there are fewer.
    """

    widths: tuple[int, ...] = (512, 512, 512, 512, 256, 128, 64)
    w_size: int = 512
    layers: int = 8
    classes: int = 0
    group: int = 4

    @nn.compact
    def __call__(self, images: Array, labels: Array | None, context: Context) -> Array:
        x = activate(EqualConv(self.widths[-1], 1)(images))
        for stage in range(len(self.widths) - 1, 0, -1):
            width, narrower = self.widths[stage], self.widths[stage - 1]
            skip = EqualConv(narrower, 1, use_bias=False)(downsample(x))
            y = activate(EqualConv(width, 3)(x))
            y = activate(EqualConv(narrower, 3, down=True)(y))
            x = (y + skip) / math.sqrt(2)
        x = append_deviation(x, min(self.group, x.shape[0]))
        x = activate(EqualConv(self.widths[0], 3)(x))
        x = activate(EqualDense(self.widths[0])(flat(x)))
        if not self.classes:
            return EqualDense(1)(x)[:, 0]
        of_class = Mapping(self.w_size, self.layers, self.classes)(None, labels)
        return jnp.sum(EqualDense(self.w_size)(x) * of_class, axis=1) / math.sqrt(self.w_size)


class Mapping(nn.Module):
    """The mapping network: z [B, z_size], or a label, or both -> w [B, w_size].

    z and the embedding are scaled to a mean square of 1. The layers' learning rates are a hundredth of the others'.
    """

    w_size: int
    layers: int
    classes: int

    @nn.compact
    def __call__(self, z: Array | None, labels: Array | None) -> Array:
        parts = [] if z is None else [normalized(z)]
        if self.classes:
            one_hot = jax.nn.one_hot(labels, self.classes, dtype=jnp.float32 if z is None else z.dtype)
            parts.append(normalized(EqualDense(self.w_size)(one_hot)))
        x = jnp.concatenate(parts, axis=1)
        for _ in range(self.layers):
            x = activate(EqualDense(self.w_size, rate=0.01)(x))
        return x


class Synthesis(nn.Module):
    """w for each layer, [B, 2 * stages, w_size] -> images: the sum of what each stage adds, enlarged step by step."""

    widths: tuple[int, ...]
    channels: int
    base: tuple[int, int]

    @nn.compact
    def __call__(self, w: Array, context: Context) -> Array:
        constant = self.param("constant", nn.initializers.normal(1.0), (*self.base, self.widths[0]), jnp.float32)
        x = jnp.broadcast_to(constant.astype(w.dtype), (w.shape[0], *constant.shape))
        image, layer = jnp.zeros((1, 1, 1, 1), w.dtype), 0
        for stage, width in enumerate(self.widths):
            for up in (True, False) if stage else (False,):
                x = ModulatedConv(width, 3, up)(x, w[:, layer])
                strength = self.param(f"noise_{layer}", nn.initializers.zeros, (), jnp.float32)
                x = x + strength.astype(x.dtype) * noise(x.shape, layer, context).astype(x.dtype)
                x = activate(Bias()(x))
                layer += 1
            # The layer that follows has the same w.
            of_stage = Bias()(ModulatedConv(self.channels, 1, demodulate=False)(x, w[:, layer]))
            image = upsample(image) + of_stage if stage else of_stage
        return image


class ModulatedConv(nn.Module):
    """A convolution whose channels are scaled by a style: x [B, H, W, C], w [B, w_size] -> [B, H, W, features].

    A kernel for each image is never made: scaling the channels of x is scaling those of the kernel, and so with the
    features, which are divided by the norm of their scaled kernel (demodulated; section 2.2).

    Attributes:
      features: of the output.
      kernel_size: of both axes.
      up: whether the output is twice as large: zeros between the pixels, the convolution, and a smooth filter.
      demodulate: whether features are divided by that norm.
    """

    features: int
    kernel_size: int
    up: bool = False
    demodulate: bool = True

    @nn.compact
    def __call__(self, x: Array, w: Array) -> Array:
        style = EqualDense(x.shape[3], bias=1.0)(w)
        kernel = equal_kernel(self, (self.kernel_size, self.kernel_size, x.shape[3], self.features))
        x, style, kernel = promote_dtype(x, style, kernel)
        scaled = x * style[:, None, None]
        y = smooth(conv_transpose(scaled, 4 * kernel, 2, "VALID"), 1) if self.up else conv(scaled, kernel)
        if not self.demodulate:
            return y
        squares = jnp.square(style) @ jnp.sum(jnp.square(kernel), axis=(0, 1))
        return y * jax.lax.rsqrt(squares + EPSILON)[:, None, None]


class EqualConv(nn.Module):
    """A convolution with an equalised learning rate; `down` halves the size, after a smooth filter."""

    features: int
    kernel_size: int
    use_bias: bool = True
    down: bool = False

    @nn.compact
    def __call__(self, x: Array) -> Array:
        kernel = equal_kernel(self, (self.kernel_size, self.kernel_size, x.shape[3], self.features))
        x, kernel = promote_dtype(x, kernel)
        y = conv(smooth(x, 2), kernel, 2, "VALID") if self.down else conv(x, kernel)
        return Bias()(y) if self.use_bias else y


class EqualDense(nn.Module):
    """A dense layer with an equalised learning rate: [B, values] -> [B, features].

    Attributes:
      features: of the output.
      bias: what the bias starts at.
      rate: what its learning rate is multiplied by: the kernel starts as N(0, 1 / rate^2), and is used times `rate`.
    """

    features: int
    bias: float = 0.0
    rate: float = 1.0

    @nn.compact
    def __call__(self, x: Array) -> Array:
        kernel = equal_kernel(self, (x.shape[1], self.features), self.rate)
        bias = self.param("bias", nn.initializers.constant(self.bias), (self.features,), jnp.float32)
        x, kernel, bias = promote_dtype(x, kernel, bias)
        return x @ kernel + self.rate * bias[None]


class Bias(nn.Module):
    """A bias for each channel: [B, H, W, C] -> the same."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        bias = self.param("bias", nn.initializers.zeros, (x.shape[-1],), jnp.float32)
        return x + bias.astype(x.dtype)[None, None, None]


def equal_kernel(layer: nn.Module, shape: tuple[int, ...], rate: float = 1.0) -> Array:
    """A kernel as it is used, of a parameter that starts as N(0, 1 / rate^2); all axes but the last are its fan-in."""
    kernel = layer.param("kernel", nn.initializers.normal(1 / rate), shape, jnp.float32)
    return kernel * (rate / math.sqrt(math.prod(shape[:-1])))


def noise(shape: tuple[int, ...], layer: int, context: Context) -> Array:
    """N(0, 1) for each pixel of maps of a shape [B, H, W, C]: [B, H, W, 1], or [1, H, W, 1] without keys."""
    size = (*shape[1:3], 1)
    if context.keys is None:
        with jax.ensure_compile_time_eval():  # a constant, for programs that cannot draw by a key, as ONNX
            return jax.random.normal(jax.random.fold_in(jax.random.key(0), layer), (1, *size))
    return jax.vmap(lambda key: jax.random.normal(jax.random.fold_in(key, 3 + layer), size))(context.keys)


def normalized(x: Array) -> Array:
    """Vectors [B, n] with a mean square of 1."""
    return x * jax.lax.rsqrt(jnp.mean(jnp.square(x), axis=1, keepdims=True) + EPSILON)


def activate(x: Array) -> Array:
    """A leaky ReLU of slope 0.2, times sqrt(2)."""
    return math.sqrt(2) * nn.leaky_relu(x, 0.2)
