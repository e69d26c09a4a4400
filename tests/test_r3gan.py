"""R3GAN's networks: their parameters counted by hand, their starts, and another implementation of them."""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from common import QUICK

from jaxgan.networks import Context, R3GANDisc, R3GANGen

pytestmark = pytest.mark.usefixtures("quick_programs")

Z = 64
CIFAR = (768,) * 4


def both(**settings):
    return R3GANGen(**settings), R3GANDisc(**settings)


def labels_of(net, b=2):
    return jnp.arange(b) % net.classes if net.classes else None


def shapes(**settings):
    """Of the images and the logits of two examples, and of both networks' variables."""
    gen, disc = both(**settings)
    labels = labels_of(gen)
    init = lambda net, x: jax.eval_shape(lambda x: net.init_with_output(jax.random.key(0), x, labels, Context()), x)  # noqa: E731
    images, of_gen = init(gen, jax.ShapeDtypeStruct((2, Z), jnp.float32))
    logits, of_disc = init(disc, images)
    return images.shape, logits.shape, of_gen, of_disc


def size(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def by_hand(widths, group_width=16, classes=0, channels=3):
    """The parameters of G and of D, as described."""

    def block(width):
        inside = 2 * width
        return (width * inside + inside) + (3 * 3 * group_width * inside + inside) + inside * width

    pairs = itertools.pairwise(widths)
    common = sum(2 * block(width) for width in widths) + sum(a * b for a, b in pairs if a != b) + channels * widths[-1]
    least, z_size = 4 * 4 * widths[0], 2 * Z if classes else Z
    disc = widths[0] ** 2 + classes * widths[0] if classes else widths[0]
    return common + least + z_size * widths[0] + classes * Z, common + least + disc


@pytest.mark.parametrize(
    ("settings", "pixels", "counts"),
    [
        ({}, 32, (20_732_160, 20_683_776)),
        ({"classes": 10}, 32, (20_781_952, 21_280_512)),
        ({"widths": (*CIFAR, 384)}, 64, (22_429_824, 22_381_440)),
        ({"widths": (*CIFAR, 384, 192)}, 128, (22_910_016, 22_861_632)),
        ({"widths": (*CIFAR, 384, 192, 96)}, 256, (23_057_952, 23_009_568)),
        ({"widths": (1536,) * 4, "group_width": 32, "classes": 1000}, 32, (82_914_304, 86_548_992)),
        ({"widths": (1536,) * 5, "group_width": 32, "classes": 1000}, 64, (103_570_432, 107_205_120)),
    ],
)
def test_parameters_and_sizes_as_published(settings, pixels, counts):
    images, logits, *variables = shapes(**settings)
    assert (images, logits) == ((2, pixels, pixels, 3), (2,))
    assert [set(v) for v in variables] == [{"params"}] * 2
    assert tuple(size(v) for v in variables) == counts == by_hand(**{"widths": CIFAR} | settings)


def test_any_channels_expansion_and_blocks():
    gen = R3GANGen(widths=(16, 8), group_width=4, channels=1, expansion=3, blocks=1)
    images, variables = jax.eval_shape(
        lambda: gen.init_with_output(jax.random.key(0), jnp.ones((2, 5)), None, Context())
    )
    assert images.shape == (2, 8, 8, 1)
    params = variables["params"]
    assert set(params) == {"basis", "Dense_0", "Stage_0", "Stage_1", "Conv_0", "Conv_1"}
    assert {name: layer["kernel"].shape for name, layer in params["Stage_1"].items()} == {
        "Conv_0": (1, 1, 8, 24),
        "Conv_1": (3, 3, 4, 24),
        "Conv_2": (1, 1, 24, 8),
    }


def test_a_width_that_is_no_multiple_of_the_groups():
    with pytest.raises(ValueError, match="40 channels inside of a block are not groups of group_width = 16"):
        jax.eval_shape(lambda: R3GANGen(widths=(20,)).init(jax.random.key(0), jnp.ones((1, 4)), None, Context()))


def test_the_starts():
    """Normal, of standard deviation gain / sqrt(fan-in); each block's last convolution and all biases at zero."""
    widths = (128, 64)
    gain = math.sqrt(2 / 1.04) * 4 ** (-1 / 4)  # 4 blocks in each network
    stage = lambda width: {  # noqa: E731
        0: gain / math.sqrt(width),
        1: gain / math.sqrt(9 * 16),
        2: 0,
        3: gain / math.sqrt(width),
        4: gain / math.sqrt(9 * 16),
        5: 0,
    }
    inside = lambda number, width: {("Stage_" + number, f"Conv_{i}", "kernel"): s for i, s in stage(width).items()}  # noqa: E731
    expected_gen = {
        ("basis",): 1,
        ("Dense_0", "kernel"): 1 / math.sqrt(2 * 64),
        ("Embed_0", "embedding"): 1 / math.sqrt(1000),
        ("Conv_0", "kernel"): 1 / math.sqrt(128),
        ("Conv_1", "kernel"): 1 / math.sqrt(64),
        **inside("0", 128),
        **inside("1", 64),
    }
    expected_disc = {
        ("basis",): 1 / 4,
        ("Dense_0", "kernel"): 1 / math.sqrt(128),
        ("Embed_0", "embedding"): 1 / math.sqrt(128) / math.sqrt(1000),
        ("Conv_0", "kernel"): 1 / math.sqrt(3),
        ("Conv_1", "kernel"): 1 / math.sqrt(64),
        **inside("0", 64),
        **inside("1", 128),
    }
    inputs = jnp.zeros((2, Z)), jnp.zeros((2, 8, 8, 3))
    for net, x, expected in zip(both(widths=widths, classes=1000), inputs, (expected_gen, expected_disc), strict=True):
        init = jax.jit(net.init, static_argnums=3, compiler_options=QUICK)
        params = init(jax.random.key(0), x, labels_of(net), Context())["params"]
        leaves = {
            tuple(key.key for key in path): np.asarray(leaf)
            for path, leaf in jax.tree_util.tree_leaves_with_path(params)
        }
        biases = {path for path in leaves if path[-1] == "bias"}
        assert len(biases) == 8
        assert not any(leaves.pop(path).any() for path in biases)
        assert set(leaves) == set(expected)
        for path, leaf in leaves.items():
            rough = 5 / math.sqrt(2 * leaf.size)  # five standard deviations of a standard deviation
            np.testing.assert_allclose(leaf.std(), expected[path], rtol=rough, err_msg=str(path))
            np.testing.assert_allclose(leaf.mean(), 0, atol=5 * expected[path] / math.sqrt(leaf.size))


def randomised(net, x, seed):
    """Parameters of which none is zero, as a block's last convolution is at the start."""
    labels = labels_of(net, len(x))
    tree = jax.eval_shape(lambda: net.init(jax.random.key(0), x, labels, Context()))
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: rng.normal(size=leaf.shape) / math.sqrt(leaf.size) ** 0.5, tree)


@pytest.mark.parametrize("classes", [0, 3])
def test_against_pytorch(classes, x64):
    """Both networks, and the gradient of D's logits in the images, in float64."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install torch==2.13.0")
    import torch_modern
    from torch_layout import nchw

    from jaxgan.benchmark.torch_r3gan import Discriminator, Generator

    settings = {"widths": (16, 24, 8), "group_width": 8, "classes": classes}
    gen, disc = both(**settings)
    rng = np.random.default_rng(0)
    z, images = rng.normal(size=(4, Z)), rng.normal(size=(4, 16, 16, 3))
    of_gen, of_disc = randomised(gen, z, 1), randomised(disc, images, 2)
    labels = labels_of(gen, 4)

    @functools.partial(jax.jit, compiler_options=QUICK)
    def ours(of_gen, of_disc, z, images):
        logits, pullback = jax.vjp(lambda images: disc.apply(of_disc, images, labels, Context()), images)
        return gen.apply(of_gen, z, labels, Context()), logits, pullback(jnp.ones(4))[0]

    their_gen, their_disc = Generator(**settings), Discriminator(**settings)
    for net, variables in ((their_gen, of_gen), (their_disc, of_disc)):
        given = torch_modern.load(net, variables["params"])
        assert sum(value.size for value in given.values()) == size(variables)
    their_labels = torch.from_numpy(np.array(labels)) if classes else None
    x = nchw(images).requires_grad_()
    logits = their_disc(x, their_labels)
    gradient = torch.autograd.grad(logits.sum(), x)[0]
    theirs = (
        np.moveaxis(their_gen(torch.from_numpy(z), their_labels).detach().numpy(), 1, -1),
        logits.detach().numpy(),
        np.moveaxis(gradient.numpy(), 1, -1),
    )
    for got, expected in zip(ours(of_gen, of_disc, z, images), theirs, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-9 * np.abs(expected).max())
