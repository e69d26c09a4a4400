"""A GAN as data: what never changes (`GAN`), all that does (`GANState`), and where randomness comes from.

Every random draw comes from the state's one root key by `fold_in` of a purpose, the step and the
example's index in the batch. So a state carries all randomness with it, and the noise of example i
at step t does not depend on where, or in how large a piece of the batch, it is computed.
"""

import dataclasses
import enum
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax import struct


class Purpose(enum.IntEnum):
    """What a random draw is for; folded into the root key first."""

    INIT_GEN = 0
    INIT_DISC = 1
    Z = 2
    SAMPLES = 4  # the fixed latents that a run's sample grids are made from
    DROPOUT_GEN = 5
    DROPOUT_FAKE = 6  # in the discriminator, on generated images
    DROPOUT_REAL = 7
    NOISE_FAKE = 8  # instance noise, on generated images
    NOISE_REAL = 9
    ORDER = 100  # of the data, in each epoch


@dataclasses.dataclass(frozen=True)
class GAN:
    """The static description of a GAN: hashable, and passed to `jax.jit` as a static argument.

    Two of them are equal only if they hold the same functions: build one, and keep it, or all is compiled again.

    Attributes:
      gen: a module called as gen(z [B, z_size], train, keys, axis_name) -> images [B, H, W, C] within
        `image_range`; keys [B] is what dropout draws from, or None.
      disc: a module called as disc(images [B, H, W, C], train, keys, axis_name) -> logits [B].
      gen_loss: fake_logits -> scalar, the generator's loss: a mean over examples, for it is averaged over
        devices and microbatches.
      disc_loss: (real_logits, fake_logits) -> scalar, the discriminator's loss, likewise.
      gen_optimizer: the generator's optimiser.
      disc_optimizer: the discriminator's optimiser.
      z_size: the length of a latent.
      prior: the distribution of latents: "normal" is N(0, 1), "uniform" is U(-1, 1).
      image_range: what 0 and 255 become before an image reaches the discriminator.
      update: "shared" updates both networks from one forward pass, "alternating" the
        discriminator first and then the generator, against the new discriminator.
      training_ratio: updates of the discriminator for each one of the generator. The first
        training_ratio - 1 of a shared step are the discriminator's alone.
      instance_noise: step -> the standard deviation of the noise that is added to real and
        generated images before the discriminator sees them; None adds none.
      gen_l2: this times the squared L2 norm of all the generator's parameters is added to its loss.
      ema_decay: the share of the averaged generator that is kept at each step, in [0, 1);
        0 makes it the generator itself.
      accumulate: each update's gradients are the mean over this many microbatches, one after the other, for
        batches larger than memory. Microbatch k is the examples k::accumulate. Without batch
        statistics that is the same update. With batch normalisation each microbatch is normalised
        by its own moments (over all devices), and running averages move once for each; it is another
        update, then. Minibatch features would see less than the batch: see `judges_alone`.
      one_pullback: whether one backward pass through D(fake) serves both losses of a shared step. For a discriminator
        that judges each image alone, without batch normalisation or minibatch features, and a loss of it that
        increases with each fake logit everywhere, as cross-entropy does and least squares do not.
      precision: what the networks compute in while they train: "float32", or "bf16" for bfloat16. Parameters,
        optimisers, batch statistics and losses are float32 in either case.
      axis_name: the axis of a `jax.pmap` or `jax.shard_map` that the batch is split over, in the order of the
        devices; None where one device has all of it. `jaxgan.parallel` sets it.
    """

    gen: nn.Module
    disc: nn.Module
    gen_loss: Callable[[jax.Array], jax.Array]
    disc_loss: Callable[[jax.Array, jax.Array], jax.Array]
    gen_optimizer: optax.GradientTransformation
    disc_optimizer: optax.GradientTransformation
    z_size: int
    prior: Literal["normal", "uniform"] = "normal"
    image_range: tuple[float, float] = (-1.0, 1.0)
    update: Literal["shared", "alternating"] = "shared"
    training_ratio: int = 1
    instance_noise: Callable[[jax.Array], jax.Array] | None = None
    gen_l2: float = 0.0
    ema_decay: float = 0.0
    accumulate: int = 1
    one_pullback: bool = False
    precision: Literal["float32", "bf16"] = "float32"
    axis_name: str | None = None


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
    """

    step: jax.Array
    key: jax.Array
    gen: NetState
    disc: NetState
    averaged_gen: dict[str, Any]


class Batch(NamedTuple):
    """Real images and, where the data has any, their labels.

    Attributes:
      images: uint8 [B, H, W, C].
      labels: int32 [B], the number of each image's class; None where the data has no classes.
    """

    images: jax.Array
    labels: jax.Array | None = None


def init(gan: GAN, key: jax.Array) -> GANState:
    """The state before the first step.

    Args:
      gan: the static description.
      key: a typed key, from `jax.random.key`.
    """
    if not (hasattr(key, "dtype") and jnp.issubdtype(key.dtype, jax.dtypes.prng_key)):
        raise TypeError("init needs a typed key: jax.random.key(seed), not jax.random.PRNGKey(seed)")
    return _init(gan, jax.random.key_data(key), impl=str(jax.random.key_impl(key)))


def _init_state(gan: GAN, key_data: jax.Array, impl: str) -> GANState:
    key = jax.random.wrap_key_data(key_data, impl=impl)
    z, images = jnp.zeros((1, gan.z_size)), jnp.zeros((1, *image_shape(gan)))
    gen = gan.gen.init(jax.random.fold_in(key, Purpose.INIT_GEN), z, train=False)
    disc = gan.disc.init(jax.random.fold_in(key, Purpose.INIT_DISC), images, train=False)

    def net_state(variables, optimizer):
        params = variables["params"]
        return NetState(params, variables.get("batch_stats", {}), optimizer.init(params))

    gen = net_state(gen, gan.gen_optimizer)
    return GANState(
        step=jnp.int32(0),
        key=key,
        gen=gen,
        disc=net_state(disc, gan.disc_optimizer),
        averaged_gen=gen.variables,
    )


# One program, for each initialiser on its own takes seconds to compile; and not optimised, since it runs once.
_init = jax.jit(_init_state, static_argnames=("gan", "impl"), compiler_options={"xla_backend_optimization_level": 0})


def image_shape(gan: GAN) -> tuple[int, int, int]:
    """The (H, W, C) of the images that the generator makes; nothing is computed."""
    return generated_shape(gan)[1:]


def generated_shape(gan: GAN, grid: tuple[int, ...] = ()) -> tuple[int, ...]:
    """The shape of what the generator makes of one latent, or of one grid (h, w) of them; nothing is computed."""
    z = jax.ShapeDtypeStruct((1, *grid, gan.z_size), jnp.float32)
    return jax.eval_shape(lambda z: gan.gen.init_with_output(jax.random.key(0), z, train=False)[0], z).shape


def judges_alone(gan: GAN, state: GANState) -> bool:
    """Whether the discriminator judges each image alone, its batch statistics aside: without minibatch features."""

    @jax.jit
    def first_logit(others: jax.Array) -> jax.Array:
        image = jnp.zeros((1, *image_shape(gan)))
        return gan.disc.apply(state.disc.variables, jnp.concatenate([image, others]), train=False)[0]

    noise = jax.random.normal(jax.random.key(0), (3, *image_shape(gan)))
    return bool(first_logit(noise) == first_logit(jnp.zeros_like(noise)))


def example_keys(key: jax.Array, indices: jax.Array) -> jax.Array:
    """One key for each example: [B] keys from [B] indices into the whole batch."""
    return jax.vmap(jax.random.fold_in, (None, 0))(key, indices)


def draw_z(gan: GAN, key: jax.Array, indices: jax.Array, grid: tuple[int, ...] = ()) -> jax.Array:
    """Latents [B, z_size] from the prior; row i depends on `key` and indices[i] alone.

    With a `grid` (h, w) there are h * w latents for each example: [B, h, w, z_size].
    """
    draw = {"normal": jax.random.normal, "uniform": lambda k, s: jax.random.uniform(k, s, minval=-1, maxval=1)}
    return jax.vmap(lambda k: draw[gan.prior](k, (*grid, gan.z_size)))(example_keys(key, indices))


def from_uint8(images: jax.Array, image_range: tuple[float, float]) -> jax.Array:
    """Scales uint8 images so that 0 and 255 become the ends of `image_range`."""
    if images.dtype != jnp.uint8:
        raise TypeError(f"images must be uint8 (0 to 255), not {images.dtype}")
    low, high = image_range
    return images.astype(jnp.result_type(float)) * ((high - low) / 255) + low


def to_uint8(images: jax.Array, image_range: tuple[float, float]) -> jax.Array:
    """The inverse of `from_uint8`, rounded to the nearest value and clipped."""
    low, high = image_range
    return jnp.round((images - low) * (255 / (high - low))).clip(0, 255).astype(jnp.uint8)
