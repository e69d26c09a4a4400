"""The groups of settings of a recipe. Each checks itself.

A setting that is a plain value is a flag of `experiments.train` by its own name. Some may be a function or an object
of one's own instead, in a recipe of one's own: a loss, an optimiser, a schedule, a source of data.
"""

import dataclasses
import re
from collections.abc import Callable
from typing import Any, Literal, cast

import optax

from jaxgan import losses
from jaxgan.adversarial import adversarial
from jaxgan.forward_pass import Losses, Pass
from jaxgan.gan import Memory
from jaxgan.penalties import Penalty, Regularizer
from jaxgan.recipes.description import describe
from jaxgan.recipes.fields import ABOVE_0, DECAY, FACTOR, NOT_NEGATIVE, POSITIVE, RATE, SHARE, check, setting
from jaxgan.recipes.frozen import frozen
from jaxgan.schedules import HalfLife, PerStep, TimeDecay
from jaxgan.schedules import Schedule as StepSchedule
from jaxgan.transforms import Transform


@dataclasses.dataclass(frozen=True)
class Networks:
    """What the networks are for, and what they start from.

    The first three are of recipes whose networks are for any pictures; `pictures` has them of its data.
    """

    size: str = setting("", "Of the pictures: one number, or HEIGHTxWIDTH.")
    channels: int = setting(0, "Of the pictures: 1 grey, 3 RGB, 4 RGBA.", ("0, 1, 3 or 4", lambda x: x in (0, 1, 3, 4)))
    width: int = setting(0, "Channels of the smallest maps, halved with each doubling of the size.", NOT_NEGATIVE)
    init_from: str = setting("", "The workdir of a run whose weights it starts from, as far as they fit.")
    init_weights: Literal["last", "best", "averaged"] = setting(
        "last", "Its last weights, those at its best score, or the last with the averaged generator as G."
    )
    freeze_disc: int = setting(
        0, "So many of D's layers stay as they are, from the image on (FreezeD, arXiv:2002.10964).", NOT_NEGATIVE
    )

    def __post_init__(self):
        check(self)
        if self.freeze_disc and not self.init_from:
            raise ValueError(
                "`freeze_disc` leaves layers as they begin, at random without `init_from`; name a run there"
            )

    def picture(self) -> tuple[str, int, int]:
        """What is of recipes for any pictures."""
        return self.size, self.channels, self.width

    def sizes(self) -> tuple[tuple[int, int], int]:
        """Height and width of the smallest stage, 4 to 7 pixels at its shorter side, and how many stages there are.

        Raises:
          ValueError: there are no such stages for the size.
        """
        found = re.fullmatch(r"([1-9]\d{0,3})(?:x([1-9]\d{0,3}))?", self.size)
        if not found:
            raise ValueError(f"`size` must be one number, or HEIGHTxWIDTH, such as 64 or 48x64, not {self.size!r}")
        height, width = int(found[1]), int(found[2] or found[1])
        doublings = max(0, (min(height, width) // 4).bit_length() - 1)
        whole = 2**doublings
        if min(height, width) < 4 or height % whole or width % whole:
            near = [f"{max(1, round(side / whole)) * whole}" for side in (height, width)]
            near = near[0] if near[0] == near[1] else "x".join(near)
            raise ValueError(
                f"`size` {self.size}: no network has it; its sides must be at least 4, and multiples of {whole}, such "
                f"as {near}"
            )
        return (height // whole, width // whole), doublings + 1


@dataclasses.dataclass(frozen=True)
class Data:
    """What is trained on.

    Attributes:
      data: or a function of one's own that gives a `Dataset`, or an object with `__len__` and `__getitem__`, as
        `jaxgan.data.of_items` takes it.
      augmentations: what real images pass before all else; see `jaxgan.transforms`.
    """

    data: str | Callable[[], Any] = setting(
        "digits",
        "The images: digits (embedded), a TensorFlow dataset's name, stacked_mnist, folder:PATH, prepared:PATH; with "
        "conditions: pairs:PATH, or grey:NAME of any of these; of two domains: domains:PATH, or inverse:NAME; points "
        "in the plane: points:ring, points:grid, points:swiss_roll.",
    )
    split: str = setting("train", "The split of a TensorFlow dataset; train+test joins two.")
    border: int = setting(0, "Black pixels on each side of a real image, within the recipe's size.", NOT_NEGATIVE)
    fit: Literal["crop", "pad"] = setting(
        "crop", "An image of another aspect ratio is cropped around its centre, or has black beside it."
    )
    mirror: bool = setting(False, "Real images are flipped left to right, or not, at random.")
    augmentations: tuple[Transform, ...] = setting((), "")
    balance: bool = setting(False, "Each class comes equally often among real images: classes take turns.")
    batch_size: int = setting(128, "Real images, and generated ones, in each update.", POSITIVE)

    def __post_init__(self):
        if not (isinstance(self.data, str) or callable(self.data)):
            kind = type(self.data).__name__
            raise ValueError(f"data must be a name, or a function that gives the images: lambda: x, not a {kind} x")
        check(self)


@dataclasses.dataclass(frozen=True)
class Objective:
    """What the networks are to minimise.

    Attributes:
      transforms: what images pass on their way to D, after instance noise and `augment`; see `jaxgan.transforms`.
      penalties: what is added to D's loss, after R1 and R2 of `gamma`; see `jaxgan.penalties`.
      regularizers: what is added to G's loss, after `gen_l2`: functions of its parameters.
    """

    z_size: int = setting(100, "The length of a latent; 0 where there are none.", NOT_NEGATIVE)
    prior: Literal["normal", "uniform"] = setting("normal", "The distribution of latents: N(0, 1) or U(-1, 1).")
    loss: Literal["non_saturating", "least_squares", "hinge", "wasserstein", "relativistic"] | losses.Loss = setting(
        "non_saturating",
        "Cross-entropy with the non-saturating generator's loss, least squares (LSGAN), the hinge loss, the "
        "Wasserstein loss, or cross-entropy of pairs of a real and a generated image.",
    )
    real_label: float = setting(1.0, "The label of real images in the non_saturating loss; 0.9 smooths it.", SHARE)
    disc_loss_scale: float = setting(1.0, "A factor on the discriminator's loss; 0.5 makes its sum a mean.", RATE)
    generated_labels: Literal["uniform", "real"] = setting("uniform", "Of generated images: drawn, or the real ones'.")
    gamma: float | StepSchedule = setting(0.0, "The weight of R1 and R2 penalties, half of it on each square.", RATE)
    gen_l2: float = setting(0.0, "A factor on the squared L2 norm of G's parameters, which is added to its loss.", RATE)
    instance_noise: float = setting(0.0, "The first standard deviation of noise on all images that D sees.", RATE)
    instance_noise_decay: float = setting(1.0, "A factor on that standard deviation at each step.", FACTOR)
    augment: float | StepSchedule = setting(
        0.0, "The probability of each change of StyleGAN2-ADA's augmentation, of all images that D sees.", SHARE
    )
    augment_ramp: int = setting(
        0, "Over how many updates that probability rises from 0, by a cosine; 0 has it from the start.", NOT_NEGATIVE
    )
    transforms: tuple[Transform, ...] = setting((), "")
    penalties: tuple[Penalty, ...] = setting((), "")
    regularizers: tuple[Regularizer, ...] = setting((), "")
    game: Callable[[Pass], Losses] = setting(adversarial, "")
    memory: Memory | None = setting(None, "")
    group: int = setting(
        1,
        "Consecutive images that the discriminator looks at together; microbatches and devices have them whole.",
        POSITIVE,
    )

    def __post_init__(self):
        check(self)
        if not isinstance(self.loss, str | losses.Loss):
            raise ValueError(f"loss must be a jaxgan.losses.Loss, as of_logits(gen, disc) makes, not {self.loss!r}")
        if self.loss != "non_saturating" and self.real_label != 1:
            raise ValueError("`real_label` belongs to `loss` non_saturating; leave it at 1 for another loss")
        if callable(self.augment) and self.augment_ramp:
            raise ValueError("`augment_ramp` belongs to an `augment` that is a number, not a schedule")
        if isinstance(self.loss, losses.Loss) and self.disc_loss_scale != 1:
            raise ValueError("`disc_loss_scale` belongs to the package's own losses; leave it at 1 for yours")

    def build_loss(self) -> losses.Loss:
        if self.loss == "non_saturating":
            return losses.non_saturating(self.real_label, self.disc_loss_scale)
        return getattr(losses, self.loss)(self.disc_loss_scale) if isinstance(self.loss, str) else self.loss


Optimizer = Callable[..., optax.GradientTransformation]
Net = Literal["gen", "disc"]


@dataclasses.dataclass(frozen=True)
class Optimization:
    """How both networks descend.

    An optimiser of one's own is a function of the learning rate, or `{"gen": f, "disc": g}`, one for each network. It
    is given the rate as it is written here, a number or the schedule itself; but where D has several updates in a step,
    its schedule as a `PerStep`, and where there is a time decay, a `TimeDecay`.

    Learning rates and `beta2` may be schedules, functions of the step as in `jaxgan.schedules`.
    """

    optimizer: Literal["adam", "rmsprop"] | Optimizer | dict[str, Optimizer] = setting(
        "adam", "Of both networks. RMSprop is Keras's: epsilon 1e-7, added to the root."
    )
    gen_learning_rate: float | StepSchedule = setting(1e-4, "The learning rate of the generator.", ABOVE_0)
    disc_learning_rate: float | StepSchedule = setting(1e-4, "The learning rate of the discriminator.", ABOVE_0)
    gen_time_decay: float = setting(0.0, "G's learning rate at its update t is divided by 1 + this * t (Keras).", RATE)
    disc_time_decay: float = setting(0.0, "Likewise for the discriminator.", RATE)
    beta1: float = setting(0.9, "The decay of the mean gradient in Adam; RMSprop keeps none, so 0.", DECAY)
    beta2: float | StepSchedule = setting(0.999, "The decay of the mean squared gradient (Adam and RMSprop).", DECAY)
    clip: float | None = setting(
        None, "Elements of a gradient are clipped to [-clip, clip]; None: they are not.", ABOVE_0
    )

    def __post_init__(self):
        check(self)
        own, of_one = self.optimizer, "a function of the rate, lambda rate: optax.adam(rate)"
        if isinstance(own, dict):
            if own.keys() != {"gen", "disc"} or not all(map(callable, own.values())):
                raise ValueError(
                    f'optimizer must be {{"gen": f, "disc": g}} of functions of the rate, not {describe(own)}'
                )
        elif hasattr(own, "init") and hasattr(own, "update"):
            raise ValueError(f"optimizer must be {of_one}, not what it gives")
        elif not (isinstance(own, str) or callable(own)):
            several = 'or {"gen": f, "disc": g} of such'
            raise ValueError(f"optimizer must be adam, rmsprop, {of_one}, {several}, not {describe(own)}")
        if own == "rmsprop" and self.beta1 != 0:
            raise ValueError("`beta1` belongs to `optimizer` adam; set it to 0 for rmsprop")
        if callable(self.beta2) and self.optimizer != "adam":
            raise ValueError("a schedule of `beta2` belongs to `optimizer` adam; give a number for another")
        for net in ("gen", "disc"):
            if callable(getattr(self, f"{net}_learning_rate")) and getattr(self, f"{net}_time_decay"):
                raise ValueError(f"`{net}_time_decay` belongs to a learning rate that is a number, not a schedule")

    def build(self, net: Net, updates: int = 1, still: tuple[str, ...] = ()) -> optax.GradientTransformation:
        """The optimiser of a network that is updated so many times in a step; made once. Layers named `still` stay."""
        made = self.__dict__.setdefault("_made", {})  # in this object, which is otherwise frozen
        if (net, updates, still) not in made:
            descend = self._optimizer(net, updates)
            made[net, updates, still] = frozen(descend, still) if still else descend
        return made[net, updates, still]

    def __getstate__(self) -> dict[str, Any]:
        """The settings alone: the optimisers made of them hold closures, which cannot be pickled."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    def _optimizer(self, net: Net, updates: int) -> optax.GradientTransformation:
        rate, beta2 = cast("optax.ScalarOrSchedule", self.rate(net, updates)), self.beta2
        if callable(beta2):
            descend = optax.inject_hyperparams(optax.adam)(rate, b1=self.beta1, b2=_by_step(beta2, updates))
        elif self.optimizer == "adam":
            descend = optax.adam(rate, self.beta1, beta2)
        elif self.optimizer == "rmsprop":
            descend = optax.rmsprop(rate, beta2, eps=1e-7, eps_in_sqrt=False)
        else:
            function = self.optimizer[net] if isinstance(self.optimizer, dict) else self.optimizer
            descend = function(rate)
            if not (hasattr(descend, "init") and hasattr(descend, "update")):
                raise ValueError(
                    f"optimizer: {describe(function)} must give an optax optimiser, as optax.adam(rate) is, not "
                    f"{describe(descend)}"
                )
        return optax.chain(optax.clip(self.clip), descend) if self.clip else descend

    def rate(self, net: Net, updates: int = 1) -> float | StepSchedule:
        """The learning rate of a network, or what it is at each of its updates, so many in a step."""
        rate, decay = getattr(self, f"{net}_learning_rate"), getattr(self, f"{net}_time_decay")
        return TimeDecay(rate, decay) if decay else _by_step(rate, updates)


@dataclasses.dataclass(frozen=True)
class Schedule:
    """How many updates, and of which kind."""

    steps: int = setting(10_000, "How many updates.", POSITIVE)
    update: Literal["shared", "alternating"] | Callable[..., Any] = setting(
        "shared", "Both networks from one forward pass, or the discriminator and then the generator."
    )
    training_ratio: int = setting(1, "Updates of D, each on its own images, for one of the generator.", POSITIVE)
    ema_decay: float | StepSchedule = setting(
        0.999, "The share of the averaged generator kept at each step; 0: no average.", DECAY
    )
    ema_ramp: bool = setting(True, "Early on it is at most (1 + step) / (10 + step).")
    ema_half_life: float | StepSchedule = setting(
        0.0, "Real images after which half of the averaged generator is forgotten; 0 leaves it to ema_decay.", RATE
    )

    __post_init__ = check

    def kept(self, batch_size: int) -> float | StepSchedule:
        """The share of the averaged generator kept at each step, of `batch_size` real images for each update of D."""
        images = batch_size * self.training_ratio
        if callable(self.ema_half_life):
            return HalfLife(self.ema_half_life, images)
        return 0.5 ** (images / self.ema_half_life) if self.ema_half_life else self.ema_decay


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


def _by_step(value: float | StepSchedule, updates: int) -> float | StepSchedule:
    """A value or a schedule of the step, for an optimiser that counts updates, so many of them in each step."""
    return PerStep(value, updates) if callable(value) and updates > 1 else value


GROUPS = {
    "networks": Networks,
    "source": Data,
    "objective": Objective,
    "optimization": Optimization,
    "schedule": Schedule,
    "compute": Compute,
}
