"""What a step's collectives move, against the sizes of what they are for."""

import dataclasses
from pathlib import Path

import jax
import pytest

import jaxgan
from experiments import communication, recipes
from jaxgan import parallel
from jaxgan.gan import image_shape

README = (Path(__file__).parents[1] / "README.md").read_text()

# How many times a step's forward and backward passes go through the moments of a layer, or a minibatch feature.
# Shared: G once each way; D forwards on both batches, backwards from its loss through both and from G's through one.
# Alternating: G once more forwards, for D's update; D, for G's update, once more each way.
PASSES = {"shared": {"gen": 2, "disc": 5}, "alternating": {"gen": 3, "disc": 6}}
# The maps that the features are taken of: (height = width, channels).
DIFF = {"keras_dcgan": [(16, 24), (8, 48), (4, 96), (2, 192)]}
SIMILARITY = {"canton_lsgan": [(16, 32), (8, 64), (4, 128), (2, 256)]}


@pytest.fixture(scope="module")
def counted():
    """The bytes of each recipe's step, by kind."""
    return {
        name: communication.count_bytes(communication.compiled_step(recipe.build(), recipe.batch_size))
        for name, recipe in recipes.RECIPES.items()
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", recipes.RECIPES)
def test_gradients_once_moments_and_minibatch_features_and_nothing_else(counted, name):
    recipe = recipes.get(name)
    gan = recipe.build()
    state = jaxgan.init(gan, jax.random.key(0))
    passes = PASSES[recipe.update]
    assert counted[name]["gradients"] == 4 * count((state.gen.params, state.disc.params))
    # The running mean and variance have as many values as the moments that are exchanged.
    assert counted[name]["moments"] == 4 * sum(
        passes[net] * count(getattr(state, net).batch_stats) for net in ("gen", "disc")
    )
    mean_map = sum(size * size * channels for size, channels in DIFF.get(name, []))
    maps, cotangents = (
        recipe.batch_size * sum(size * size * channels for size, channels in layers)
        for layers in (SIMILARITY.get(name, []), [(size, 1) for size, _ in SIMILARITY.get(name, [])])
    )
    # The maps of both batches; to each of the three backward passes, which need them again, the cotangents.
    assert counted[name]["features"] == 4 * (5 * mean_map + 2 * maps + 3 * cotangents)
    assert counted[name]["losses"] == 4 * 4
    assert counted[name]["other"] == 0


@pytest.mark.slow
def test_the_readme_has_these_rows(counted):
    for name, recipe in recipes.RECIPES.items():
        assert f"\n{communication.row(name, recipe.batch_size, counted[name])}\n" in README


def test_one_device_says_nothing():
    gan = recipes.get("digits").build()
    images = jax.ShapeDtypeStruct((16, *image_shape(gan)), "uint8")
    step = parallel.shard_mapped(gan, parallel.choose_devices(1))
    program = step.lower(jaxgan.init(gan, jax.random.key(0)), images).compile().as_text()
    assert communication.count_bytes(program) == dict.fromkeys(communication.COLUMNS, 0)


def test_pmap_moves_what_shard_map_moves(counted):
    gan = recipes.get("digits").build()
    images = jax.ShapeDtypeStruct((2, 32, *image_shape(gan)), "uint8")
    step = parallel.pmapped(gan, parallel.choose_devices(2))
    lowered = step.lower(jaxgan.init(gan, jax.random.key(0)), images)
    program = lowered.compile(compiler_options=communication.APART).as_text()
    assert communication.count_bytes(program) == counted["digits"]


def test_operations_are_counted_by_what_they_are_for():
    program = """
  %psum.1 = f32[2,64]{1,0} all-reduce(%a), to_apply=%add, metadata={op_name="jit(f)/jvp(Net)/BatchNorm_3/psum"}
  %gather = bf16[8,4]{1,0} all-gather(%b), dimensions={0}, metadata={op_name="jit(f)/minibatch_features/all_gather"}
  %start = (f32[3]{0}, f64[5]{0}) all-reduce-start(%c, %d), metadata={op_name="jit(f)/gradients/psum"}
  %done = (f32[3]{0}, f64[5]{0}) all-reduce-done(%start), metadata={op_name="jit(f)/gradients/psum"}
  %lost = f32[] collective-permute(%e), metadata={op_name="jit(f)/ppermute"}
  %sum = f32[7]{0} add(%f, %g), metadata={op_name="jit(f)/gradients/add"}
"""
    assert communication.count_bytes(program) == {
        "gradients": 4 * 3 + 8 * 5,
        "moments": 4 * 2 * 64,
        "features": 2 * 8 * 4,
        "losses": 0,
        "other": 4,
    }


def test_microbatches_exchange_moments_each_and_gradients_once():
    """What is within the loop over microbatches has it in its scope."""
    gan = dataclasses.replace(recipes.get("digits").build(), accumulate=4)
    scopes = [found["scope"] for found in communication.COLLECTIVE.finditer(communication.compiled_step(gan, 64))]
    assert {"while" in scope for scope in scopes if "gradients" in scope.split("/")} == {False}
    assert {"while" in scope for scope in scopes if "BatchNorm_0" in scope.split("/")} == {True}


def count(tree):
    return sum(x.size for x in jax.tree.leaves(tree))
