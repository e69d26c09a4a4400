"""Every form of every pass against XLA's convolution and its gradients, and what loops are compiled to."""

import functools
import inspect
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from common import QUICK
from jax import lax
from xla_convolutions import conv as plain_conv

from experiments.bench import convolutions as forms
from experiments.bench.convolutions import Convolution
from jaxgan import recipes
from jaxgan.convolutions import cpu, frequencies


def plain_conv_transpose(y, kernel, stride, pads, sizes):
    x = jnp.zeros((len(y), *sizes, kernel.shape[2]), y.dtype)
    return jax.vjp(lambda x: plain_conv(x, kernel, stride, pads), x)[1](y)[0]


def convolution(x, kernel, stride, pads):
    """Of pads as lax takes them."""
    if isinstance(pads, str):
        pads = tuple(lax.padtype_to_pads(x[1:3], kernel[:2], (stride, stride), pads))
    y = tuple((size + sum(pad) - k) // stride + 1 for size, pad, k in zip(x[1:3], pads, kernel[:2], strict=True))
    return Convolution(False, x, kernel, (x[0], *y, kernel[3]), stride, pads)


def assert_all_forms_equal(convolution, dtype, tolerance):
    """Each form of each pass, to a share of the largest value."""
    rng = np.random.default_rng(0)
    x, kernel, y = (rng.normal(size=shape).astype(dtype) for shape in convolution[1:4])
    _, _, _, _, stride, pads = convolution

    @functools.partial(jax.jit, compiler_options=QUICK)
    def expected(x, kernel, y):
        value, pullback = jax.vjp(lambda x, kernel: plain_conv(x, kernel, stride, pads), x, kernel)
        return dict(zip(("conv", "transpose", "kernel"), (value, *pullback(y)), strict=True))

    @functools.partial(jax.jit, compiler_options=QUICK)
    def got(x, kernel, y):
        args = {"conv": (x, kernel), "transpose": (y, kernel), "kernel": (x, y)}
        return {
            name: {form.__name__: form(*args[name], *one.settings) for form in one.forms}
            for name, one in forms.passes(convolution).items()
        }

    reference = expected(x, kernel, y)
    for name, values in got(x, kernel, y).items():
        scale = np.abs(reference[name]).max()
        for form, value in values.items():
            assert value.dtype == dtype
            np.testing.assert_allclose(value, reference[name], rtol=0, atol=tolerance * scale, err_msg=form)


# (height, width), kernel, stride, pads: odd and even kernels, maps smaller than the kernel, strides larger than it,
# lopsided pads, pads beyond which nothing but zeros is met, and those that cut pixels off.
CASES = [
    ((7, 7), 5, 1, "SAME"),
    ((4, 4), 4, 1, "SAME"),
    ((6, 6), 3, 1, "VALID"),
    ((2, 2), 5, 1, "SAME"),
    ((1, 1), 4, 1, "SAME"),
    ((5, 5), 2, 1, ((3, 0), (3, 0))),
    ((4, 4), 3, 1, ((0, 4), (0, 4))),
    ((6, 6), 3, 1, ((-1, 2), (-1, 2))),
    ((3, 3), 2, 1, ((3, 4), (3, 4))),
    ((5, 5), 1, 1, "SAME"),
    ((4, 6), 3, 1, ((2, 0), (1, 1))),
    ((7, 7), 5, 2, "SAME"),
    ((8, 8), 4, 2, "SAME"),
    ((9, 9), 5, 2, "VALID"),
    ((2, 2), 5, 2, ((2, 3), (2, 3))),
    ((5, 8), 3, 2, ((0, 2), (2, 0))),
    ((7, 9), 4, 3, "SAME"),
    ((8, 8), 2, 3, ((0, -1), (0, -1))),
    ((3, 3), 6, 3, ((5, 4), (5, 4))),
]


@pytest.mark.parametrize(
    ("size", "k", "stride", "pads"), [*CASES[:4], *(pytest.param(*case, marks=pytest.mark.slow) for case in CASES[4:])]
)
def test_every_form_in_float64(size, k, stride, pads, x64):
    assert_all_forms_equal(convolution((2, *size, 3), (k, k, 3, 4), stride, pads), np.float64, 1e-11)


@pytest.mark.slow
@pytest.mark.parametrize("stride", [1, 2])
def test_every_form_of_a_wide_kernel_and_in_float32(stride):
    with jax.enable_x64(True):
        assert_all_forms_equal(convolution((2, 6, 5, 3), (2, 5, 3, 4), stride, "SAME"), np.float64, 1e-11)
    assert_all_forms_equal(convolution((4, 7, 7, 32), (5, 5, 32, 32), stride, "SAME"), np.float32, 1e-5)


@pytest.fixture
def small_chunks(monkeypatch):
    """Of batches of 5 maps of 7x7x3 and kernels of 5x5: two examples at a time, and one that is left over."""
    monkeypatch.setattr(cpu, "CACHE", 100)
    monkeypatch.setattr(cpu, "CHUNK", 2 * 7 * 7 * 5 * 5 * 3)


@pytest.mark.parametrize(("batch", "stride"), [(5, 1), (4, 1), (5, 2), (16, 2)])
def test_every_form_in_chunks(batch, stride, x64, small_chunks):
    assert_all_forms_equal(convolution((batch, 7, 7, 3), (5, 5, 3, 4), stride, "SAME"), np.float64, 1e-11)


@pytest.mark.parametrize(("batch", "values", "size"), [(5, 10, 5), (6, 40, 3), (7, 40, 4), (8, 300, 1), (0, 10, 0)])
def test_chunks_divide_a_batch_where_they_can(monkeypatch, batch, values, size):
    monkeypatch.setattr(cpu, "CACHE", 100)
    monkeypatch.setattr(cpu, "CHUNK", 160)
    assert cpu._chunk_size(batch, values) == size


@pytest.mark.parametrize(("k", "loops"), [(1, False), (3, True)])
def test_patches_of_one_pixel_are_no_copies_to_be_made_in_chunks(k, loops):
    one = convolution((64, 16, 16, 256), (k, k, 256, 64), 1, "SAME")
    for function, args, settings in (
        (cpu.conv_by_patches, (one.x, one.kernel), (1, one.pads)),
        (cpu.kernel_gradient_by_rows, (one.x, one.y), (1, one.pads, (k, k))),
    ):
        program = jax.make_jaxpr(lambda *args, f=function, s=settings: f(*args, *s))(
            *(jax.ShapeDtypeStruct(shape, jnp.float32) for shape in args)
        )
        assert ("scan[" in str(program)) == loops


def test_chunks_are_mapped_and_divided_among_devices(x64, small_chunks):
    """As seeds side by side take them, and a batch on several devices."""
    rng = np.random.default_rng(0)
    devices = jax.device_count()
    mesh = jax.make_mesh((devices,), ("batch",), axis_types=(jax.sharding.AxisType.Auto,))
    x, kernel = rng.normal(size=(5 * devices, 7, 7, 3)), rng.normal(size=(5, 5, 3, 4))

    def gradients(conv, x, kernel):
        return jax.grad(lambda x, k: jnp.sin(conv(x, k, 2, ((2, 2), (2, 2)))).sum(), argnums=(0, 1))(x, kernel)

    one, split = jax.sharding.PartitionSpec(), jax.sharding.PartitionSpec("batch")
    ours, theirs = (functools.partial(gradients, conv) for conv in (cpu.conv, plain_conv))
    expected = jax.jit(theirs)(x, kernel)

    @functools.partial(jax.shard_map, mesh=mesh, in_specs=(split, one), out_specs=(split, one))
    def on_each(x, kernel):
        x_bar, kernel_bar = ours(x, jax.lax.pcast(kernel, "batch", to="varying"))
        return x_bar, jax.lax.psum(kernel_bar, "batch")

    on_devices = jax.jit(on_each)(x, kernel)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-11, atol=1e-11), on_devices, expected)
    mapped = jax.jit(jax.vmap(ours))(np.stack([x, 2 * x]), np.stack([kernel, -kernel]))
    for i, args in enumerate(((x, kernel), (2 * x, -kernel))):
        got = jax.tree.map(lambda a, i=i: a[i], mapped)
        jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-11, atol=1e-11), got, theirs(*args))


def test_the_memory_of_patches_does_not_grow_with_the_batch():
    def working_bytes(batch):
        one = convolution((batch, 32, 32, 16), (5, 5, 16, 64), 2, "SAME")
        args = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in (one.x, one.y)]
        gradient = jax.jit(cpu.kernel_gradient_by_rows, static_argnums=(2, 3, 4))
        program = gradient.lower(*args, one.stride, one.pads, one.kernel[:2]).compile()
        return program.memory_analysis().temp_size_in_bytes

    assert working_bytes(256) < 1.1 * working_bytes(64) < 4 * 4 * cpu.CHUNK


def test_the_cases_have_every_form():
    written = {
        form
        for name, form in inspect.getmembers(cpu, inspect.isfunction)
        if re.match(r"native_|(conv|conv_transpose|kernel_gradient)_by_", name)
    }
    some = [convolution((2, 7, 7, 3), (5, 5, 3, 4), stride, "SAME") for stride in (1, 2)]
    assert written == {form for one in some for pass_ in forms.passes(one).values() for form in pass_.forms}


@pytest.mark.parametrize(
    ("size", "k", "stride", "by_frequencies"),
    [(9, 3, 1, False), (4, 4, 2, False), (6, 4, 2, True)],
)
def test_reverse_mode_twice(size, k, stride, by_frequencies, x64, monkeypatch):
    """The gradient of a squared norm of gradients, as penalties on gradients need it."""
    if by_frequencies:  # which maps as small as these are not worth
        monkeypatch.setattr(frequencies, "save_work", lambda *_: True)
    rng = np.random.default_rng(0)
    one = convolution((2, size, size, 3), (k, k, 3, 4), stride, "SAME")
    x, kernel, y = (rng.normal(size=shape) for shape in one[1:4])

    def penalty(function, settings, *args):
        gradients = jax.grad(lambda args: jnp.tanh(0.3 * function(*args, *settings)).sum())(args)
        return sum((gradient**2).sum() for gradient in gradients)

    @functools.partial(jax.jit, static_argnums=(0, 1))
    def gradients(conv, conv_transpose):
        gradient = jax.grad(penalty, argnums=(2, 3))
        return (
            gradient(conv, (stride, one.pads), x, kernel),
            gradient(conv_transpose, (stride, one.pads, (size, size)), y, kernel),
        )

    got = gradients(cpu.conv, cpu.conv_transpose)
    expected = gradients(plain_conv, plain_conv_transpose)
    for g, e in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(g, e, rtol=1e-9, atol=1e-10 * np.abs(e).max())


def in_a_loop(conv, conv_transpose, convolutions):
    """The text of a loop that holds all passes of these."""

    def body(_, args):
        new = []
        for (x, kernel, y), (*_, stride, pads) in zip(args, convolutions, strict=True):
            out, pullback = jax.vjp(lambda x, k, s=stride, p=pads: conv(x, k, s, p), x, kernel)
            x_bar, kernel_bar = pullback(y)
            settings = (stride, pads, x.shape[1:3])
            back, pullback = jax.vjp(lambda y, k, settings=settings: conv_transpose(y, k, *settings), y, kernel)
            y_bar, kernel_bar_2 = pullback(x)
            new.append((x_bar + back, kernel_bar + kernel_bar_2, out + y_bar))
        return new

    args = [tuple(jax.ShapeDtypeStruct(shape, jnp.float32) for shape in one[1:4]) for one in convolutions]
    return jax.jit(lambda args: lax.fori_loop(0, 3, body, args)).lower(args).compile(QUICK).as_text()


def layouts(program):
    return set(re.findall(r" convolution\(.*?dim_labels=([\w>-]+)", program))


def test_loops_hold_convolutions_in_the_fast_arrangement_alone():
    """In any other they are up to three hundred times slower, and inside of loops XLA turns none of them around."""
    names = ("canton_lsgan", "gan_elements", "tf2_dcgan")
    found = [one for name in names for one in forms.calls(recipes.get(name).build(), recipes.get(name).batch_size)]
    natives = {
        form
        for one in found
        for pass_ in forms.passes(one).values()
        if (form := pass_.chosen).__name__.startswith("native")
    }
    assert natives == {cpu.native_conv, cpu.native_kernel_gradient}
    assert layouts(in_a_loop(cpu.conv, cpu.conv_transpose, found)) == {"b01f_01io->b01f"}
    # What is looked for would be found.
    assert layouts(in_a_loop(plain_conv, plain_conv_transpose, found[-1:])) > {"b01f_01io->b01f"}


def test_frequencies_are_chosen_where_they_save_most_of_the_work():
    one = convolution((128, 7, 7, 256), (5, 5, 256, 128), 1, "SAME")
    assert one.pads == ((2, 2), (2, 2))
    args = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in (one.x, one.kernel)]
    assert cpu.conv_form(*args, 1, one.pads) is cpu.conv_by_frequencies
    work = {
        form: jax.jit(form, static_argnums=(2, 3)).lower(*args, 1, one.pads).compile().cost_analysis()["flops"]
        for form in (cpu.conv, cpu.native_conv)
    }
    assert work[cpu.conv] < 0.5 * work[cpu.native_conv]


@pytest.mark.parametrize("channels", [8, 512])
def test_a_convolution_of_single_pixels_is_a_matrix_product(channels):
    x, kernel = (jax.ShapeDtypeStruct(s, jnp.float32) for s in ((64, 16, 16, channels), (1, 1, channels, 64)))
    assert cpu.conv_form(x, kernel, 1, ((0, 0), (0, 0))) is cpu.conv_by_patches


def test_the_script_finds_every_convolution_of_a_recipe():
    found = forms.calls(recipes.get("tf2_dcgan").build(), 128)
    assert [(one.transposed, one.x, one.kernel, one.y, one.stride) for one in found] == [
        (True, (128, 7, 7, 128), (5, 5, 128, 256), (128, 7, 7, 256), 1),
        (True, (128, 14, 14, 64), (5, 5, 64, 128), (128, 7, 7, 128), 2),
        (True, (128, 28, 28, 1), (5, 5, 1, 64), (128, 14, 14, 64), 2),
        (False, (128, 28, 28, 1), (3, 3, 1, 32), (128, 14, 14, 32), 2),
        (False, (128, 14, 14, 32), (3, 3, 32, 64), (128, 7, 7, 64), 2),
        (False, (128, 7, 7, 64), (3, 3, 64, 128), (128, 4, 4, 128), 2),
    ]
