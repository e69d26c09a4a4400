"""Each network against its description: counted by hand, in PyTorch, and written out."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from common import QUICK

from jaxgan import networks, recipes
from jaxgan.gan import image_shape
from jaxgan.networks import Context

pytestmark = pytest.mark.usefixtures("quick_programs")

# Parameters of G and D, counted by hand layer by layer as described, and the shape of images.
COUNTS = {
    "digits": (176_737, 93_377, (8, 8, 1)),
    "keras_dcgan": (696_507, 395_405, (32, 32, 3)),
    "keras_mnist": (2_368_705, 4_311_553, (28, 28, 1)),
    "canton_lsgan": (1_100_227, 698_757, (32, 32, 3)),
    "tf2_gan": (114_064, 100_609, (28, 28, 1)),
    "tf2_dcgan": (2_305_472, 95_105, (28, 28, 1)),
    "gan_elements": (1_434_753, 386_049, (32, 32, 1)),
}


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


@pytest.mark.parametrize("name", COUNTS)
def test_both_networks_are_pytorchs(name, x64):
    """Their shapes, each layer's parameters, outputs in training mode but for dropout, and running means after it."""
    gan = recipes.get(name).build()
    *counts, shape = COUNTS[name]
    assert image_shape(gan) == shape
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(6, gan.z_size)), rng.normal(size=(6, *shape))
    all_variables = [randomised(net, x, 1) for net, x in zip((gan.gen, gan.disc), inputs, strict=True)]
    assert [sum(x.size for x in jax.tree.leaves(variables["params"])) for variables in all_variables] == counts

    torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install torch==2.13.0")
    import torch_layout

    from jaxgan.benchmark.torch_networks import networks as torch_networks

    nets = torch_networks(name, gan.z_size, exact=True)
    for net, theirs, x, variables in zip((gan.gen, gan.disc), nets, inputs, all_variables, strict=True):
        got, updated = train_mode(net, variables, x)
        params = variables["params"]
        if name == "digits" and net is gan.gen:  # PyTorch's channels before they are shuffled into space
            kernel = params["Conv_1"]["kernel"]
            turned = kernel.reshape(3, 3, 64, 4, 32).swapaxes(3, 4).reshape(kernel.shape)
            params = params | {"Conv_1": {"kernel": turned}}
        torch_layout.load(params, theirs.double())
        norms = [layer for layer in theirs if isinstance(layer, torch_layout.NORMS)]
        for layer in theirs:
            if isinstance(layer, torch.nn.Dropout):
                layer.p = 0
        for i, layer in enumerate(norms):
            layer.running_mean = torch.from_numpy(np.array(variables["batch_stats"][f"BatchNorm_{i}"]["mean"]))
        want = theirs(torch.from_numpy(x) if x.ndim == 2 else torch_layout.nchw(x)).detach().numpy()
        np.testing.assert_allclose(got, np.moveaxis(want, 1, -1) if want.ndim == 4 else want, rtol=1e-8, atol=1e-10)
        for i, layer in enumerate(norms):
            mean = updated["batch_stats"][f"BatchNorm_{i}"]["mean"]
            np.testing.assert_allclose(mean, layer.running_mean, rtol=1e-6, atol=1e-9)


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
