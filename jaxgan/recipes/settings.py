"""What a recipe is: the networks, and settings in groups."""

import dataclasses
from collections.abc import Callable, Collection
from typing import Any, Literal, cast

import flax.linen as nn
import numpy as np

from jaxgan import GAN
from jaxgan.augmentation import Augment
from jaxgan.data import DataError, Dataset, Shape, Source, of_items, open_source, splits
from jaxgan.evaluation.scores import BEST_BY
from jaxgan.gan import Batch, image_shape
from jaxgan.penalties import L2, R1, R2
from jaxgan.recipes.description import describe, is_plain, take_apart
from jaxgan.recipes.frozen import first_layers
from jaxgan.recipes.groups import GROUPS, Compute, Data, Net, Networks, Objective, Optimization, Schedule
from jaxgan.schedules import Cosine
from jaxgan.transforms import InstanceNoise, RandomFlip

# The settings that a field of the GAN is built from, where they are others than the one of its name. What `schedules`
# says is logged only.
BUILT_FROM = {
    "loss": ("loss", "real_label", "disc_loss_scale"),
    "gen_optimizer": ("optimizer", "gen_learning_rate", "gen_time_decay", "beta1", "beta2", "clip"),
    "disc_optimizer": ("optimizer", "disc_learning_rate", "disc_time_decay", "beta1", "beta2", "clip", "freeze_disc"),
    "augmentations": ("mirror", "augmentations"),
    "transforms": ("instance_noise", "instance_noise_decay", "augment", "augment_ramp", "transforms"),
    "penalties": ("gamma", "penalties"),
    "regularizers": ("gen_l2", "regularizers"),
    "ema_decay": ("ema_decay", "ema_half_life"),
}
# The number of the form that a config.json has, 1 where none is written. Every later version reads it, or says what to
# do; it rises where what a field means changes, not where a field is added, whose default is what was done without it.
FORMAT = 1


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
      image_range: the range of the generator's images, which is that of its last activation; None for floats.
      others: what else each example has, as in `jaxgan.GAN`: (name, shape) of each.
      condition: which of these the networks get in place of labels; "" for none.
      networks: for which pictures `gen` and `disc` are, where these can be made for any, as R3GAN's.
      source: what is trained on.
      objective: what the networks are to minimise.
      optimization: how they descend.
      schedule: how many updates, and of which kind.
      compute: how it is computed.
      events: what else is to be done in the loop, as `jaxgan.run.Event`s; they leave no trace in the state.
      best_by: which score during training, or scalar of an event, decides the checkpoint that is kept as the best: its
        name, and "min" or "max".
      by_data: what makes it fit its data before it is trained, as `jaxgan.recipes.pictures.of_data`.
      found: what that found and chose, in words; a run begins with these lines.
      file_sha256: of the file that defines it, where it is not one of `recipes.RECIPES`, and of what that imports.
    """

    name: str
    gen: nn.Module
    disc: nn.Module
    about: str = ""
    classes: int = 0
    image_range: tuple[float, float] | None = (-1.0, 1.0)
    others: tuple[tuple[str, tuple[int, ...]], ...] = ()
    condition: str = ""
    networks: Networks = dataclasses.field(default_factory=Networks)
    source: Data = dataclasses.field(default_factory=Data)
    objective: Objective = dataclasses.field(default_factory=Objective)
    optimization: Optimization = dataclasses.field(default_factory=Optimization)
    schedule: Schedule = dataclasses.field(default_factory=Schedule)
    compute: Compute = dataclasses.field(default_factory=Compute)
    events: tuple[Any, ...] = ()
    best_by: tuple[str, Literal["min", "max"]] = BEST_BY
    by_data: Callable[["Recipe", str | None, Collection[str]], "Recipe"] | None = None
    found: tuple[str, ...] = dataclasses.field(default=(), compare=False)
    file_sha256: str | None = None

    def __post_init__(self):
        by = self.best_by
        if not (isinstance(by, tuple) and len(by) == 2 and isinstance(by[0], str) and by[1] in ("min", "max")):
            raise ValueError(f'best_by must be a name and "min" or "max", such as {BEST_BY}, not {describe(by)}')

    def __getattr__(self, name: str) -> Any:
        """A setting of one of the groups."""
        for group, kind in GROUPS.items():
            if name in kind.__dataclass_fields__:
                return getattr(getattr(self, group), name)
        raise AttributeError(f"a recipe has no {name!r}")

    @property
    def batch_size(self) -> int:
        return self.source.batch_size

    @property
    def steps(self) -> int:
        return self.schedule.steps

    @property
    def accumulate(self) -> int:
        return self.compute.accumulate

    @property
    def init_from(self) -> str:
        return self.networks.init_from

    @property
    def init_weights(self) -> Literal["last", "best", "averaged"]:
        return self.networks.init_weights

    def replace(self, **changes: Any) -> "Recipe":
        """The recipe with other values, of its own fields or of settings in any group.

        Raises:
          ValueError: a value that no run could use.
          TypeError: there is no field of that name.
        """
        for group, kind in GROUPS.items():
            if values := {name: changes.pop(name) for name in kind.__dataclass_fields__ if name in changes}:
                changes[group] = dataclasses.replace(changes.get(group, getattr(self, group)), **values)
        own = self.__dataclass_fields__.keys()
        if unknown := changes.keys() - own:
            fields = sorted([*own - GROUPS.keys(), *self.settings()])
            raise TypeError(f"a recipe has no {', '.join(sorted(unknown))}; it has {', '.join(fields)}")
        found = dataclasses.replace(self, **changes)
        return found if found.networks.picture() == self.networks.picture() else found._of_size()

    def _of_size(self) -> "Recipe":
        """This recipe with its networks as `networks` says.

        Raises:
          ValueError: they are for one size alone.
        """
        if not (hasattr(self.gen, "base") and all(self.networks.picture())):
            raise ValueError(
                f"`size`, `channels` and `width` are of the recipe pictures; the networks of {self.name} have their own"
            )
        base, stages = self.networks.sizes()
        widths = tuple(max(16, self.networks.width >> stage) for stage in range(stages))
        gen, disc = cast(Any, self.gen), cast(Any, self.disc)  # whose own attributes a type checker does not know
        gen = gen.clone(base=base, widths=widths, channels=self.networks.channels)
        return dataclasses.replace(self, gen=gen, disc=disc.clone(widths=widths))

    def build(self) -> GAN:
        """The static description that `jaxgan.init` and `jaxgan.train_step` take."""
        updates: dict[Net, int] = {"gen": 1, "disc": self.training_ratio}  # of each network in a step
        frozen = self.freeze_disc and first_layers(Recipe.build(self.replace(freeze_disc=0)), self.freeze_disc)
        noise = (InstanceNoise(self.instance_noise, self.instance_noise_decay),)
        ramp = self.augment_ramp
        augment = (Augment(Cosine(0.0, cast(float, self.augment), ramp) if ramp else self.augment),)
        return GAN(
            gen=self.gen,
            disc=self.disc,
            loss=self.objective.build_loss(),
            gen_optimizer=self.optimization.build("gen"),
            disc_optimizer=self.optimization.build("disc", self.training_ratio, frozen or ()),
            z_size=self.z_size,
            prior=self.prior,
            classes=self.classes,
            generated_labels=self.generated_labels,
            image_range=self.image_range,
            update=self.update,
            training_ratio=self.training_ratio,
            augmentations=(RandomFlip(),) * self.mirror + self.augmentations,
            transforms=noise * bool(self.instance_noise) + augment * bool(self.augment) + self.transforms,
            penalties=(R1(self.gamma), R2(self.gamma)) * bool(self.gamma) + self.penalties,
            regularizers=(L2(self.gen_l2),) * bool(self.gen_l2) + self.regularizers,
            game=self.game,
            memory=self.memory,
            group=self.group,
            others=self.others,
            condition=self.condition,
            ema_decay=self.schedule.kept(self.batch_size),
            ema_ramp=self.ema_ramp,
            accumulate=self.accumulate,
            precision=self.precision,
            schedules=tuple(
                (f"learning_rate_{net}", lambda step, rate=rate, k=k: rate(k * step))
                for net, k in updates.items()
                if callable(rate := self.optimization.rate(net, k))
            ),
        )

    def open_data(self, data_dir: str | None = None, as_they_are: bool = False) -> Source | Dataset:
        """What `data` names, of the size of the generator's images, or what a function of one's own gives.

        With `as_they_are` images are not resized.

        Raises:
          DataError: it cannot be had, or is none.
        """
        found = self._open_data(data_dir, as_they_are)
        return dataclasses.replace(found, balance=True) if self.balance else found

    def _open_data(self, data_dir: str | None, as_they_are: bool) -> Source | Dataset:
        if isinstance(self.data, str) and as_they_are:
            return open_source(self.data, data_dir, split=self.split)
        if not callable(self.data):
            shape, others = cast(Shape, image_shape(self.build())), cast(dict[str, Shape], dict(self.others))
            return open_source(self.data, data_dir, shape, self.split, self.border, self.fit, others)
        found = self.data()
        if isinstance(found, Source | Dataset):
            return found
        if not (hasattr(found, "__len__") and hasattr(found, "__getitem__")):
            raise DataError(
                f"data={describe(self.data)} must give a jaxgan.data.Dataset, or an object with __len__ and "
                f"__getitem__, not {type(found).__name__}"
            )
        return of_items(describe(self.data), found)

    def keeps_apart(self, data_dir: str | None = None) -> bool:
        """Whether the data have a split named test."""
        return isinstance(self.data, str) and "test" in splits(self.data, data_dir)

    def open_held_out(self, data_dir: str | None = None) -> Source | Dataset:
        """The examples that no run trains on; of data that keep none apart, all, as from `open_data`."""
        return (self.replace(split="test") if self.keeps_apart(data_dir) else self).open_data(data_dir)

    def held_out(self, count: int, data_dir: str | None = None) -> Batch:
        """Of a recipe with a condition, examples that no run trains on; of data of one's own, the first ones.

        Args:
          count: how many; where there are fewer, they are repeated.
          data_dir: as for `open_data`.

        Returns:
          The conditions as its labels, and the images that belong to them, None where none do.

        Raises:
          DataError: they cannot be had.
        """
        found = self.open_held_out(data_dir)
        if self.condition in found.unpaired:
            other = found.unpaired[self.condition]
            return Batch(None, other.read(np.arange(count) % other.size).images)
        if self.condition not in found.others:
            raise DataError(f"{found.name} has no {self.condition!r}, which the recipe needs with each image")
        batch = found.read(np.arange(count) % found.size)
        return Batch(batch.images, (batch.others or {})[self.condition])

    def load_data(self, data_dir: str | None = None) -> Dataset:
        """The same, all of it in memory.

        Raises:
          DataError: it cannot be had, or is none.
        """
        found = self.open_data(data_dir)
        return found.load() if isinstance(found, Source) else found

    def config(self) -> dict[str, Any]:
        """All that decides a run's numbers but its seed and its length, as values that JSON can hold.

        Modules, functions and objects are named by where they are defined, with their attributes. What a `build` of
        one's own makes otherwise than the settings say is named as it was built, and those settings are left out.
        """
        config = {"format": FORMAT, "recipe": self.name, "gen": self.gen, "disc": self.disc}
        config |= {"classes": self.classes, "image_range": self.image_range}
        config |= {"others": self.others, "condition": self.condition} | self.settings()
        built = self.built_otherwise()
        left_out = {"steps", *self.replaced_settings(built), *(() if self.regularizers else ("regularizers",))}
        digest = {"recipe_file_sha256": self.file_sha256} if self.file_sha256 else {}
        return {name: describe(value) for name, value in config.items() if name not in left_out} | built | digest

    def built_otherwise(self) -> dict[str, Any]:
        """The fields of the GAN that a `build` of one's own makes otherwise than the settings say, as text."""
        if type(self).build is Recipe.build:
            return {}
        gan = self.build()
        own, usual = taken_apart(gan), taken_apart(Recipe.build(self))
        return {name: take_apart(getattr(gan, name), code=False) for name in own if own[name] != usual[name]}

    def replaced_settings(self, fields: Collection[str]) -> set[str]:
        """The settings from which nothing is built where these fields of the GAN are built otherwise."""
        names = {field.name for field in dataclasses.fields(GAN)}
        used = {setting for field in names - {*fields} for setting in BUILT_FROM.get(field, (field,))}
        return {setting for field in fields for setting in BUILT_FROM.get(field, (field,))} - used

    def without_effect(self, setting: str, usual: Any) -> str:
        """Why a setting makes no difference to its usual value in this recipe; empty where it does."""
        if setting in ("split", "border", "fit") and callable(self.data):
            return f"its data are {describe(self.data)}"
        if setting == "split" and (self.data == "digits" or self.data.startswith(("folder:", "prepared:"))):
            return "" if splits(self.data) else f"{self.data} has no splits"
        if setting == "init_weights" and not self.init_from:
            return "it belongs to `init_from`"
        if setting in ("data", "split", "border", "fit", "balance", "batch_size", "steps", "init_from", "init_weights"):
            return ""
        if setting == "augment_ramp" and self.by_data:  # which may choose `augment`
            return ""
        try:
            other = self.replace(**{setting: usual})
        except ValueError:  # the others need it
            return ""
        same = taken_apart(self.build()) == taken_apart(other.build())
        return f"the same is built with {describe(usual)}" if same else ""

    def config_defaults(self) -> dict[str, Any]:
        """The values that fields of `config()` had before they were added, in runs that were begun then."""
        fields = (field for kind in GROUPS.values() for field in dataclasses.fields(kind))
        return {field.name: describe(field.default) for field in fields} | {"others": [], "condition": ""}

    def with_config(self, config: dict[str, Any]) -> "Recipe":
        """This recipe with the plain settings and the classes of a run's `config.json`; what it lacks stays as it is.

        Raises:
          ValueError: a value that no run could use; or as `with_classes`.
          TypeError: likewise.
        """
        settings = self.settings().keys() - self.built_otherwise().keys()
        plain = {name: config[name] for name in settings & config.keys() if is_plain(getattr(self, name))}
        return self.with_classes(config.get("classes", self.classes)).replace(**plain)

    def with_classes(self, classes: int) -> "Recipe":
        """This recipe for so many classes: its networks are as before, with so many as their attribute `classes`.

        Raises:
          ValueError: a network has no such attribute.
        """
        if classes == self.classes:
            return self
        nets = {name: getattr(self, name) for name in ("gen", "disc")}
        for name, net in nets.items():
            if not hasattr(net, "classes"):
                raise ValueError(
                    f"{name}, {describe(net)}, is for {self.classes} classes and cannot be made for {classes}: it has "
                    "no attribute named classes; write it for as many, or give it that attribute"
                )
        changed = {name: net.clone(classes=classes) for name, net in nets.items() if net.classes == self.classes}
        return self.replace(classes=classes, **changed)

    def settings(self) -> dict[str, Any]:
        """The settings of all groups, by name."""
        return {name: value for group in GROUPS for name, value in vars(getattr(self, group)).items() if name[0] != "_"}


def taken_apart(gan: GAN) -> dict[str, Any]:
    """The fields of a GAN that its updates depend on, as `description.take_apart` gives them."""
    return {name: take_apart(value) for name, value in vars(gan).items() if name != "schedules"}
