"""Systems of the years after the six, as recipes: as published, and small forms of them for two CPU cores."""

from typing import NamedTuple

from jaxgan import networks
from jaxgan.augmentation import Augment
from jaxgan.penalties import R1, R2, WGANGP
from jaxgan.recipes.groups import Data, Objective, Optimization, Schedule
from jaxgan.recipes.settings import Recipe
from jaxgan.recipes.systems import SYSTEMS
from jaxgan.schedules import Cosine, Linear


class _R3GAN(NamedTuple):
    """What R3GAN's published settings differ in. Numbers of images are of real ones, in millions.

    Attributes:
      name: the recipe's.
      what: the pictures, in words.
      data: as `--data`.
      widths: the channels of the stages of both networks.
      batch: real images in an update.
      gamma: of R1 and of R2, at first; a tenth of it in the end.
      p: the augmentation's probability in the end; 0 at first.
      half_life: of G's average in the end, in images; 0 at first.
      over: images over which all of these change, by a cosine.
      trained: images of the whole run; 0 where they are not known here, which takes twice `over`.
      group_width: the channels of a group of a block's 3x3 convolution.
      classes: of the labels.
    """

    name: str
    what: str
    data: str
    widths: tuple[int, ...]
    batch: int
    gamma: float
    p: float
    half_life: float
    over: float
    trained: float
    group_width: int = 16
    classes: int = 0


# From the authors' code, its presets and commands; `trained` from the paper's table 9, as quoted in its issue 18.
_WIDE = (768,) * 4
_R3GANS = (
    _R3GAN("r3gan", "CIFAR-10", "cifar10", _WIDE, 512, 0.05, 0.55, 5, 20, 250),
    _R3GAN("r3gan_ffhq64", "FFHQ at 64x64", "prepared:ffhq-64", (*_WIDE, 384), 256, 2, 0.3, 0.5, 20, 0),
    _R3GAN("r3gan_ffhq256", "FFHQ at 256x256", "prepared:ffhq-256", (*_WIDE, 384, 192, 96), 256, 150, 0.3, 0.5, 20, 0),
    *(
        _R3GAN(
            f"r3gan_imagenet{n}",
            f"ImageNet at {n}x{n}",
            f"imagenet_resized/{n}x{n}",
            (1536,) * stages,
            4096,
            gamma,
            p,
            50,
            200,
            1000,
            group_width=32,
            classes=1000,
        )
        for n, stages, gamma, p in ((32, 4, 0.5, 0.5), (64, 5, 1, 0.4))
    ),
)


def _r3gan(of: _R3GAN) -> Recipe:
    """R3GAN (2024) with one of its published settings."""
    over = int(of.over * 1e6) // of.batch
    gamma, rate = Cosine(of.gamma, of.gamma / 10, over), Cosine(2e-4, 5e-5, over)
    return Recipe(
        name=of.name,
        about=f"R3GAN (2024), {of.what}: relativistic pairs, R1 and R2, no normalisation anywhere",
        gen=networks.R3GANGen(of.widths, of.group_width, of.classes),
        disc=networks.R3GANDisc(of.widths, of.group_width, of.classes),
        classes=of.classes,
        source=Data(data=of.data, batch_size=of.batch, mirror=True),
        objective=Objective(
            z_size=64,
            loss="relativistic",
            gamma=gamma,
            generated_labels="real" if of.classes else "uniform",
            transforms=(Augment(Cosine(0.0, of.p, over), color=0.5, cutout=1.0),),
        ),
        optimization=Optimization(
            gen_learning_rate=rate, disc_learning_rate=rate, beta1=0.0, beta2=Cosine(0.9, 0.99, over)
        ),
        schedule=Schedule(
            steps=int(of.trained * 1e6) // of.batch or 2 * over,
            update="alternating",
            ema_half_life=Cosine(0.0, of.half_life * 1e6, over),
            ema_ramp=False,
        ),
    )


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
    *map(_r3gan, _R3GANS),
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
        about="r3gan, small and without its augmentation: a quarter of an hour on two cores",
        gen=networks.R3GANGen((128, 64, 32, 16), blocks=1),
        disc=networks.R3GANDisc((128, 64, 32, 16), blocks=1),
        batch_size=32,
        gamma=Cosine(0.1, 0.02, 8_000),
        gen_learning_rate=Cosine(1e-3, 1e-4, 8_000),
        disc_learning_rate=Cosine(1e-3, 1e-4, 8_000),
        beta2=Cosine(0.9, 0.99, 8_000),
        steps=8_000,
        update="shared",
        transforms=(),
        ema_half_life=20_000,
        ema_ramp=True,
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
