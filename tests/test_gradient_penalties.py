"""The package's penalties of D's gradients: against PyTorch's double backward pass, and what they share with G."""

import dataclasses
import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from common import (
    QUICK,
    assert_bf16_is_near,
    assert_close,
    disc_gradients,
    drawn,
    in_range,
    real_batch,
    shared_gradients,
    small_gan,
    small_state,
    written_out,
)

import jaxgan
from jaxgan import losses, recipes
from jaxgan.losses import Loss
from jaxgan.penalties import R1, R2, WGANGP, Lazy
from jaxgan.randomness import Purpose
from jaxgan.schedules import Linear

pytestmark = pytest.mark.usefixtures("quick_programs")

adversarial = importlib.import_module("jaxgan.adversarial")

NOTHING = Loss(lambda forward: 0.0 * jnp.sum(forward.fake_logits), lambda forward: 0.0 * jnp.sum(forward.real_logits))


def jitted(gradients):
    return jax.jit(gradients, static_argnums=0, compiler_options=QUICK)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "penalty"),
    [
        *(("tf2_gan", penalty) for penalty in (R1(3.0), R2(3.0), WGANGP(7.0))),
        ("digits", R1(10.0)),  # with batch normalisation the gradient in an image is that of the sum of all logits
        pytest.param("gan_elements", WGANGP(7.0), marks=pytest.mark.slow),
    ],
)
def test_a_penalty_is_pytorchs_double_backward_pass(name, penalty, x64):
    """Value and gradient in D's parameters."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    import torch_layout

    from jaxgan.benchmark.torch_networks import networks

    gan = dataclasses.replace(recipes.get(name).build(), loss=NOTHING, penalties=(penalty,))
    state = small_state(gan)
    batch = in_range(gan, real_batch(gan, 4))
    grads, aux = jitted(disc_gradients)(gan, state, batch, np.arange(4))
    nothing = lambda real, fake: 0.0  # noqa: E731
    made = written_out(gan, state, batch, range(4), gen=nothing, disc=nothing).forward
    real, fake = torch_layout.nchw(made.images), torch_layout.nchw(made.fake)
    u = torch.from_numpy(np.array(drawn(jax.random.uniform, state, Purpose.PENALTIES, range(4)))).reshape(4, 1, 1, 1)
    at = {R1: real, R2: fake, WGANGP: u * real + (1 - u) * fake}[type(penalty)].requires_grad_()
    net = networks(name, gan.z_size, exact=True)[1].double()
    torch_layout.load(state.disc.params, net)
    (gradient,) = torch.autograd.grad(net(at).sum(), at, create_graph=True)
    norms = gradient.flatten(1).norm(dim=1)
    of_norms = (norms - 1).square() * 7 if isinstance(penalty, WGANGP) else norms.square() * penalty.gamma / 2
    want = torch.autograd.grad(of_norms.mean(), [*net.parameters()], materialize_grads=True)
    assert of_norms.mean().item() > 1e-3
    np.testing.assert_allclose(aux.metrics["disc"]["loss_disc"], of_norms.mean().item(), rtol=1e-10)
    largest = max(float(g.abs().max()) for g in want)
    for got, expected in zip(torch_layout.flat(grads["disc"], net), want, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-10 * largest)


def test_a_norm_of_zero_has_a_gradient():
    """Of a D that says the same of every image the norm is 0: weight * 1, and no NaN in any gradient."""
    gan = small_gan(norm=False, penalties=(WGANGP(10.0),), loss=NOTHING)
    state = jax.tree.map(lambda x: x, small_state(gan))
    silent = jax.tree.map(jnp.zeros_like, state.disc.params)
    state = state.replace(disc=state.disc.replace(params=silent))
    grads, aux = jitted(disc_gradients)(gan, state, in_range(gan, real_batch(gan, 4)), np.arange(4))
    assert aux.metrics["disc"]["loss_disc"] == 10
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(grads))


def penalty_at(penalty, step):
    gan = small_gan(norm=False, loss=NOTHING, penalties=(penalty,))
    state = jaxgan.init(gan, jax.random.key(0)).replace(step=jnp.int32(step))
    _, aux = jitted(disc_gradients)(gan, state, in_range(gan, real_batch(gan, 4)), np.arange(4))
    return float(aux.metrics["disc"]["loss_disc"])


@pytest.mark.parametrize("kind", [pytest.param(R1, marks=pytest.mark.slow), R2])
def test_gamma_may_be_a_schedule(kind):
    schedule = kind(Linear(2.0, 1.0, 10))
    for step, gamma in ((0, 2.0), (5, 1.5), (20, 1.0)):
        np.testing.assert_allclose(penalty_at(schedule, step), penalty_at(kind(gamma), step), rtol=1e-6)


@pytest.mark.parametrize("penalty", [R2(1.0), pytest.param(WGANGP(), marks=pytest.mark.slow)])
def test_a_lazy_penalty_comes_every_so_many_steps_with_their_weight(penalty):
    lazy = Lazy(penalty, 3)
    for step in (0, 1, 2, 3):
        want = 0 if step % 3 else 3 * penalty_at(penalty, step)
        np.testing.assert_allclose(penalty_at(lazy, step), want, rtol=1e-6)
    with pytest.raises(ValueError, match="at least 1, not 0"):
        Lazy(penalty, 0)


LOSSES = {
    "relativistic": losses.relativistic(),
    "hinge": losses.hinge(),
    # Of the logits, of the images themselves and of another head's output at once.
    "everything": Loss(
        lambda f: jnp.mean(f.fake_logits**2) + jnp.mean(f.generated**2) + jnp.mean(jnp.sin(f.fake_extra * f.z[:, 0])),
        lambda f: jnp.mean(f.fake_logits - f.real_logits),
    ),
}


class WithExtra(type(small_gan().disc)):
    """SmallDisc, and an extra output of the same image."""

    def __call__(self, images, labels, context):
        logits = super().__call__(images, labels, context)
        return logits, logits**2


@pytest.mark.parametrize("loss", LOSSES)
def test_the_generators_gradient_from_r2s_own_is_the_gradient(loss, x64, monkeypatch):
    """Against a pass back through D, with transforms and labels, for any loss."""
    disc = WithExtra(3, norm=False) if loss == "everything" else type(small_gan().disc)(3, norm=False)
    double = lambda images, keys, step: 2 * images**2  # noqa: E731
    gan = small_gan(3, norm=False, disc=disc, loss=LOSSES[loss], penalties=(R1(1.0), R2(2.0)), transforms=(double,))
    args = small_state(gan), in_range(gan, real_batch(gan, 8)), np.arange(8)
    got, _ = jitted(shared_gradients)(gan, *args)
    monkeypatch.setattr(adversarial, "_is_known", lambda *args: False)
    want, _ = jitted(shared_gradients)(dataclasses.replace(gan, penalties=(R1(1.0), R2(2.0), lambda f, d: 0.0)), *args)
    assert_close(got, want, rtol=1e-9)
    assert max(np.abs(x).max() for x in jax.tree.leaves(want["gen"])) > 1e-4


def test_where_d_compares_images_the_gradient_is_taken_through_it(x64, monkeypatch):
    """With batch normalisation another image's logit depends on this one: the short way would be wrong."""
    gan = small_gan(loss=losses.relativistic(), penalties=(R2(2.0),))
    args = small_state(gan), in_range(gan, real_batch(gan, 8)), np.arange(8)
    got, _ = jitted(shared_gradients)(gan, *args)
    without, _ = jitted(shared_gradients)(dataclasses.replace(gan, penalties=()), *args)
    assert_close(got["gen"], without["gen"])
    monkeypatch.setattr(adversarial, "mixing", lambda *args: None)
    wrong, _ = jitted(shared_gradients)(dataclasses.replace(gan, penalties=(R2(2.0), lambda f, d: 0.0)), *args)
    largest = max(np.abs(x).max() for x in jax.tree.leaves(got["gen"]))
    assert max(np.abs(a - b).max() for a, b in zip(*map(jax.tree.leaves, (got["gen"], wrong["gen"])), strict=True)) > (
        0.01 * largest
    )


MIXING = {
    "mixup": lambda images, keys, step: 0.7 * images + 0.3 * jnp.roll(images, 1, axis=0),
    "cutmix": lambda images, keys, step: jnp.concatenate([images[:, :2], images[::-1, 2:]], axis=1),
    "statistic": lambda images, keys, step: images - jnp.mean(images, axis=0, keepdims=True),
}


@pytest.mark.parametrize(
    ("transform", "penalty", "loss"),
    [
        ("mixup", R1(1.0), "relativistic"),
        ("cutmix", R2(2.0), "relativistic"),
        ("statistic", Lazy(R2(1.0), 2), "hinge"),
        pytest.param("cutmix", WGANGP(), "hinge", marks=pytest.mark.slow),
    ],
)
def test_a_penalty_leaves_the_generators_gradient_where_a_transform_mixes_images(transform, penalty, loss, x64):
    """D judges each image alone, and the transforms do not: a logit depends on several generated images."""
    gan = small_gan(norm=False, loss=LOSSES[loss], transforms=(MIXING[transform],))
    args = small_state(gan), in_range(gan, real_batch(gan, 8)), np.arange(8)
    want, _ = jitted(shared_gradients)(gan, *args)
    got, _ = jitted(shared_gradients)(dataclasses.replace(gan, penalties=(penalty,)), *args)
    assert_close(got["gen"], want["gen"])


@pytest.mark.parametrize("loss", ["relativistic", pytest.param("hinge", marks=pytest.mark.slow)])
def test_bf16_does_nearly_the_same(loss, x64):
    penalties = (R1(1.0), R2(1.0)) if loss == "relativistic" else (WGANGP(),)
    gan = small_gan(3, norm=False, loss=LOSSES[loss], penalties=penalties, training_ratio=2)
    assert_bf16_is_near(gan, small_state(gan), real_batch(gan, 16), 0.1)
