"""What happens before the first update: a run is checked, loaded, and restored from its newest whole checkpoint."""

import contextlib
import dataclasses
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Literal, Protocol, cast

import jax

from jaxgan import data, parallel
from jaxgan.accumulation import check_transforms, disc_mixing
from jaxgan.gan import GAN, Batch, GANState, image_shape, init
from jaxgan.run import checkpoint, memory, processes, transfer
from jaxgan.run.errors import RunError
from jaxgan.run.events import Event, check_events
from jaxgan.run.numerics import inexact_flags, root_key
from jaxgan.run.workdir import check, claim, read_config, read_summary, record
from jaxgan.sampling import ROWS
from jaxgan.user_functions import place


class Recipe(Protocol):
    """What a run needs of a recipe; `jaxgan.recipes.settings.Recipe` is one."""

    @property
    def batch_size(self) -> int: ...
    @property
    def accumulate(self) -> int: ...
    @property
    def steps(self) -> int: ...
    @property
    def events(self) -> tuple[Event, ...]: ...
    @property
    def init_from(self) -> str:
        """The workdir of a run whose weights it starts from; "" where there is none."""
        ...

    @property
    def init_weights(self) -> transfer.Weights: ...
    @property
    def best_by(self) -> tuple[str, Literal["min", "max"]]: ...
    @property
    def found(self) -> tuple[str, ...]:
        """What was chosen by the data, in words."""
        ...

    def build(self) -> GAN: ...

    def config(self) -> dict[str, Any]:
        """All that decides a run's numbers but its seed and its length, as values that JSON can hold."""
        ...

    def config_defaults(self) -> dict[str, Any]:
        """The value of each field of `config()` that an older run's may lack."""
        ...

    def open_data(self, data_dir: str | None = None) -> data.Source | data.Dataset:
        """The real images, of the size of the generator's, in memory or to be read."""
        ...

    def keeps_apart(self, data_dir: str | None = None) -> bool:
        """Whether some of the data are held out."""
        ...

    def held_out(self, count: int, data_dir: str | None = None) -> Batch:
        """For a GAN with a condition: conditions that no run trains on, as labels, and their targets, as images."""
        ...


@dataclasses.dataclass(frozen=True)
class Options:
    """What a run may choose without its state at any step changing, or by no more than rounding."""

    data_dir: str | None = None
    """Where TensorFlow Datasets keeps its data (by default ~/tensorflow_datasets)."""
    stream: bool = False
    """Read images as they are needed; by itself where they would take more than half of the memory."""
    devices: int | None = None
    """Over how many devices each batch is split, those of each process; None takes all there are."""
    parallel: Literal["pmap", "shard_map"] = "pmap"
    """What runs the step on them."""
    log_every: int = 50
    """Steps between lines of metrics."""
    sample_every: int = 250
    """Steps between sample grids."""
    checkpoint_every: int | None = None
    """Steps between checkpoints; by default about as many as take a minute."""
    keep: int = 3
    """How many of the newest checkpoints are kept."""
    strict: bool = False
    """Refuse to go on from an older checkpoint where the newest is damaged."""
    debug_nans: bool = False
    """Name the operation that makes the first number that is not finite; on one device, an update at a time."""


@dataclasses.dataclass(frozen=True, eq=False)
class Prepared:
    """A run that is ready for its next update.

    Attributes:
      recipe: what is trained.
      workdir: the run's folder, claimed.
      options: as given.
      gan: the recipe's static description.
      config: what decides the numbers, as in config.json.
      devices: those of all processes.
      dataset: the real images; a source where they are streamed.
      checkpoints: the folder of them, open.
      state: the initial state or, of a run that goes on, that of the newest whole checkpoint.
      start: its step.
      events: the recipe's own.
      shown: for a GAN with a condition the examples of the sample grids: as labels the conditions, and as images their
        targets, where there are any.
      note: what was taken of the run that this one starts from, or which checkpoints are damaged, as a line; or "".
    """

    recipe: Recipe
    workdir: Path
    options: Options
    gan: GAN
    config: Mapping[str, Any]
    devices: list[jax.Device]
    dataset: data.Source | data.Dataset
    checkpoints: checkpoint.Checkpoints
    state: GANState
    start: int
    events: tuple[Event, ...]
    shown: Batch | None = None
    note: str = ""

    @property
    def images_per_step(self) -> int:
        """How many real images each step takes."""
        return self.recipe.batch_size * self.gan.training_ratio


def prepare(
    recipe: Recipe,
    workdir: Path,
    seed: int,
    options: Options,
    accepted: Collection[str],
    stack: contextlib.ExitStack,
    like: Prepared | None = None,
) -> Prepared:
    """Checks, loads and restores; nothing is written before all that can be checked has been.

    Arguments and errors are those of `run`; at the end of `stack` the workdir is free again. `like` is another run of
    the recipe that is prepared already: its GAN and its data are taken.
    """
    gan, events = like.gan if like else recipe.build(), tuple(recipe.events)
    (config, defaults), found, note = config_of(recipe, seed), None, ""
    damaged: list[int] = []  # checkpoints
    with processes.synchronized() as same:
        devices = check_options(recipe, seed, options)
        check_events(events)
        if recipe.init_from:  # a run that has begun knows what it came from
            before = read_config(workdir).get("init_sha256")
            found = None if before else transfer.read(recipe.init_from, recipe.init_weights)
            config["init_sha256"] = before or cast(transfer.Found, found).sha256
        check(workdir, config, defaults, accepted)
        if (workdir / "metrics.jsonl").exists() and not (workdir / "checkpoints").exists():
            raise RunError(f"{workdir / 'checkpoints'} is gone; put it back, or name another `workdir`")
        same |= config | dataclasses.asdict(options)
        same |= {"steps": recipe.steps, "devices": len(devices), "data_dir": None}
        same |= {"events": [[event.name, event.every] for event in events]}
    parallel.warm_up(devices)
    with processes.synchronized() as same:
        dataset = like.dataset if like else recipe.open_data(options.data_dir)
        _check_data(dataset, gan)
        before = read_config(workdir)
        config["data_sha256"] = same["data_sha256"] = data.identity(dataset, bool(gan.classes))
        if gan.classes and (not before or "class_names" in before):  # a run's grids have them from the first, or never
            config["class_names"] = list(dataset.classes)
        check(workdir, config, defaults, accepted)
        same["streamed"] = streamed = memory.is_streamed(dataset, options.stream, devices)
        if isinstance(dataset, data.Source) and not streamed:
            dataset = dataset.load()
            _check_data(dataset, gan)  # only now it is known whether all have labels
        shown = recipe.held_out(16, options.data_dir) if gan.condition else None
        state = init(gan, root_key(seed))
        if found:
            state, note = transfer.transferred(state, found, recipe.init_from, recipe.init_weights)
        _check_division(gan, len(devices), state)
    with processes.synchronized():
        if processes.is_leader():
            stack.enter_context(claim(workdir, config))
    with processes.synchronized():
        if not (workdir / "config.json").exists():
            raise RunError(f"`workdir` {workdir} must be a folder that all processes share; process 0 has another")
    with processes.synchronized() as same:
        checkpoints = checkpoint.open_folder(workdir / "checkpoints", options.keep, not processes.is_leader())
        stack.callback(checkpoints.close)
        if checkpoints.latest_step() is None and (step := read_summary(workdir).get("step")):
            raise RunError(
                f"{checkpoints.path} is empty, and the run was at step {step}; put back what was there, or name "
                "another `workdir`"
            )
        if checkpoints.latest_step() is None and recipe.init_from and not found:
            found = transfer.read(recipe.init_from, recipe.init_weights)
            if found.sha256 != config["init_sha256"]:
                raise RunError(f"`init_from` {recipe.init_from} has been trained since; name another `workdir`")
            state, note = transfer.transferred(state, found, recipe.init_from, recipe.init_weights)
        elif checkpoints.latest_step() is not None:
            if options.strict:
                state = checkpoint.restore(checkpoints, state)
            else:
                state, damaged = checkpoint.restore_whole(checkpoints, state)
            same["damaged checkpoints"] = damaged
            if not (jax.random.key_data(state.key) == jax.random.key_data(root_key(seed))).all():
                raise RunError(
                    f"{workdir}: the newest checkpoint is of a run with another `seed`; name another `workdir`"
                )
        start = same["newest checkpoint of `workdir`"] = int(state.step)
        if start > recipe.steps:
            raise RunError(
                f"`steps` {recipe.steps}: {workdir} is at step {start} already; ask for more, or name another `workdir`"
            )
    with processes.synchronized():  # now all know which are damaged
        if processes.is_leader():
            checkpoint.put_aside(checkpoints, damaged)
            checkpoints.reload()
            record(workdir, config)
    if damaged:
        these = ", ".join(str(checkpoints.path / str(step)) for step in damaged)
        note = f"damaged, and kept as STEP.damaged: {these}; this goes on from step {start}"
    return Prepared(
        recipe, workdir, options, gan, config, devices, dataset, checkpoints, state, start, events, shown, note
    )


def config_of(recipe: Recipe, seed: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """A run's config.json but for its data's digest, and the defaults of one, as `workdir.check` takes them."""
    return {**recipe.config(), "seed": seed, "xla_flags": inexact_flags()}, recipe.config_defaults()


def introduction(prepared: Prepared) -> str:
    """What the data decided, if anything; what is about to be trained, on what and where, in two lines; and notes."""
    p, devices, flags = prepared, prepared.devices, prepared.config["xla_flags"]
    n, shape = p.dataset.size, "x".join(map(str, p.dataset.shape))
    gen, disc = (sum(x.size for x in jax.tree.leaves(net.params)) for net in (p.state.gen, p.state.disc))
    what = f"{p.dataset.name}: {n:,} images of {shape}; generator {gen:,} parameters, discriminator {disc:,}"
    on = f"{len(devices)} x {devices[0].device_kind}"
    if jax.process_count() > 1:
        on += f" of {jax.process_count()} processes"
    how = f"steps {p.start} to {p.recipe.steps} of {p.recipe.batch_size} images on {on}, in {p.workdir}"
    ratio = p.gan.training_ratio
    own = place(p.gan.update) if ratio > 1 and callable(p.gan.update) else ""
    apart = not p.gan.condition or p.recipe.keeps_apart(p.options.data_dir)
    notes = {
        "the images are streamed: read as they are needed": isinstance(p.dataset, data.Source),
        "a batch takes more images than there are, some of them several times": p.images_per_step > n,
        f"sample grids show the first {ROWS} of {p.gan.classes:,} classes": p.gan.classes > ROWS,
        "nothing of these data is held out: samples and scores are of conditions that the run trains on": not apart,
        p.note: p.note,
        p.dataset.labels_note: p.gan.classes and p.dataset.labels_note,
        f"{own} gets the {ratio} batches of a step in one, and has to divide them: training_ratio is {ratio}": own,
        f"flags that may change numbers are part of this run: {' '.join(flags)}": flags,
    }
    return "\n".join([*p.recipe.found, what, how, *(f"note: {note}" for note, holds in notes.items() if holds)])


def _check_data(dataset: data.Source | data.Dataset, gan: GAN) -> None:
    """Refuses data that the GAN cannot be trained on."""
    found, made = dataset.shape, image_shape(gan)
    if found != made:
        raise data.DataError(
            f"{dataset.name}: its images are of shape {list(found)}, the generator's of {list(made)}; "
            "resize them, or change the generator"
        )
    for name, shape in gan.others:
        if (given := dataset.other_shapes.get(name)) != shape:
            has = f"has no {name!r}" if given is None else f"has a {name!r} of shape {list(given)}"
            raise data.DataError(
                f"{dataset.name} {has}, and the GAN takes one of shape {list(shape)} with each image; pairs:PATH and "
                "domains:PATH have some, and grey:NAME and inverse:NAME make them"
            )
    note = f" ({dataset.labels_note})" if dataset.labels_note else ""
    if gan.classes and not dataset.classes:
        raise data.DataError(f"{dataset.name} has no labels{note}, and the recipe has {gan.classes} classes")
    if gan.classes and len(dataset.classes) != gan.classes:
        raise data.DataError(f"{dataset.name} has {len(dataset.classes)} classes{note}, and the recipe {gan.classes}")


def _check_division(gan: GAN, devices: int, state: GANState) -> None:
    """Refuses to divide a batch whose images are compared with one another, where each part would be compared alone."""
    if gan.accumulate > 1 and (mixed := disc_mixing(gan)):
        raise RunError(
            f"`accumulate` {gan.accumulate}: the discriminator compares the images of a batch with one another "
            f"({mixed.where}), and would see a part of them at a time; leave it at 1, and use more devices"
        )
    try:
        images = jax.ShapeDtypeStruct((2 * devices, *image_shape(gan)), jax.numpy.float32)
        check_transforms(dataclasses.replace(gan, axis_name="batch" if devices > 1 else None), images, state.memory)
    except ValueError as error:
        raise RunError(str(error)) from error


def check_options(recipe: Recipe, seed: int, options: Options) -> list[jax.Device]:
    """The devices of the run; a RunError says what does not fit."""
    counts = {k: v for k, v in dataclasses.asdict(options).items() if type(v) is int}
    counts = {"steps": recipe.steps, "batch_size": recipe.batch_size, "accumulate": recipe.accumulate, **counts}
    for name, value in counts.items():
        if value < 1:
            raise RunError(f"`{name}` must be at least 1, not {value}")
    if not 0 <= seed < 2**32:
        raise RunError(f"`seed` must be from 0 to {2**32 - 1}, not {seed}")
    try:
        devices = parallel.choose_devices(options.devices)
    except ValueError as error:
        raise RunError(f"`devices`: {error}") from error
    if options.debug_nans and len(devices) > 1:
        raise RunError(f"`debug_nans` is for one device; choose `devices` 1, not {len(devices)}")
    if recipe.batch_size % (len(devices) * recipe.accumulate):
        local = len(devices) // jax.process_count()
        of = f" in each of {jax.process_count()} processes" if local < len(devices) else ""
        micro = f" and `accumulate` {recipe.accumulate} microbatches" if recipe.accumulate > 1 else ""
        raise RunError(
            f"`batch_size` {recipe.batch_size} cannot be split evenly over {local} devices{of}{micro}; "
            f"choose a multiple of {len(devices) * recipe.accumulate}, or fewer `devices`"
        )
    return devices
