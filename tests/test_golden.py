"""Numbers that stay: twenty updates in float64, as they were before the step was written anew.

`golden.json` holds the losses of each of them, and the L2 norm of all parameters of both networks after the last: of
convolutions in a shared update, and of dense layers in an alternating one. The other recipes' updates are PyTorch's.
`PYTHONPATH=. python tests/test_golden.py` records it again; do so only with a change that is meant to change numbers,
such as another initialiser, and say which in the commit.
"""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgan
from jaxgan import recipes
from jaxgan.gan import image_shape

FILE = Path(__file__).with_name("golden.json")
GOLDEN = json.loads(FILE.read_text())


def measure(case):
    """The losses and norms of a recipe with an update, such as "digits shared"."""
    name, update = case.split()
    gan = recipes.get(name).replace(update=update).build()
    with jax.enable_x64(False):
        state = jaxgan.init(gan, jax.random.key(0))
    state = jax.tree.map(lambda x: x.astype(jnp.float64) if x.dtype == jnp.float32 else x, state)
    shape = (20, 8 * gan.training_ratio, *image_shape(gan))
    images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    step = jax.jit(jaxgan.train_step, static_argnums=0)
    losses = []
    for batch in images:
        state, metrics = step(gan, state, batch)
        losses.append([float(metrics["loss_gen"]), float(metrics["loss_disc"])])
    norm = lambda tree: float(np.sqrt(sum(np.sum(np.square(x)) for x in jax.tree.leaves(tree))))  # noqa: E731
    return {"losses": losses, "gen": norm(state.gen.params), "disc": norm(state.disc.params)}


@pytest.mark.parametrize("case", [pytest.param("digits shared", marks=pytest.mark.slow), "tf2_gan alternating"])
def test_the_numbers_stay(case, x64):
    got, want = measure(case), GOLDEN[case]
    np.testing.assert_allclose(got["losses"], want["losses"], rtol=1e-9)
    np.testing.assert_allclose((got["gen"], got["disc"]), (want["gen"], want["disc"]), rtol=1e-9)


def main():
    """Records all cases again."""
    jax.config.update("jax_enable_x64", True)
    FILE.write_text(json.dumps({case: measure(case) for case in GOLDEN}) + "\n")


if __name__ == "__main__":
    main()
