"""Games that can be drawn: the Dirac-GAN's eigenvalues by the closed form, Krylov against all of them, the points."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import eigvals

import jaxgan
from experiments.studies import convergence
from jaxgan import data, networks, recipes
from jaxgan.data import DataError
from jaxgan.data.points import MODES
from jaxgan.evaluation.modes import modes_of_points
from jaxgan.jacobian import eigenvalues, leading_eigenvalues, update_map

pytestmark = pytest.mark.usefixtures("quick_programs")


@pytest.mark.parametrize("update", convergence.UPDATES)
def test_the_dirac_gans_eigenvalues_are_those_of_the_closed_form(update, x64):
    """Of METHODS' table, too: 1 +- i h / 2 without a remedy; with R1 those of -g / 2 +- sqrt(g^2 / 4 - 1 / 4)."""
    h, g = convergence.RATE, convergence.GAMMA
    for remedy in convergence.DAMPING:
        gan = convergence.dirac(update, remedy).build()
        found = eigenvalues(gan, convergence.at_zero(gan), jnp.zeros((8, 1)))
        want = convergence.closed_form(update, remedy)
        np.testing.assert_allclose(np.sort_complex(found), np.sort_complex(want), atol=1e-6, err_msg=remedy)
        if update == "shared":
            root = np.sqrt(complex(g**2 / 4 - 1 / 4))
            of_methods = {"none": 1 + h * np.array([-0.5j, 0.5j]), "R1": 1 + h * (-g / 2 + np.array([-root, root]))}
            if remedy in of_methods:
                np.testing.assert_allclose(np.sort_complex(want), np.sort_complex(of_methods[remedy]), atol=1e-12)
    moduli = {name: np.abs(convergence.closed_form(update, name)).max() for name in ("none", "R1")}
    assert moduli["R1"] < 1
    assert {"shared": moduli["none"] > 1, "alternating": abs(moduli["none"] - 1) < 1e-12}.get(
        update, moduli["none"] < 1
    )


def test_the_paths_do_what_the_eigenvalues_say():
    """500 updates of each from (1, 1). Without a remedy the non-saturating loss draws in from afar, to no rest at 0.

    That of WGAN-GP has no Jacobian at 0, and does not come to rest either (Mescheder et al. 2018, lemma 2.4).
    """
    ends = {}
    for update in ("shared", "alternating"):
        for remedy in ("none", "R1", "WGAN-GP"):
            went = convergence.path(convergence.dirac(update, remedy), 500)
            assert went[0].tolist() == [1, 1]
            ends[update, remedy] = np.hypot(*went[-50:].T)
    assert 0.5 < ends["shared", "none"].min() < ends["shared", "none"].max() < 1  # it stays at this distance
    assert ends["alternating", "none"].min() > 0.1
    assert max(ends["shared", "R1"].max(), ends["alternating", "R1"].max()) < 1e-4
    assert min(ends["shared", "WGAN-GP"].min(), ends["alternating", "WGAN-GP"].min()) > 0.1


@pytest.mark.nightly
def test_krylov_iteration_finds_the_leading_ones_of_all_eigenvalues(x64):
    recipe = convergence.dirac("shared", "relativistic, R1, R2").replace(
        gen=networks.PointsGen(width=5), disc=networks.PointsDisc(width=5), data="points:ring"
    )
    gan = recipe.build()
    state, batch = jaxgan.init(gan, jax.random.key(0)), jnp.asarray(recipe.load_data().images[:64])
    state = jax.tree.map(lambda x: x.astype(jnp.float64) if x.dtype == jnp.float32 else x, state)
    start, update = update_map(gan, state, batch)
    every = eigvals(np.asarray(jax.jacobian(update)(start)) - np.eye(len(start)))
    np.testing.assert_allclose(np.sort_complex(eigenvalues(gan, state, batch) - 1), np.sort_complex(every), atol=1e-9)
    for by, part in (("LR", np.real), ("LI", lambda x: np.abs(np.imag(x)))):
        found = leading_eigenvalues(gan, state, batch, 4, by)
        want = np.sort(part(every))[-len(found) :]
        np.testing.assert_allclose(np.sort(part(found)), want, atol=1e-8, err_msg=by)


def test_points_are_those_of_their_distributions():
    for name, (centres, deviation) in MODES.items():
        found = data.load(f"points:{name}").images
        assert (found.shape, found.dtype) == ((100_000, 2), np.float32)
        apart = np.linalg.norm(found[:, None] - centres[None], axis=2)
        nearest, distance = apart.argmin(1), apart.min(1)
        share = np.bincount(nearest, minlength=len(centres)) / len(found)
        np.testing.assert_allclose(share, 1 / len(centres), atol=5 * (1 / len(centres) / len(found)) ** 0.5)
        np.testing.assert_allclose(np.mean(distance**2), 2 * deviation**2, rtol=0.02)
    assert [len(centres) for centres, _ in MODES.values()] == [8, 25]
    np.testing.assert_allclose(np.linalg.norm(MODES["ring"][0], axis=1), 1)
    assert {tuple(centre) for centre in MODES["grid"][0]} == {(x, y) for x in range(-4, 5, 2) for y in range(-4, 5, 2)}
    assert not data.load("points:dirac").images.any()
    assert 0.9 < np.linalg.norm(data.load("points:swiss_roll").images, axis=1).max() < 1.4
    assert data.load("points:ring").sha256() == data.load("points:ring").sha256()
    with pytest.raises(DataError, match="there are points:ring, points:grid, points:swiss_roll and points:dirac"):
        data.load("points:square")
    with pytest.raises(
        DataError, match=r"the generator makes no images, but floats of shape \[2\]; such data are points"
    ):
        recipes.get("ring").replace(data="digits").open_data()


@pytest.mark.nightly
def test_ring_is_found_in_its_published_length():
    """All eight modes, within three standard deviations of one most points; by another seed than the study's."""
    recipe = recipes.get("ring")
    gan, points = recipe.build(), recipe.load_data()
    order = jnp.asarray(points.batches(jax.random.key(3), 0, recipe.steps, recipe.batch_size))
    state = jaxgan.init(gan, jax.random.key(3))
    state, _ = jax.jit(jaxgan.train_steps, static_argnums=0)(
        gan, state, jnp.asarray(points.images), order, recipe.steps
    )
    made = np.asarray(jaxgan.sample(gan, state, jax.random.key(4), 2_500))
    found, good, divergence = modes_of_points(made, *MODES["ring"])
    assert (found, good > 0.5, divergence < 0.1) == (8, True, True)
