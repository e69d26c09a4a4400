"""A step differentiated itself, as in an analysis of the game near its equilibrium: against finite differences."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from common import QUICK, at_night, real_batch, small_state
from jax.flatten_util import ravel_pytree

import jaxgan
from jaxgan import losses
from jaxgan.networks.spectral import SpectralNorm
from jaxgan.penalties import L2, R1, R2, WGANGP, Lazy

pytestmark = pytest.mark.usefixtures("quick_programs")

PENALTIES = {"none": (), "R1": (R1(1.0),), "R2": (R2(1.0),), "R1 + R2": (R1(1.0), R2(2.0)),
             "WGANGP": (WGANGP(),), "Lazy": (Lazy(R2(1.0), 2),)}  # fmt: skip
# Each loss, each penalty, and both kinds of update.
CASES = [("relativistic", "R1 + R2", "shared"), ("wasserstein", "R1", "alternating"), ("hinge", "WGANGP", "shared"),
         ("hinge", "R2", "alternating"), ("non_saturating", "none", "shared"), ("least_squares", "Lazy", "shared"),
         ("wasserstein", "WGANGP", "alternating")]  # fmt: skip


class Gen(nn.Module):
    @nn.compact
    def __call__(self, z, labels, context):
        return jnp.tanh(nn.Dense(2)(z)).reshape(-1, 2, 1, 1)


class Disc(nn.Module):
    spectral: bool = False

    @nn.compact
    def __call__(self, images, labels, context):
        dense = SpectralNorm(nn.Dense(3)) if self.spectral else nn.Dense(3)
        return nn.Dense(1)(nn.softplus(dense(images.reshape(len(images), -1))))[:, 0]


def jacobian_and_differences(gan):
    """Of the parameters (and singular vectors) after a step in the parameters before it, along random directions."""
    state, batch = small_state(gan), real_batch(gan, 4)
    start, unravel = ravel_pytree((state.gen.params, state.disc.params))

    @jax.jit
    def after(x):
        gen, disc = unravel(x)
        before = state.replace(gen=state.gen.replace(params=gen), disc=state.disc.replace(params=disc))
        new, _ = jaxgan.train_step(gan, before, batch)
        return ravel_pytree((new.gen.params, new.disc.params, new.disc.batch_stats))[0]

    directions = np.random.default_rng(0).normal(size=(4, len(start)))
    jacobian = np.asarray(jax.jit(jax.jacobian(after), compiler_options=QUICK)(start))
    forward = jax.jit(jax.vmap(lambda d: jax.jvp(after, (start,), (d,))[1]), compiler_options=QUICK)(directions)
    np.testing.assert_allclose(forward.T, jacobian @ directions.T, rtol=1e-9, atol=1e-12)
    differences = [(after(start + 1e-5 * d) - after(start - 1e-5 * d)) / 2e-5 for d in directions]
    return jacobian @ directions.T, np.stack(differences, axis=1)


def two_networks(loss, penalties, update, spectral=False, **changes):
    return jaxgan.GAN(
        gen=Gen(), disc=Disc(spectral), loss=getattr(losses, loss)(), gen_optimizer=optax.sgd(0.1),
        disc_optimizer=optax.sgd(0.2), z_size=2, update=update, penalties=penalties, **changes,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("case", [*CASES[::2], *at_night((case,) for case in CASES[1::2])], ids="-".join)
def test_the_jacobian_of_a_step_is_that_of_its_numbers(case, x64):
    """Each network's new parameters depend on the other's old ones, by its gradient: no term of these may be lost."""
    loss, penalties, update = case
    got, want = jacobian_and_differences(two_networks(loss, PENALTIES[penalties], update))
    np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-8)


@pytest.mark.nightly
@pytest.mark.parametrize("update", ["shared", "alternating"])
def test_so_it_is_with_spectral_normalisation_a_transform_and_several_updates_of_d(update, x64):
    """The singular vectors are advanced by the weights, so they depend on them."""
    bright = lambda images, keys, step: jnp.sin(images)  # noqa: E731
    more = {"transforms": (bright,), "training_ratio": 2, "regularizers": (L2(0.1),), "accumulate": 2}
    gan = two_networks("relativistic", (R1(1.0), R2(1.0)), update, spectral=True, **more)
    got, want = jacobian_and_differences(gan)
    np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(("update", "expected"), [
    ("shared", [[1, 0.05], [-0.05, 0.9]]),
    ("alternating", [[1 - 0.05**2, 0.045], [-0.05, 0.9]]),
])  # fmt: skip
def test_the_jacobian_of_the_dirac_gan(update, expected, x64):
    """G(z) = theta, D(x) = psi x, data at 0, rates 0.1, R1 with gamma 1: from the gradients by hand.

    Mescheder et al. 2018 (arXiv:1801.04406), section 3, at the equilibrium (0, 0): the derivative of softplus is 1/2.
    """

    class Theta(nn.Module):
        @nn.compact
        def __call__(self, z, labels, context):
            return jnp.broadcast_to(self.param("theta", nn.initializers.zeros, ()), (len(z), 1, 1, 1))

    class Psi(nn.Module):
        @nn.compact
        def __call__(self, images, labels, context):
            return self.param("psi", nn.initializers.zeros, ()) * images.reshape(-1)

    gan = jaxgan.GAN(
        gen=Theta(), disc=Psi(), gen_optimizer=optax.sgd(0.1), disc_optimizer=optax.sgd(0.1), z_size=1, update=update,
        penalties=(R1(1.0),), image_range=(0.0, 255.0),
    )  # fmt: skip
    state = jaxgan.init(gan, jax.random.key(0))

    def after(theta, psi):
        before = state.replace(
            gen=state.gen.replace(params={"theta": theta}), disc=state.disc.replace(params={"psi": psi})
        )
        new, _ = jaxgan.train_step(gan, before, jnp.zeros((4, 1, 1, 1), jnp.uint8))
        return new.gen.params["theta"], new.disc.params["psi"]

    jacobian = jax.jit(jax.jacobian(after, argnums=(0, 1)))(jnp.float64(0), jnp.float64(0))
    np.testing.assert_allclose(jacobian, expected, atol=1e-12)
