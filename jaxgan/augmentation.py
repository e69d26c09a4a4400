"""StyleGAN2-ADA's augmentation of images (Karras et al. 2020, arXiv:2006.06676, appendix B), as a transform.

Real and generated images alike are flipped, turned, moved, scaled and recoloured, each change with probability p, so
that a discriminator cannot learn a small set of images by heart. The changes are drawn by `draw` and made by `apply`.
All changes of place are one map for each image (`affine`); of an image without a draw of a kind nothing is computed
that could round it.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxgan.affine import moved, product, rotation, scaling, translation
from jaxgan.gan import Memory, Seen
from jaxgan.losses import Forward
from jaxgan.penalties import Disc
from jaxgan.schedules import Schedule, at


class Draws(NamedTuple):
    """What is done to each image, [B] or [B, 2] (x, y): 0 where it is not done. Angles are in radians."""

    flip: jax.Array
    """1: left to right."""
    turns: jax.Array
    """Quarter turns, 0 to 3; of an image that is not square those by 90 and 270 degrees are 0 and 180."""
    shift: jax.Array
    """[B, 2], of the size; rounded to whole pixels."""
    scale: jax.Array
    """log2 of the factor."""
    turn_before: jax.Array
    """The rotation before the stretching,"""
    stretch: jax.Array
    """log2 of the factor in x, which is that of 1 / y,"""
    turn_after: jax.Array
    """and the one after it."""
    move: jax.Array
    """[B, 2], of the size."""
    brightness: jax.Array
    """What is added, of images in [-1, 1]."""
    contrast: jax.Array
    """log2 of the factor."""
    luma_flip: jax.Array
    """1: colours are reflected, light and dark changed and hues kept."""
    hue: jax.Array
    """The rotation about the grey axis."""
    saturation: jax.Array
    """log2 of the factor."""
    hole: jax.Array
    """1: half of the height and of the width is set to zero (cutout),"""
    centre: jax.Array
    """[B, 2], around this place of the image, in [0, 1]."""


@dataclasses.dataclass(frozen=True)
class Augment:
    """Changes each image at random, as StyleGAN2-ADA does: a transform, for images [B, H, W, C] in [-1, 1].

    Of one channel the colour's changes are the mean of those of red, green and blue, without hue and saturation; of
    more than three, they are of the first three. With p = 0 images stay as they are, to the bit.

    Attributes:
      p: the probability of each change, in [0, 1]: a number, or a schedule of the step; None takes it from the memory
        that `adaptive` keeps.
      blit: what p is multiplied by for flips, quarter turns and shifts by whole pixels (up to 1/8 of the size),
      geometric: for scaling (2^N(0, 0.2^2)), rotation, stretching (likewise), and moves by N(0, 0.125^2) of the size,
      color: for brightness (+ N(0, 0.2^2)), contrast (2^N(0, 0.5^2)), luma flip, hue, and saturation (2^N(0, 1)),
      cutout: and for a hole of half the height and width.
    """

    p: float | Schedule | None = 0.0
    blit: float = 1.0
    geometric: float = 1.0
    color: float = 1.0
    cutout: float = 0.0

    def __call__(self, images: jax.Array, keys: jax.Array, step: jax.Array, memory: Any = None) -> jax.Array:
        """Images [B, H, W, C], each by its own key."""
        if self.p is None and not _has_p(memory):
            raise ValueError("Augment(p=None) takes p from the GAN's memory: give it memory=adaptive()")
        p = memory["augment_p"] if self.p is None else at(self.p, step)
        return apply(images, draw(keys, *(p * share for share in (self.blit, self.geometric, self.color, self.cutout))))


def sign_real(forward: Forward, disc: Disc) -> tuple[float, dict[str, jax.Array]]:
    """A penalty of nothing, which logs the mean sign of D's logits of real images: how much D overfits.

    With `adaptive` it logs p too, as the images of this update had it: `augment_probability`.
    """
    p = {"augment_probability": forward.memory["augment_p"]} if _has_p(forward.memory) else {}
    return 0.0, {"sign_real": jnp.mean(jnp.sign(forward.real_logits)), **p}


def adaptive(*, target: float = 0.6, images: int = 500_000) -> Memory:
    """The memory of an adaptive p: `GAN(transforms=(Augment(None),), penalties=(…, sign_real), memory=adaptive())`.

    After every fourth update, p moves by the share that their batches are of `images`: up if the mean of `sign_real`
    over them is above the target, else down, and not below 0 (above 1 it would have no effect). Where D has several
    updates in a step, the last one counts.

    Args:
      target: of the mean sign.
      images: so many take p from 0 to 1.
    """

    def start(gan: Any, params: Any) -> dict[str, jax.Array]:
        return {"augment_p": jnp.zeros(()), "sign_real": jnp.zeros(()), "updates": jnp.zeros((), jnp.int32)}

    def update(memory: dict[str, jax.Array], seen: Seen) -> dict[str, jax.Array]:
        signs, updates = memory["sign_real"] + seen.metrics["sign_real"] / 4, memory["updates"] + 1
        moved = jnp.clip(memory["augment_p"] + jnp.sign(signs - target) * (4 * seen.images / images), 0.0, 1.0)
        now = updates % 4 == 0
        return {
            "augment_p": jnp.where(now, moved, memory["augment_p"]),
            "sign_real": jnp.where(now, 0.0, signs),
            "updates": updates,
        }

    return Memory(start, update)


def _has_p(memory: Any) -> bool:
    return isinstance(memory, dict) and "augment_p" in memory


def draw(keys: jax.Array, blit: Any, geometric: Any, color: Any, cutout: Any = 0.0) -> Draws:
    """What is done to the image of each key, [B], at the probabilities of the four kinds of changes.

    A rotation is drawn before and after the stretching, either with probability 1 - sqrt(1 - geometric).
    """

    def one(key: jax.Array) -> Draws:
        chances, values, normal = jax.random.split(key, 3)
        chances, values = jax.random.uniform(chances, (14,)), jax.random.uniform(values, (9,))
        normal = jax.random.normal(normal, (8,))
        turn = 1 - jnp.sqrt(jnp.clip(1 - jnp.asarray(geometric), 0, 1))
        done = chances < jnp.stack(
            [jnp.asarray(p, chances.dtype) for p in (*[blit] * 3, geometric, turn, geometric, turn, geometric)]
            + [jnp.asarray(p, chances.dtype) for p in (*[color] * 5, cutout)]
        )
        spread = 2 * values - 1  # U(-1, 1)
        if_done = lambda i, value: jnp.where(done[i], value, jnp.zeros_like(value))  # noqa: E731
        return Draws(
            flip=if_done(0, jnp.floor(2 * values[0])),
            turns=if_done(1, jnp.floor(4 * values[1])),
            shift=if_done(2, spread[2:4] / 8),
            scale=if_done(3, 0.2 * normal[0]),
            turn_before=if_done(4, jnp.pi * spread[4]),
            stretch=if_done(5, 0.2 * normal[1]),
            turn_after=if_done(6, jnp.pi * spread[5]),
            move=if_done(7, 0.125 * normal[2:4]),
            brightness=if_done(8, 0.2 * normal[4]),
            contrast=if_done(9, 0.5 * normal[5]),
            luma_flip=if_done(10, jnp.floor(2 * values[6])),
            hue=if_done(11, jnp.pi * spread[7]),
            saturation=if_done(12, normal[6]),
            hole=if_done(13, jnp.ones_like(normal[7])),
            centre=jax.random.uniform(jax.random.fold_in(key, 3), (2,)),
        )

    return jax.vmap(one)(keys)


def apply(images: jax.Array, draws: Draws) -> jax.Array:
    """Images [B, H, W, C] in [-1, 1] after what was drawn for each."""
    draws = jax.tree.map(lambda x: jax.lax.stop_gradient(jnp.asarray(x, images.dtype)), draws)
    return _cut(_colored(_placed(images, draws), draws), draws)


def _placed(images: jax.Array, d: Draws) -> jax.Array:
    """Flips, turns and shifts alone by whole pixels, which is exact; what is more, by resampling."""
    height, width = images.shape[1:3]
    turns = d.turns if height == width else d.turns - d.turns % 2
    cos, sin = (jnp.array(x, images.dtype)[turns.astype(int)] for x in ([1, 0, -1, 0], [0, 1, 0, -1]))
    size = jnp.array([[width, height]], images.dtype)
    # A place in the result -> the place in the image that it is taken from; x and y from the centre, in pixels.
    blit = product(scaling(1 - 2 * d.flip, 1), rotation(cos, sin), translation(-jnp.round(d.shift * size)))
    whole = product(
        blit,
        scaling(2**-d.scale, 2**-d.scale),
        rotation(jnp.cos(d.turn_before), jnp.sin(d.turn_before)),
        scaling(2**-d.stretch, 2**d.stretch),
        rotation(jnp.cos(d.turn_after), jnp.sin(d.turn_after)),
        translation(-d.move * size),
    )
    drawn = (d.scale, d.turn_before, d.stretch, d.turn_after, d.move[:, 0], d.move[:, 1])
    resampled = jnp.any(jnp.stack(drawn, 1) != 0, axis=1)
    return moved(images, jnp.where(resampled[:, None, None], whole, blit), resampled)


def _colored(images: jax.Array, d: Draws) -> jax.Array:
    """The first three channels by one matrix [B, 3, 4] on (r, g, b, 1), or the first by its mean."""
    channels = images.shape[3]
    if channels < 3:
        d = d._replace(hue=jnp.zeros_like(d.hue), saturation=jnp.zeros_like(d.saturation))
    unit, grey = jnp.eye(3, dtype=images.dtype)[None], jnp.full((1, 3, 3), 1 / 3, images.dtype)
    cross = jnp.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]], images.dtype)[None] / np.sqrt(3)
    of_each = lambda x: x[:, None, None]  # noqa: E731
    flipped = (unit - 2 * grey * of_each(d.luma_flip)) * of_each(2**d.contrast)
    about_grey = grey + (unit - grey) * of_each(jnp.cos(d.hue)) + cross * of_each(jnp.sin(d.hue))
    saturated = grey + (unit - grey) * of_each(2**d.saturation)
    turned = jnp.matmul(jnp.matmul(saturated, about_grey, precision="highest"), flipped, precision="highest")
    added = jnp.sum(turned, axis=2) * d.brightness[:, None]
    if channels < 3:
        turned, added = jnp.mean(jnp.sum(turned, 2), 1)[:, None, None], jnp.mean(added, 1)[:, None]
    count = turned.shape[1]
    colors = added[:, None, None]
    for k in range(count):  # not as a product of matrices, which a CPU is slower at where they are this small
        colors = colors + images[..., k : k + 1] * turned[:, None, None, :, k]
    drawn = jnp.stack((d.brightness, d.contrast, d.luma_flip, d.hue, d.saturation), 1)
    changed = jnp.concatenate([colors, images[..., count:]], axis=3)
    return jnp.where(jnp.any(drawn != 0, axis=1)[:, None, None, None], changed, images)


def _cut(images: jax.Array, d: Draws) -> jax.Array:
    """With a hole around its centre, where one is drawn."""
    rows, columns = ((jnp.arange(n, dtype=images.dtype) + 0.5) / n for n in images.shape[1:3])
    inside = lambda places, centre: jnp.abs(places[None] - centre[:, None]) < 0.25  # noqa: E731
    hole = (
        inside(rows, d.centre[:, 1])[:, :, None]
        & inside(columns, d.centre[:, 0])[:, None]
        & (d.hole != 0)[:, None, None]
    )
    return jnp.where(hole[..., None], 0, images)
