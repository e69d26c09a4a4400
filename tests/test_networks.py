"""Each network against its description: counted by hand, and computed again with XLA's plain operations."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from common import QUICK
from jax import lax

from jaxgan import networks, recipes
from jaxgan.gan import image_shape
from jaxgan.networks import Context

# Parameters, layer by layer as described: kernel + bias, and 2 for each channel that is batch-normalised.
COUNTS = {
    "digits": (
        64 * 1024 + 2 * 64 + 3 * 3 * 64 * 64 + 2 * 64 + 3 * 3 * 64 * 128 + 2 * 32 + (3 * 3 * 32 * 1 + 1),
        (3 * 3 * 1 * 32 + 32) + (3 * 3 * 32 * 64) + 2 * 64 + (3 * 3 * 64 * 128) + 2 * 128 + (2 * 2 * 128 * 1 + 1),
        (8, 8, 1),
    ),
    "keras_dcgan": (
        (4 * 4 * 100 * 192 + 192 + 2 * 192)
        + (4 * 4 * 192 * 96 + 96 + 2 * 96)
        + (4 * 4 * 96 * 48 + 48 + 2 * 48)
        + (4 * 4 * 48 * 24 + 24 + 2 * 24)
        + (4 * 4 * 24 * 3 + 3),
        (4 * 4 * 3 * 24 + 24)
        + (4 * 4 * (24 + 1) * 48 + 48 + 2 * 48)  # diff has appended a channel
        + (4 * 4 * (48 + 1) * 96 + 96 + 2 * 96)
        + (4 * 4 * (96 + 1) * 192 + 192 + 2 * 192)
        + (2 * 2 * (192 + 1) * 1 + 1),
        (32, 32, 3),
    ),
    "keras_mnist": (
        (100 * 12544 + 12544 + 2 * 12544)
        + (5 * 5 * 256 * 128 + 128 + 2 * 128)
        + (5 * 5 * 128 * 64 + 64 + 2 * 64)
        + (5 * 5 * 64 * 32 + 32 + 2 * 32)
        + (5 * 5 * 32 * 1 + 1),
        (5 * 5 * 1 * 64 + 64)
        + (5 * 5 * 64 * 128 + 128)
        + (5 * 5 * 128 * 256 + 256)
        + (5 * 5 * 256 * 512 + 512)
        + (4 * 4 * 512 * 1 + 1),
        (28, 28, 1),
    ),
    "canton_lsgan": (
        (4 * 4 * 100 * 256 + 2 * 256)
        + (4 * 4 * 256 * 128 + 2 * 128)
        + (4 * 4 * 128 * 64 + 2 * 64)
        + (4 * 4 * 64 * 32 + 2 * 32)
        + (4 * 4 * 32 * 3 + 3),
        (4 * 4 * 3 * 32)
        + (4 * 4 * (32 + 1) * 64 + 2 * 64)  # similarity has appended a channel
        + (4 * 4 * (64 + 1) * 128 + 2 * 128)
        + (4 * 4 * (128 + 1) * 256 + 2 * 256)
        + (2 * 2 * (256 + 1) * 1 + 1),
        (32, 32, 3),
    ),
    "tf2_gan": ((100 * 128 + 128) + (128 * 784 + 784), (784 * 128 + 128) + (128 * 1 + 1), (28, 28, 1)),
    "tf2_dcgan": (
        100 * 12544 + 2 * 12544 + 5 * 5 * 256 * 128 + 2 * 128 + 5 * 5 * 128 * 64 + 2 * 64 + 5 * 5 * 64 * 1,
        (3 * 3 * 1 * 32 + 32) + (3 * 3 * 32 * 64 + 64) + 2 * 64 + (3 * 3 * 64 * 128 + 128) + 2 * 128 + (2048 + 1),
        (28, 28, 1),
    ),
    "gan_elements": (
        (64 * 16384 + 16384)
        + (3 * 3 * 256 * 128 + 128 + 2 * 128)
        + (3 * 3 * 128 * 64 + 64 + 2 * 64)
        + (3 * 3 * 64 * 1 + 1),
        (3 * 3 * 1 * 64 + 64) + (3 * 3 * 64 * 128 + 128) + (3 * 3 * 128 * 256 + 256) + (8 * 8 * 256 * 1 + 1),
        (32, 32, 1),
    ),
}


@pytest.mark.parametrize("name", COUNTS)
def test_parameter_counts_and_shapes(name):
    gan = recipes.get(name).build()
    gen_count, disc_count, shape = COUNTS[name]
    z, images = jnp.zeros((2, gan.z_size)), jnp.zeros((2, *shape))
    made = jax.eval_shape(lambda key: gan.gen.init_with_output(key, z, None, Context()), jax.random.key(0))
    judged = jax.eval_shape(lambda key: gan.disc.init_with_output(key, images, None, Context()), jax.random.key(0))
    count = lambda variables: sum(x.size for x in jax.tree.leaves(variables["params"]))  # noqa: E731
    counted = count(made[1]), count(judged[1])
    print(f"{name}: G {counted[0]:,} parameters -> {made[0].shape[1:]}, D {counted[1]:,} -> {judged[0].shape[1:]}")
    assert counted == (gen_count, disc_count)
    assert made[0].shape == (2, *shape)
    assert judged[0].shape == (2,)
    assert image_shape(gan) == shape


def normalise(x, scale, bias):
    axes = tuple(range(x.ndim - 1))
    mean, var = x.mean(axes), x.var(axes)
    last = (1,) * (x.ndim - 1) + (-1,)
    x = (x - mean.reshape(last)) / jnp.sqrt(var.reshape(last) + 1e-3)
    return x * scale.reshape(last) + bias.reshape(last), mean, var


def lrelu(x, slope):
    return jnp.where(x > 0, x, slope * x)


def randomised(module, x, seed, labels=None):
    """Variables with no zero bias and no unit scale, so that leaving one out is seen."""
    shapes = jax.eval_shape(lambda: module.init(jax.random.key(0), x, labels, Context()))
    rng = np.random.default_rng(seed)
    fill = {"kernel": lambda s: rng.normal(size=s) * 0.05, "var": lambda s: 1 + rng.random(s), "scale": rng.random}
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: jnp.asarray(fill.get(path[-1].key, lambda s: rng.normal(size=s))(leaf.shape)), shapes
    )


@functools.partial(jax.jit, static_argnums=0, compiler_options=QUICK)
def train_mode(module, variables, x):
    return module.apply(variables, x, None, Context(train=True), mutable=["batch_stats"])


def test_tf2_dcgan_gen_is_as_described(x64):
    z = jax.random.normal(jax.random.key(1), (6, 100))
    variables = randomised(networks.TF2DCGANGen(), z, 0)
    got, updated = train_mode(networks.TF2DCGANGen(), variables, z)
    p, old = variables["params"], variables["batch_stats"]
    moments = []
    x = z @ p["Dense_0"]["kernel"]
    for i, stride in enumerate([None, 1, 2, 2]):
        if stride:
            x = lax.conv_transpose(x, p[f"ConvTranspose_{i - 1}"]["kernel"], (stride, stride), "SAME")
        if i < 3:
            x, mean, var = normalise(x, **p[f"BatchNorm_{i}"])
            moments.append((mean, var))
            x = lrelu(x, 0.3).reshape(6, 7, 7, 256) if i == 0 else lrelu(x, 0.3)
    np.testing.assert_allclose(got, jnp.tanh(x), rtol=1e-8, atol=1e-10)
    for i, (mean, var) in enumerate(moments):
        for name, value in (("mean", mean), ("var", var)):
            expected = 0.99 * old[f"BatchNorm_{i}"][name] + 0.01 * value
            np.testing.assert_allclose(updated["batch_stats"][f"BatchNorm_{i}"][name], expected, rtol=1e-6)


def test_tf2_dcgan_disc_is_as_described(x64):
    images = jax.random.normal(jax.random.key(1), (6, 28, 28, 1))
    variables = randomised(networks.TF2DCGANDisc(), images, 0)
    got, _ = train_mode(networks.TF2DCGANDisc(), variables, images)
    p, x = variables["params"], images
    for i in range(3):
        layer = p[f"Conv_{i}"]
        x = lax.conv_general_dilated(x, layer["kernel"], (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        x = x + layer["bias"].reshape(1, 1, 1, -1)
        if i > 0:
            x, _, _ = normalise(x, **p[f"BatchNorm_{i - 1}"])
        x = lrelu(x, 0.01)
    expected = x.reshape(6, -1) @ p["Dense_0"]["kernel"][:, 0] + p["Dense_0"]["bias"]
    np.testing.assert_allclose(got, expected, rtol=1e-8, atol=1e-10)


def test_the_subpixel_generator_of_canton_lsgan():
    """Every enlarging convolution has factor^2 times the kernels, and the size of the images is the same."""
    z = jnp.zeros((2, 100))
    images, variables = jax.eval_shape(
        lambda key: networks.CantonLSGANGen(subpixel=True).init_with_output(key, z, None, Context()), jax.random.key(0)
    )
    assert images.shape == (2, 32, 32, 3)
    kernels = 16 * (16 * 100 * 256 + 4 * 256 * 128 + 4 * 128 * 64 + 4 * 64 * 32 + 32 * 3)
    assert sum(x.size for x in jax.tree.leaves(variables["params"])) == kernels + 2 * (256 + 128 + 64 + 32) + 3


@pytest.mark.parametrize(
    ("gen", "size"),
    [
        (networks.CantonLSGANGen(), (64, 96)),
        (networks.CantonLSGANGen(subpixel=True), (64, 96)),
        (networks.KerasDCGANGen(), (40, 48)),
    ],
)
def test_a_grid_of_latents_makes_one_patch_whose_pixels_see_their_own_latents(gen, size):
    z = jax.random.normal(jax.random.key(0), (1, 2, 3, 100))
    variables = randomised(gen, z, 1)
    make = jax.jit(lambda z: gen.apply(variables, z, None, Context()), compiler_options=QUICK)
    patch = np.asarray(make(z))
    assert patch.shape == (1, *size, 3)
    changed = np.abs(np.asarray(make(z + np.eye(1, 6).reshape(1, 2, 3, 1))) - patch).max((0, 3)) > 1e-7
    assert changed[:8, :8].all()
    assert not changed[:, -4:].any()  # far from the first latent


def test_the_conditional_digits_embed_their_labels(x64):
    """G has the label's embedding beside z; D adds its product with the last features (Miyato and Koyama 2018)."""
    labels = jnp.array([3, 0, 9, 3])
    z, images = (jax.random.normal(jax.random.key(i), shape) for i, shape in enumerate([(4, 64), (4, 8, 8, 1)]))
    for plain, conditional, x in (
        (networks.DigitsGen(), networks.DigitsGen(classes=10), z),
        (networks.DigitsDisc(), networks.DigitsDisc(classes=10), images),
    ):
        variables = randomised(conditional, x, 2, labels)
        table = variables["params"]["Embed_0"]["embedding"]
        rest = {"params": {name: value for name, value in variables["params"].items() if name != "Embed_0"}}
        rest["batch_stats"] = variables["batch_stats"]

        @functools.partial(jax.jit, compiler_options=QUICK)
        def both(variables, rest, x, plain=plain, conditional=conditional, table=table):
            got = conditional.apply(variables, x, labels, Context())
            if isinstance(plain, networks.DigitsGen):
                return got, plain.apply(rest, jnp.concatenate([z, table[labels]], axis=-1), None, Context())
            want, seen = plain.apply(rest, x, None, Context(), capture_intermediates=True)
            features = seen["intermediates"]["BatchNorm_1"]["__call__"][0].reshape(4, -1)
            return got, want + jnp.sum(table[labels] * lrelu(features, 0.2), axis=-1)

        np.testing.assert_allclose(*both(variables, rest, x), rtol=1e-9, atol=1e-12)


def test_the_dense_digits_are_as_described(x64):
    """Two hidden layers in each; the label's embedding beside z, and its product with D's last features."""
    labels = jnp.array([3, 0, 9, 3])
    z, images = (jax.random.normal(jax.random.key(i), shape) for i, shape in enumerate([(4, 64), (4, 8, 8, 1)]))
    gen, disc = networks.DenseDigitsGen(classes=10, width=30), networks.DenseDigitsDisc(classes=10, width=20)
    of_gen, of_disc = randomised(gen, z, 0, labels)["params"], randomised(disc, images, 1, labels)["params"]
    layer = lambda p, i, x: x @ p[f"Dense_{i}"]["kernel"] + p[f"Dense_{i}"]["bias"][None]  # noqa: E731

    x = jnp.concatenate([z, of_gen["Embed_0"]["embedding"][labels]], axis=-1)
    x = layer(of_gen, 2, jax.nn.relu(layer(of_gen, 1, jax.nn.relu(layer(of_gen, 0, x)))))
    made = gen.apply({"params": of_gen}, z, labels, Context())
    np.testing.assert_allclose(made, jnp.tanh(x).reshape(4, 8, 8, 1), rtol=1e-9, atol=1e-12)

    x = lrelu(layer(of_disc, 1, lrelu(layer(of_disc, 0, images.reshape(4, 64)), 0.2)), 0.2)
    want = layer(of_disc, 2, x)[:, 0] + jnp.sum(of_disc["Embed_0"]["embedding"][labels] * x, axis=-1)
    judged = disc.apply({"params": of_disc}, images, labels, Context(train=True))
    np.testing.assert_allclose(judged, want, rtol=1e-9, atol=1e-12)

    plain = jax.eval_shape(lambda: networks.DenseDigitsGen().init_with_output(jax.random.key(0), z, None, Context()))
    assert plain[0].shape == (4, 8, 8, 1)
    assert "Embed_0" not in plain[1]["params"]
