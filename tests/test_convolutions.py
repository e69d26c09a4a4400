"""The convolutions against XLA's own, to second order in float64; groups; and what they cost."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xla_convolutions as xla
from common import QUICK
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import export
from xla_convolutions import PAIRS, assert_close, in_all_orders

from experiments.bench import convolutions as script
from jaxgan import convolutions, recipes
from jaxgan.networks import R3GANDisc, R3GANGen, layers

pytestmark = pytest.mark.usefixtures("quick_programs")


def assert_equal(name, size, k, stride, *padding, c=3, features=4, groups=1, wider=1):
    """In value and in gradients of first and second order, on maps that are a little wider than high."""
    rng = np.random.default_rng(0)
    x, kernel = rng.normal(size=(2, size, size + wider, groups * c)), rng.normal(size=(k, k, c, groups * features))
    ours, theirs = (functools.partial(lambda f, x, kernel: f(x, kernel, stride, *padding), f) for f in PAIRS[name])
    assert_close(in_all_orders(ours, x, kernel), in_all_orders(theirs, x, kernel))


def some_fast(cases, count=2):
    """The first cases on the fast shelf, the others on the slow one."""
    return [*cases[:count], *(pytest.param(*case, marks=pytest.mark.slow) for case in cases[count:])]


# Those of the reference systems, on square maps: map, kernel, stride or factor.
OF_SYSTEMS = {
    "conv": [(7, 5, 2), (4, 4, 2), (28, 5, 2), (4, 5, 1), (2, 2, 1)],
    "conv_transpose": [(1, 4, 1), (4, 4, 2), (7, 5, 1), (7, 5, 2)],
    "upsample_conv": [(7, 5, 2), (1, 4, 4), (8, 3, 2), (4, 4, 2)],
}


@pytest.mark.parametrize(
    ("name", "size", "k", "stride"),
    [case for name, all_sizes in OF_SYSTEMS.items() for case in some_fast([(name, *sizes) for sizes in all_sizes])],
)
def test_convolutions_of_the_reference_systems(name, size, k, stride, x64):
    assert_equal(name, size, k, stride, wider=0)


GROUPED = [  # groups, channels and features of each, map, kernel, stride, padding
    (2, 3, 2, 5, 3, 1, "SAME"),
    (4, 2, 2, 4, 4, 1, "VALID"),
    (3, 1, 2, 6, 4, 2, "SAME"),
    (5, 1, 1, 4, 4, 1, "VALID"),
    (2, 2, 3, 7, 5, 2, "VALID"),
    (2, 4, 4, 3, 1, 1, "SAME"),
    (2, 2, 2, 5, 2, 3, "SAME"),
    (2, 16, 16, 4, 3, 1, "SAME"),
    (3, 2, 3, 33, 3, 1, "SAME"),
]


@pytest.mark.parametrize(("groups", "c", "features", "size", "k", "stride", "padding"), some_fast(GROUPED))
def test_grouped_conv(groups, c, features, size, k, stride, padding, x64):
    assert_equal("grouped_conv", size, k, stride, padding, c=c, features=features, groups=groups)


@settings(max_examples=2)
@given(st.sampled_from(["conv", "conv_transpose"]), st.integers(2, 5), st.integers(2, 5), st.integers(1, 3))
def test_without_padding(name, k, more, stride):
    with jax.enable_x64(True):
        assert_equal(name, k + more, k, stride, "VALID")


@pytest.mark.slow
@settings(max_examples=20)
@given(
    st.sampled_from(["conv", "conv_transpose", "upsample_conv"]),
    st.integers(1, 7),
    st.integers(1, 7),
    st.integers(1, 5),
    st.integers(0, 1),
    st.sampled_from(["SAME", "VALID"]),
)
def test_any_size_kernel_and_stride(name, size, k, stride, wider, padding):
    """Kernels larger than the map and strides larger than the kernel among them."""
    if name == "upsample_conv" or (name == "conv" and k > size):  # of which nothing would be left
        padding = "SAME"
    with jax.enable_x64(True):
        assert_equal(name, size, k, stride, *([] if name == "upsample_conv" else [padding]), wider=wider)


@pytest.mark.parametrize(("k", "factor", "products"), [(5, 2, 9), (3, 2, 4), (4, 2, 9), (4, 4, 4)])
def test_an_upsample_conv_sums_taps_before_it_multiplies(k, factor, products):
    """Products per small pixel and channel pair: for 5x5 after x2, 4 phases of 3x3 in place of 4 pixels of 5x5.

    Additions count too: of taps, and where the form is patches, of those; with 64 channels they are few.
    """
    x, kernel = jnp.zeros((1, 16, 16, 64)), jnp.zeros((k, k, 64, 64))
    cost = jax.jit(convolutions.upsample_conv, static_argnums=2).lower(x, kernel, factor).compile().cost_analysis()
    per_pixel = cost["flops"] / (2 * 16 * 16 * 64 * 64)
    assert per_pixel < 1.1 * factor**2 * products < factor**2 * k**2


# Groups.


def test_groups_in_bfloat16():
    rng = np.random.default_rng(0)
    x, kernel = (jnp.asarray(rng.normal(size=s), jnp.bfloat16) for s in ((2, 4, 4, 32), (3, 3, 16, 32)))
    y = convolutions.conv(x, kernel, groups=2)
    assert y.dtype == jnp.bfloat16
    expected = xla.conv(x.astype(jnp.float32), kernel.astype(jnp.float32), groups=2)
    np.testing.assert_allclose(y.astype(jnp.float32), expected, rtol=0, atol=0.01 * float(jnp.abs(expected).max()))


@pytest.mark.parametrize(("channels", "features", "groups"), [(6, 4, 4), (4, 6, 4), (4, 4, 0), (4, 4, -2)])
def test_groups_that_do_not_divide(channels, features, groups):
    said = rf"{channels} channels and {features} features cannot be divided into groups = {groups}"
    with pytest.raises(ValueError, match=said):
        convolutions.conv(jnp.zeros((1, 4, 4, channels)), jnp.zeros((3, 3, 1, features)), groups=groups)
    with pytest.raises(ValueError, match=said):
        layers.Conv(features, 3, groups=groups).init(jax.random.key(0), jnp.zeros((1, 4, 4, channels)))


def test_the_layer_of_groups():
    x = jax.random.normal(jax.random.key(0), (2, 4, 4, 6))
    layer = layers.Conv(9, 3, groups=3)
    params = jax.jit(layer.init, compiler_options=QUICK)(jax.random.key(1), x)["params"]
    assert jax.tree.map(jnp.shape, params) == {"kernel": (3, 3, 2, 9), "bias": (9,)}
    bias = jnp.arange(9.0)
    expected = xla.conv(x, params["kernel"], groups=3) + bias.reshape(1, 1, 1, 9)
    np.testing.assert_allclose(layer.apply({"params": params | {"bias": bias}}, x), expected, rtol=1e-5, atol=1e-5)


X, KERNEL = jax.ShapeDtypeStruct((4, 8, 8, 64), jnp.float32), jax.ShapeDtypeStruct((3, 3, 16, 64), jnp.float32)
grouped = functools.partial(convolutions.conv, groups=4)
PASSES = {  # each with its (feature_group_count, batch_group_count) where there is no loop
    "forward": (grouped, (X, KERNEL), (4, 1)),
    "input": (lambda y, kernel: jax.vjp(lambda x: grouped(x, kernel), y)[1](y), (X, KERNEL), (4, 1)),
    "kernel": (lambda x, y: jax.vjp(lambda k: grouped(x, k), jnp.zeros(KERNEL.shape))[1](y), (X, X), (1, 4)),
}


def convolutions_of(program):
    """For each convolution of a StableHLO program, (feature_group_count, batch_group_count)."""
    counts = re.findall(r"stablehlo\.convolution.*?batch_group_count = (\d+).*?feature_group_count = (\d+)", program)
    return [(int(feature), int(batch)) for batch, feature in counts]


@pytest.mark.parametrize("name", PASSES)
@pytest.mark.parametrize("platform", ["cpu", "cuda", "tpu"])
def test_each_pass_in_groups_is_one_convolution(platform, name):
    """Elsewhere in groups, of channels or, for the kernel, of what stands for the batch; on a CPU one in a loop.

    There, the gradient of a kernel is a matrix product.
    """
    function, args, expected = PASSES[name]

    def exported():
        return export.export(jax.jit(lambda *args: function(*args)), platforms=[platform])(*args).mlir_module()

    program = exported()
    on_cpu = platform == "cpu"
    product = on_cpu and name == "kernel"
    assert convolutions_of(program) == ([] if product else [(1, 1) if on_cpu else expected])
    assert program.count("stablehlo.dot_general") == product
    assert program.count("stablehlo.while") == on_cpu
    with convolutions.native():
        assert convolutions_of(exported()) == [expected]


def test_the_script_finds_and_times_them_in_groups():
    gan = recipes.get("digits").replace(gen=R3GANGen(widths=(16, 16)), disc=R3GANDisc(widths=(16, 16))).build()
    one = script.Convolution(False, (2, 4, 4, 32), (3, 3, 16, 32), (2, 4, 4, 32), 1, ((1, 1), (1, 1)))
    assert one in script.calls(gan, 2)
    assert "kernel 3x3x16x32, 2 groups" in script.describe(one, rate=1e9)
    for name, pass_ in script.passes(one).items():
        assert pass_.chosen.__name__.endswith("by_groups")
        line = script.line(pass_, script.operations(one), rate=1e9)
        assert "*groups" in line, name
        assert "native" in line, name


@pytest.mark.parametrize("stride", [1, 2])
def test_the_script_s_forms_of_groups_are_equal(stride, x64):
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
