"""Grouped convolutions against XLA's own, and how many convolutions their programs hold."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from common import QUICK
from jax import export, lax

from experiments.bench import convolutions as script
from jaxgan import convolutions, recipes
from jaxgan.networks import R3GANDisc, R3GANGen, layers

NHWC = ("NHWC", "HWIO", "NHWC")


def xla(x, kernel, stride, padding, groups):
    return lax.conv_general_dilated(
        x, kernel, (stride, stride), padding, dimension_numbers=NHWC, feature_group_count=groups
    )


@functools.partial(jax.jit, static_argnums=(0, 3, 4, 5), compiler_options=QUICK)
def in_all_orders(function, x, kernel, *settings):
    """The value, both gradients, and those of the squared norm of both, as penalties on gradients have it."""
    apply = lambda x, kernel: function(x, kernel, *settings)  # noqa: E731

    def penalty(x, kernel):
        gradients = jax.grad(lambda x, kernel: jnp.tanh(0.1 * apply(x, kernel)).sum(), (0, 1))(x, kernel)
        return sum((gradient**2).sum() for gradient in gradients)

    y, pullback = jax.vjp(apply, x, kernel)
    return y, pullback(jnp.cos(y)), jax.grad(penalty, (0, 1))(x, kernel)


# groups, channels and features of each, map, kernel, stride, padding
CASES = [
    (2, 3, 2, 5, 3, 1, "SAME"),
    (4, 2, 2, 4, 4, 1, "VALID"),
    (3, 1, 2, 6, 4, 2, "SAME"),
    (5, 1, 1, 4, 4, 1, "VALID"),
    (2, 2, 3, 7, 5, 2, "VALID"),
    (2, 4, 4, 3, 1, 1, "SAME"),
    (2, 2, 2, 5, 2, 3, "SAME"),
    (2, 16, 16, 4, 3, 1, "SAME"),
]


@pytest.mark.parametrize(
    ("groups", "c", "features", "size", "k", "stride", "padding"),
    [*CASES[:2], *(pytest.param(*case, marks=pytest.mark.slow) for case in CASES[2:])],
)
def test_against_xla_s_own_to_second_order(groups, c, features, size, k, stride, padding, x64):
    rng = np.random.default_rng(0)
    x, kernel = rng.normal(size=(2, size, size + 1, groups * c)), rng.normal(size=(k, k, c, groups * features))
    got = in_all_orders(convolutions.conv, x, kernel, stride, padding, groups)
    expected = in_all_orders(xla, x, kernel, stride, padding, groups)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-11), got, expected)


def test_in_bfloat16():
    rng = np.random.default_rng(0)
    x, kernel = (jnp.asarray(rng.normal(size=s), jnp.bfloat16) for s in ((2, 4, 4, 32), (3, 3, 16, 32)))
    y = convolutions.conv(x, kernel, groups=2)
    assert y.dtype == jnp.bfloat16
    expected = xla(x.astype(jnp.float32), kernel.astype(jnp.float32), 1, "SAME", 2)
    np.testing.assert_allclose(y.astype(jnp.float32), expected, rtol=0, atol=0.01 * float(jnp.abs(expected).max()))


def test_one_group_is_the_convolution_itself():
    args = jnp.zeros((2, 5, 5, 3)), jnp.zeros((3, 3, 3, 4))
    texts = [
        str(jax.make_jaxpr(functools.partial(convolutions.conv, **settings))(*args)) for settings in ({}, {"groups": 1})
    ]
    assert re.sub("0x[0-9a-f]+", "", texts[0]) == re.sub("0x[0-9a-f]+", "", texts[1])


@pytest.mark.parametrize(("channels", "features", "groups"), [(6, 4, 4), (4, 6, 4), (4, 4, 0), (4, 4, -2)])
def test_groups_that_do_not_divide(channels, features, groups):
    said = rf"{channels} channels and {features} features cannot be divided into groups = {groups}"
    with pytest.raises(ValueError, match=said):
        convolutions.conv(jnp.zeros((1, 4, 4, channels)), jnp.zeros((3, 3, 1, features)), groups=groups)
    with pytest.raises(ValueError, match=said):
        layers.Conv(features, 3, groups=groups).init(jax.random.key(0), jnp.zeros((1, 4, 4, channels)))


def test_the_layer():
    x = jax.random.normal(jax.random.key(0), (2, 4, 4, 6))
    layer = layers.Conv(9, 3, groups=3)
    params = jax.jit(layer.init, compiler_options=QUICK)(jax.random.key(1), x)["params"]
    assert jax.tree.map(jnp.shape, params) == {"kernel": (3, 3, 2, 9), "bias": (9,)}
    bias = jnp.arange(9.0)
    expected = xla(x, params["kernel"], 1, "SAME", 3) + bias.reshape(1, 1, 1, 9)
    got = layer.apply({"params": params | {"bias": bias}}, x)
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)


# What programs hold.

X, KERNEL = jax.ShapeDtypeStruct((4, 8, 8, 64), jnp.float32), jax.ShapeDtypeStruct((3, 3, 16, 64), jnp.float32)


def grouped(x, kernel):
    return convolutions.conv(x, kernel, groups=4)


PASSES = {
    "forward": grouped,
    "input": lambda y, kernel: jax.vjp(lambda x: grouped(x, kernel), y)[1](y),
    "kernel": lambda x, y: jax.vjp(lambda kernel: grouped(x, kernel), jnp.zeros(KERNEL.shape))[1](y),
}


def convolutions_of(program):
    """For each convolution of a StableHLO program, (feature_group_count, batch_group_count)."""
    counts = re.findall(r"stablehlo\.convolution.*?batch_group_count = (\d+).*?feature_group_count = (\d+)", program)
    return [(int(feature), int(batch)) for batch, feature in counts]


@pytest.mark.parametrize(("name", "expected"), [("forward", (4, 1)), ("input", (4, 1)), ("kernel", (1, 4))])
@pytest.mark.parametrize("platform", ["cpu", "cuda", "tpu"])
def test_each_pass_is_one_convolution(platform, name, expected):
    """Elsewhere in groups, of channels or, for the kernel, of what stands for the batch; on a CPU in a loop."""
    args = (X, X) if name == "kernel" else (X, KERNEL)

    def exported():
        function = jax.jit(lambda *args: PASSES[name](*args))
        return export.export(function, platforms=[platform])(*args).mlir_module()

    program = exported()
    assert convolutions_of(program) == [(1, 1) if platform == "cpu" else expected]
    assert program.count("stablehlo.while") == (platform == "cpu")
    with convolutions.native():
        assert convolutions_of(exported()) == [expected]


def test_the_script_finds_and_times_them():
    gan = recipes.get("digits").replace(gen=R3GANGen(widths=(16, 16)), disc=R3GANDisc(widths=(16, 16))).build()
    found = script.calls(gan, 2)
    one = script.Convolution(False, (2, 4, 4, 32), (3, 3, 16, 32), (2, 4, 4, 32), 1, ((1, 1), (1, 1)))
    assert one in found
    assert "kernel 3x3x16x32, 2 groups" in script.describe(one, rate=1e9)
    for name, pass_ in script.passes(one).items():
        assert pass_.chosen.__name__.endswith("by_groups")
        line = script.line(pass_, script.operations(one), rate=1e9)
        assert "*groups" in line, name
        assert "native" in line, name


@pytest.mark.parametrize("stride", [1, 2])
def test_the_script_s_forms_are_equal(stride, x64):
    """Of every pass, as the script calls them."""
    rng = np.random.default_rng(0)
    size = 6 // stride
    one = script.Convolution(False, (2, 6, 6, 4), (3, 3, 2, 6), (2, size, size, 6), stride, ((1, 1), (1, 1)))
    for pass_ in script.passes(one).values():
        args = [rng.normal(size=shape) for shape in pass_.shapes]
        native, ours = (
            jax.jit(form, static_argnums=(2, 3, 4)[: len(pass_.settings)])(*args, *pass_.settings)
            for form in pass_.forms
        )
        np.testing.assert_allclose(ours, native, rtol=1e-9, atol=1e-11)
