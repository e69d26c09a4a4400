"""Whether a function of a batch goes example by example: by its program, against what its numbers do."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgan import recipes, transforms
from jaxgan.accumulation import disc_mixing
from jaxgan.augmentation import Augment
from jaxgan.convolutions import conv, conv_transpose, upsample_conv
from jaxgan.networks.layers import dropout
from jaxgan.networks.minibatch_features import append_diff, append_similarity
from jaxgan.per_example import mixing

pytestmark = pytest.mark.usefixtures("quick_programs")

B = 4
IMAGES = jnp.asarray(np.random.default_rng(0).normal(size=(B, 4, 4, 2)), jnp.float32)
KEYS = jax.random.split(jax.random.key(0), B)
NUMBERS = jnp.arange(B)
KERNEL = jnp.asarray(np.random.default_rng(1).normal(size=(3, 3, 2, 2)), jnp.float32)

ALONE = {
    "reshape": lambda x: x.reshape(B, -1),
    "transpose and back": lambda x: x.transpose(1, 2, 0, 3).mean(0).swapaxes(0, 1),
    "flip": lambda x: x[:, :, ::-1],
    "rows of all": lambda x: x[:, np.array([2, 0, 1])],
    "a part": lambda x: jnp.pad(x[:, 1:3], ((0, 0), (1, 1), (0, 0), (0, 0))),
    "roll of one's own": lambda x: jax.vmap(lambda image, n: jnp.roll(image, n, axis=0))(x, NUMBERS),
    "a place of one's own": lambda x: jax.vmap(lambda i, n: jax.lax.dynamic_slice(i, (n % 2, 0, 0), (3, 4, 2)))(
        x, NUMBERS
    ),
    "embedding": lambda x: jnp.ones((7, 3))[(x.sum((1, 2, 3)) > 0).astype(int)],
    "product": lambda x: x.reshape(B, -1) @ jnp.ones((32, 3)) + jnp.einsum("kc,bhwc->bk", jnp.ones((3, 2)), x),
    "product of two": lambda x: jnp.einsum("bhwc,bhwd->bcd", x, x**2),
    "norm": lambda x: x / jnp.sqrt(jnp.sum(x**2, axis=(1, 2, 3), keepdims=True)),
    "softmax": lambda x: jax.nn.softmax(x, axis=-1),
    "sort": lambda x: jnp.sort(x, axis=1).argmax(-1).astype(float) + jnp.cumsum(x, axis=2)[..., 0],
    "split": lambda x: jnp.stack(jnp.split(jnp.concatenate([x, 2 * x], -1), 4, axis=-1), axis=1),
    "columns one by one": lambda x: jnp.stack(jnp.unstack(x, axis=1)[::-1], axis=1),
    "twice": lambda x: jnp.tile(x, (1, 2, 1, 1)),
    "largest": lambda x: jax.lax.top_k(jnp.log2(x**2), 2)[0],
    "map": lambda x: jax.lax.map(lambda image: image.sum(0), x),
    "cond": lambda x: jax.lax.cond(KERNEL.sum() > 0, lambda: 2 * x, lambda: x),
    "checkpoint": jax.checkpoint(lambda x: jax.nn.gelu(x)),
    "pooling": lambda x: jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID"),
    "convolutions": lambda x: conv(x, KERNEL, 2) + conv(x, KERNEL[..., :1, :], 2, groups=2),
    "transposed": lambda x: conv_transpose(x, KERNEL, 2) + upsample_conv(x, KERNEL, 2),
    "dropout": lambda x: dropout(x, 0.5, KEYS, 1),
    "a gradient": jax.grad(lambda x: jnp.sum(jnp.tanh(conv(x, KERNEL)) ** 2)),
    "of no image": lambda x: jnp.ones((B, 3)),
}  # fmt: skip
MIXED = {
    "roll": lambda x: jnp.roll(x, 1, axis=0),
    "others by number": lambda x: x[np.array([1, 0, 3, 2])],
    "reverse": lambda x: x[::-1],
    "mean": lambda x: x - x.mean(0, keepdims=True),
    "rows one by one": lambda x: jnp.stack(jnp.unstack(x, axis=0)[::-1], axis=0),
    "all twice": lambda x: jnp.tile(x, (2, 1, 1, 1))[::2],
    "maximum": lambda x: x / jnp.max(jnp.abs(x)),
    "similarity": lambda x: x.reshape(B, -1) @ x.reshape(B, -1).T,
    "one for all": lambda x: x * x[:1],
    "sort": lambda x: jnp.sort(x, axis=0),
    "sum so far": lambda x: jnp.cumsum(x, axis=0),
    "as rows of a map": lambda x: jax.lax.conv_general_dilated(
        x, jnp.ones((3, 4, 2, 2)), (1, 1), "SAME", dimension_numbers=("HNWC", "HWIO", "HNWC")
    ),
    "append_diff": append_diff,
    "append_similarity": append_similarity,
    "shuffle": lambda x: jax.random.permutation(jax.random.key(0), x, axis=0),
}  # fmt: skip
UNKNOWN = {
    "carried": lambda x: jax.lax.scan(lambda total, row: (total + row, total), jnp.zeros(x.shape[1:]), x)[1],
    "groups": lambda x: jnp.repeat(x.reshape(2, 2, 4, 4, 2).mean(0), 2, axis=0),
    "a loop": lambda x: jax.lax.while_loop(lambda y: jnp.all(y < 1), lambda y: y + 1, x),
}


def touched(function):
    """Which rows of the result change with each row of the images: [B, B], the second the result's."""
    of = lambda x: np.asarray(function(x)).reshape(B, -1)  # noqa: E731
    plain = of(IMAGES)
    return np.array([(of(IMAGES.at[i].multiply(-3.7)) != plain).any(1) for i in range(B)])


@pytest.mark.parametrize("name", ALONE)
def test_what_goes_example_by_example_is_known_to(name):
    assert mixing(ALONE[name], IMAGES) is None
    assert not touched(ALONE[name])[~np.eye(B, dtype=bool)].any()


@pytest.mark.parametrize("name", MIXED)
def test_what_brings_examples_together_is_named(name):
    found = mixing(MIXED[name], IMAGES)
    assert found.certain
    assert found.where
    assert touched(MIXED[name])[~np.eye(B, dtype=bool)].any()


@pytest.mark.parametrize("name", UNKNOWN)
def test_what_is_not_known_is_not_trusted(name):
    assert not mixing(UNKNOWN[name], IMAGES).certain


def test_the_place_is_that_in_the_users_file():
    assert "test_per_example.py" in mixing(MIXED["mean"], IMAGES).where


@pytest.mark.parametrize(
    "transform", [*transforms.DIFF_AUGMENT, Augment(0.5), transforms.InstanceNoise(0.1), transforms.RandomFlip()]
)
def test_the_packages_transforms_go_image_by_image(transform):
    assert mixing(transform, IMAGES, KEYS, jnp.int32(0)) is None


def test_which_discriminators_judge_each_image_alone():
    """Batch normalisation looks across the batch in training alone; minibatch features always do."""
    expected = {
        "digits": (True, False),
        "digits_conditional": (True, True),
        "keras_dcgan": (False, False),
        "canton_lsgan": (False, False),
        "keras_mnist": (True, True),
        "sngan_small": (True, True),
        "r3gan_small_conditional": (True, True),
    }
    gans = {name: recipes.get(name).build() for name in expected}
    found = {name: tuple(disc_mixing(gan, train) is None for train in (False, True)) for name, gan in gans.items()}
    assert found == expected
    traced = jax.jit(lambda x: x if disc_mixing(gans["digits_conditional"], train=True) is None else -x)
    assert traced(2.0) == 2.0  # what is being traced does not matter
