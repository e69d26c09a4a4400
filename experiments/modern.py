"""Systems of the years after the six, as recipes: as published, and small forms of them for two CPU cores."""

from experiments.groups import Data, Objective, Optimization, Schedule
from experiments.settings import Recipe
from jaxgan import networks
from jaxgan.penalties import WGANGP
from jaxgan.schedules import Linear

_PUBLISHED = (
    Recipe(
        name="wgan_gp",
        about="WGAN-GP (2017), MNIST: five updates of the critic for one of the generator",
        gen=networks.WGANGPGen(),
        disc=networks.WGANGPDisc(),
        image_range=(0.0, 1.0),
        source=Data(data="mnist", batch_size=50),
        objective=Objective(z_size=128, loss="wasserstein", penalties=(WGANGP(10.0),)),
        optimization=Optimization(beta1=0.0, beta2=0.9),
        schedule=Schedule(steps=20_000, update="alternating", training_ratio=5, ema_decay=0.0),
    ),
    Recipe(
        name="sngan",
        about="SNGAN (2018), CIFAR-10: residual networks, spectral normalisation, hinge loss",
        gen=networks.SNGANGen(),
        disc=networks.SNGANDisc(),
        source=Data(data="cifar10", batch_size=64),
        objective=Objective(z_size=128, loss="hinge"),
        optimization=Optimization(
            gen_learning_rate=Linear(2e-4, 0.0, 50_000),
            disc_learning_rate=Linear(2e-4, 0.0, 50_000),
            beta1=0.0,
            beta2=0.9,
        ),
        schedule=Schedule(steps=50_000, update="alternating", training_ratio=5, ema_decay=0.0),
    ),
)

MODERN = {recipe.name: recipe for recipe in _PUBLISHED}
