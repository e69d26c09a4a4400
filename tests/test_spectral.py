"""Spectral normalisation: against numpy's and PyTorch's, and when a step advances its vectors."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from common import (
    QUICK,
    STEP,
    SmallDisc,
    apply,
    assert_bf16_is_near,
    assert_close,
    in_range,
    latents,
    real_batch,
    small_gan,
    small_state,
)

import jaxgan
from jaxgan.networks.layers import Conv, Dense, SubPixelConv
from jaxgan.networks.spectral import VECTORS, SpectralNorm, power_iteration

pytestmark = pytest.mark.usefixtures("quick_programs")


def matrix(kernel):
    """W as the paper has it: [features, all else]."""
    return np.float64(kernel).reshape(-1, kernel.shape[-1]).T


def unit(v):
    return v / np.linalg.norm(v)


def advanced(w, v):
    return unit(w.T @ (w @ v))


def largest(w):
    return np.linalg.svd(w, compute_uv=False)[0]


def kernels(params):
    return {name: layer["weights"]["kernel"] for name, layer in params.items() if name.startswith("Spectral")}


def vectors(stats):
    return {name: np.float64(layer[VECTORS]["kernel"]) for name, layer in stats.items() if VECTORS in layer}


LAYERS = {"dense": (nn.Dense(5), (4, 7)), "conv": (Conv(5, 3), (2, 6, 6, 4))}
CASES = pytest.mark.parametrize("kind", LAYERS)


def started(kind):
    """A layer, its input, its parameters in float64 with a bias that is not zero, and its vectors."""
    layer, shape = LAYERS[kind]
    layer, x = SpectralNorm(layer), jnp.asarray(np.random.default_rng(0).normal(size=shape))
    variables = jax.jit(layer.init, compiler_options=QUICK)(jax.random.key(1), x)
    params = {"weights": {name: jnp.asarray(np.float64(w)) for name, w in variables["params"]["weights"].items()}}
    params["weights"]["bias"] += np.linspace(1, 2, 5)
    return layer, x, params, jax.tree.map(lambda v: jnp.asarray(np.float64(v)), variables["batch_stats"])


@CASES
def test_iteration_ends_at_the_largest_singular_value(kind, x64):
    layer, x, params, stats = started(kind)
    w, v = matrix(params["weights"]["kernel"]), np.asarray(stats[VECTORS]["kernel"])
    assert set(stats[VECTORS]) == {"kernel"}
    first = np.linalg.norm(w @ v) / largest(w)
    assert 0.97 < first < 1 - 1e-12  # 15 iterations before the first step; none would give about 0.5
    np.testing.assert_allclose(power_iteration(params, stats)[VECTORS]["kernel"], advanced(w, v), rtol=1e-12)
    many = jax.jit(lambda s: jax.lax.fori_loop(0, 500, lambda _, s: power_iteration(params, s), s))(stats)
    flat = layer.apply({"params": params, "batch_stats": many}, x)
    plain = {**params["weights"], "kernel": params["weights"]["kernel"] / largest(w)}
    np.testing.assert_allclose(flat, LAYERS[kind][0].apply({"params": plain}, x), rtol=1e-9)


@CASES
def test_it_is_pytorchs_in_value_and_gradient(kind, x64):
    """At a v of ours, of any length; PyTorch's u is W v, normalised."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    layer, x, params, stats = started(kind)
    kernel, bias = (np.array(params["weights"][name]) for name in ("kernel", "bias"))
    v = np.random.default_rng(1).normal(size=stats[VECTORS]["kernel"].shape)  # far from the first singular vector
    if kind == "dense":
        module, to_torch = torch.nn.Linear(7, 5), lambda w: np.moveaxis(w, -1, 0)
    else:
        module, to_torch = torch.nn.Conv2d(4, 5, 3, padding=1), lambda w: np.moveaxis(w, (2, 3), (1, 0))
    module = torch.nn.utils.parametrizations.spectral_norm(module.double()).eval()  # no iteration of its own
    normed = module.parametrizations.weight[0]
    contiguous = lambda a: torch.tensor(np.ascontiguousarray(a))  # noqa: E731
    v_of_torch = unit(to_torch(v.reshape(*kernel.shape[:-1], 1)).ravel())
    normed._v.data = contiguous(v_of_torch)
    normed._u.data = contiguous(unit(to_torch(kernel).reshape(5, -1) @ v_of_torch))
    module.parametrizations.weight.original.data = contiguous(to_torch(kernel))
    module.bias.data = contiguous(bias)
    x_of_torch = contiguous(x if kind == "dense" else np.moveaxis(x, -1, 1)).requires_grad_()
    want = module(x_of_torch)
    (want**3).sum().backward()

    def cubes(params, x):
        out = layer.apply({"params": params, "batch_stats": {VECTORS: {"kernel": 0.3 * v}}}, x)
        return jnp.sum(out**3), out

    both = jax.jit(jax.value_and_grad(cubes, (0, 1), has_aux=True), compiler_options=QUICK)
    (_, out), (grads, x_grad) = both(params, x)
    last = lambda a: np.moveaxis(a.detach().numpy(), 1, -1)  # noqa: E731
    np.testing.assert_allclose(out, last(want), rtol=1e-9)
    np.testing.assert_allclose(x_grad, last(x_of_torch.grad), rtol=1e-9, atol=1e-12)
    original = module.parametrizations.weight.original.grad.numpy()
    np.testing.assert_allclose(to_torch(np.asarray(grads["weights"]["kernel"])), original, rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(grads["weights"]["bias"], module.bias.grad.numpy(), rtol=1e-9)


class NormedDisc(nn.Module):
    """SmallDisc with spectral normalisation, some layers of which are in a module of their own."""

    @nn.compact
    def __call__(self, images, labels, context):
        x = nn.softplus(SpectralNorm(nn.Dense(6))(images.reshape(len(images), -1)))
        return SpectralNorm(Dense(1))(Inner()(x))[:, 0]


class Inner(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.softplus(SpectralNorm(nn.Dense(5))(x))


class NormedGen(nn.Module):
    @nn.compact
    def __call__(self, z, labels, context):
        x = nn.softplus(SpectralNorm(nn.Dense(8))(z))
        return jnp.tanh(SpectralNorm(nn.Dense(16))(x)).reshape(-1, 4, 4, 1)


generate = jax.jit(apply, static_argnums=0, compiler_options=QUICK)


def moving(seed, size=0.5):
    """An optimiser that adds the same at each update, whatever the gradient is: known weights at all times."""
    by = lambda x: size * np.random.default_rng(seed).normal(size=x.shape)  # noqa: E731
    update = lambda grads, state, params=None: (jax.tree.map(lambda g: jnp.asarray(by(g), g.dtype), grads), state)  # noqa: E731
    return optax.GradientTransformation(lambda params: (), update), by


def normed_gan(**changes):
    return small_gan(**{"gen": NormedGen(), "disc": NormedDisc(), "disc_optimizer": MOVING, **changes})


MOVING, BY = moving(3)


def judged(params, vs, images):
    """NormedDisc in numpy."""
    x = np.float64(images).reshape(len(images), -1)
    both = (params["SpectralNorm_0"], params["Inner_0"]["SpectralNorm_0"], params["SpectralNorm_1"])
    for i, (layer, v) in enumerate(zip(both, vs, strict=True)):
        w = matrix(layer["weights"]["kernel"])
        x = x @ (w / np.linalg.norm(w @ v)).T + np.asarray(layer["weights"]["bias"])
        x = np.logaddexp(0, x) if i < 2 else x
    return x[:, 0]


def disc_vectors(stats):
    layers = (stats["SpectralNorm_0"], stats["Inner_0"]["SpectralNorm_0"], stats["SpectralNorm_1"])
    return [np.asarray(layer[VECTORS]["kernel"]) for layer in layers]


@pytest.mark.parametrize(
    ("update", "ratio", "accumulate"),
    [
        ("shared", 1, 1),
        ("alternating", 3, 2),
        pytest.param("shared", 3, 2, marks=pytest.mark.slow),
    ],
)
def test_vectors_advance_once_before_each_update_and_all_images_meet_them(update, ratio, accumulate, x64):
    """At D's weights of that update; the generator's once in a step."""
    gan = normed_gan(update=update, training_ratio=ratio, accumulate=accumulate)
    state, batch = small_state(gan), real_batch(gan, 4 * ratio)
    new, metrics = STEP(gan, state, batch)
    params, vs = jax.tree.map(np.asarray, state.disc.params), disc_vectors(state.disc.batch_stats)
    for _ in range(ratio):
        layers = (params["SpectralNorm_0"], params["Inner_0"]["SpectralNorm_0"], params["SpectralNorm_1"])
        vs = [advanced(matrix(layer["weights"]["kernel"]), v) for layer, v in zip(layers, vs, strict=True)]
        last = params
        params = jax.tree.map(lambda x: x + BY(x), params)
    for got, want in zip(disc_vectors(new.disc.batch_stats), vs, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-9)
    gen_vectors = vectors(state.gen.batch_stats)
    once = {name: advanced(matrix(w), gen_vectors[name]) for name, w in kernels(state.gen.params).items()}
    assert_close(vectors(new.gen.batch_stats), once)

    real = in_range(gan, batch).images[ratio - 1 :: ratio]
    stats = state.gen.batch_stats  # what D is updated with: a shared pass is the generator's own, too
    if update == "shared":
        stats = {name: {VECTORS: {"kernel": jnp.asarray(v)}} for name, v in once.items()}
    fake, _ = generate(gan.gen, state.gen.params, stats, latents(gan, state, np.arange(4 * ratio)[ratio - 1 :: ratio]))
    np.testing.assert_allclose(metrics["logit_real"], judged(last, vs, real).mean(), rtol=1e-9)
    np.testing.assert_allclose(metrics["logit_fake"], judged(last, vs, fake).mean(), rtol=1e-9)
    if update == "alternating":
        seen = judged(params, vs, generated_for_gen(gan, state, new, range(4 * ratio, 4 * ratio + 4)))
        np.testing.assert_allclose(metrics["loss_gen"], np.logaddexp(0, -seen).mean(), rtol=1e-9)


def generated_for_gen(gan, state, new, examples):
    """What the generator makes for its own update, with vectors that have been advanced."""
    return generate(gan.gen, state.gen.params, new.gen.batch_stats, latents(gan, state, np.array(examples)))[0]


@pytest.mark.slow
def test_in_bf16_the_vectors_and_their_iteration_stay_in_float32():
    gan = normed_gan(gen=type(small_gan().gen)(norm=False), disc_optimizer=optax.sgd(0.2))
    state, batch = jaxgan.init(gan, jax.random.key(0)), real_batch(gan, 8)
    fine, coarse = assert_bf16_is_near(gan, state, batch, 0.05)
    for a, b in zip(disc_vectors(fine.disc.batch_stats), disc_vectors(coarse.disc.batch_stats), strict=True):
        assert b.dtype == np.float32
        np.testing.assert_allclose(a, b, atol=1e-6)


@pytest.mark.slow
def test_the_average_of_a_generator_samples_with_weights_of_norm_one():
    """Of its averaged vectors, which are shorter than 1, the direction counts."""
    optimizer, _ = moving(5, size=0.1)
    gan = normed_gan(gen_optimizer=optimizer, disc=SmallDisc(norm=False), ema_decay=0.8)
    state, batch = jaxgan.init(gan, jax.random.key(0)), real_batch(gan, 4)
    for _ in range(12):
        state, _ = STEP(gan, state, batch)
    average = state.averaged_gen
    shortest = min(np.linalg.norm(v) for v in vectors(average["batch_stats"]).values())
    assert shortest < 0.999
    for name, kernel in kernels(average["params"]).items():
        layer = nn.Dense(kernel.shape[1])
        variables = {kind: average[kind][name] for kind in ("params", "batch_stats")}
        x = jnp.eye(len(kernel))
        normed = jax.jit(SpectralNorm(layer).apply, compiler_options=QUICK)
        effective = normed(variables, x) - variables["params"]["weights"]["bias"][None]
        np.testing.assert_allclose(largest(np.asarray(effective)), 1, atol=0.02)
        longer = {**variables, "batch_stats": jax.tree.map(lambda v: 7 * v, variables["batch_stats"])}
        again = normed(longer, x) - variables["params"]["weights"]["bias"][None]
        np.testing.assert_allclose(again, effective, atol=1e-6)


class InSetup(nn.Module):
    """As Flax also has modules: made in `setup`, one of them of parts."""

    def setup(self):
        self.parts = SpectralNorm(SubPixelConv(2, 3))

    def __call__(self, x):
        return self.parts(x)


@pytest.mark.parametrize("network", [InSetup(), SpectralNorm(SubPixelConv(2, 3))], ids=["setup", "alone"])
def test_a_layer_may_be_made_anywhere_and_have_parts(network):
    x = jnp.ones((1, 2, 2, 3))
    variables = jax.jit(network.init, compiler_options=QUICK)(jax.random.key(0), x)
    params, stats = variables["params"], variables["batch_stats"]
    v, *others = jax.tree.leaves(power_iteration(params, stats))
    assert not others
    kernel = params.get("parts", params)["weights"]["Conv_0"]["kernel"]
    np.testing.assert_allclose(np.linalg.norm(matrix(kernel) @ v), largest(matrix(kernel)), rtol=0.02)
    plain = {
        "params": {
            "Conv_0": {
                "kernel": kernel / np.linalg.norm(matrix(kernel) @ jax.tree.leaves(stats)[0]),
                "bias": jnp.zeros(8),
            }
        }
    }
    np.testing.assert_allclose(network.apply(variables, x), SubPixelConv(2, 3).apply(plain, x), atol=1e-5)


def test_other_networks_are_left_as_they_are():
    gan = small_gan()
    state = jaxgan.init(gan, jax.random.key(0))
    stats = power_iteration(state.gen.params, state.gen.batch_stats)
    assert jax.tree.all(jax.tree.map(lambda a, b: a is b, stats, state.gen.batch_stats))
    assert power_iteration({}, {}) == {}
