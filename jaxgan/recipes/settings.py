"""What a recipe is: the networks, and settings in groups."""

import dataclasses
from collections.abc import Collection, Iterator
from typing import Any

import flax.linen as nn

from jaxgan import GAN
from jaxgan.data import DataError, Dataset, Source, of_items, open_source
from jaxgan.gan import image_shape
from jaxgan.recipes.described import describe, is_plain, take_apart
from jaxgan.recipes.groups import GROUPS, Compute, Data, Objective, Optimization, Schedule
from jaxgan.transforms import Mirror

# The settings that a field of the GAN is built from, where they are others than the one of its name. What `schedules`
# says is logged only.
BUILT_FROM = {
    "loss": ("loss", "real_label", "disc_loss_scale"),
    "gen_optimizer": ("optimizer", "gen_learning_rate", "gen_time_decay", "beta1", "beta2", "clip"),
    "disc_optimizer": ("optimizer", "disc_learning_rate", "disc_time_decay", "beta1", "beta2", "clip"),
    "augmentations": ("mirror", "augmentations"),
    "transforms": ("instance_noise", "instance_noise_decay", "transforms"),
    "regularizers": ("gen_l2", "regularizers"),
    "ema_decay": ("ema_decay", "ema_half_life"),
}
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
      file_sha256: of the file that defines it, where it is not one of `recipes.RECIPES`, and of what that imports.
      former_file_sha256: what older versions would have taken.
    """

    name: str
    gen: nn.Module
    disc: nn.Module
    about: str = ""
    classes: int = 0
    image_range: tuple[float, float] = (-1.0, 1.0)
    source: Data = dataclasses.field(default_factory=Data)
    objective: Objective = dataclasses.field(default_factory=Objective)
    optimization: Optimization = dataclasses.field(default_factory=Optimization)
    schedule: Schedule = dataclasses.field(default_factory=Schedule)
    compute: Compute = dataclasses.field(default_factory=Compute)
    events: tuple[Any, ...] = ()
    file_sha256: str | None = None
    former_file_sha256: str | None = None

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
        updates = {"gen": 1, "disc": self.training_ratio}  # of each network in a step
        optimizers = {net: self.optimization.build(net, k) for net, k in updates.items()}
        rates = ((net, self.optimization.rate(net, k)) for net, k in updates.items())
        return GAN(
            gen=self.gen,
            disc=self.disc,
            loss=self.objective.build_loss(),
            gen_optimizer=optimizers["gen"],
            disc_optimizer=optimizers["disc"],
            z_size=self.z_size,
            prior=self.prior,
            classes=self.classes,
            generated_labels=self.generated_labels,
            image_range=self.image_range,
            update=self.update,
            training_ratio=self.training_ratio,
            augmentations=(Mirror(),) * self.mirror + self.augmentations,
            transforms=self.objective.build_transforms(),
            penalties=self.penalties,
            regularizers=self.objective.build_regularizers(),
            ema_decay=self.schedule.kept(self.batch_size),
            accumulate=self.accumulate,
            precision=self.precision,
            schedules=tuple(
                (f"learning_rate_{net}", lambda step, rate=rate, k=updates[net]: rate(k * step))
                for net, rate in rates
                if callable(rate)
            ),
        )

    def open_data(self, data_dir: str | None = None) -> Source | Dataset:
        """What `data` names, of the size of the generator's images, or what a function of one's own gives.

        Raises:
          DataError: it cannot be had, or is none.
        """
        if not callable(self.data):
            return open_source(self.data, data_dir, image_shape(self.build()), self.split, self.border, self.fit)
        found = self.data()
        if isinstance(found, Source | Dataset):
            return found
        if not (hasattr(found, "__len__") and hasattr(found, "__getitem__")):
            raise DataError(
                f"data={describe(self.data)} must give a jaxgan.data.Dataset, or an object with __len__ and "
                f"__getitem__, not {type(found).__name__}"
            )
        return of_items(describe(self.data), found)

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
        own = {"recipe": self.name, "gen": describe(self.gen), "disc": describe(self.disc)}
        own |= {"classes": self.classes, "image_range": list(self.image_range)}
        # Configs of before there were regularizers are those of runs without any.
        left_out = ("steps",) if self.regularizers else ("steps", "regularizers")
        settings = {name: describe(value) for name, value in self.settings() if name not in left_out}
        built = self.built_otherwise()
        said = {k: v for k, v in (own | settings).items() if k not in self.replaced_settings(built)} | built
        return said | ({"recipe_file_sha256": self.file_sha256} if self.file_sha256 else {})

    def built_otherwise(self) -> dict[str, Any]:
        """The fields of the GAN that a `build` of one's own makes otherwise than the settings say, described."""
        if type(self).build is Recipe.build:
            return {}
        own, usual = taken_apart(self.build()), taken_apart(Recipe.build(self))
        return {name: part if is_plain(part) else str(part) for name, part in own.items() if part != usual[name]}

    def replaced_settings(self, fields: Collection[str]) -> set[str]:
        """The settings from which nothing is built where these fields of the GAN are built otherwise."""
        names = {field.name for field in dataclasses.fields(GAN)}
        used = {setting for field in names - {*fields} for setting in BUILT_FROM.get(field, (field,))}
        return {setting for field in fields for setting in BUILT_FROM.get(field, (field,))} - used

    def without_effect(self, setting: str, usual: Any) -> str:
        """Why a setting might as well have its usual value in this recipe; empty where it makes a difference."""
        if setting in ("split", "border", "fit") and callable(self.data):
            return f"its data are {describe(self.data)}"
        if setting == "split" and (self.data == "digits" or self.data.startswith(("folder:", "prepared:"))):
            return f"{self.data} has no splits"
        if setting in ("data", "split", "border", "fit", "batch_size", "steps"):
            return ""
        try:
            other = self.replace(**{setting: usual})
        except ValueError:  # the others need it
            return ""
        same = taken_apart(self.build()) == taken_apart(other.build())
        return f"the same is built with {describe(usual)}" if same else ""

    def config_defaults(self) -> dict[str, Any]:
        """The value of each field of `config()` in a run that was begun before there was such a field."""
        fields = (field for kind in GROUPS.values() for field in dataclasses.fields(kind))
        networks = {name: describe(getattr(self, name)) for name in ("gen", "disc", "classes", "image_range")}
        return {field.name: describe(field.default) for field in fields} | networks | FORMER

    def with_config(self, config: dict[str, Any]) -> "Recipe":
        """This recipe with the plain settings and the classes of a run's `config.json`; what it lacks stays as it is.

        Raises:
          ValueError: a value that no run could use; or as `with_classes`.
          TypeError: likewise.
        """
        settings = dict(self.settings()).keys() - self.built_otherwise().keys()
        plain = {k: v for k, v in config.items() if k in settings and is_plain(getattr(self, k))}
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

    def settings(self) -> Iterator[tuple[str, Any]]:
        """The settings of all groups, as (name, value)."""
        for group in GROUPS:
            for field in dataclasses.fields(GROUPS[group]):
                yield field.name, getattr(getattr(self, group), field.name)


def taken_apart(gan: GAN) -> dict[str, Any]:
    """The fields of a GAN that its updates depend on, as `described.take_apart` gives them."""
    fields = [field.name for field in dataclasses.fields(GAN) if field.name != "schedules"]
    return {name: take_apart(getattr(gan, name)) for name in fields}
