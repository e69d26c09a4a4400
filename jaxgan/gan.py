"""A GAN as data: what never changes (`GAN`), and all that does (`GANState`)."""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple, get_args, get_origin

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct
from jax.core import Tracer

from jaxgan.adversarial import adversarial
from jaxgan.forward_pass import Losses, Pass, and_extra, play
from jaxgan.images import from_uint8
from jaxgan.losses import Loss, non_saturating
from jaxgan.networks.layers import Context
from jaxgan.penalties import Penalty, Regularizer
from jaxgan.schedules import Schedule
from jaxgan.transforms import Transform


class Batch(NamedTuple):
    """Real images, and what else the data has of each: arrays of NumPy or of JAX.

    Attributes:
      images: uint8 [B, H, W, C]; or floats [B, ...], which are taken as they are.
      labels: int32 [B], the class of each image, as `jaxgan.labels` checks them; None where there are no classes.
      others: by name what else belongs to each example, as images do: a condition, a mask, the other domain's image.
    """

    images: Any
    labels: Any = None
    others: Mapping[str, Any] | None = None


class Seen(NamedTuple):
    """What a step has to tell a `Memory`: all of it is the whole batch's, over devices and microbatches.

    Attributes:
      metrics: the scalars of the step, by name.
      means: arrays that are averaged, and not logged.
      examples: arrays [B, ...], a row for each example, in the order of their indices in the batch.
      images: B, how many real images the pass took.
    """

    metrics: dict[str, jax.Array]
    means: dict[str, Any]
    examples: dict[str, Any]
    images: jax.Array | int


@dataclasses.dataclass(frozen=True)
class Memory:
    """What a game keeps from one step to the next beside its networks: a tree of arrays in `GANState.memory`.

    Attributes:
      start: (gan, params) -> the tree before the first step; params holds those of "gen" and "disc".
      update: (memory, `Seen`) -> the tree after a step, of the same shapes and types. By default it stays as it is, for
        an update of one's own to write.
    """

    start: Callable[["GAN", dict[str, Any]], Any]
    update: Callable[[Any, Seen], Any] = lambda memory, seen: memory


def memories(*parts: Memory) -> Memory:
    """Several as one: each is a dict with names of its own, and gets the dict of them all."""

    def start(gan: "GAN", params: dict[str, Any]) -> dict[str, Any]:
        return {name: x for part in parts for name, x in part.start(gan, params).items()}

    def update(memory: dict[str, Any], seen: Seen) -> dict[str, Any]:
        return {name: x for part in parts for name, x in part.update(memory, seen).items()}

    return Memory(start, update)


@dataclasses.dataclass(frozen=True, kw_only=True)
class GAN:
    """The static description of a GAN: hashable, and passed to `jax.jit` as a static argument.

    Two of them are equal only if they hold equal functions: build one and keep it, or all is compiled again.

    Raises:
      TypeError: a network cannot be called as networks are, or a value cannot be hashed.
      ValueError: a value that no step could use.

    Attributes:
      gen: the first player, a module called as gen(z [B, z_size], labels [B] or None, context) -> images [B, H, W, C]
        within `image_range`, or a pair of those and a tree of what else the losses are to see, each array with the
        batch as its first axis; `context` is a `Context`. It may hold several networks, and have other methods.
      disc: the second player, called as disc(images [B, H, W, C], labels [B] or None, context) -> logits
        [B / group], or a pair, as gen.
      gen_optimizer: the generator's optimiser.
      disc_optimizer: the discriminator's optimiser.
      z_size: the length of a latent; 0 for a game without latents.
      game: one pass of both players: a function of a `Pass` that gives `Losses`.
      loss: the losses of both networks in the game `adversarial`.
      prior: the distribution of latents: "normal" is N(0, 1), "uniform" is U(-1, 1).
      classes: how many classes the images have; with 0 the GAN is unconditional, and labels are None everywhere.
      others: what else each example of a batch has: (name, shape) of each of `Batch.others`, such as
        ("condition", (32, 32, 1)).
      condition: the name of one of `others` that gen and disc are called with in place of labels; "" for none.
      generated_labels: where the labels of generated images come from: "uniform" draws them, each class as likely;
        "real" gives generated image i the label of real image i, as pairs of a relativistic loss need it.
      image_range: what 0 and 255 become before an image reaches the discriminator; None where the data are floats, such
        as points in the plane, which are taken and given as they are.
      update: "shared" updates both networks from one forward pass, "alternating" the discriminator first and then the
        generator, against the new discriminator; or a function (gan, state, batch) -> (state, metrics), as those two
        are in `jaxgan.train_step`.
      training_ratio: updates of the discriminator for each one of the generator. The first training_ratio - 1 of a
        shared step are the discriminator's alone.
      augmentations: what real images pass before all else, functions as in `jaxgan.transforms`.
      transforms: what all images, real and generated, pass on their way to the discriminator, in this order.
      penalties: what is added to the discriminator's loss, functions as in `jaxgan.penalties`.
      regularizers: what is added to the generator's loss, likewise.
      memory: what the game keeps from step to step; None for nothing.
      ema_decay: the share of the averaged generator that is kept at each step, in [0, 1), or a schedule of it; 0 makes
        it the generator itself.
      ema_ramp: whether early on that share is at most (1 + step) / (10 + step), so that the untrained weights are soon
        forgotten, as in TensorFlow's ExponentialMovingAverage.
      accumulate: each update's gradients are the mean over this many microbatches, one after the other, for batches
        larger than memory. Microbatch k is the examples k::accumulate. Where no layer looks across the batch that is
        the same update. Batch normalisation sees each microbatch alone (over all devices), and its running averages
        move once for each. Minibatch features would see less than the batch: see `accumulation.disc_mixing`.
      group: how many consecutive images D looks at together (packing, the standard deviation of groups): microbatches
        and devices have them whole.
      precision: what the networks compute in while they train: "float32", or "bf16" for bfloat16. Parameters,
        optimisers, batch statistics and losses are float32 in either case.
      schedules: what moves by a plan of its own, as (name, function of the step): added to the metrics by its name.
      axis_name: the axis of a `jax.pmap` or `jax.shard_map` that the batch is split over, in the order of the
        devices; None where one device has all of it. `jaxgan.parallel` sets it.
    """

    gen: nn.Module
    disc: nn.Module
    gen_optimizer: optax.GradientTransformation
    disc_optimizer: optax.GradientTransformation
    z_size: int
    game: Callable[[Pass], Losses] = adversarial
    loss: Loss = dataclasses.field(default_factory=non_saturating)
    prior: Literal["normal", "uniform"] = "normal"
    classes: int = 0
    generated_labels: Literal["uniform", "real"] = "uniform"
    others: tuple[tuple[str, tuple[int, ...]], ...] = ()
    condition: str = ""
    image_range: tuple[float, float] | None = (-1.0, 1.0)
    update: Literal["shared", "alternating"] | Callable[..., Any] = "shared"
    training_ratio: int = 1
    augmentations: tuple[Transform, ...] = ()
    transforms: tuple[Transform, ...] = ()
    penalties: tuple[Penalty, ...] = ()
    regularizers: tuple[Regularizer, ...] = ()
    memory: Memory | None = None
    ema_decay: float | Schedule = 0.0
    ema_ramp: bool = True
    accumulate: int = 1
    group: int = 1
    precision: Literal["float32", "bf16"] = "float32"
    schedules: tuple[tuple[str, Schedule], ...] = ()
    axis_name: str | None = None

    def __post_init__(self):
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if unhashable := _unhashable(field.name, value):
                raise TypeError(unhashable)
            if get_origin(field.type) is Literal and value not in get_args(field.type):
                raise ValueError(f"{field.name} must be one of {', '.join(get_args(field.type))}, not {value!r}")
        if self.update not in ("shared", "alternating") and not callable(self.update):
            raise ValueError(f"update must be one of shared, alternating, or a function, not {self.update!r}")
        if {"images", "labels"} & dict(self.others).keys():
            raise ValueError("others are what a batch has beside images and labels; give them other names")
        if self.condition and self.classes:
            raise ValueError("a GAN has classes or a condition, not both: a condition stands in place of labels")
        if self.condition and self.condition not in dict(self.others):
            raise ValueError(f"condition must be the name of one of others ({', '.join(dict(self.others)) or 'none'})")
        for name, least in (("z_size", 0), ("classes", 0), ("training_ratio", 1), ("accumulate", 1), ("group", 1)):
            if (value := getattr(self, name)) < least:
                raise ValueError(f"{name} must be at least {least}, not {value}")
        if self.image_range and not self.image_range[0] < self.image_range[1]:
            raise ValueError(f"image_range must be (low, high), such as (-1, 1), not {self.image_range}")
        if not callable(self.ema_decay) and not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay must be at least 0 and below 1, not {self.ema_decay}")
        for name, first in (("gen", "z"), ("disc", "images")):
            net = getattr(self, name)
            if not isinstance(net, nn.Module):
                given = (
                    f"the class {net.__name__}; write {net.__name__}()" if isinstance(net, type) else type(net).__name__
                )
                raise TypeError(f"{name} must be a Flax module, not {given}")
            try:
                inspect.signature(net.__call__).bind(first, "labels", "context")
            except TypeError as error:
                kind = type(net)
                takes = inspect.signature(kind.__call__)
                raise TypeError(
                    f"{name} is called as {name}({first}, labels, context), but {kind.__name__}.__call__ takes {takes}"
                ) from error


def _unhashable(name: str, value: Any) -> str:
    """Which part of a value keeps it from being static, and what to write instead; empty where none does."""
    try:
        hash(value)
        return ""
    except TypeError:
        pass
    parts = {}
    if isinstance(value, tuple):
        names = getattr(value, "_fields", None)
        parts = {f"{name}.{names[i]}" if names else f"{name}[{i}]": part for i, part in enumerate(value)}
    elif dataclasses.is_dataclass(value):
        parts = {f"{name}.{field.name}": getattr(value, field.name) for field in dataclasses.fields(value)}
    for inner, part in parts.items():
        if found := _unhashable(inner, part):
            return found
    instead = "make its class a dataclass with frozen=True" if parts else "give something that never changes"
    if isinstance(value, list):
        instead = "write a tuple"
    elif isinstance(value, np.ndarray | jax.Array):
        instead = f"write float({name.rpartition('.')[2]})" if value.ndim == 0 else "write a tuple of numbers"
    return f"{name} cannot be hashed, being of type {type(value).__name__}: a GAN is static; {instead}"


class NetState(struct.PyTreeNode):
    """One network's parameters, batch statistics (an empty dict where it has none) and optimiser state."""

    params: Any
    batch_stats: Any
    opt_state: Any

    @property
    def variables(self) -> dict[str, Any]:
        """What the network's `apply` takes."""
        return {"params": self.params, "batch_stats": self.batch_stats}


class GANState(struct.PyTreeNode):
    """All that a training step changes, and the root key.

    Attributes:
      step: int32 scalar, the number of updates done.
      key: the typed root key that every draw is folded from; a step leaves it as it is.
      gen: the generator's state.
      disc: the discriminator's state.
      averaged_gen: running averages of the generator's `variables`.
      memory: what the GAN's `Memory` keeps; None where it has none.
    """

    step: jax.Array
    key: jax.Array
    gen: NetState
    disc: NetState
    averaged_gen: dict[str, Any]
    memory: Any = None


def init(gan: GAN, key: jax.Array) -> GANState:
    """The state before the first step.

    Args:
      gan: the static description.
      key: a typed key, from `jax.random.key`.

    Raises:
      TypeError: the key is not a typed one.
    """
    if not (hasattr(key, "dtype") and jnp.issubdtype(key.dtype, jax.dtypes.prng_key)):
        raise TypeError("init needs a typed key: jax.random.key(seed), not jax.random.PRNGKey(seed)")
    if any(isinstance(x, Tracer) for x in (key, jnp.zeros(()))):  # part of a program of the caller's
        return _init(gan, key)
    return _compiled_init(gan, key)


def _init(gan: GAN, key: jax.Array) -> GANState:
    params, stats = _initial_variables(gan, key)
    gen = NetState(params["gen"], stats["gen"], gan.gen_optimizer.init(params["gen"]))
    disc = NetState(params["disc"], stats["disc"], gan.disc_optimizer.init(params["disc"]))
    memory = gan.memory and jax.tree.map(jnp.asarray, gan.memory.start(gan, params))
    return GANState(step=jnp.int32(0), key=key, gen=gen, disc=disc, averaged_gen=gen.variables, memory=memory)


def _initial_variables(gan: GAN, key: jax.Array) -> tuple[dict[str, Any], dict[str, Any]]:
    """The parameters and the batch statistics of both players: those that a pass of the game asks for."""
    images = jnp.zeros((gan.group, *image_shape(gan)))
    others = {name: jnp.zeros((gan.group, *shape)) for name, shape in gan.others}
    labels = others[gan.condition] if gan.condition else some_labels(gan, gan.group)
    empty = NetState({}, {}, ())
    state = GANState(step=jnp.int32(0), key=key, gen=empty, disc=empty, averaged_gen={})
    batch = Batch(images, None if gan.condition else labels, others)
    p = Pass(gan, state, {"gen": {}, "disc": {}}, batch, jnp.arange(gan.group), initialising=True)
    play(p)
    return p.params, p.stats


# One program, since each initialiser on its own takes seconds to compile; and not optimised, since it runs once.
_compiled_init = jax.jit(_init, static_argnums=0, compiler_options={"xla_backend_optimization_level": 0})


def image_shape(gan: GAN) -> tuple[int, ...]:
    """The shape of what the generator makes of one latent: (H, W, C) of an image; nothing is computed."""
    return generated_shape(gan)[1:]


@functools.lru_cache(maxsize=32)  # asked for several times over, and each time the generator would be traced
def generated_shape(gan: GAN, grid: tuple[int, ...] = ()) -> tuple[int, ...]:
    """The shape of what the generator makes of one latent, or of one grid (h, w) of them; nothing is computed."""
    z = jax.ShapeDtypeStruct((1, *grid, gan.z_size), jnp.float32)

    def generate(z: jax.Array) -> jax.Array:
        return and_extra(gan.gen.init_with_output(jax.random.key(0), z, some_labels(gan, 1), Context())[0])[0]

    return jax.eval_shape(generate, z).shape


def as_floats(gan: GAN, images: jax.Array) -> jax.Array:
    """Images as the networks take them: uint8 in `gan.image_range`; floats as they are.

    Raises:
      TypeError: they are neither, or uint8 for a GAN of floats.
    """
    if jnp.issubdtype(images.dtype, jnp.floating):
        return images
    if gan.image_range is None:
        raise TypeError(f"the GAN is of floats (its image_range is None), and the images are {images.dtype}")
    return from_uint8(images, gan.image_range)


def some_labels(gan: GAN, count: int) -> jax.Array | None:
    """Labels [count] of the right type, or conditions, for what depends on their shape alone; None without any."""
    if gan.condition:
        return jnp.zeros((count, *dict(gan.others)[gan.condition]))
    return jnp.zeros((count,), jnp.int32) if gan.classes else None
