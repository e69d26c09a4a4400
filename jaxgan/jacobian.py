"""An update as a map of the parameters, and the eigenvalues of its Jacobian: what a game does near an equilibrium.

With eigenvalues of modulus below 1 an update comes nearer to the equilibrium, with one above 1 it leaves it. Those of
gradient descent by a rate h are 1 + h mu, mu being those of the game's field (Mescheder et al. 2017, arXiv:1705.10461).
"""

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from jaxgan.gan import GAN, Batch, GANState
from jaxgan.train_step import train_step

Update = Callable[[jax.Array], jax.Array]


def with_parameters(state: GANState, gen: Any, disc: Any) -> GANState:
    """A state with other parameters of both networks, and all else as it was."""
    return state.replace(gen=state.gen.replace(params=gen), disc=state.disc.replace(params=disc))


def update_map(gan: GAN, state: GANState, batch: Batch | jax.Array) -> tuple[jax.Array, Update]:
    """The parameters of both networks as one vector, and the update as a function of such a vector.

    All else stays as `state` has it: the key, the step, and so all that is drawn; running averages; the optimisers'
    own states, so that it is meant for optimisers without any, such as plain SGD.

    Args:
      gan: the static description.
      state: the state to start from.
      batch: as `train_step` takes it.

    Returns:
      float [n], G's parameters before D's; and a function of one to another, which is differentiable.
    """
    start, unravel = ravel_pytree((state.gen.params, state.disc.params))

    def update(parameters: jax.Array) -> jax.Array:
        gen, disc = unravel(parameters)
        after, _ = train_step(gan, with_parameters(state, gen, disc), batch)
        return ravel_pytree((after.gen.params, after.disc.params))[0]

    return start, update


def eigenvalues(gan: GAN, state: GANState, batch: Batch | jax.Array) -> np.ndarray:
    """All eigenvalues of the update's Jacobian, complex [n], for some thousand parameters at most.

    Arguments are those of `update_map`.
    """
    start, update = update_map(gan, state, batch)
    return np.linalg.eigvals(np.asarray(jax.jit(jax.jacfwd(update))(start), np.float64))


def leading_eigenvalues(
    gan: GAN, state: GANState, batch: Batch | jax.Array, count: int, by: Literal["LR", "LI", "LM"] = "LR"
) -> np.ndarray:
    """Some eigenvalues of the update's Jacobian less the identity, by Krylov iteration: products with it, and no more.

    Args:
      gan: as for `update_map`.
      state: as for `update_map`.
      batch: as for `update_map`.
      count: how many, at most the number of parameters less 2.
      by: the largest real parts, imaginary parts, or moduli.

    Returns:
      complex [count] or one more, where a pair of conjugates would be parted.

    Raises:
      scipy.sparse.linalg.ArpackNoConvergence: they were not found.
    """
    from scipy.sparse.linalg import aslinearoperator, eigs

    start, update = update_map(gan, state, batch)
    along = jax.jit(lambda d: jax.jvp(update, (start,), (d,))[1] - d)
    n = len(start)

    class Product:
        """The Jacobian less the identity, as SciPy asks for it."""

        shape, dtype = (n, n), np.dtype(np.float64)

        def matvec(self, d: np.ndarray) -> np.ndarray:
            return np.asarray(along(jnp.asarray(d.ravel(), start.dtype)), np.float64)

    first = np.random.default_rng(0).normal(size=n)
    found = eigs(aslinearoperator(Product()), count, which=by, v0=first, return_eigenvectors=False)
    return np.asarray(found)
