"""DiffAugment and mirroring: each image by a loop in numpy, their ranges, their gradients, and whom they touch."""

import dataclasses
import functools
import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from common import QUICK, drawn, in_range, latents, real_batch, small_gan
from showing import Showing

import jaxgan
from jaxgan.forward_pass import losses
from jaxgan.losses import Loss
from jaxgan.randomness import Purpose
from jaxgan.transforms import DIFF_AUGMENT, Color, Cutout, RandomFlip, Translation

pytestmark = pytest.mark.usefixtures("quick_programs")

CASES = [
    (Color(), (8, 8, 3)),
    (Color(), (7, 5, 1)),
    (Translation(), (8, 8, 3)),
    (Translation(), (7, 5, 1)),
    (Translation(0.4), (6, 11, 3)),
    (Cutout(), (8, 8, 3)),
    (Cutout(), (6, 11, 3)),
    (Cutout(0.3), (7, 5, 1)),
    (RandomFlip(), (6, 11, 3)),
]


@functools.partial(jax.jit, static_argnums=0, compiler_options=QUICK)
def passed(transform, images, keys, cotangents=None):
    """The images after a transform, and what it makes of their cotangents."""
    got, pull = jax.vjp(lambda images: transform(images, keys, 3), images)
    return got if cotangents is None else (got, pull(cotangents)[0])


def images_of(shape, count=6, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (count, *shape)).astype(np.float32)


def keys_of(count, seed=0):
    return jax.random.split(jax.random.key(seed), count)


@functools.cache
def whole_numbers(count):
    draw = lambda key, axis: jax.random.randint(jax.random.fold_in(key, axis), (), 0, count)  # noqa: E731
    return jax.jit(draw, compiler_options=QUICK)


def whole_number(key, axis, count):
    return int(whole_numbers(count)(key, axis))


def rounded(size, share):
    return int(np.floor(size * share + 0.5))


def color(image, key, brighter=1.0):
    """Equal to its own transpose, but for the brightness that is added."""
    brightness, saturation, contrast = np.float64(jax.random.uniform(key, (3,), jnp.float32))
    image = image + brighter * (brightness - 0.5)
    grey = image.mean(2, keepdims=True)
    image = (1 - 2 * saturation) * grey + 2 * saturation * image
    return (1 - (contrast + 0.5)) * image.mean() + (contrast + 0.5) * image


def moved(image, rows, columns):
    """What is at [r, c] goes to [r + rows, c + columns]."""
    out = np.zeros_like(image)
    for r, c in itertools.product(*map(range, image.shape[:2])):
        if 0 <= r + rows < image.shape[0] and 0 <= c + columns < image.shape[1]:
            out[r + rows, c + columns] = image[r, c]
    return out


def shifts(shape, key, share):
    """How far an image goes down and to the right."""
    most = [rounded(size, share) for size in shape[:2]]
    return [by - whole_number(key, axis, 2 * by + 1) for axis, by in enumerate(most)]


def holed(image, key, share):
    rows, columns = (
        range(centre - length // 2, centre - length // 2 + length)
        for axis, size in enumerate(image.shape[:2])
        for length in [rounded(size, share)]
        for centre in [whole_number(key, axis, size + (length % 2 == 0))]
    )
    out = image.copy()
    for r, c in itertools.product(*map(range, image.shape[:2])):
        if r in rows and c in columns:
            out[r, c] = 0
    return out


def mirrored(image, key):
    return image[:, ::-1] if float(jax.random.uniform(key, (), jnp.float32)) < 0.5 else image


def forwards(transform, image, key):
    """One image, in numpy."""
    match transform:
        case Color():
            return color(image, key)
        case Translation(share):
            return moved(image, *shifts(image.shape, key, share))
        case Cutout(share):
            return holed(image, key, share)
        case RandomFlip():
            return mirrored(image, key)


def backwards(transform, cotangent, key):
    """The transpose of that one, applied to a cotangent: images go back, holes stay holes."""
    match transform:
        case Color():
            return color(cotangent, key, brighter=0.0)
        case Translation(share):
            return moved(cotangent, *(-by for by in shifts(cotangent.shape, key, share)))
        case Cutout() | RandomFlip():
            return forwards(transform, cotangent, key)


@pytest.mark.parametrize(("transform", "shape"), CASES, ids=str)
def test_each_image_is_as_numpy_has_it_and_so_is_its_gradient(transform, shape):
    images, keys, cotangents = images_of(shape), keys_of(6), images_of(shape, seed=1)
    got, pulled = passed(transform, images, keys, cotangents)
    assert (got.shape, got.dtype) == (images.shape, images.dtype)
    for i, key in enumerate(keys):
        np.testing.assert_allclose(got[i], forwards(transform, np.float64(images[i]), key), atol=2e-6)
        np.testing.assert_allclose(pulled[i], backwards(transform, np.float64(cotangents[i]), key), atol=2e-6)
    assert np.abs(np.asarray(got) - images).max() > 0.1


def test_images_move_by_every_distance_up_to_an_eighth_as_often():
    """A pixel in the middle shows where it went. Of 8 rows an eighth is 1, of 20 columns 2.5, which is 3."""
    image = np.zeros((1, 8, 20, 1), np.float32)
    image[0, 4, 10] = 1
    got = passed(Translation(), np.repeat(image, 2100, axis=0), keys_of(2100))
    _, rows, columns, _ = np.nonzero(np.asarray(got))
    assert len(rows) == 2100
    places, counts = np.unique(np.stack([rows - 4, columns - 10]), axis=1, return_counts=True)
    assert {*map(tuple, places.T.tolist())} == {*itertools.product((-1, 0, 1), range(-3, 4))}
    np.testing.assert_allclose(counts, 100, atol=40)


@pytest.mark.parametrize(("size", "length"), [(8, 4), (5, 3)])
def test_holes_lie_anywhere_and_are_cut_off_at_the_border(size, length):
    """Every place of a length whose centre is in the image, each as often."""
    got = np.asarray(passed(Cutout(), np.ones((2000, size, 4, 2), np.float32), keys_of(2000)))
    zeros = [tuple(np.nonzero((image == 0).all(2).any(1))[0].tolist()) for image in got]
    firsts = range(-(length // 2), size + (length % 2 == 0) - length // 2)
    want = [tuple(r for r in range(first, first + length) if 0 <= r < size) for first in firsts]
    assert {*zeros} == {*want}
    counts = [zeros.count(place) for place in want]
    assert abs(max(counts) - min(counts)) < 0.6 * 2000 / len(want)


class Echo(nn.Module):
    """A generator that shows its latent."""

    @nn.compact
    def __call__(self, z, labels, context):
        return z.reshape(-1, 4, 4, 1) * self.param("one", nn.initializers.ones, ())


AUGMENTED = small_gan(
    gen=Echo(),
    disc=Showing(),
    z_size=16,
    augmentations=(RandomFlip(), Translation(0.25), RandomFlip()),
    transforms=DIFF_AUGMENT,
)


@functools.partial(jax.jit, compiler_options=QUICK)
def pass_of(state, batch):
    """What the losses see of a pass."""
    seen = []
    loss = Loss(lambda f: jnp.mean(f.fake_logits), lambda f: seen.append(f) or jnp.mean(f.real_logits))
    gan = dataclasses.replace(AUGMENTED, loss=loss)
    losses(gan, state, state.gen.params, state.disc.params, in_range(gan, batch), jnp.arange(16))
    return seen[0]


@pytest.fixture(scope="module")
def passes():
    """Of two steps: the state, the real images, and the pass."""
    state, batch = jaxgan.init(AUGMENTED, jax.random.key(0)), real_batch(AUGMENTED, 16)
    states = [state.replace(step=jnp.int32(step)) for step in (0, 1)]
    return [(state, in_range(AUGMENTED, batch).images, pass_of(state, batch)) for state in states]


def keys_for(state, purpose):
    return drawn(lambda key: key, state, purpose, range(16))


def after(transforms, state, purpose, images):
    """Each with the key that the documentation gives it."""
    for number, transform in enumerate(transforms):
        keys = keys_for(state, purpose + 1000 * number)
        images = [forwards(transform, np.asarray(image), key) for image, key in zip(images, keys, strict=True)]
    return images


def test_augmentations_are_of_real_images_alone_and_differ_by_example_step_and_number(passes):
    """As losses and penalties see them: before the transforms."""
    turns = []
    for state, real, seen in passes:
        z = latents(AUGMENTED, state, range(16))
        np.testing.assert_allclose(seen.generated, np.reshape(z, (16, 4, 4, 1)), atol=1e-6)
        want = after(AUGMENTED.augmentations, state, Purpose.AUGMENTATION, real)
        np.testing.assert_allclose(seen.images, want, atol=1e-6)
        for number in (0, 2):
            keys = keys_for(state, Purpose.AUGMENTATION + 1000 * number)
            turns.append([float(jax.random.uniform(key, (), jnp.float32)) < 0.5 for key in keys])
    assert len({*map(tuple, turns)}) == 4
    assert all(0 < sum(turn) < 16 for turn in turns)


def test_diff_augment_is_of_both_kinds_each_with_draws_of_its_own(passes):
    """D is given the images after it."""
    for state, _, seen in passes:
        want = after(DIFF_AUGMENT, state, Purpose.TRANSFORM_REAL, seen.images)
        np.testing.assert_allclose(seen.real_extra, want, atol=2e-6)
        want = after(DIFF_AUGMENT, state, Purpose.TRANSFORM_FAKE, seen.generated)
        np.testing.assert_allclose(seen.fake_extra, want, atol=2e-6)
