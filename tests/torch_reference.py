"""The six reference systems in PyTorch, written from their descriptions, for `test_torch_parity`.

It shares nothing with the package: convolutions are PyTorch's, with TensorFlow's SAME padding done by hand;
gradients are PyTorch's autograd and updates its optimisers'. Maps are [B, C, H, W] here; dense layers
see them in Keras's order, [B, H, W, C]. Dropout masks and instance noise are handed in.
"""

import torch
import torch.nn.functional as F
from torch import nn


class Conv(nn.Conv2d):
    """SAME by default: the smaller half of the padding before, the larger after."""

    def __init__(self, c_in, c_out, k, stride=1, bias=True, same=True):
        super().__init__(c_in, c_out, k, stride, bias=bias)
        self.same = same

    def forward(self, x):
        if self.same:
            k, s = self.kernel_size[0], self.stride[0]
            total = max((-(-x.shape[2] // s) - 1) * s + k - x.shape[2], 0)
            x = F.pad(x, [total // 2, total - total // 2] * 2)
        return super().forward(x)


class ConvTranspose(nn.ConvTranspose2d):
    """SAME by default: the gradient of a SAME convolution, so what that one pads is cut off here."""

    def __init__(self, c_in, c_out, k, stride=1, bias=True, same=True):
        super().__init__(c_in, c_out, k, stride, bias=bias)
        self.same = same

    def forward(self, x):
        y = super().forward(x)
        if self.same:
            size, cut = x.shape[2] * self.stride[0], max(self.kernel_size[0] - self.stride[0], 0) // 2
            y = y[:, :, cut : cut + size, cut : cut + size]
        return y


class Dense(nn.Linear):
    pass


class BatchNorm(nn.Module):
    """Over all but the channels, at axis 1, with the batch's own moments; it remembers those of every batch."""

    def __init__(self, channels):
        super().__init__()
        self.scale, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))
        self.moments = []

    def forward(self, x):
        axes = [axis for axis in range(x.ndim) if axis != 1]
        self.moments.append((x.detach().mean(axes), x.detach().var(axes, correction=0)))
        return F.batch_norm(x, None, None, self.scale, self.bias, training=True, eps=1e-3)


class Dropout(nn.Module):
    """Takes its mask from the ones handed to the network, by number."""

    def __init__(self, number):
        super().__init__()
        self.number, self.masks = number, None

    def forward(self, x):
        return x * self.masks[self.number] / 0.6


class Lambda(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def lrelu(slope):
    return nn.LeakyReLU(slope)


def to_map(size, channels):
    return Lambda(lambda x: x.reshape(-1, size, size, channels).permute(0, 3, 1, 2))


def flatten():
    return Lambda(lambda x: x.permute(0, 2, 3, 1).flatten(1))


def up(factor=2):
    return nn.Upsample(scale_factor=factor, mode="nearest")


def diff():
    def append(x):
        return torch.cat([x, (x - x.mean(0)).abs().mean(1, keepdim=True)], 1)

    return Lambda(append)


def similarity():
    def append(x):
        pairs = torch.exp(-torch.abs(x[:, None] - x[None]))  # [i, j, C, H, W]
        return torch.cat([x, pairs.mean((1, 2))[:, None]], 1)

    return Lambda(append)


def keras_dcgan():
    gen = [to_map(1, 100), ConvTranspose(100, 192, 4, same=False), BatchNorm(192), lrelu(0.2)]
    for c_in, c_out in ((192, 96), (96, 48), (48, 24)):
        gen += [ConvTranspose(c_in, c_out, 4, 2), BatchNorm(c_out), lrelu(0.2)]
    gen += [ConvTranspose(24, 3, 4), nn.Tanh()]
    disc = [Conv(3, 24, 4, 2), lrelu(0.2), diff()]
    for c_in, c_out in ((24, 48), (48, 96), (96, 192)):
        disc += [Conv(c_in + 1, c_out, 4, 2), BatchNorm(c_out), lrelu(0.2), diff()]
    return gen, [*disc, Conv(193, 1, 2, same=False), flatten()]


def keras_mnist():
    gen = [Dense(100, 7 * 7 * 256), BatchNorm(7 * 7 * 256), nn.ReLU(), to_map(7, 256), Dropout(0)]
    gen += [up(), Conv(256, 128, 5), BatchNorm(128), nn.ReLU(), up(), Conv(128, 64, 5), BatchNorm(64), nn.ReLU()]
    gen += [Conv(64, 32, 5), BatchNorm(32), nn.ReLU(), Conv(32, 1, 5), nn.Sigmoid()]
    disc = []
    for number, (c_in, c_out, stride) in enumerate([(1, 64, 2), (64, 128, 2), (128, 256, 2), (256, 512, 1)]):
        disc += [Conv(c_in, c_out, 5, stride), lrelu(0.2), Dropout(number)]
    return gen, [*disc, flatten(), Dense(4 * 4 * 512, 1)]


def canton_lsgan():
    gen = [to_map(1, 100)]
    for c_in, c_out, factor in ((100, 256, 4), (256, 128, 2), (128, 64, 2), (64, 32, 2)):
        gen += [up(factor), Conv(c_in, c_out, 4, bias=False), BatchNorm(c_out), nn.ReLU()]
    gen += [Conv(32, 3, 4), nn.Tanh()]
    disc = [Conv(3, 32, 4, 2, bias=False), lrelu(0.2), similarity()]
    for c_in, c_out in ((32, 64), (64, 128), (128, 256)):
        disc += [Conv(c_in + 1, c_out, 4, 2, bias=False), BatchNorm(c_out), lrelu(0.2), similarity()]
    return gen, [*disc, Conv(257, 1, 2, same=False), flatten()]


def tf2_gan():
    gen = [Dense(100, 128), lrelu(0.01), Dense(128, 784), nn.Tanh(), to_map(28, 1)]
    return gen, [flatten(), Dense(784, 128), lrelu(0.01), Dense(128, 1)]


def tf2_dcgan():
    gen = [Dense(100, 7 * 7 * 256, bias=False), BatchNorm(7 * 7 * 256), lrelu(0.3), to_map(7, 256)]
    for c_in, c_out, stride in ((256, 128, 1), (128, 64, 2)):
        gen += [ConvTranspose(c_in, c_out, 5, stride, bias=False), BatchNorm(c_out), lrelu(0.3)]
    gen += [ConvTranspose(64, 1, 5, 2, bias=False), nn.Tanh()]
    disc = [Conv(1, 32, 3, 2), lrelu(0.01)]
    for c_in, c_out in ((32, 64), (64, 128)):
        disc += [Conv(c_in, c_out, 3, 2), BatchNorm(c_out), lrelu(0.01)]
    return gen, [*disc, flatten(), Dense(4 * 4 * 128, 1)]


def gan_elements():
    gen = [Dense(64, 8 * 8 * 256), lrelu(0.2), to_map(8, 256)]
    for c_in, c_out in ((256, 128), (128, 64)):
        gen += [up(), Conv(c_in, c_out, 3), BatchNorm(c_out), lrelu(0.2)]
    gen += [Conv(64, 1, 3), nn.Tanh()]
    disc = []
    for c_in, c_out, stride in ((1, 64, 1), (64, 128, 2), (128, 256, 2)):
        disc += [Conv(c_in, c_out, 3, stride), lrelu(0.2)]
    return gen, [*disc, flatten(), Dense(8 * 8 * 256, 1)]


def digits_disc():
    """The discriminator of the digits recipe, which follows no document."""
    disc = [Conv(1, 32, 3), lrelu(0.2)]
    for c_in, c_out in ((32, 64), (64, 128)):
        disc += [Conv(c_in, c_out, 3, 2, bias=False), BatchNorm(c_out), lrelu(0.2)]
    return [*disc, flatten(), Dense(2 * 2 * 128, 1)]


NETWORKS = {f.__name__: f for f in (keras_dcgan, keras_mnist, canton_lsgan, tf2_gan, tf2_dcgan, gan_elements)}


def bce(logits, label):
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, label))


def mean_bce(real, fake):
    return 0.5 * (bce(real, 1.0) + bce(fake, 0.0))


DISC_LOSS = {
    "keras_dcgan": lambda real, fake: bce(real, 0.9) + bce(fake, 0.0),
    "keras_mnist": lambda real, fake: F.binary_cross_entropy_with_logits(
        torch.cat([real, fake]), torch.cat([torch.ones_like(real), torch.zeros_like(fake)])
    ),
    "canton_lsgan": lambda real, fake: (fake**2 + (real - 1) ** 2).mean(),
    "tf2_gan": mean_bce,
    "tf2_dcgan": mean_bce,
    "gan_elements": lambda real, fake: bce(real, 1.0) + bce(fake, 0.0),
}


def gen_loss(name, fake, params):
    if name == "canton_lsgan":
        return ((fake - 1) ** 2).mean() + 1e-7 * sum((p**2).sum() for p in params)
    return bce(fake, 1.0)


def parameters(layers):
    return [p for layer in layers for p in layer.parameters()]


def optimizers(name, gen, disc):
    """PyTorch's own, each with its schedule: (G's, D's)."""
    gen, disc = parameters(gen), parameters(disc)
    if name == "keras_mnist":
        made = [torch.optim.RMSprop(p, lr, alpha=0.9, eps=1e-7) for p, lr in ((gen, 4e-4), (disc, 8e-4))]
        decays = (3e-8, 6e-8)
    else:
        lr, betas = {
            "keras_dcgan": (1e-4, (0.2, 0.999)),
            "canton_lsgan": (1e-4, (0.5, 0.999)),
            "tf2_gan": (2e-4, (0.5, 0.999)),
            "tf2_dcgan": (1e-4, (0.9, 0.999)),
            "gan_elements": (1e-4, (0.5, 0.9)),
        }[name]
        made, decays = [torch.optim.Adam(p, lr, betas) for p in (gen, disc)], (0, 0)
    schedule = torch.optim.lr_scheduler.LambdaLR
    return [
        (optimizer, schedule(optimizer, lambda t, decay=decay: 1 / (1 + decay * t)))
        for optimizer, decay in zip(made, decays, strict=True)
    ]


def parametric(layers):
    """The layers that have parameters, in the order in which they are applied."""
    return [layer for layer in layers if list(layer.parameters(recurse=False))]


def apply(layers, x, masks):
    for layer in layers:
        if isinstance(layer, Dropout):
            layer.masks = masks
        x = layer(x)
    return x


def update(name, alternating, gen, disc, optimizers, real, draws):
    """One update of both networks, in place.

    Args:
      name: of the recipe.
      alternating: whether D is updated first, and G then on latents of its own.
      gen: the generator's layers.
      disc: the discriminator's.
      optimizers: of both.
      real: [B, C, H, W].
      draws: for each pass of the generator (one, or two if alternating): `z`, `masks_gen`, `masks_fake`,
        `noise_fake`; the first also `masks_real`, `noise_real`.

    Returns:
      (loss_gen, loss_disc), (gen_grads, disc_grads).
    """
    gen_params, disc_params = parameters(gen), parameters(disc)

    def judge_fake(draw):
        fake = apply(gen, draw["z"], draw["masks_gen"])
        return apply(disc, fake + draw["noise_fake"], draw["masks_fake"]).flatten()

    def descend(optimizer_and_schedule, params, grads):
        for p, grad in zip(params, grads, strict=True):
            p.grad = grad.clamp(-1, 1) if name == "keras_mnist" else grad
        for each in optimizer_and_schedule:
            each.step()

    first = draws[0]
    fake_logits = judge_fake(first)
    real_logits = apply(disc, real + first["noise_real"], first["masks_real"]).flatten()
    loss_disc = DISC_LOSS[name](real_logits, fake_logits)
    disc_grads = torch.autograd.grad(loss_disc, disc_params, retain_graph=True)
    if alternating:
        descend(optimizers[1], disc_params, disc_grads)
        fake_logits = judge_fake(draws[1])
    loss_gen = gen_loss(name, fake_logits, gen_params)
    gen_grads = torch.autograd.grad(loss_gen, gen_params)
    if not alternating:
        descend(optimizers[1], disc_params, disc_grads)
    descend(optimizers[0], gen_params, gen_grads)
    return (loss_gen.item(), loss_disc.item()), (gen_grads, disc_grads)
