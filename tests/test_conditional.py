"""How networks use labels: each by its formula in numpy, and on several devices as on one."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from common import QUICK, small_gan

import jaxgan
from jaxgan import parallel
from jaxgan.gan import Batch
from jaxgan.networks.conditional import ConditionalBatchNorm, append_embedding, projection
from jaxgan.networks.layers import Context

pytestmark = pytest.mark.usefixtures("quick_programs")

LABELS = np.array([2, 0, 2, 1, 0])
CLASSES = 3


class Called(nn.Module):
    """A function of the compact call of a module."""

    function: callable

    @nn.compact
    def __call__(self, *args):
        return self.function(*args, CLASSES)


def init(module, *args):
    return jax.jit(module.init, compiler_options=QUICK)(jax.random.key(0), *args)


def random(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("shape", [(5, 4), (5, 2, 3, 4)], ids=str)
def test_conditional_batch_normalisation_by_its_formula(shape):
    x, scale, bias = 3 * random(0, *shape) + 1, random(1, CLASSES, 4), random(2, CLASSES, 4)
    norm = lambda train: ConditionalBatchNorm(Context(train), CLASSES, momentum=0.7)  # noqa: E731
    variables = init(norm(False), x, LABELS)
    params = variables["params"]
    assert jax.tree.map(jnp.shape, params) == {"scale": {"embedding": (3, 4)}, "bias": {"embedding": (3, 4)}}
    np.testing.assert_array_equal(params["scale"]["embedding"], np.ones((3, 4)))
    np.testing.assert_array_equal(params["bias"]["embedding"], np.zeros((3, 4)))

    axes = tuple(range(len(shape) - 1))
    mean, var = np.float64(x).mean(axes), np.float64(x).var(axes)
    by_class = lambda rows: np.stack([rows[label] for label in LABELS]).reshape(5, *[1] * (len(shape) - 2), 4)  # noqa: E731
    formula = lambda mean, var: (x - mean) / np.sqrt(var + 1e-3) * by_class(scale) + by_class(bias)  # noqa: E731
    params = {"scale": {"embedding": jnp.asarray(scale)}, "bias": {"embedding": jnp.asarray(bias)}}
    variables = {"params": params, "batch_stats": variables["batch_stats"]}
    got, changed = norm(True).apply(variables, x, LABELS, mutable=["batch_stats"])
    np.testing.assert_allclose(got, formula(mean, var), atol=2e-5)
    (stats,) = changed["batch_stats"].values()
    np.testing.assert_allclose(stats["mean"], 0.3 * mean, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(stats["var"], 0.7 + 0.3 * var, rtol=1e-4)
    got = norm(False).apply({"params": params, **changed}, x, LABELS)
    np.testing.assert_allclose(got, formula(0.3 * mean, 0.7 + 0.3 * var), atol=2e-5)


def test_projection_by_its_formula():
    features, table = random(0, 5, 4), random(1, CLASSES, 4)
    module = Called(projection)
    (start,) = jax.tree.leaves(init(module, features, LABELS))
    np.testing.assert_array_equal(start, np.zeros((3, 4)))
    got = module.apply({"params": {"Embed_0": {"embedding": jnp.asarray(table)}}}, features, LABELS)
    want = [sum(table[label, c] * row[c] for c in range(4)) for label, row in zip(LABELS, features, strict=True)]
    np.testing.assert_allclose(got, want, rtol=1e-5)


def test_an_embedding_is_appended():
    z, table = random(0, 5, 4), random(1, CLASSES, 4)
    module = Called(append_embedding)
    assert {x.shape for x in jax.tree.leaves(init(module, z, LABELS))} == {(3, 4)}
    got = module.apply({"params": {"Embed_0": {"embedding": jnp.asarray(table)}}}, z, LABELS)
    np.testing.assert_array_equal(got, [[*row, *table[label]] for label, row in zip(LABELS, z, strict=True)])


@pytest.mark.parametrize("function", [append_embedding, projection])
def test_in_bf16_they_stay_in_it(function):
    x = jnp.asarray(random(0, 5, 4), jnp.bfloat16)
    module = Called(function)
    variables = jax.tree.map(lambda w: w.astype(jnp.bfloat16), init(module, x, LABELS))
    assert module.apply(variables, x, LABELS).dtype == jnp.bfloat16


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.arange(8) % 4, "from 0 to 2, .* not from 0 to 3"),
        (-np.ones(8, np.int32), "not from -1 to -1"),
        (np.ones(8), "8 integers, one for each image, not float64"),
        (np.ones(7, np.int32), r"not int32 of shape \[7\]"),
    ],
)
def test_labels_that_are_no_classes_are_refused_wherever_they_have_values(labels, message):
    """A step that is compiled does not see them: neither itself, nor in the loop of several, nor on devices."""
    gan = small_gan(classes=3)
    state, batch = jaxgan.init(gan, jax.random.key(0)), Batch(np.zeros((8, 4, 4, 1), np.uint8), labels)
    with pytest.raises(ValueError, match=message):
        jaxgan.train_step(gan, state, batch)
    with pytest.raises(ValueError, match=message):
        jaxgan.train_steps(gan, state, batch, np.arange(8)[None], 1)
    for form in parallel.FORMS:
        devices = parallel.choose_devices(1)
        with pytest.raises(ValueError, match=message):
            parallel.on_devices(jaxgan.train_step, gan, devices, form)(parallel.replicate(state, devices), batch)
