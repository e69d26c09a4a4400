"""The recipes in PyTorch, as its users write them for speed: what `experiments.benchmark --torch` measures beside JAX.

The same networks, losses and optimisers, and one way to update: G runs once, D's update sees its images detached, and
G's update sees the new D. Maps are channels_last throughout, optimisers fused where PyTorch has that. Where that is
faster, it does less than the recipe, to PyTorch's favour: real images stand ready as floats, the generator is not
averaged, and where SAME padding is one pixel wider at one end, a symmetric one is used if it gives the same size.

This is for speed alone; what the numbers are held to is in the tests.
"""

import functools
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jaxgan.benchmark.timing import Facts, Prepared, peak_of_process
from jaxgan.benchmark.torch_networks import networks


def make_update(
    recipe: Any, device: str, compiled: bool, precision: str
) -> tuple[Callable[[], None], nn.Module, nn.Module]:
    """An update of both networks of a recipe, on random images of its size, and the networks.

    Args:
      recipe: its settings and its `name`. All losses and optimisers of the systems are known here, but only one update
        of D for each of G, and no microbatches.
      device: "cpu" or "cuda". There float32 products may round to TF32, as JAX's do.
      compiled: whether `torch.compile` compiles both networks.
      precision: "float32"; any other is bfloat16, by autocast.
    """
    if device == "cuda":
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.benchmark = True
    nets = networks(recipe.name, recipe.z_size)
    gen, disc = (nn.utils.convert_conv2d_weight_memory_format(net.to(device), torch.channels_last) for net in nets)
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

    def apply_disc(images: Tensor) -> Tensor:
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
            loss_disc = _disc_loss(recipe, apply_disc(images), apply_disc(fake.detach()))
        _descend(recipe, disc, disc_optimizer, loss_disc)
        disc.requires_grad_(False)  # G's loss needs no gradient of D's weights
        with autocast():
            loss_gen = _gen_loss(recipe, apply_disc(fake))
        _descend(recipe, gen, gen_optimizer, loss_gen)
        disc.requires_grad_(True)
        done += 1

    return update, gen, disc


def time_update(settings: dict[str, Any], precision: str, compiled: bool) -> Prepared:
    """An update by `make_update`, prepared to be timed; `settings` are a recipe's, with its name."""
    base, cuda = peak_of_process(), torch.cuda.is_available()
    synchronise = torch.cuda.synchronize if cuda else lambda: None
    begin = time.perf_counter()
    update, *_ = make_update(SimpleNamespace(**settings), "cuda" if cuda else "cpu", compiled, precision)

    def dispatch(count: int) -> None:
        for _ in range(count):
            update()
        synchronise()

    def last() -> Facts:
        return {"peak_bytes": torch.cuda.max_memory_allocated() if cuda else peak_of_process()}

    facts: Facts = {"base_bytes": 0 if cuda else base, "torch": torch.__version__}
    if compiled:
        dispatch(1)
        facts["compile_seconds"] = time.perf_counter() - begin
    return dispatch, facts, last


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
