"""Which form a convolution takes, and that every form composes with what JAX does to functions."""

import functools
import os
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from common import QUICK
from jax import export, lax
from jax.sharding import PartitionSpec
from xla_convolutions import PAIRS, all_orders, assert_close, in_all_orders

import jaxgan
from jaxgan import convolutions, recipes
from jaxgan.networks import Context
from jaxgan.train_step import train_steps

pytestmark = pytest.mark.usefixtures("quick_programs")

DCGAN_CONVOLUTIONS = (
    28  # forward: 3 in G, 2 * 3 in D; back: 3 + 3 in G, 2 * (3 + 2) in D, and 3 from D's loss to the images
)
PLATFORMS = ("cpu", "cuda", "tpu")


# There is time for one, which takes all three maps, and, as a transposed convolution, a form of its own elsewhere.
CASES = [("upsample_conv", 3, 3, 2)]
SLOW = [("conv_transpose", 4, 4, 2), ("grouped_conv", 4, 3, 1)]
CASES += [pytest.param(case, marks=pytest.mark.slow) for case in SLOW]


@pytest.fixture(params=CASES, ids=str)
def case(request, x64):
    """(ours, XLA's, x, kernel), in float64."""
    name, size, k, stride = request.param
    rng = np.random.default_rng(0)
    c, features = (1, 6) if name == "grouped_conv" else (3, 2)
    x, kernel = jnp.asarray(rng.normal(size=(4, size, size, 3))), jnp.asarray(rng.normal(size=(k, k, c, features)))
    return (*pair(name, stride), x, kernel)


@functools.lru_cache
def pair(name, stride):
    """The same two functions whenever they are asked for, so that `in_all_orders` compiles each once."""
    return [functools.partial(lambda f, x, kernel: f(x, kernel, stride), f) for f in PAIRS[name]]


def count(operation, program):
    """How many there are in the text of a program, of StableHLO or compiled."""
    return len(re.findall(rf" {operation}[ (]", program))


def compiled(function, *args):
    return jax.jit(function).lower(*args).compile(QUICK).as_text()


@pytest.fixture(scope="module")
def dcgan():
    """A step of `tf2_dcgan`, and its arguments."""
    gan = recipes.get("tf2_dcgan").build()
    images = np.random.default_rng(0).integers(0, 256, (8, 28, 28, 1), np.uint8)
    return functools.partial(jaxgan.train_step, gan), jaxgan.init(gan, jax.random.key(0)), images


# What a program is compiled for.


def exported(function, platforms, *args):
    return export.export(jax.jit(lambda *args: function(*args)), platforms=platforms)(*args).mlir_module()


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_a_program_for_another_platform_holds_xla_s_convolutions_alone(platform, dcgan):
    program = exported(dcgan[0], [platform], *dcgan[1:])
    assert count("stablehlo.convolution", program) == DCGAN_CONVOLUTIONS
    with convolutions.native():
        native = exported(dcgan[0], [platform], *dcgan[1:])
    assert count("stablehlo.dot_general", program) == count("stablehlo.dot_general", native)


def test_a_program_for_a_cpu_holds_the_forms_for_it(dcgan):
    program = exported(dcgan[0], ["cpu"], *dcgan[1:])
    assert count("stablehlo.convolution", program) < DCGAN_CONVOLUTIONS
    assert count("stablehlo.dot_general", program) > DCGAN_CONVOLUTIONS


@pytest.mark.slow
def test_nothing_is_chosen_when_a_compiled_program_runs(dcgan):
    """In a loop, as runs take steps: there XLA could leave a condition in."""
    step, state, images = dcgan
    function = functools.partial(train_steps, *step.args)
    program = compiled(function, state, images, np.zeros((4, 8), np.int32), 2)
    assert count("dot", program) > DCGAN_CONVOLUTIONS
    assert not count("conditional", program)


def test_a_program_for_another_platform_computes_the_same(case):
    """One for CUDA, run here all the same: it is of operations that any platform has."""
    ours, xla, x, kernel = case
    anywhere = [export.DisabledSafetyCheck.platform()]
    args = [jax.ShapeDtypeStruct(a.shape, a.dtype) for a in (x, kernel)]
    function = jax.jit(functools.partial(all_orders, ours))
    for_cuda = export.export(function, platforms=["cuda"], disabled_checks=anywhere)(*args)
    assert_close(for_cuda.call(x, kernel), in_all_orders(xla, x, kernel))


# XLA's own on a CPU.


def test_native_takes_xla_s_own_on_a_cpu(dcgan):
    with convolutions.native():
        assert count("convolution", compiled(*dcgan)) == DCGAN_CONVOLUTIONS


def test_jit_knows_of_native():
    """The same function outside, inside, and outside again."""
    function = jax.jit(convolutions.conv)
    args = jnp.zeros((2, 4, 4, 3)), jnp.zeros((4, 4, 3, 4))

    def is_native():
        function(*args)
        return bool(count("convolution", function.lower(*args).compile().as_text()))

    before = is_native()
    with convolutions.native():
        inside = is_native()
    assert (before, inside, is_native()) == (False, True, False)


def test_forward_over_reverse_mode(case):
    ours, xla, x, kernel = case

    @functools.partial(jax.jit, static_argnums=0)
    def forward_over_reverse(function, x, kernel):
        return jax.jvp(jax.grad(lambda x, kernel: jnp.tanh(0.1 * function(x, kernel)).sum(), (0, 1)),
                       (x, kernel), (jnp.cos(x), jnp.sin(kernel)))  # fmt: skip

    want = forward_over_reverse(xla, x, kernel)
    assert_close(forward_over_reverse(ours, x, kernel), want)
    with convolutions.native():
        assert_close(forward_over_reverse(ours, x, kernel), want)


@pytest.mark.slow
@pytest.mark.parametrize(("value", "native"), [("0", True), ("1", False)])
def test_the_environment_variable(value, native):
    script = "from jaxgan.convolutions import platforms; print(platforms._native.value)"
    env = os.environ | {"JAXGAN_CPU_CONVOLUTIONS": value}
    done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == str(native), done.stderr


# Batches whose size is not known.


def test_a_batch_of_unknown_size_in_all_orders(case):
    ours, xla, x, kernel = case
    (b,) = export.symbolic_shape("b")
    args = jax.ShapeDtypeStruct((b, *x.shape[1:]), x.dtype), jax.ShapeDtypeStruct(kernel.shape, kernel.dtype)
    program = export.export(jax.jit(functools.partial(all_orders, ours)), platforms=PLATFORMS)(*args)
    for n in (1, len(x)):
        assert_close(program.call(x[:n], kernel), in_all_orders(xla, x[:n], kernel))


def assert_any_batch_size(name, sizes):
    """The networks of a recipe, exported once, against themselves under `jax.jit` for each size."""
    gan = recipes.get(name).build()
    state = jaxgan.init(gan, jax.random.key(0))
    (b,) = export.symbolic_shape("b")
    nets = ((gan.gen, state.gen, (gan.z_size,)), (gan.disc, state.disc, jaxgan.gan.image_shape(gan)))
    for net, net_state, shape in nets:
        function = jax.jit(lambda variables, x, labels, net=net: net.apply(variables, x, labels, Context()))
        batch = jax.ShapeDtypeStruct((b, *shape), jnp.float32)
        labels = jax.ShapeDtypeStruct((b,), jnp.int32) if gan.classes else None
        program = export.export(function, platforms=PLATFORMS)(net_state.variables, batch, labels)
        for n in sizes:
            x = jax.random.normal(jax.random.key(n), (n, *shape))
            args = (net_state.variables, x, jnp.arange(n) % gan.classes if gan.classes else None)
            expected = function(*args)
            scale = float(jnp.abs(expected).max())
            np.testing.assert_allclose(program.call(*args), expected, rtol=0, atol=1e-5 * scale)


def test_networks_with_a_batch_of_unknown_size():
    assert_any_batch_size("tf2_dcgan", [5])


@pytest.mark.nightly
@pytest.mark.parametrize(("name", "size"), [("canton_lsgan", 64), ("r3gan_small", 1)])
def test_each_kind_of_network_with_a_batch_of_unknown_size(name, size):
    assert_any_batch_size(name, [size])


# What JAX does to functions.


def test_eagerly(case):
    ours, xla, x, kernel = case
    y, pullback = jax.vjp(ours, x, kernel)
    assert_close((y, pullback(jnp.cos(y))), in_all_orders(xla, x, kernel)[:2])


@pytest.mark.parametrize("in_axes", [(0, 0), (0, None), (None, 0), (2, 1)])
def test_vmap(case, in_axes):
    ours, xla, x, kernel = case
    pairs = list(zip((x, kernel), in_axes, strict=True))
    args = [a if axis is None else jnp.stack([a, jnp.sin(a)], axis) for a, axis in pairs]
    got = jax.jit(jax.vmap(functools.partial(all_orders, ours), in_axes))(*args)
    for i in range(2):
        each = [a if axis is None else jnp.take(a, i, axis) for a, axis in zip(args, in_axes, strict=True)]
        assert_close(jax.tree.map(lambda a, i=i: a[i], got), in_all_orders(xla, *each))


def test_remat_and_loops(case):
    """Gradients of a rematerialised function, inside `fori_loop` and as the body of `scan`."""
    ours, xla, x, kernel = case

    @functools.partial(jax.jit, static_argnums=0)
    def twice(function, x, kernel):
        loss = jax.checkpoint(lambda kernel, x: jnp.tanh(0.1 * function(x, kernel)).sum())
        in_loop = lax.fori_loop(0, 2, lambda _, kernel: kernel - 0.1 * jax.grad(loss)(kernel, x), kernel)
        total = jax.grad(lambda kernel: lax.scan(lambda s, x: (s + loss(kernel, x[None]), None), 0.0, x)[0])(kernel)
        return in_loop, total

    assert_close(twice(ours, x, kernel), twice(xla, x, kernel))
    assert not count("conditional", twice.lower(ours, x, kernel).compile().as_text())


@pytest.mark.parametrize("check_vma", [True, False])
def test_shard_map(case, check_vma):
    """A kernel that all devices share, and examples that they split."""
    ours, xla, x, kernel = case
    mesh = jax.make_mesh((2,), ("devices",), axis_types=(jax.sharding.AxisType.Auto,), devices=jax.devices()[:2])

    def penalty(function, x, kernel):
        """In x alone: the kernel's gradient would be that of a share."""
        return (jax.grad(lambda x: jnp.tanh(0.1 * function(x, kernel)).sum())(x) ** 2).sum()

    def gradients(function, x, kernel):
        loss = functools.partial(penalty, function)
        _, pullback = jax.vjp(function, x, kernel)
        return tuple(zip(pullback(jnp.cos(function(x, kernel))), jax.grad(loss, (0, 1))(x, kernel), strict=True))

    def share(x, kernel):
        of_x, of_kernel = gradients(ours, x, kernel)
        return of_x, of_kernel if check_vma else lax.psum(of_kernel, "devices")

    specs = PartitionSpec("devices"), PartitionSpec()
    function = jax.jit(jax.shard_map(share, mesh=mesh, in_specs=specs, out_specs=specs, check_vma=check_vma))
    assert_close(function(x, kernel), gradients(xla, x, kernel))


def test_pmap(case):
    ours, xla, x, kernel = case
    shares = x.reshape(2, 2, *x.shape[1:])
    got = jax.pmap(functools.partial(all_orders, ours), in_axes=(0, None), devices=jax.devices()[:2])(shares, kernel)
    for i, share in enumerate(shares):
        assert_close(jax.tree.map(lambda a, i=i: a[i], got), in_all_orders(xla, share, kernel))
