"""All recipes in one table. A recipe says what is trained, on what, and how.

A new recipe is one entry of `RECIPES`; a new network or loss is one function or module, named there.
"""

import dataclasses
import math
from functools import partial
from typing import Annotated, Any, Literal, get_args, get_origin

import flax.linen as nn
import optax
import tyro

from jaxgan import GAN, losses, networks


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Everything that decides a run's numbers, but its seed and its length in `steps`."""

    name: Annotated[str, tyro.conf.Suppress]
    """Its key in `RECIPES`."""
    gen: Annotated[type[nn.Module], tyro.conf.Suppress]
    """The generator."""
    disc: Annotated[type[nn.Module], tyro.conf.Suppress]
    """The discriminator."""
    steps: int
    """How many updates."""
    image_range: Annotated[tuple[float, float], tyro.conf.Suppress] = (-1.0, 1.0)
    """The range of the generator's images: that of its last activation."""
    independent_disc: Annotated[bool, tyro.conf.Suppress] = False
    """Whether the discriminator looks at each image alone: no batch normalisation, no minibatch features."""
    data: str = "digits"
    """The images: digits (embedded), a TensorFlow dataset's name, or folder:PATH."""
    split: str = "train"
    """The split of a TensorFlow dataset; train+test joins two."""
    border: int = 0
    """Black pixels on each side of a real image, within the recipe's size."""
    batch_size: int = 128
    """Real images, and generated ones, in each update."""
    z_size: int = 100
    """The length of a latent."""
    prior: Literal["normal", "uniform"] = "normal"
    """The distribution of latents: N(0, 1) or U(-1, 1)."""
    subpixel: bool = False
    """Whether the generator enlarges by sub-pixel convolution (ESPCN); canton_lsgan's can."""
    loss: Literal["non_saturating", "least_squares"] = "non_saturating"
    """Cross-entropy with the non-saturating generator's loss, or least squares (LSGAN)."""
    real_label: float = 1.0
    """The label of real images in the non_saturating loss; 0.9 is one-sided label smoothing."""
    disc_loss_scale: float = 1.0
    """A factor on the discriminator's loss; 0.5 makes a sum over real and generated images their mean."""
    gen_l2: float = 0.0
    """This times the squared L2 norm of the generator's parameters is added to its loss."""
    instance_noise: float = 0.0
    """The standard deviation, at first, of noise that is added to all images the discriminator sees."""
    instance_noise_decay: float = 1.0
    """What the standard deviation of instance noise is multiplied by at each step."""
    optimizer: Literal["adam", "rmsprop"] = "adam"
    """Of both networks. RMSprop is Keras's: epsilon 1e-7, added to the root."""
    gen_learning_rate: float = 1e-4
    """The learning rate of the generator."""
    disc_learning_rate: float = 1e-4
    """The learning rate of the discriminator."""
    gen_time_decay: float = 0.0
    """The generator's learning rate at its update t is divided by 1 + gen_time_decay * t, as in Keras."""
    disc_time_decay: float = 0.0
    """Likewise for the discriminator."""
    beta1: float = 0.9
    """The decay of the mean gradient in Adam; RMSprop keeps none, so 0."""
    beta2: float = 0.999
    """The decay of the mean squared gradient, in Adam and in RMSprop."""
    clip: float | None = None
    """Each element of a gradient is clipped to [-clip, clip]; None leaves it as it is."""
    update: Literal["shared", "alternating"] = "shared"
    """Both networks from one forward pass, or the discriminator and then the generator."""
    training_ratio: int = 1
    """Updates of the discriminator, each on its own images, for one of the generator."""
    accumulate: int = 1
    """Microbatches that each update's gradients are averaged over, for batches larger than memory. Batch normalisation
    then sees one at a time, so it is another update; without it, it is the same."""
    precision: Literal["float32", "bf16"] = "float32"
    """What the networks compute in; parameters, optimisers, batch statistics and losses stay in float32."""
    ema_decay: float = 0.999
    """The share of the averaged generator kept at each step; 0 samples from the last weights."""

    def __post_init__(self):
        """Refuses values that no run could use."""
        positive, rate, share, decay = "at least 1", "at least 0 and finite", "from 0 to 1", "at least 0 and below 1"
        is_rate, is_decay = lambda x: 0 <= x < math.inf, lambda x: 0 <= x < 1
        rates = ("disc_loss_scale", "gen_l2", "instance_noise", "gen_learning_rate", "disc_learning_rate")
        allowed = {
            **dict.fromkeys(
                ("steps", "batch_size", "z_size", "training_ratio", "accumulate"), (positive, lambda x: x >= 1)
            ),
            **dict.fromkeys((*rates, "gen_time_decay", "disc_time_decay"), (rate, is_rate)),
            "real_label": (share, lambda x: 0 <= x <= 1),
            "instance_noise_decay": ("above 0 and at most 1", lambda x: 0 < x <= 1),
            **dict.fromkeys(("beta1", "beta2", "ema_decay"), (decay, is_decay)),
            "border": ("at least 0", lambda x: x >= 0),
            "clip": ("above 0 and finite", lambda x: x is None or 0 < x < math.inf),
        }
        for field in dataclasses.fields(self):
            if get_origin(field.type) is Literal:
                choices = get_args(field.type)
                allowed[field.name] = (f"one of {', '.join(choices)}", choices.__contains__)
        for name, (what, holds) in allowed.items():
            if not holds(getattr(self, name)):
                raise ValueError(f"--{name.replace('_', '-')} must be {what}, not {getattr(self, name)}")
        if self.loss == "least_squares" and self.real_label != 1:
            raise ValueError("--real-label belongs to --loss non_saturating; leave it at 1 for least_squares")
        if self.optimizer == "rmsprop" and self.beta1 != 0:
            raise ValueError("--beta1 belongs to --optimizer adam; set it to 0 for rmsprop")
        if self.subpixel and not hasattr(self.gen, "subpixel"):
            raise ValueError(f"--subpixel belongs to canton_lsgan; the generator of {self.name} has no such option")

    def build(self) -> GAN:
        """The static description that `jaxgan.init` and `jaxgan.train_step` take."""
        gen_loss, disc_loss = {
            "non_saturating": (
                losses.non_saturating_gen,
                partial(losses.non_saturating_disc, real_label=self.real_label),
            ),
            "least_squares": (losses.least_squares_gen, losses.least_squares_disc),
        }[self.loss]
        noise = optax.exponential_decay(self.instance_noise, 1, self.instance_noise_decay)
        return GAN(
            gen=self.gen(subpixel=True) if self.subpixel else self.gen(),
            disc=self.disc(),
            gen_loss=gen_loss,
            disc_loss=lambda real, fake: self.disc_loss_scale * disc_loss(real, fake),
            gen_optimizer=self._optimizer(self.gen_learning_rate, self.gen_time_decay),
            disc_optimizer=self._optimizer(self.disc_learning_rate, self.disc_time_decay),
            z_size=self.z_size,
            prior=self.prior,
            image_range=self.image_range,
            update=self.update,
            training_ratio=self.training_ratio,
            instance_noise=noise if self.instance_noise else None,
            gen_l2=self.gen_l2,
            accumulate=self.accumulate,
            one_pullback=self.independent_disc and self.loss == "non_saturating",
            precision=self.precision,
            ema_decay=self.ema_decay,
        )

    def _optimizer(self, learning_rate: float, time_decay: float) -> optax.GradientTransformation:
        rate = (lambda t: learning_rate / (1 + time_decay * t)) if time_decay else learning_rate
        descend = {
            "adam": lambda: optax.adam(rate, self.beta1, self.beta2),
            "rmsprop": lambda: optax.rmsprop(rate, self.beta2, eps=1e-7, eps_in_sqrt=False),
        }[self.optimizer]()
        return optax.chain(optax.clip(self.clip), descend) if self.clip else descend

    def config(self) -> dict[str, Any]:
        """The fields that decide a run's numbers, as plain values; `from_config` is the inverse."""
        config = dataclasses.asdict(self)
        name = config.pop("name")
        hidden = ("gen", "disc", "image_range", "independent_disc", "steps")  # the name stands for all but the last
        return {"recipe": name} | {k: v for k, v in config.items() if k not in hidden}


def get(name: str) -> Recipe:
    """The recipe of that name.

    Raises:
      ValueError: there is none.
    """
    if name not in RECIPES:
        raise ValueError(f"no recipe is named {name!r}; there are {', '.join(RECIPES)}")
    return RECIPES[name]


def from_config(config: dict[str, Any]) -> Recipe:
    """The recipe of a run, from what its `config.json` holds."""
    fields = {field.name for field in dataclasses.fields(Recipe)}
    return dataclasses.replace(get(config["recipe"]), **{k: v for k, v in config.items() if k in fields})


RECIPES = {
    recipe.name: recipe
    for recipe in (
        # A small DCGAN for the embedded data, to see the whole system work within two minutes.
        Recipe(
            name="digits",
            gen=networks.DigitsGen,
            disc=networks.DigitsDisc,
            steps=3000,
            batch_size=64,
            z_size=64,
            gen_learning_rate=2e-3,
            disc_learning_rate=1e-3,
            beta1=0.0,
        ),
        # "Fast DCGAN in Keras": both networks from one pass.
        Recipe(
            name="keras_dcgan",
            gen=networks.KerasDCGANGen,
            disc=networks.KerasDCGANDisc,
            steps=40_000,
            data="cifar10",
            batch_size=32,
            real_label=0.9,
            beta1=0.2,
        ),
        # "GAN by Example using Keras on Tensorflow Backend".
        Recipe(
            name="keras_mnist",
            gen=networks.KerasMNISTGen,
            disc=networks.KerasMNISTDisc,
            independent_disc=True,
            steps=10_000,
            image_range=(0.0, 1.0),
            data="mnist",
            batch_size=256,
            prior="uniform",
            disc_loss_scale=0.5,
            optimizer="rmsprop",
            gen_learning_rate=4e-4,
            disc_learning_rate=8e-4,
            gen_time_decay=3e-8,
            disc_time_decay=6e-8,
            beta1=0.0,
            beta2=0.9,
            clip=1.0,
            update="alternating",
        ),
        # "Fast LSGAN in Canton".
        Recipe(
            name="canton_lsgan",
            gen=networks.CantonLSGANGen,
            disc=networks.CantonLSGANDisc,
            steps=40_000,
            data="cifar10",
            batch_size=32,
            loss="least_squares",
            gen_l2=1e-7,
            instance_noise=0.1,
            instance_noise_decay=0.999,
            beta1=0.5,
        ),
        # "GAN and DCGAN in Tensorflow", first half.
        Recipe(
            name="tf2_gan",
            gen=networks.TF2GANGen,
            disc=networks.TF2GANDisc,
            independent_disc=True,
            steps=2_220,
            data="mnist",
            disc_loss_scale=0.5,
            gen_learning_rate=2e-4,
            disc_learning_rate=2e-4,
            beta1=0.5,
        ),
        # "GAN and DCGAN in Tensorflow", second half.
        Recipe(
            name="tf2_dcgan",
            gen=networks.TF2DCGANGen,
            disc=networks.TF2DCGANDisc,
            steps=20_000,
            data="mnist",
            disc_loss_scale=0.5,
        ),
        # "The Elements of GANs, Part 1".
        Recipe(
            name="gan_elements",
            gen=networks.GANElementsGen,
            disc=networks.GANElementsDisc,
            independent_disc=True,
            steps=4_000,
            data="mnist",
            split="train+test",
            border=2,
            batch_size=32,
            z_size=64,
            beta1=0.5,
            beta2=0.9,
            update="alternating",
        ),
    )
}
