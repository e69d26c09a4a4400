"""Where randomness comes from: every draw is of the state's one root key, by `fold_in`.

Folded in are a purpose, the step, and the example's index in the batch. So a state carries all randomness with it, and
the noise of example i at step t does not depend on where, or in how large a piece of the batch, it is computed.
"""

import enum
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

if TYPE_CHECKING:
    from jaxgan.gan import GAN, GANState


class Purpose(enum.IntEnum):
    """What a random draw is for; folded into the root key first."""

    INIT_GEN = 0
    INIT_DISC = 1
    Z = 2
    LABELS = 3  # of generated images
    SAMPLES = 4  # the fixed latents that a run's sample grids are made from
    DROPOUT_GEN = 5
    DROPOUT_FAKE = 6  # in the discriminator, on generated images
    DROPOUT_REAL = 7
    TRANSFORM_FAKE = 8  # the first transform of generated images; the i-th after it has 1000 * i more
    TRANSFORM_REAL = 9
    PENALTIES = 10  # what the i-th penalty draws has 1000 * i more
    AUGMENTATION = 11  # of real images; the i-th has 1000 * i more
    REGULARIZERS = 12  # what the i-th regulariser draws has 1000 * i more
    OWN = 13  # what a game of one's own draws, by names that it gives
    ORDER = 100  # of the data
    SCORES = 101  # the fixed latents that a run is scored by


def step_key(state: "GANState", purpose: int) -> jax.Array:
    """The key of all draws for a purpose in the step that begins at `state`."""
    return jax.random.fold_in(jax.random.fold_in(state.key, purpose), state.step)


def example_keys(key: jax.Array, indices: jax.Array) -> jax.Array:
    """One key for each example: [B] keys from [B] indices into the whole batch."""
    return jax.vmap(jax.random.fold_in, (None, 0))(key, indices)


def is_key(x: jax.Array | np.ndarray) -> bool:
    """Whether an array is one of typed keys."""
    return jnp.issubdtype(x.dtype, jax.dtypes.prng_key)


def key_data(tree: Any) -> Any:
    """A tree of arrays with the data of its typed keys, uint32, in their place."""
    return jax.tree.map(lambda x: jax.random.key_data(x) if is_key(x) else x, tree)


def with_keys(like: Any, tree: Any) -> Any:
    """The inverse of `key_data`: where `like`, a tree of the same structure, has a typed key, its data become one."""

    def with_key(like: Any, x: Any) -> Any:
        return jax.random.wrap_key_data(x, impl=jax.random.key_impl(like)) if is_key(like) else x

    return jax.tree.map(with_key, like, tree)


def draw_z(gan: "GAN", key: jax.Array, indices: jax.Array, grid: tuple[int, ...] = ()) -> jax.Array:
    """Latents [B, z_size] from the prior; row i depends on `key` and indices[i] alone.

    With a `grid` (h, w) there are h * w latents for each example: [B, h, w, z_size].
    """
    draw = {"normal": jax.random.normal, "uniform": lambda k, s: jax.random.uniform(k, s, minval=-1, maxval=1)}
    return jax.vmap(lambda k: draw[gan.prior](k, (*grid, gan.z_size)))(example_keys(key, indices))


def draw_labels(gan: "GAN", key: jax.Array, indices: jax.Array) -> jax.Array | None:
    """Classes for generated images, each as likely: int32 [B], by `key` and indices[i] alone; None without classes."""
    if not gan.classes:
        return None
    return jax.vmap(lambda k: jax.random.randint(k, (), 0, gan.classes))(example_keys(key, indices))
