"""One convolution in the forms that are fast on a CPU: each pass, forward and back, in its own.

XLA's CPU convolution takes up to three hundred times as long as the arithmetic where the kernel is as large as the map,
where the output is larger than the input, where there are few channels, and, inside a loop, in every gradient of a
kernel. These forms replace it where `python -m experiments.bench.convolutions` has measured that they are faster:

native       XLA's own, in the one arrangement of axes that it runs fast everywhere
patches      one matrix product of all patches with the kernel
lines        one product in which x is shifted by columns and y by rows, for a gradient of the kernel
rows, taps   one product for each row of taps, or for each tap, for a gradient of the kernel
phases       a convolution of stride 1 instead of one with a larger stride
frequencies  products of Fourier coefficients, of which small maps with large kernels need few

Patches are copies. They are made of a few images of a batch at a time, so that they are still in the cache when they
are multiplied. Each form is equal to `lax.conv_general_dilated` up to rounding.
"""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxgan.convolutions import frequencies, phases
from jaxgan.convolutions.frequencies import conv_by_frequencies, kernel_gradient_by_frequencies
from jaxgan.convolutions.linear import Map, Maps, Pads, Shape, Sizes, differentiable, some
from jaxgan.convolutions.phases import flip

NARROW = 64  # values in a patch, of x or of y: of so few channels that native forms waste most of their width
FEW = 48  # features, for which a copy of each patch takes longer than what it is multiplied with
THIN = 16  # channels and features up to which a product of lines copies less than one for each row
WIDE = 48  # channels, with which a product for each tap has enough to do
CACHE = 2_400_000  # values in all patches of a batch, up to which they are made at once
CHUNK = CACHE // 2  # values, about, that are made at a time where there are more
BATCH = 64  # examples that a batch is taken to have where its size is not known


def conv_form(x: jax.Array, kernel: jax.Array, stride: int, pads: Pads) -> Map:
    """The fast form of (x, kernel, stride, pads) -> y; of the arrays, here and below, only the shapes matter."""
    shape, (k_h, k_w, c, features) = _known(x.shape), kernel.shape
    if frequencies.save_work(shape, kernel.shape, stride, pads):
        return conv_by_frequencies if stride == 1 else conv_by_phases
    # Patches of one pixel are the map itself.
    small = k_h * k_w == 1 or min(shape[1:3]) <= max(k_h, k_w) or k_h * k_w * c <= NARROW
    return conv_by_patches if small or features > FEW else native_conv


def conv_transpose_form(y: jax.Array, kernel: jax.Array, stride: int, pads: Pads, sizes: Sizes) -> Map:
    """The fast form of (y, kernel, stride, pads, sizes) -> x."""
    if stride == 1:
        return conv_transpose_by_flipping
    shape, (k, _, c, _) = _known(y.shape), kernel.shape
    # Where the stride divides the kernel, phases have as many taps; elsewhere some of theirs are zeros.
    large = k % stride == 0 and math.prod(shape[:3]) * math.prod(kernel.shape[:3]) > CACHE // 3
    if large or frequencies.save_work((shape[0], *sizes, c), kernel.shape, stride, pads):
        return conv_transpose_by_phases
    return conv_transpose_by_patches


def kernel_gradient_form(x: jax.Array, y: jax.Array, stride: int, pads: Pads, taps: Sizes) -> Map:
    """The fast form of (x, y, stride, pads, taps) -> kernel."""
    shape, features, (k_h, k_w) = _known(x.shape), y.shape[3], taps
    if frequencies.save_work(shape, (*taps, shape[3], features), stride, pads):
        return kernel_gradient_by_frequencies if stride == 1 else kernel_gradient_by_phases
    if stride == 1 and k_h * k_w * features <= NARROW:
        return kernel_gradient_by_patches_of_y
    if stride == 1 and max(shape[3], features) <= THIN and k_h > 1:
        return kernel_gradient_by_lines
    # XLA's own is slower on larger maps, and ten times and more where y is larger than x.
    if max(k_h, k_w) > 4 and max(y.shape[1:3]) <= min(shape[1:3]) <= 16:
        return native_kernel_gradient
    return kernel_gradient_by_taps if shape[3] >= WIDE and k_w > 3 else kernel_gradient_by_rows


def _fast(form: Callable[..., Map]) -> Map:
    return lambda *args: form(*args)(*args)


# Each of the three in its fast form.
MAPS = differentiable(Maps(_fast(conv_form), _fast(conv_transpose_form), _fast(kernel_gradient_form)))
conv, conv_transpose, kernel_gradient = MAPS


def _known(shape: Shape) -> Shape:
    """A map's shape, with a size in place of a symbolic batch size, of which one cannot ask which of two is larger."""
    return (shape[0] if isinstance(shape[0], int) else BATCH, *shape[1:])


def native_conv(x: jax.Array, kernel: jax.Array, stride: int, pads: Pads, groups: int = 1) -> jax.Array:
    """XLA's own; of several groups, the channels and features of each lie behind those of the one before."""
    axes = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(
        x, kernel, (stride, stride), pads, dimension_numbers=axes, feature_group_count=groups
    )


def native_kernel_gradient(x: jax.Array, y: jax.Array, stride: int, pads: Pads, taps: Sizes) -> jax.Array:
    """The gradient of the kernel, as XLA's convolution of x with y: channels are its batch.

    Transposed by hand, since XLA does it for gradients outside of loops only.
    """
    sizes = zip(pads, y.shape[1:3], taps, x.shape[1:3], strict=True)
    gradient = lax.conv_general_dilated(
        x.transpose(3, 1, 2, 0),
        y.transpose(1, 2, 0, 3),
        (1, 1),
        [(low, (out - 1) * stride + k - size - low) for (low, _), out, k, size in sizes],
        rhs_dilation=(stride, stride),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    return gradient.transpose(1, 2, 0, 3)


def conv_by_patches(x: jax.Array, kernel: jax.Array, stride: int, pads: Pads) -> jax.Array:
    """One product, of all patches with the kernel; or one for each chunk of the batch."""
    h, w = _sizes_after(x.shape[1:3], kernel.shape[:2], stride, pads)
    one = functools.partial(_product_of_patches, kernel=kernel, stride=stride, pads=pads)
    return _in_chunks(one, x, _values_in_patches((h, w), kernel.shape[:2], kernel.shape[2]))


def conv_transpose_by_patches(y: jax.Array, kernel: jax.Array, stride: int, pads: Pads, sizes: Sizes) -> jax.Array:
    """The gradients of all patches, added up, in chunks of the batch too."""

    def one(y: jax.Array) -> jax.Array:
        x = some((y.shape[0], *sizes, kernel.shape[2]), y)
        return jax.linear_transpose(lambda x: _product_of_patches(x, kernel, stride, pads), x)(y)[0]

    return _in_chunks(one, y, _values_in_patches(y.shape[1:3], kernel.shape[:2], kernel.shape[2]))


def _product_of_patches(x: jax.Array, kernel: jax.Array, stride: int, pads: Pads) -> jax.Array:
    patches = _rows_of_patches(x, kernel.shape[:2], stride, pads)
    shape = patches[0].shape
    patches = jnp.concatenate(patches, axis=-1).reshape(-1, len(patches) * shape[-1])
    return (patches @ kernel.reshape(patches.shape[1], -1)).reshape(*shape[:3], -1)


def kernel_gradient_by_lines(x: jax.Array, y: jax.Array, stride: int, pads: Pads, taps: Sizes) -> jax.Array:
    """One product, of lines of k_w pixels of x with k_h rows of y, for stride 1.

    Padded pixel (r, q + j) of x meets pixel (r - i, q) of y at tap (i, j): x is shifted by columns, and y by rows.
    """
    (k_h, k_w), c, features = taps, x.shape[3], y.shape[3]

    def one(x: jax.Array, y: jax.Array) -> jax.Array:
        (lines,) = _rows_of_patches(x, (1, k_w), stride, pads)
        rows = jnp.concatenate([jnp.pad(y, ((0, 0), (i, k_h - 1 - i), (0, 0), (0, 0))) for i in range(k_h)], axis=-1)
        return lines.reshape(-1, k_w * c).T @ rows.reshape(-1, k_h * features)

    gradient = sum_over_chunks(one, x, y, values_in_lines(y.shape[1:3], taps, c, features))
    return gradient.reshape(k_w, c, k_h, features).transpose(2, 0, 1, 3)


def kernel_gradient_by_rows(x: jax.Array, y: jax.Array, stride: int, pads: Pads, taps: Sizes) -> jax.Array:
    """A product for each row of taps, of the patches, one row high, with y."""
    return _kernel_gradient_of(_rows_of_patches, x, y, stride, pads, taps)


def kernel_gradient_by_taps(x: jax.Array, y: jax.Array, stride: int, pads: Pads, taps: Sizes) -> jax.Array:
    """A product for each tap, of the pixels that it meets with y."""
    return _kernel_gradient_of(_pixels_of_taps, x, y, stride, pads, taps)


def _kernel_gradient_of(
    parts: Callable[..., list[jax.Array]], x: jax.Array, y: jax.Array, stride: int, pads: Pads, taps: Sizes
) -> jax.Array:
    """The products of parts of all patches with y, summed over chunks of the batch."""

    def one(x: jax.Array, y: jax.Array) -> jax.Array:
        y = y.reshape(-1, y.shape[-1])
        return jnp.stack([_transposed_product(a.reshape(y.shape[0], -1), y) for a in parts(x, taps, stride, pads)])

    gradient = sum_over_chunks(one, x, y, _values_in_patches(y.shape[1:3], taps, x.shape[3]))
    return gradient.reshape(*taps, x.shape[3], y.shape[3])


def _transposed_product(a: jax.Array, b: jax.Array) -> jax.Array:
    """a.T @ b, in half the time where a is wide."""
    return (b.T @ a).T if a.shape[1] > b.shape[1] else a.T @ b


def _values_in_patches(sizes: Sizes, taps: Sizes, channels: int) -> int:
    """Of one example whose output has `sizes`; none where the patches are single pixels, and so no copies."""
    return math.prod((*sizes, *taps, channels)) if math.prod(taps) > 1 else 0


def values_in_lines(sizes: Sizes, taps: Sizes, channels: int, features: int) -> int:
    """Of one example whose output has `sizes`: of x and of y, as `kernel_gradient_by_lines` multiplies them."""
    (h, w), (k_h, k_w) = sizes, taps
    return (h + k_h - 1) * w * (k_w * channels + k_h * features)


def _chunk_size(batch: int, values: int) -> int:
    """How many examples are taken at a time, of so many values each in patches; all where a batch has no known size."""
    if not isinstance(batch, int) or batch * values <= CACHE:
        return batch
    most = max(1, CHUNK // values)
    even = next(n for n in range(most, 0, -1) if batch % n == 0)  # of which none is left over, to be copied
    return even if 2 * even >= most else most


def _in_chunks(function: Map, x: jax.Array, values: int) -> jax.Array:
    """A function of a batch, some examples at a time."""
    n = _chunk_size(x.shape[0], values)
    return function(x) if n == x.shape[0] else lax.map(lambda one: function(one[None])[0], x, batch_size=n)


def sum_over_chunks(function: Map, x: jax.Array, y: jax.Array, values: int) -> jax.Array:
    """A function of two batches that is a sum over the examples, some of them at a time, of so many values each."""
    batch = x.shape[0]
    n = _chunk_size(batch, values)
    if n == batch:
        return function(x, y)
    full, rest = batch // n, batch % n
    chunks = [a[: full * n].reshape(full, n, *a.shape[1:]) for a in (x, y)]
    shape = jax.eval_shape(function, x, y).shape
    total, _ = lax.scan(lambda sum, chunk: (sum + function(*chunk), None), jnp.zeros_like(y, shape=shape), chunks)
    return total + function(x[-rest:], y[-rest:]) if rest else total


def kernel_gradient_by_patches_of_y(x: jax.Array, y: jax.Array, stride: int, pads: Pads, taps: Sizes) -> jax.Array:
    """One product, of x with all patches of y, for few features and stride 1.

    At output pixel o, tap t multiplies input pixel o - low + t: from an input pixel the taps are seen in reverse order.
    """
    patches = _rows_of_patches(y, taps, 1, _flipped_pads(y, pads, taps, x.shape[1:3]))
    patches = jnp.concatenate(patches, axis=-1).reshape(-1, *taps, y.shape[-1])
    patches = patches[:, ::-1, ::-1].reshape(patches.shape[0], -1)
    gradient = x.reshape(patches.shape[0], -1).T @ patches
    return gradient.reshape(-1, *taps, y.shape[-1]).transpose(1, 2, 0, 3)


def conv_transpose_by_flipping(y: jax.Array, kernel: jax.Array, stride: int, pads: Pads, sizes: Sizes) -> jax.Array:
    """The convolution of y with the kernel flipped, for stride 1."""
    return conv(y, flip(kernel), 1, _flipped_pads(y, pads, kernel.shape[:2], sizes))


def conv_transpose_by_phases(y: jax.Array, kernel: jax.Array, stride: int, pads: Pads, sizes: Sizes) -> jax.Array:
    """The convolution of y whose outputs are the phases of x, for a larger stride."""
    return phases.conv_transpose_by_phases(conv, y, kernel, stride, pads, sizes)


def conv_by_phases(x: jax.Array, kernel: jax.Array, stride: int, pads: Pads) -> jax.Array:
    """The transpose of `conv_transpose_by_phases` in y: one convolution of the phases of x."""
    sizes = _sizes_after(x.shape[1:3], kernel.shape[:2], stride, pads)
    y = some((x.shape[0], *sizes, kernel.shape[3]), x)
    return jax.linear_transpose(lambda y: conv_transpose_by_phases(y, kernel, stride, pads, x.shape[1:3]), y)(x)[0]


def kernel_gradient_by_phases(x: jax.Array, y: jax.Array, stride: int, pads: Pads, taps: Sizes) -> jax.Array:
    """Its transpose in the kernel."""
    kernel = some((*taps, x.shape[3], y.shape[3]), x)
    phases = lambda kernel: conv_transpose_by_phases(y, kernel, stride, pads, x.shape[1:3])  # noqa: E731
    return jax.linear_transpose(phases, kernel)(x)[0]


def _flipped_pads(y: jax.Array, pads: Pads, taps: Sizes, sizes: Sizes) -> Pads:
    """Of the convolution that leads back from y to maps of `sizes`."""
    axes = zip(pads, taps, sizes, y.shape[1:3], strict=True)
    return tuple((k - 1 - low, size + low - out) for (low, _), k, size, out in axes)


def _rows_of_patches(x: jax.Array, taps: Sizes, stride: int, pads: Pads) -> list[jax.Array]:
    """For each row of taps, what they meet at each output pixel: k_h of [B, h, w, k_w * C]."""
    h, w = _sizes_after(x.shape[1:3], taps, stride, pads)
    x = _padded(x, pads)
    # Columns of taps and then rows: few slices, which compile in half the time that k * k of them take.
    x = jnp.concatenate([_strided(x, 2, j, w, stride) for j in range(taps[1])], axis=-1)
    return [_strided(x, 1, i, h, stride) for i in range(taps[0])]


def _pixels_of_taps(x: jax.Array, taps: Sizes, stride: int, pads: Pads) -> list[jax.Array]:
    """For each tap, the pixel that it meets at each output pixel: k_h * k_w of [B, h, w, C]."""
    h, w = _sizes_after(x.shape[1:3], taps, stride, pads)
    x = _padded(x, pads)
    return [_strided(_strided(x, 1, i, h, stride), 2, j, w, stride) for i, j in np.ndindex(taps)]


def _sizes_after(sizes: Sizes, taps: Sizes, stride: int, pads: Pads) -> Sizes:
    """Height and width of the output of a convolution of maps of `sizes`."""
    return tuple((sum(pad) + size - k) // stride + 1 for pad, size, k in zip(pads, sizes, taps, strict=True))


def _padded(x: jax.Array, pads: Pads) -> jax.Array:
    return lax.pad(x, jnp.zeros((), x.dtype), ((0, 0, 0), *((low, high, 0) for low, high in pads), (0, 0, 0)))


def _strided(x: jax.Array, axis: int, start: int, count: int, stride: int) -> jax.Array:
    return lax.slice_in_dim(x, start, start + stride * (count - 1) + 1, stride, axis)
