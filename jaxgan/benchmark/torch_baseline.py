"""The recipes in PyTorch, as its users write them for speed: what `experiments.benchmark --torch` measures beside JAX.

The same networks, losses and optimisers, and one way to update: G runs once, D's update sees its images detached, and
G's update sees the new D. Maps are channels_last throughout, optimisers fused where PyTorch has that. Where that is
faster, it does less than the recipe, to PyTorch's favour: real images stand ready as floats, the generator is not
averaged, and where SAME padding is one pixel wider at one end, a symmetric one is used if it gives the same size.

This is for speed alone; what the numbers are held to is `tests/torch_reference.py`.
"""

import functools
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jaxgan.benchmark.timing import Prepared, peak_of_process


class Apply(nn.Module):
    """A function as a layer."""

    def __init__(self, function: Callable[[Tensor], Tensor]):
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        """Calls it."""
        return self.function(x)


def networks(recipe: Any) -> tuple[nn.Module, nn.Module]:
    """The (generator, discriminator) of a recipe, known by its `name`.

    The generator maps latents [B, z_size] to images [B, C, H, W], the discriminator images to logits [B].
    """
    gen, disc = NETWORKS[recipe.name](recipe.z_size)
    return nn.Sequential(*gen), nn.Sequential(*disc, Apply(lambda x: x.flatten()))


def make_update(recipe: Any, device: str, compiled: bool, precision: str) -> Callable[[], None]:
    """An update of both networks of a recipe, on random images of its size.

    Args:
      recipe: the settings, as in `jaxgan.recipes.Recipe`. All of its losses and optimisers are known here, but
        only one update of D for each of G, and no microbatches.
      device: "cpu" or "cuda". There float32 products may round to TF32, as JAX's do.
      compiled: whether `torch.compile` compiles both networks.
      precision: "float32"; any other is bfloat16, by autocast.
    """
    if device == "cuda":
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.benchmark = True
    gen, disc = (net.to(device, memory_format=torch.channels_last) for net in networks(recipe))
    gen_optimizer = _optimizer(recipe, gen, recipe.gen_learning_rate, recipe.gen_time_decay, 2 * recipe.gen_l2)
    disc_optimizer = _optimizer(recipe, disc, recipe.disc_learning_rate, recipe.disc_time_decay)
    draw_z = functools.partial(_draw_z, recipe, device)
    with torch.no_grad():
        images = torch.rand_like(gen(draw_z())).contiguous(memory_format=torch.channels_last)
    run_gen, run_disc = gen, disc
    if compiled:
        mode = "max-autotune" if device == "cuda" else "default"
        run_gen, run_disc = torch.compile(gen, mode=mode), torch.compile(disc, mode=mode)
    autocast = functools.partial(torch.autocast, device, torch.bfloat16, enabled=precision != "float32")
    done = 0

    def judge(images: Tensor) -> Tensor:
        if recipe.instance_noise:
            deviation = recipe.instance_noise * recipe.instance_noise_decay**done
            images = torch.add(images, torch.randn_like(images), alpha=deviation)
        return run_disc(images)

    def update() -> None:
        nonlocal done
        if compiled and device == "cuda":
            torch.compiler.cudagraph_mark_step_begin()
        with autocast():
            fake = run_gen(draw_z())
            loss_disc = _disc_loss(recipe, judge(images), judge(fake.detach()))
        _descend(recipe, disc, disc_optimizer, loss_disc)
        disc.requires_grad_(False)  # G's loss needs no gradient of D's weights
        with autocast():
            loss_gen = _gen_loss(recipe, judge(fake))
        _descend(recipe, gen, gen_optimizer, loss_gen)
        disc.requires_grad_(True)
        done += 1

    return update


def time_update(settings: dict[str, Any], compiled: bool, precision: str) -> Prepared:
    """What `experiments.benchmark` measures: that update; `settings` are a recipe's, and its name."""
    base, cuda = peak_of_process(), torch.cuda.is_available()
    synchronise = torch.cuda.synchronize if cuda else lambda: None
    begin = time.perf_counter()
    update = make_update(SimpleNamespace(**settings), "cuda" if cuda else "cpu", compiled, precision)

    def dispatch(count: int) -> None:
        for _ in range(count):
            update()
        synchronise()

    facts = {"base_bytes": 0 if cuda else base, "torch": torch.__version__}
    if compiled:
        dispatch(1)
        facts["compile_seconds"] = time.perf_counter() - begin
    return dispatch, facts, torch.cuda.max_memory_allocated if cuda else peak_of_process


def _draw_z(recipe: Any, device: str) -> Tensor:
    shape = (recipe.batch_size, recipe.z_size)
    if recipe.prior == "uniform":
        return torch.empty(shape, device=device).uniform_(-1, 1)
    return torch.randn(shape, device=device)


def _optimizer(
    recipe: Any, net: nn.Module, learning_rate: float, time_decay: float, weight_decay: float = 0.0
) -> tuple[torch.optim.Optimizer, Any]:
    """The optimiser and the schedule of its rate. The gradient of an L2 term is weight decay, and costs nothing."""
    if recipe.optimizer == "rmsprop":
        optimizer = torch.optim.RMSprop(
            net.parameters(), learning_rate, recipe.beta2, eps=1e-7, weight_decay=weight_decay, foreach=True
        )
    else:
        betas = (recipe.beta1, recipe.beta2)
        optimizer = torch.optim.Adam(net.parameters(), learning_rate, betas, weight_decay=weight_decay, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda t: 1 / (1 + time_decay * t)) if time_decay else None
    return optimizer, schedule


def _descend(recipe: Any, net: nn.Module, optimizer: tuple[torch.optim.Optimizer, Any], loss: Tensor) -> None:
    descend, schedule = optimizer
    descend.zero_grad(set_to_none=True)
    loss.backward()
    if recipe.clip:
        nn.utils.clip_grad_value_(net.parameters(), recipe.clip, foreach=True)
    descend.step()
    if schedule:
        schedule.step()


def _cross_entropy(logits: Tensor, label: float) -> Tensor:
    return (F.softplus(logits) - label * logits).mean()


def _gen_loss(recipe: Any, fake_logits: Tensor) -> Tensor:
    if recipe.loss == "least_squares":
        return (fake_logits - 1).square().mean()
    return _cross_entropy(fake_logits, 1.0)


def _disc_loss(recipe: Any, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    if recipe.loss == "least_squares":
        loss = (real_logits - 1).square().mean() + fake_logits.square().mean()
    else:
        loss = _cross_entropy(real_logits, recipe.real_label) + _cross_entropy(fake_logits, 0.0)
    return recipe.disc_loss_scale * loss


def _conv(c_in: int, c_out: int, size: int, stride: int = 1, bias: bool = True) -> list[nn.Module]:
    """A SAME convolution. Of an even size with stride 1, one more pixel is padded behind than before."""
    before, behind = (size - 1) // 2, size // 2
    if before == behind or stride > 1:
        return [nn.Conv2d(c_in, c_out, size, stride, before, bias=bias)]
    return [nn.ZeroPad2d((before, behind) * 2), nn.Conv2d(c_in, c_out, size, bias=bias)]


def _conv_transpose(c_in: int, c_out: int, size: int, stride: int, bias: bool = True) -> list[nn.Module]:
    """A SAME transposed convolution. With stride 1 it is a convolution with its kernel turned, which is faster."""
    if stride == 1:
        return _conv(c_in, c_out, size, bias=bias)
    cut = (size - stride + 1) // 2
    more = 2 * cut - (size - stride)
    return [nn.ConvTranspose2d(c_in, c_out, size, stride, cut, output_padding=more, bias=bias)]


def _batch_norm(channels: int, momentum: float = 0.99) -> nn.Module:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=1 - momentum)


def _batch_norm_of_units(units: int, momentum: float = 0.99) -> nn.Module:
    return nn.BatchNorm1d(units, eps=1e-3, momentum=1 - momentum)


def _to_map(size: int, channels: int) -> nn.Module:
    """[B, size * size * channels] -> [B, channels, size, size], as it lies: channels_last."""
    return Apply(lambda x: x.reshape(-1, size, size, channels).permute(0, 3, 1, 2))


def _flat() -> nn.Module:
    """[B, C, H, W] -> [B, H * W * C], as it lies."""
    return Apply(lambda x: x.permute(0, 2, 3, 1).flatten(1))


def _upsample(factor: int = 2) -> nn.Module:
    return nn.Upsample(scale_factor=factor, mode="nearest")


def _append_diff() -> nn.Module:
    return Apply(lambda x: torch.cat([x, (x - x.mean(0)).abs().mean(1, keepdim=True)], 1))


def _append_similarity() -> nn.Module:
    def append(x: Tensor) -> Tensor:
        pairs = (x[:, None] - x).abs().neg().exp()  # [i, j, C, H, W]
        return torch.cat([x, pairs.mean((1, 2)).unsqueeze(1)], 1)

    return Apply(append)


def _digits(z_size: int) -> tuple[list[nn.Module], list[nn.Module]]:
    norm = functools.partial(_batch_norm, momentum=0.9)
    gen = [nn.Linear(z_size, 4 * 4 * 64, bias=False), _to_map(4, 64), norm(64), nn.ReLU()]
    gen += [*_conv(64, 64, 3, bias=False), norm(64), nn.ReLU()]
    gen += [*_conv(64, 4 * 32, 3, bias=False), nn.PixelShuffle(2), norm(32), nn.ReLU()]
    gen += [*_conv(32, 1, 3), nn.Tanh()]
    disc = [*_conv(1, 32, 3), nn.LeakyReLU(0.2)]
    for c_in, c_out in ((32, 64), (64, 128)):
        disc += [*_conv(c_in, c_out, 3, 2, bias=False), norm(c_out), nn.LeakyReLU(0.2)]
    return gen, [*disc, _flat(), nn.Linear(2 * 2 * 128, 1)]


def _keras_dcgan(z_size: int) -> tuple[list[nn.Module], list[nn.Module]]:
    gen = [_to_map(1, z_size), nn.ConvTranspose2d(z_size, 192, 4), _batch_norm(192), nn.LeakyReLU(0.2)]
    for c_in, c_out in ((192, 96), (96, 48), (48, 24)):
        gen += [*_conv_transpose(c_in, c_out, 4, 2), _batch_norm(c_out), nn.LeakyReLU(0.2)]
    gen += [*_conv_transpose(24, 3, 4, 1), nn.Tanh()]
    disc = [*_conv(3, 24, 4, 2), nn.LeakyReLU(0.2), _append_diff()]
    for c_in, c_out in ((24, 48), (48, 96), (96, 192)):
        disc += [*_conv(c_in + 1, c_out, 4, 2), _batch_norm(c_out), nn.LeakyReLU(0.2), _append_diff()]
    return gen, [*disc, nn.Conv2d(192 + 1, 1, 2)]


def _keras_mnist(z_size: int) -> tuple[list[nn.Module], list[nn.Module]]:
    norm = functools.partial(_batch_norm, momentum=0.9)
    units = 7 * 7 * 256
    gen = [nn.Linear(z_size, units), _batch_norm_of_units(units, 0.9), nn.ReLU(), nn.Dropout(0.4), _to_map(7, 256)]
    for c_in, c_out in ((256, 128), (128, 64)):
        gen += [_upsample(), *_conv(c_in, c_out, 5), norm(c_out), nn.ReLU()]
    gen += [*_conv(64, 32, 5), norm(32), nn.ReLU(), *_conv(32, 1, 5), nn.Sigmoid()]
    disc = []
    for c_in, c_out, stride in ((1, 64, 2), (64, 128, 2), (128, 256, 2), (256, 512, 1)):
        disc += [*_conv(c_in, c_out, 5, stride), nn.LeakyReLU(0.2), nn.Dropout(0.4)]
    return gen, [*disc, _flat(), nn.Linear(4 * 4 * 512, 1)]


def _canton_lsgan(z_size: int) -> tuple[list[nn.Module], list[nn.Module]]:
    gen = [_to_map(1, z_size)]
    for c_in, c_out, factor in ((z_size, 256, 4), (256, 128, 2), (128, 64, 2), (64, 32, 2)):
        gen += [_upsample(factor), *_conv(c_in, c_out, 4, bias=False), _batch_norm(c_out), nn.ReLU()]
    gen += [*_conv(32, 3, 4), nn.Tanh()]
    disc = [*_conv(3, 32, 4, 2, bias=False), nn.LeakyReLU(0.2), _append_similarity()]
    for c_in, c_out in ((32, 64), (64, 128), (128, 256)):
        disc += [*_conv(c_in + 1, c_out, 4, 2, bias=False), _batch_norm(c_out), nn.LeakyReLU(0.2), _append_similarity()]
    return gen, [*disc, nn.Conv2d(256 + 1, 1, 2)]


def _tf2_gan(z_size: int) -> tuple[list[nn.Module], list[nn.Module]]:
    gen = [nn.Linear(z_size, 128), nn.LeakyReLU(0.01), nn.Linear(128, 28 * 28), nn.Tanh(), _to_map(28, 1)]
    return gen, [_flat(), nn.Linear(28 * 28, 128), nn.LeakyReLU(0.01), nn.Linear(128, 1)]


def _tf2_dcgan(z_size: int) -> tuple[list[nn.Module], list[nn.Module]]:
    units = 7 * 7 * 256
    gen = [nn.Linear(z_size, units, bias=False), _batch_norm_of_units(units), nn.LeakyReLU(0.3), _to_map(7, 256)]
    for c_in, c_out, stride in ((256, 128, 1), (128, 64, 2)):
        gen += [*_conv_transpose(c_in, c_out, 5, stride, bias=False), _batch_norm(c_out), nn.LeakyReLU(0.3)]
    gen += [*_conv_transpose(64, 1, 5, 2, bias=False), nn.Tanh()]
    disc = [*_conv(1, 32, 3, 2), nn.LeakyReLU(0.01)]
    for c_in, c_out in ((32, 64), (64, 128)):
        disc += [*_conv(c_in, c_out, 3, 2), _batch_norm(c_out), nn.LeakyReLU(0.01)]
    return gen, [*disc, _flat(), nn.Linear(4 * 4 * 128, 1)]


def _gan_elements(z_size: int) -> tuple[list[nn.Module], list[nn.Module]]:
    gen = [nn.Linear(z_size, 8 * 8 * 256), nn.LeakyReLU(0.2), _to_map(8, 256)]
    for c_in, c_out in ((256, 128), (128, 64)):
        gen += [_upsample(), *_conv(c_in, c_out, 3), _batch_norm(c_out, 0.8), nn.LeakyReLU(0.2)]
    gen += [*_conv(64, 1, 3), nn.Tanh()]
    disc = []
    for c_in, c_out, stride in ((1, 64, 1), (64, 128, 2), (128, 256, 2)):
        disc += [*_conv(c_in, c_out, 3, stride), nn.LeakyReLU(0.2)]
    return gen, [*disc, _flat(), nn.Linear(8 * 8 * 256, 1)]


NETWORKS = {
    "digits": _digits,
    "keras_dcgan": _keras_dcgan,
    "keras_mnist": _keras_mnist,
    "canton_lsgan": _canton_lsgan,
    "tf2_gan": _tf2_gan,
    "tf2_dcgan": _tf2_dcgan,
    "gan_elements": _gan_elements,
}
