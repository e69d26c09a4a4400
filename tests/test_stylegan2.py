"""StyleGAN2's parameters, counted by hand; mixing, and noise."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgan import recipes
from jaxgan.networks import Context, StyleGAN2Gen

Z = W = 512


def size(net, x):
    variables = jax.eval_shape(lambda x: net.init(jax.random.key(0), x, None, Context()), x)
    return sum(leaf.size for leaf in jax.tree.leaves(variables))


def modulated(features, of, kernel):
    """The kernel and the affine map from w to a style, without the bias that stands beside it."""
    return kernel**2 * of * features + W * of + of


def of_generator(stages):
    """Two layers of the mapping, the constant, and by stage its convolutions with noise and bias, and its colours."""
    total, before = 2 * (Z * W + W) + 4 * 4 * stages[0], stages[0]
    for i, width in enumerate(stages):
        first = modulated(width, before, 3) + 1 + width if i else 0
        total += first + modulated(width, width, 3) + 1 + width + modulated(3, width, 1) + 3
        before = width
    return total


def of_discriminator(stages):
    """From colours; by stage down two convolutions and the skip; the last, with the deviation's channel; two layers."""
    total, first = 3 * stages[-1] + stages[-1], stages[0]
    for width, narrower in zip(stages[:0:-1], stages[-2::-1], strict=True):
        total += 9 * width * width + width + 9 * width * narrower + narrower + width * narrower
    return total + 9 * (first + 1) * first + first + 4 * 4 * first * first + first + first + 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "stages", "counts"),
    [
        ("stylegan2", (512, 512, 512, 512, 256, 128, 64), (23_191_522, 24_001_089)),
        ("stylegan2_ffhq64", (512, 512, 512, 512, 256), (22_243_608, 23_407_361)),
    ],
)
def test_parameters(name, stages, counts):
    recipe = recipes.get(name)
    pixels = 4 << len(stages) - 1
    got = size(recipe.gen, jnp.zeros((1, Z))), size(recipe.disc, jnp.zeros((1, pixels, pixels, 3)))
    assert got == (of_generator(stages), of_discriminator(stages))
    assert got == counts


@pytest.mark.nightly
def test_nine_of_ten_images_are_mixed_in_training_from_any_layer_on():
    net, count = StyleGAN2Gen((4, 4, 4), w_size=3), 4_000
    z = jax.random.normal(jax.random.key(1), (count, 5))
    variables = net.init(jax.random.key(0), z[:1], None, Context())
    keys = jax.vmap(lambda i: jax.random.fold_in(jax.random.key(2), i))(jnp.arange(count))
    plain = np.asarray(net.apply(variables, z, None, Context(), method="styles"))
    assert (plain == plain[:, :1]).all()
    mixed = np.asarray(net.apply(variables, z, None, Context(train=True, keys=keys), method="styles"))
    own = (mixed == plain).all(2)  # which layers have the image's own w
    first = own.sum(1)  # the layers up to the one from which the other's w is
    assert (own == (np.arange(6) < first[:, None])).all()
    shares = np.bincount(first, minlength=7) / count
    assert shares[0] == 0
    np.testing.assert_allclose(shares[1:], [0.18] * 5 + [0.1], atol=0.025)


@pytest.mark.nightly
def test_noise_is_the_images_own_in_training_and_the_same_for_all_in_sampling():
    net = StyleGAN2Gen((4, 4), w_size=3)
    w = jnp.ones((3, 4, 3))
    variables = net.init(jax.random.key(0), jnp.ones((1, 5)), None, Context())
    loud = jax.tree_util.tree_map_with_path(lambda path, x: x + ("noise" in jax.tree_util.keystr(path)), variables)
    keys = jax.random.split(jax.random.key(1), 3)
    made = lambda variables, **of: np.asarray(net.apply(variables, w, Context(**of), method="synthesize"))  # noqa: E731
    np.testing.assert_allclose(made(loud)[1:], made(loud)[:2], rtol=1e-5)
    assert np.abs(made(loud) - made(variables)).max() > 0.1
    one, other, _ = made(loud, keys=keys)
    assert np.abs(one - other).max() > 0.1
    np.testing.assert_allclose(made(loud, keys=keys[::-1])[2], one, rtol=1e-5, atol=1e-6)
