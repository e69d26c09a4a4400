"""The six reference systems, two for the embedded digits, and a variant, as recipes."""

from jaxgan import networks
from jaxgan.penalties import R1, R2
from jaxgan.recipes.groups import Data, Objective, Optimization, Schedule
from jaxgan.recipes.settings import Recipe
from jaxgan.schedules import Cosine

_SYSTEMS = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            name="digits",
            about="a small DCGAN on the embedded handwritten digits; a minute on two cores",
            gen=networks.DigitsGen(),
            disc=networks.DigitsDisc(),
            source=Data(batch_size=64),
            objective=Objective(z_size=64),
            optimization=Optimization(gen_learning_rate=2e-3, disc_learning_rate=1e-3, beta1=0.0),
            schedule=Schedule(steps=3000),
        ),
        Recipe(
            name="keras_dcgan",
            about='"Fast DCGAN in Keras": both networks from one pass, CIFAR-10',
            gen=networks.KerasDCGANGen(),
            disc=networks.KerasDCGANDisc(),
            source=Data(data="cifar10", batch_size=32),
            objective=Objective(real_label=0.9),
            optimization=Optimization(beta1=0.2),
            schedule=Schedule(steps=40_000),
        ),
        Recipe(
            name="keras_mnist",
            about='"GAN by Example using Keras on Tensorflow Backend", MNIST',
            gen=networks.KerasMNISTGen(),
            disc=networks.KerasMNISTDisc(),
            image_range=(0.0, 1.0),
            source=Data(data="mnist", batch_size=256),
            objective=Objective(prior="uniform", disc_loss_scale=0.5),
            optimization=Optimization(
                optimizer="rmsprop",
                gen_learning_rate=4e-4,
                disc_learning_rate=8e-4,
                gen_time_decay=3e-8,
                disc_time_decay=6e-8,
                beta1=0.0,
                beta2=0.9,
                clip=1.0,
            ),
            schedule=Schedule(steps=10_000, update="alternating"),
        ),
        Recipe(
            name="canton_lsgan",
            about='"Fast LSGAN in Canton", CIFAR-10',
            gen=networks.CantonLSGANGen(),
            disc=networks.CantonLSGANDisc(),
            source=Data(data="cifar10", batch_size=32),
            objective=Objective(loss="least_squares", gen_l2=1e-7, instance_noise=0.1, instance_noise_decay=0.999),
            optimization=Optimization(beta1=0.5),
            schedule=Schedule(steps=40_000),
        ),
        Recipe(
            name="tf2_gan",
            about='"GAN and DCGAN in Tensorflow", first half: dense networks, MNIST',
            gen=networks.TF2GANGen(),
            disc=networks.TF2GANDisc(),
            source=Data(data="mnist"),
            objective=Objective(disc_loss_scale=0.5),
            optimization=Optimization(gen_learning_rate=2e-4, disc_learning_rate=2e-4, beta1=0.5),
            schedule=Schedule(steps=2_220),
        ),
        Recipe(
            name="tf2_dcgan",
            about='"GAN and DCGAN in Tensorflow", second half: a DCGAN, MNIST',
            gen=networks.TF2DCGANGen(),
            disc=networks.TF2DCGANDisc(),
            source=Data(data="mnist"),
            objective=Objective(disc_loss_scale=0.5),
            schedule=Schedule(steps=20_000),
        ),
        Recipe(
            name="gan_elements",
            about='"The Elements of GANs, Part 1", MNIST at 32x32',
            gen=networks.GANElementsGen(),
            disc=networks.GANElementsDisc(),
            source=Data(data="mnist", split="train+test", border=2, batch_size=32),
            objective=Objective(z_size=64),
            optimization=Optimization(beta1=0.5, beta2=0.9),
            schedule=Schedule(steps=4_000, update="alternating"),
        ),
    )
}

_VARIANTS = (
    Recipe(
        name="digits_conditional",
        about="the embedded digits by dense networks, a row of each class; half a minute on two cores",
        gen=networks.DenseDigitsGen(classes=10),
        disc=networks.DenseDigitsDisc(classes=10),
        classes=10,
        source=Data(batch_size=64),
        objective=Objective(
            z_size=64,
            loss="relativistic",
            generated_labels="real",
            instance_noise=0.2,
            penalties=(R1(0.05), R2(0.05)),
        ),
        optimization=Optimization(
            gen_learning_rate=Cosine(2e-3, 1e-4, 20_000),
            disc_learning_rate=Cosine(2e-3, 1e-4, 20_000),
            beta1=0.0,
            beta2=0.99,
        ),
        schedule=Schedule(steps=20_000),
    ),
    _SYSTEMS["canton_lsgan"].replace(
        name="canton_lsgan_subpixel",
        about="canton_lsgan, enlarging by sub-pixel convolutions (ESPCN), which its document recommends",
        gen=networks.CantonLSGANGen(subpixel=True),
    ),
)

SYSTEMS = _SYSTEMS | {recipe.name: recipe for recipe in _VARIANTS}
