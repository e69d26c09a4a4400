"""StyleGAN2-ADA's augmentation against NumPy and SciPy: what is done to an image, how often, and its derivatives."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from common import QUICK
from scipy import ndimage, signal

import jaxgan
from jaxgan.augmentation import Augment, Draws, apply, draw
from jaxgan.per_example import mixing
from jaxgan.schedules import Linear

pytestmark = pytest.mark.usefixtures("quick_programs")

SYM6 = """0.015404109327027373 0.0034907120842174702 -0.11799011114819057 -0.048311742585633 0.4910559419267466
0.787641141030194 0.3379294217276218 -0.07263752278646252 -0.021060292512300564 0.04472490177066578
0.0017677118642428036 -0.007800708325034148"""  # of the table of wavelets, to be compared with a second copy
FILTER = np.array([float(x) for x in SYM6.split()]) / np.sqrt(2)
BLIT, GEOMETRIC, COLOR, CUTOUT = Draws._fields[:3], Draws._fields[3:8], Draws._fields[8:13], Draws._fields[13:]
SHAPES = [(8, 8, 3), (9, 6, 1), (5, 7, 4)]
jitted = functools.partial(jax.jit, compiler_options=QUICK)
APPLY = jitted(apply)
DRAW = jitted(draw)


def keys_of(count, seed=0):
    return jax.random.split(jax.random.key(seed), count)


def images_of(shape, count=6, seed=0, dtype=np.float64):
    return np.random.default_rng(seed).uniform(-1, 1, (count, *shape)).astype(dtype)


def some_draws(count, only=Draws._fields, seed=0, p=1.0):
    """Draws of these kinds, and none of the others."""
    d = DRAW(keys_of(count, seed), p, p, p, p)
    return d._replace(**{name: jnp.zeros_like(x) for name, x in d._asdict().items() if name not in (*only, "centre")})


def one_of(draws, i):
    return {name: np.asarray(x[i], np.float64) for name, x in draws._asdict().items()}


def turned(by):
    return np.array([[np.cos(by), -np.sin(by), 0], [np.sin(by), np.cos(by), 0], [0, 0, 1]])


def moved_by(x, y):
    return np.array([[1, 0, x], [0, 1, y], [0, 0, 1.0]])


def place_map(d, height, width, blits_alone=False):
    """From a place in the result to that in the image, from their centres: the inverse of all changes."""
    turns = int(d["turns"]) if height == width else int(d["turns"]) // 2 * 2
    shift = np.round(d["shift"].astype(np.float64) * [width, height])
    forward = np.diag([1 - 2 * d["flip"], 1, 1])
    forward = turned(-np.pi / 2 * turns) @ forward
    forward = moved_by(*shift) @ forward
    if not blits_alone:
        forward = np.diag([2 ** d["scale"], 2 ** d["scale"], 1]) @ forward
        forward = turned(-d["turn_before"]) @ forward
        forward = np.diag([2 ** d["stretch"], 2 ** -d["stretch"], 1]) @ forward
        forward = turned(-d["turn_after"]) @ forward
        forward = moved_by(*(d["move"] * [width, height])) @ forward
    return np.linalg.inv(forward)


def taken(image, inverse, places_x, places_y, enlarged=False):
    """The image's values (of one channel) where the map takes a grid of places: explicitly extended by reflection."""
    height, width = image.shape
    x, y = np.meshgrid(places_x - (width - 1) / 2, places_y - (height - 1) / 2)
    x, y, _ = np.einsum("ij,jhw->ihw", inverse, np.stack([x, y, np.ones_like(x)]))
    x, y = x + (width - 1) / 2, y + (height - 1) / 2
    pad = int(max(-x.min(), -y.min(), x.max() - width, y.max() - height, 0)) + 8
    padded = np.pad(image, pad, mode="reflect")
    x, y = x + pad, y + pad
    if enlarged:
        for axis in (0, 1):
            padded = signal.upfirdn(2 * FILTER, padded, up=2, axis=axis)
            padded = np.take(padded, np.arange(5, padded.shape[axis]), axis=axis)
        x, y = 2 * x, 2 * y
    return ndimage.map_coordinates(padded, [y, x], order=1)


def placed(image, d):
    """An image [H, W, C] after its changes of place, by SciPy."""
    height, width, channels = image.shape
    geometric = any(np.any(d[name] != 0) for name in GEOMETRIC)
    inverse = place_map(d, height, width, not geometric)
    out = np.empty_like(image)
    for c in range(channels):
        if not geometric:
            out[..., c] = taken(image[..., c], inverse, np.arange(width), np.arange(height))
            continue
        grid = taken(
            image[..., c], inverse, (np.arange(2 * width + 12) - 6) / 2, (np.arange(2 * height + 12) - 6) / 2, True
        )
        for axis in (0, 1):  # each pixel is the mean of twelve around it, weighted by the filter
            grid = signal.correlate(grid, np.expand_dims(FILTER, 1 - axis), "valid")
            grid = np.take(grid, np.arange(1, grid.shape[axis] - 1 + 1, 2)[: image.shape[axis]], axis=axis)
        out[..., c] = grid
    return out


def colored(image, d):
    """An image [H, W, C] after its changes of colour: 4x4 matrices, one after the other."""
    channels = image.shape[2]
    axis = np.ones(3) / np.sqrt(3)
    matrix = np.eye(4)
    matrix[:3, 3] = d["brightness"]
    matrix = np.diag([*[2 ** d["contrast"]] * 3, 1]) @ matrix
    luma = np.eye(4)
    luma[:3, :3] -= 2 * np.outer(axis, axis) * d["luma_flip"]
    matrix = luma @ matrix
    if channels > 1:
        about = np.eye(4)
        cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
        about[:3, :3] += np.sin(d["hue"]) * cross + (1 - np.cos(d["hue"])) * cross @ cross  # Rodrigues
        matrix = about @ matrix
        saturation = np.eye(4)
        saturation[:3, :3] = np.outer(axis, axis) + 2 ** d["saturation"] * (np.eye(3) - np.outer(axis, axis))
        matrix = saturation @ matrix
    if channels == 1:
        return image * matrix[:3, :3].sum() / 3 + matrix[:3, 3].mean()
    rgb = image[..., :3] @ matrix[:3, :3].T + matrix[:3, 3]
    return np.concatenate([rgb, image[..., 3:]], axis=2)


def cut(image, d):
    if not d["hole"]:
        return image
    height, width, _ = image.shape
    image = image.copy()
    for y in range(height):
        for x in range(width):
            near = abs((x + 0.5) / width - d["centre"][0]) < 0.25 and abs((y + 0.5) / height - d["centre"][1]) < 0.25
            image[y, x] = 0 if near else image[y, x]
    return image


def expected(images, draws):
    return np.stack([
        cut(colored(placed(image, one_of(draws, i)), one_of(draws, i)), one_of(draws, i))
        for i, image in enumerate(images)
    ])  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(
    ("kinds", "p"),
    [(BLIT, 1), (GEOMETRIC, 1), (COLOR, 1), (CUTOUT, 1), (Draws._fields, 1), (Draws._fields, 0.3)],
    ids=["blit", "geometric", "color", "cutout", "all", "some"],
)
def test_images_are_what_numpy_and_scipy_make_of_the_draws(x64, shape, kinds, p):
    """With some, images that are resampled stand beside others that are not."""
    images, draws = images_of(shape, 16), some_draws(16, kinds, p=float(p))
    np.testing.assert_allclose(APPLY(images, draws), expected(images, draws), atol=1e-9)


@pytest.mark.parametrize("name", Draws._fields[:14])
def test_each_change_alone_is_what_numpy_and_scipy_make_of_it(x64, name):
    images, draws = images_of((8, 8, 3), 8), some_draws(8, (name,))
    got = APPLY(images, draws)
    np.testing.assert_allclose(got, expected(images, draws), atol=1e-9)
    drawn = np.any(np.asarray(getattr(draws, name)).reshape(8, -1) != 0, axis=1)
    changed = np.any(np.asarray(got) != images, axis=(1, 2, 3))
    np.testing.assert_array_equal(changed, drawn if name != "shift" else changed)
    assert changed.any()


def test_the_filter_reduces_what_it_enlarged():
    """The wavelet is orthogonal to its shifts by two: without a change of place, resampling changes nothing."""
    for by in range(0, 12, 2):
        assert abs(2 * np.sum(FILTER[by:] * FILTER[: 12 - by]) - (by == 0)) < 1e-9
    images = images_of((9, 6, 1), 2, dtype=np.float32)
    draws = some_draws(2, ())._replace(scale=jnp.full(2, 1e-12))
    np.testing.assert_allclose(APPLY(images, draws), images, atol=1e-6)


FREQUENCIES = {  # the share of draws that are not 0, of (blit, geometric, color, cutout) = (0.3, 0.4, 0.2, 0.5)
    "flip": 0.15, "turns": 0.3 * 3 / 4, "shift": 0.3, "scale": 0.4, "turn_before": 1 - 0.6**0.5, "stretch": 0.4,
    "turn_after": 1 - 0.6**0.5, "move": 0.4, "brightness": 0.2, "contrast": 0.2, "luma_flip": 0.1, "hue": 0.2,
    "saturation": 0.2, "hole": 0.5,
}  # fmt: skip
SPREADS = {  # the standard deviation of those
    "shift": 1 / 8 / 3**0.5, "scale": 0.2, "turn_before": np.pi / 3**0.5, "stretch": 0.2, "turn_after": np.pi / 3**0.5,
    "move": 0.125, "brightness": 0.2, "contrast": 0.5, "hue": np.pi / 3**0.5, "saturation": 1.0,
}  # fmt: skip


def test_how_often_and_how_far_by_a_hundred_thousand_draws():
    count = 100_000
    draws = DRAW(keys_of(count), 0.3, 0.4, 0.2, 0.5)
    done = {}
    for name, share in FREQUENCIES.items():
        values = np.asarray(getattr(draws, name)).reshape(count, -1)
        done[name] = np.any(values != 0, axis=1)
        assert abs(done[name].mean() - share) < 5 * np.sqrt(share * (1 - share) / count), name
        if name in SPREADS:
            np.testing.assert_allclose(values[done[name]].std(0), SPREADS[name], rtol=0.02, err_msg=name)
            assert np.abs(values[done[name]].mean(0)).max() < 5 * SPREADS[name] / np.sqrt(done[name].sum()), name
    assert np.bincount(np.asarray(draws.turns, int), minlength=4)[1:].std() < 5 * np.sqrt(count * 0.075)
    both = done["turn_before"] | done["turn_after"]
    assert abs(both.mean() - 0.4) < 5 * np.sqrt(0.24 / count)
    of_each = np.corrcoef(np.stack(list(done.values())))  # independent of each other
    assert np.abs(of_each - np.eye(len(of_each))).max() < 5 / np.sqrt(count)


def test_at_probability_0_images_stay_as_they_are_to_the_bit():
    images = images_of((8, 8, 3), 16, dtype=np.float32)
    transform = Augment(Linear(0.0, 1.0, 10), cutout=1.0)
    got = jax.jit(transform)(images, keys_of(16), jnp.int32(0))
    np.testing.assert_array_equal(got, images)
    assert np.any(jax.jit(transform)(images, keys_of(16), jnp.int32(10)) != images, axis=(1, 2, 3)).all()


def test_each_kind_has_its_share_of_p_and_gradients_flow_through_the_transform():
    images, cotangent, keys = *(images_of((4, 6, 3), 64, seed, np.float32) for seed in range(2)), keys_of(64)
    shares = {"blit": 0.3, "geometric": 0.5, "color": 0.7, "cutout": 0.2}

    @functools.partial(jitted, static_argnums=0)
    def by(p, memory):
        value, pull = jax.vjp(lambda x: Augment(p, **shares)(x, keys, jnp.int32(0), memory), images)
        return value, pull(cotangent)[0]

    @jitted
    def of_draws(d):
        value, pull = jax.vjp(lambda x: apply(x, d), images)
        return value, pull(cotangent)[0]

    want = of_draws(DRAW(keys, *(0.9 * share for share in shares.values())))
    for got in (by(Linear(0.9, 0.0, 10), None), by(None, {"augment_p": jnp.float32(0.9)})):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), got, want)


def test_an_image_is_by_its_own_key_and_depends_on_no_other():
    images, keys = images_of((9, 6, 3), 8, dtype=np.float32), keys_of(8)
    transform = jitted(Augment(0.7, cutout=1.0))
    whole = transform(images, keys, 0)
    np.testing.assert_allclose(transform(images[2:5], keys[2:5], 0), whole[2:5], atol=1e-6)
    assert mixing(lambda x: Augment(0.7, cutout=1.0)(x, keys, jnp.int32(0)), jnp.asarray(images)) is None


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES[:2], ids=str)
def test_derivatives_of_any_kind_are_those_of_a_linear_map(x64, shape):
    images, other, cotangent = (jnp.asarray(images_of(shape, 12, seed)) for seed in range(3))
    draws = some_draws(12, p=0.5)
    of_images = lambda x: apply(x, draws)  # noqa: E731

    @jitted
    def all_of(x, d, c):
        forward = jax.jvp(of_images, (x,), (d,))[1]
        back = jax.vjp(of_images, x)[1](c)[0]
        energy = lambda x: jnp.sum(of_images(x) ** 2) / 2  # noqa: E731
        hessian = jax.jvp(jax.grad(energy), (x,), (d,))[1]
        penalty = jax.grad(lambda x: jnp.sum(jax.grad(lambda x: jnp.sum(jnp.sin(of_images(x))))(x) ** 2))(x)
        return forward, back, hessian, penalty, of_images(x + d) - of_images(x), jax.vjp(of_images, x)[1](forward)[0]

    forward, back, hessian, penalty, difference, back_of_forward = all_of(images, other, cotangent)
    np.testing.assert_allclose(forward, difference, atol=1e-12)
    np.testing.assert_allclose(jnp.sum(forward * cotangent), jnp.sum(other * back), rtol=1e-10)
    np.testing.assert_allclose(hessian, back_of_forward, atol=1e-12)
    with jaxgan.convolutions.native():  # the same by JAX's own derivatives
        by_jax = jitted(lambda *x: all_of.__wrapped__(*x))(images, other, cotangent)
    for own, of_jax in zip((forward, back, hessian, penalty), by_jax, strict=False):
        np.testing.assert_allclose(own, of_jax, atol=1e-11)


def test_under_vmap_it_is_one_larger_batch():
    images, draws = images_of((6, 6, 3), 8, dtype=np.float32), some_draws(8)
    halves = jax.tree.map(lambda x: x.reshape(2, 4, *x.shape[1:]), (images, draws))
    np.testing.assert_allclose(jax.jit(jax.vmap(apply))(*halves).reshape(images.shape), APPLY(images, draws), atol=1e-6)
