"""Systems of the years after the six, as recipes: as published, and small forms of them for two CPU cores."""

from jaxgan import networks
from jaxgan.penalties import R1, R2, WGANGP
from jaxgan.recipes.groups import Data, Objective, Optimization, Schedule
from jaxgan.recipes.settings import Recipe
from jaxgan.recipes.systems import SYSTEMS
from jaxgan.schedules import Cosine, Linear

_R3GAN = 20_000_000 // 512  # updates over which rates and weights change: so many real images

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
    Recipe(
        name="r3gan",
        about="R3GAN (2024), CIFAR-10: relativistic pairs, R1 and R2, no normalisation anywhere",
        gen=networks.R3GANGen(),
        disc=networks.R3GANDisc(),
        source=Data(data="cifar10", batch_size=512, mirror=True),
        objective=Objective(
            z_size=64,
            loss="relativistic",
            penalties=(R1(Cosine(0.05, 0.005, _R3GAN)), R2(Cosine(0.05, 0.005, _R3GAN))),
        ),
        optimization=Optimization(
            gen_learning_rate=Cosine(2e-4, 5e-5, _R3GAN),
            disc_learning_rate=Cosine(2e-4, 5e-5, _R3GAN),
            beta1=0.0,
            beta2=Cosine(0.9, 0.99, _R3GAN),
        ),
        schedule=Schedule(steps=80_000, update="alternating", ema_half_life=5_000_000),
    ),
)

_SMALL = (
    _PUBLISHED[1].replace(
        name="sngan_small",
        about="sngan, small: a quarter of an hour on two cores",
        gen=networks.SNGANGen(width=32),
        disc=networks.SNGANDisc(width=32),
        batch_size=32,
        training_ratio=2,
        gen_learning_rate=Linear(4e-4, 0.0, 6_000),
        disc_learning_rate=Linear(4e-4, 0.0, 6_000),
        steps=6_000,
        ema_decay=0.999,
    ),
    _PUBLISHED[2].replace(
        name="r3gan_small",
        about="r3gan, small: a quarter of an hour on two cores",
        gen=networks.R3GANGen((128, 64, 32, 16), blocks=1),
        disc=networks.R3GANDisc((128, 64, 32, 16), blocks=1),
        batch_size=32,
        penalties=(R1(Cosine(0.1, 0.02, 8_000)), R2(Cosine(0.1, 0.02, 8_000))),
        gen_learning_rate=Cosine(1e-3, 1e-4, 8_000),
        disc_learning_rate=Cosine(1e-3, 1e-4, 8_000),
        beta2=Cosine(0.9, 0.99, 8_000),
        steps=8_000,
        update="shared",
        ema_half_life=20_000,
    ),
)


def _conditional(recipe: Recipe) -> Recipe:
    """An R3GAN with CIFAR-10's labels: generated image i has real image i's, with which it makes a pair."""
    return recipe.replace(
        name=f"{recipe.name}_conditional",
        about=f"{recipe.name} with labels",
        gen=recipe.gen.clone(classes=10),
        disc=recipe.disc.clone(classes=10),
        classes=10,
        generated_labels="real",
    )


_KERAS_DCGAN_MODERN = SYSTEMS["keras_dcgan"].replace(
    name="keras_dcgan_modern",
    about="keras_dcgan's networks by later methods: labels, R1 and R2, no batch normalisation in D",
    gen=networks.KerasDCGANGen(classes=10),
    disc=networks.KerasDCGANDisc(classes=10, alone=True),
    classes=10,
    generated_labels="real",
    real_label=1.0,
    penalties=(R1(0.1), R2(0.1)),
    gen_learning_rate=Linear(3.2e-3, 0.0, 7_000),
    disc_learning_rate=Linear(3.2e-3, 0.0, 7_000),
    beta1=0.0,
    beta2=0.99,
    steps=7_000,
)

_RECIPES = (*_PUBLISHED, _conditional(_PUBLISHED[2]), *_SMALL, _conditional(_SMALL[1]), _KERAS_DCGAN_MODERN)

MODERN = {recipe.name: recipe for recipe in _RECIPES}
