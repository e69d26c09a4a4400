"""All recipes in one table. A recipe says what is trained, on what, and how.

A new recipe is one entry of `RECIPES`; a new network or loss is one function or module, named there.
"""

import dataclasses
import math
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, Literal

import flax.linen as nn
import optax
import tyro

from jaxgan import GAN, losses, networks


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Everything that decides a run's numbers, but its seed and its length in `steps`."""

    name: Annotated[str, tyro.conf.Suppress]
    """Its key in `RECIPES`."""
    gen: Annotated[Callable[[], nn.Module], tyro.conf.Suppress]
    """Makes the generator module."""
    disc: Annotated[Callable[[], nn.Module], tyro.conf.Suppress]
    """Makes the discriminator module."""
    steps: int
    """How many updates."""
    data: str = "digits"
    """The images: digits (embedded), a TensorFlow dataset's name, or folder:PATH."""
    split: str = "train"
    """The split of a TensorFlow dataset; train+test joins two."""
    batch_size: int = 128
    """Real images, and generated ones, in each update."""
    z_size: int = 100
    """The length of a latent."""
    prior: Literal["normal", "uniform"] = "normal"
    """The distribution of latents: N(0, 1) or U(-1, 1)."""
    loss: Literal["non_saturating", "least_squares"] = "non_saturating"
    """Cross-entropy with the non-saturating generator's loss, or least squares (LSGAN)."""
    real_label: float = 1.0
    """The label of real images in the non_saturating loss; 0.9 is one-sided label smoothing."""
    disc_loss_scale: float = 1.0
    """A factor on the discriminator's loss; 0.5 makes a sum over real and generated images their mean."""
    gen_learning_rate: float = 1e-4
    """Adam's learning rate for the generator."""
    disc_learning_rate: float = 1e-4
    """Adam's learning rate for the discriminator."""
    beta1: float = 0.9
    """Adam's decay of the mean gradient, in both networks."""
    beta2: float = 0.999
    """Adam's decay of the mean squared gradient, in both networks."""
    update: Literal["shared", "alternating"] = "shared"
    """Both networks from one forward pass, or the discriminator and then the generator."""
    ema_decay: float = 0.999
    """The share of the averaged generator kept at each step; 0 samples from the last weights."""

    def __post_init__(self):
        """Refuses values that no run could use."""
        positive, rate, share, decay = "at least 1", "at least 0 and finite", "from 0 to 1", "at least 0 and below 1"
        allowed = {
            "steps": (positive, lambda x: x >= 1),
            "batch_size": (positive, lambda x: x >= 1),
            "z_size": (positive, lambda x: x >= 1),
            "real_label": (share, lambda x: 0 <= x <= 1),
            "disc_loss_scale": (rate, lambda x: 0 <= x < math.inf),
            "gen_learning_rate": (rate, lambda x: 0 <= x < math.inf),
            "disc_learning_rate": (rate, lambda x: 0 <= x < math.inf),
            "beta1": (decay, lambda x: 0 <= x < 1),
            "beta2": (decay, lambda x: 0 <= x < 1),
            "ema_decay": (decay, lambda x: 0 <= x < 1),
        }
        for name, (what, holds) in allowed.items():
            if not holds(getattr(self, name)):
                raise ValueError(f"--{name.replace('_', '-')} must be {what}, not {getattr(self, name)}")
        if self.loss == "least_squares" and self.real_label != 1:
            raise ValueError("--real-label belongs to --loss non_saturating; leave it at 1 for least_squares")

    def build(self) -> GAN:
        """The static description that `jaxgan.init` and `jaxgan.train_step` take."""
        gen_loss, disc_loss = {
            "non_saturating": (
                losses.non_saturating_gen,
                partial(losses.non_saturating_disc, real_label=self.real_label),
            ),
            "least_squares": (losses.least_squares_gen, losses.least_squares_disc),
        }[self.loss]
        return GAN(
            gen=self.gen(),
            disc=self.disc(),
            gen_loss=gen_loss,
            disc_loss=lambda real, fake: self.disc_loss_scale * disc_loss(real, fake),
            gen_optimizer=optax.adam(self.gen_learning_rate, self.beta1, self.beta2),
            disc_optimizer=optax.adam(self.disc_learning_rate, self.beta1, self.beta2),
            z_size=self.z_size,
            prior=self.prior,
            update=self.update,
            ema_decay=self.ema_decay,
        )

    def config(self) -> dict[str, Any]:
        """The fields that decide a run's numbers, as plain values; `from_config` is the inverse."""
        config = dataclasses.asdict(self)
        name = config.pop("name")
        return {"recipe": name} | {k: v for k, v in config.items() if k not in ("gen", "disc", "steps")}


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
        # "GAN and DCGAN in Tensorflow", second half.
        Recipe(
            name="tf2_dcgan",
            gen=networks.TF2DCGANGen,
            disc=networks.TF2DCGANDisc,
            steps=20_000,
            data="mnist",
            disc_loss_scale=0.5,
        ),
    )
}
