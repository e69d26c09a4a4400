"""What a recipe is: the networks, and settings in groups that check themselves.

A setting that is a plain value is a flag of `experiments.train` by its own name. Some may be a function or an object
of one's own instead, in a recipe of one's own: a loss, an optimiser, a source of data.
"""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, Literal

import flax.linen as nn
import jax
import optax

from experiments.described import describe, is_plain
from experiments.fields import CLIP, DECAY, FACTOR, NOT_NEGATIVE, POSITIVE, RATE, SHARE, check, setting
from jaxgan import GAN, losses
from jaxgan.data import DataError, Dataset, load
from jaxgan.gan import image_shape
from jaxgan.penalties import L2, Penalty
from jaxgan.transforms import InstanceNoise, Transform


@dataclasses.dataclass(frozen=True)
class Data:
    """What is trained on."""

    data: str | Callable[[], Dataset] = setting(
        "digits", "The images: digits (embedded), a TensorFlow dataset's name, stacked_mnist, or folder:PATH."
    )
    split: str = setting("train", "The split of a TensorFlow dataset; train+test joins two.")
    border: int = setting(0, "Black pixels on each side of a real image, within the recipe's size.", NOT_NEGATIVE)
    batch_size: int = setting(128, "Real images, and generated ones, in each update.", POSITIVE)

    __post_init__ = check


@dataclasses.dataclass(frozen=True)
class Objective:
    """What the networks are to minimise.

    Attributes:
      transforms: what images pass on their way to D, after instance noise; see `jaxgan.transforms`.
      penalties: what is added to D's loss; see `jaxgan.penalties`.
    """

    z_size: int = setting(100, "The length of a latent.", POSITIVE)
    prior: Literal["normal", "uniform"] = setting("normal", "The distribution of latents: N(0, 1) or U(-1, 1).")
    loss: Literal["non_saturating", "least_squares"] | losses.Loss = setting(
        "non_saturating", "Cross-entropy with the non-saturating generator's loss, or least squares (LSGAN)."
    )
    real_label: float = setting(
        1.0, "The label of real images in the non_saturating loss; 0.9 is one-sided label smoothing.", SHARE
    )
    disc_loss_scale: float = setting(
        1.0, "A factor on the discriminator's loss; 0.5 makes a sum over real and generated images their mean.", RATE
    )
    gen_l2: float = setting(
        0.0, "This times the squared L2 norm of the generator's parameters is added to its loss.", RATE
    )
    instance_noise: float = setting(
        0.0, "The standard deviation, at first, of noise that is added to all images the discriminator sees.", RATE
    )
    instance_noise_decay: float = setting(
        1.0, "What the standard deviation of instance noise is multiplied by at each step.", FACTOR
    )
    transforms: tuple[Transform, ...] = setting((), "")
    penalties: tuple[Penalty, ...] = setting((), "")

    def __post_init__(self):
        """Refuses values that do not fit together, too."""
        check(self)
        if not isinstance(self.loss, str | losses.Loss):
            raise ValueError(f"loss must be a jaxgan.losses.Loss, as of_logits(gen, disc) makes, not {self.loss!r}")
        for name in ("transforms", "penalties"):
            functions = getattr(self, name)
            if not isinstance(functions, tuple) or not all(map(callable, functions)):
                raise ValueError(f"{name} must be a tuple of functions, such as (f,), not {describe(functions)}")
        if self.loss != "non_saturating" and self.real_label != 1:
            raise ValueError("--real-label belongs to --loss non_saturating; leave it at 1 for another loss")
        if isinstance(self.loss, losses.Loss) and self.disc_loss_scale != 1:
            raise ValueError("--disc-loss-scale belongs to the package's own losses; leave it at 1 for yours")

    def build_loss(self) -> losses.Loss:
        """The losses of both networks."""
        if self.loss == "non_saturating":
            return losses.non_saturating(self.real_label, self.disc_loss_scale)
        return losses.least_squares(self.disc_loss_scale) if self.loss == "least_squares" else self.loss

    def build_transforms(self) -> tuple[Transform, ...]:
        """Instance noise where there is any, and the others."""
        noise = (InstanceNoise(self.instance_noise, self.instance_noise_decay),) if self.instance_noise else ()
        return noise + self.transforms


@dataclasses.dataclass(frozen=True)
class Optimization:
    """How both networks descend. An optimiser of one's own is a function of the learning rate, or of its schedule."""

    optimizer: Literal["adam", "rmsprop"] | Callable[..., optax.GradientTransformation] = setting(
        "adam", "Of both networks. RMSprop is Keras's: epsilon 1e-7, added to the root."
    )
    gen_learning_rate: float = setting(1e-4, "The learning rate of the generator.", RATE)
    disc_learning_rate: float = setting(1e-4, "The learning rate of the discriminator.", RATE)
    gen_time_decay: float = setting(
        0.0, "The generator's learning rate at its update t is divided by 1 + gen_time_decay * t, as in Keras.", RATE
    )
    disc_time_decay: float = setting(0.0, "Likewise for the discriminator.", RATE)
    beta1: float = setting(0.9, "The decay of the mean gradient in Adam; RMSprop keeps none, so 0.", DECAY)
    beta2: float = setting(0.999, "The decay of the mean squared gradient, in Adam and in RMSprop.", DECAY)
    clip: float | None = setting(
        None, "Each element of a gradient is clipped to [-clip, clip]; None leaves it as it is.", CLIP
    )

    def __post_init__(self):
        """Refuses values that do not fit together, too."""
        check(self)
        if self.optimizer == "rmsprop" and self.beta1 != 0:
            raise ValueError("--beta1 belongs to --optimizer adam; set it to 0 for rmsprop")

    def build(self, net: Literal["gen", "disc"]) -> optax.GradientTransformation:
        """The optimiser of a network."""
        rate = self.schedule(net) or getattr(self, f"{net}_learning_rate")
        if self.optimizer == "adam":
            descend = optax.adam(rate, self.beta1, self.beta2)
        elif self.optimizer == "rmsprop":
            descend = optax.rmsprop(rate, self.beta2, eps=1e-7, eps_in_sqrt=False)
        else:
            descend = self.optimizer(rate)
        return optax.chain(optax.clip(self.clip), descend) if self.clip else descend

    def schedule(self, net: Literal["gen", "disc"]) -> Callable[[jax.Array], jax.Array] | None:
        """The learning rate of a network as a function of its updates; None where it stays."""
        rate, decay = getattr(self, f"{net}_learning_rate"), getattr(self, f"{net}_time_decay")
        return (lambda t: rate / (1 + decay * t)) if decay else None


@dataclasses.dataclass(frozen=True)
class Schedule:
    """How many updates, and of which kind."""

    steps: int = setting(10_000, "How many updates.", POSITIVE)
    update: Literal["shared", "alternating"] = setting(
        "shared", "Both networks from one forward pass, or the discriminator and then the generator."
    )
    training_ratio: int = setting(
        1, "Updates of the discriminator, each on its own images, for one of the generator.", POSITIVE
    )
    ema_decay: float = setting(
        0.999, "The share of the averaged generator kept at each step; 0 samples from the last weights.", DECAY
    )

    __post_init__ = check


@dataclasses.dataclass(frozen=True)
class Compute:
    """How it is computed."""

    accumulate: int = setting(
        1,
        "Microbatches that each update's gradients are averaged over, for batches larger than memory. Batch "
        "normalisation then sees one at a time, so it is another update; without it, it is the same.",
        POSITIVE,
    )
    precision: Literal["float32", "bf16"] = setting(
        "float32", "What the networks compute in; parameters, optimisers, batch statistics and losses stay in float32."
    )

    __post_init__ = check


# What older configs hold that is no setting any more, with the value that means what is done without it.
FORMER = {"subpixel": False}


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Everything that decides a run's numbers, but its seed and its length in `steps`.

    The settings of all groups can be read from it by their own names, as `recipe.batch_size`, and changed by
    `replace`.

    Attributes:
      name: its key in `recipes.RECIPES`, or the name of the file that defines it.
      about: a line on it, for `--help`.
      gen: the generator, a module as in `jaxgan.GAN`; its own attributes are its width, depth and the like.
      disc: the discriminator.
      classes: how many classes the images have; 0 is an unconditional GAN.
      image_range: the range of the generator's images, which is that of its last activation.
      source: what is trained on.
      objective: what the networks are to minimise.
      optimization: how they descend.
      schedule: how many updates, and of which kind.
      compute: how it is computed.
      events: what else is to be done in the loop, as `jaxgan.run.Event`s; they leave no trace in the state.
      file_sha256: of the file that defines it, where it is not one of `recipes.RECIPES`.
    """

    name: str
    gen: nn.Module
    disc: nn.Module
    about: str = ""
    classes: int = 0
    image_range: tuple[float, float] = (-1.0, 1.0)
    source: Data = Data()
    objective: Objective = Objective()
    optimization: Optimization = Optimization()
    schedule: Schedule = Schedule()
    compute: Compute = Compute()
    events: tuple[Any, ...] = ()
    file_sha256: str | None = None

    def __getattr__(self, name: str) -> Any:
        """A setting of one of the groups."""
        for group in GROUPS if not name.startswith("_") else ():
            if name in {field.name for field in dataclasses.fields(GROUPS[group])}:
                return getattr(getattr(self, group), name)
        raise AttributeError(f"a recipe has no {name!r}")

    def replace(self, **changes: Any) -> "Recipe":
        """The recipe with other values, of its own fields or of settings in any group.

        Raises:
          ValueError: a value that no run could use.
          TypeError: there is no field of that name.
        """
        own = {field.name for field in dataclasses.fields(self)}
        groups = {
            group: {k: v for k, v in changes.items() if k not in own and k in kind.__dataclass_fields__}
            for group, kind in GROUPS.items()
        }
        changed = {
            group: dataclasses.replace(getattr(self, group), **values) for group, values in groups.items() if values
        }
        rest = {k: v for k, v in changes.items() if not any(k in values for values in groups.values())}
        if unknown := rest.keys() - own:
            fields = [*own - GROUPS.keys(), *dict(self.settings())]
            raise TypeError(f"a recipe has no {', '.join(sorted(unknown))}; it has {', '.join(sorted(fields))}")
        return dataclasses.replace(self, **changed, **rest)

    def build(self) -> GAN:
        """The static description that `jaxgan.init` and `jaxgan.train_step` take."""
        rates = ((net, self.optimization.schedule(net)) for net in ("gen", "disc"))
        updates = {"gen": 1, "disc": self.training_ratio}  # of each network in a step
        return GAN(
            gen=self.gen,
            disc=self.disc,
            loss=self.objective.build_loss(),
            gen_optimizer=self.optimization.build("gen"),
            disc_optimizer=self.optimization.build("disc"),
            z_size=self.z_size,
            prior=self.prior,
            classes=self.classes,
            image_range=self.image_range,
            update=self.update,
            training_ratio=self.training_ratio,
            transforms=self.objective.build_transforms(),
            penalties=self.penalties,
            regularizers=(L2(self.gen_l2),) if self.gen_l2 else (),
            ema_decay=self.ema_decay,
            accumulate=self.accumulate,
            precision=self.precision,
            schedules=tuple(
                (f"learning_rate_{net}", lambda step, rate=rate, k=updates[net]: rate(k * step))
                for net, rate in rates
                if rate
            ),
        )

    def load_data(self, data_dir: str | None = None) -> Dataset:
        """The dataset: what `data` names, of the size of the generator's images, or what a function of one's own gives.

        Raises:
          DataError: it cannot be had, or is none.
        """
        if not callable(self.data):
            return load(self.data, data_dir, image_shape(self.build()), self.split, self.border)
        dataset = self.data()
        if not isinstance(dataset, Dataset):
            kind = type(dataset).__name__
            raise DataError(f"data={describe(self.data)} must give a jaxgan.Dataset, not {kind}")
        return dataset

    def config(self) -> dict[str, Any]:
        """All that decides a run's numbers but its seed and its length, as values that JSON can hold.

        Modules, functions and objects are named by where they are defined, with their attributes.
        """
        own = {"recipe": self.name, "gen": describe(self.gen), "disc": describe(self.disc)}
        own |= {"classes": self.classes, "image_range": list(self.image_range)}
        settings = {name: describe(value) for name, value in self.settings() if name != "steps"}
        return own | settings | ({"recipe_file_sha256": self.file_sha256} if self.file_sha256 else {})

    def config_defaults(self) -> dict[str, Any]:
        """The value of each field of `config()` in a run that was begun before there was such a field."""
        fields = (field for kind in GROUPS.values() for field in dataclasses.fields(kind))
        networks = {name: describe(getattr(self, name)) for name in ("gen", "disc", "classes", "image_range")}
        return {field.name: describe(field.default) for field in fields} | networks | FORMER

    def with_config(self, config: dict[str, Any]) -> "Recipe":
        """This recipe with the plain settings of a run's `config.json`; what it lacks stays as it is here."""
        plain = {k: v for k, v in config.items() if k in dict(self.settings()) and is_plain(getattr(self, k))}
        return self.replace(**plain)

    def settings(self) -> Iterator[tuple[str, Any]]:
        """The settings of all groups, as (name, value)."""
        for group in GROUPS:
            for field in dataclasses.fields(GROUPS[group]):
                yield field.name, getattr(getattr(self, group), field.name)


GROUPS = {
    "source": Data,
    "objective": Objective,
    "optimization": Optimization,
    "schedule": Schedule,
    "compute": Compute,
}
