"""Numbers that stay: updates of each recipe in float64, as they were before the step was written anew.

`golden.json` holds the losses of each of twenty updates, and the L2 norm of all parameters of both networks after
the last; of the larger recipes the first few are tested.
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
UPDATES, BATCH = 20, 8
FEW = 8  # of the larger recipes, whose losses at each update depend on all parameters before it
FAST = ("tf2_gan shared", "tf2_gan alternating")
# Each recipe with its own update, and the small ones with both, which is each update in each kind of network.
TESTED = [case for case in GOLDEN if case in FAST or recipes.get(case.split()[0]).update == case.split()[1]]


def measure(case, updates=UPDATES):
    """The losses and norms of a recipe with an update, such as "digits shared"."""
    name, update = case.split()
    gan = recipes.get(name).replace(update=update).build()
    with jax.enable_x64(False):
        state = jaxgan.init(gan, jax.random.key(0))
    state = jax.tree.map(lambda x: x.astype(jnp.float64) if x.dtype == jnp.float32 else x, state)
    shape = (UPDATES, BATCH * gan.training_ratio, *image_shape(gan))
    images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    step = jax.jit(jaxgan.train_step, static_argnums=0)
    losses = []
    for batch in images[:updates]:
        state, metrics = step(gan, state, batch)
        losses.append([float(metrics["loss_gen"]), float(metrics["loss_disc"])])
    norm = lambda tree: float(np.sqrt(sum(np.sum(np.square(x)) for x in jax.tree.leaves(tree))))  # noqa: E731
    return {"losses": losses, "gen": norm(state.gen.params), "disc": norm(state.disc.params)}


@pytest.mark.parametrize(
    "case", [case if case in FAST else pytest.param(case, marks=pytest.mark.slow) for case in TESTED]
)
def test_the_numbers_stay(case, x64):
    updates = UPDATES if case in FAST else FEW
    got, want = measure(case, updates), GOLDEN[case]
    relative = np.abs(np.array(got["losses"]) / np.array(want["losses"][:updates]) - 1).max()
    assert relative < 1e-9
    if updates == UPDATES:  # the norms are those after the last
        norms = {net: abs(got[net] / want[net] - 1) for net in ("gen", "disc")}
        assert max(norms.values()) < 1e-9, norms


def main():
    """Records all cases again."""
    jax.config.update("jax_enable_x64", True)
    FILE.write_text(json.dumps({case: measure(case) for case in GOLDEN}, indent=1) + "\n")


if __name__ == "__main__":
    main()
