"""Games that can be drawn: points in the plane, and the Dirac-GAN, in seconds on a CPU (docs/convergence.md)."""

from typing import Any

import optax

from jaxgan import networks
from jaxgan.recipes.groups import Data, Objective, Optimization, Schedule
from jaxgan.recipes.settings import Recipe


def in_the_plane(name: str, about: str, **changes: Any) -> Recipe:
    """Relativistic pairs with R1 and R2, both networks from one pass."""
    return Recipe(
        name=name,
        about=about,
        gen=networks.PointsGen(),
        disc=networks.PointsDisc(),
        image_range=None,
        source=Data(data=f"points:{name}"),
        objective=Objective(z_size=2, loss="relativistic", gamma=0.1),
        optimization=Optimization(gen_learning_rate=1e-3, disc_learning_rate=1e-3, beta1=0.0, beta2=0.99),
        schedule=Schedule(steps=5_000, ema_half_life=20_000),
    ).replace(**changes)


POINTS = {
    recipe.name: recipe
    for recipe in (
        in_the_plane("ring", "points around a ring, eight modes: small dense networks"),
        in_the_plane(
            "grid",
            "points on a grid, 25 modes: small dense networks",
            gen=networks.PointsGen(layers=3),
            disc=networks.PointsDisc(layers=3),
            gamma=0.03,
            steps=10_000,
        ),
        Recipe(
            name="dirac",
            about="the Dirac-GAN (2018): one parameter each, plain gradient descent, which circles or diverges",
            gen=networks.DiracGen(),
            disc=networks.DiracDisc(),
            image_range=None,
            source=Data(data="points:dirac", batch_size=8),
            objective=Objective(z_size=1),
            optimization=Optimization(optimizer=optax.sgd, gen_learning_rate=0.2, disc_learning_rate=0.2),
            schedule=Schedule(steps=500, ema_decay=0.0),
        ),
    )
}
