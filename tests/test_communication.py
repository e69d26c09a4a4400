"""What the collectives of `train_steps`, the program that runs take, move: against the sizes of what they are for."""

import jax
import pytest
from common import Comparing, small_gan

import jaxgan
from experiments.bench import communication
from jaxgan import parallel, recipes
from jaxgan.gan import Batch
from jaxgan.programs.compile_ahead import lower

# How many times a step's forward and backward passes go through the moments of a layer, or a minibatch feature.
# Shared: G once each way; D forwards on both batches, backwards from its loss through both and from G's through one.
# Alternating: G once more forwards, for D's update; D, for G's update, once more each way.
PASSES = {"shared": {"gen": 2, "disc": 5}, "alternating": {"gen": 3, "disc": 6}}


@pytest.mark.parametrize("name", ["tf2_gan", pytest.param("digits", marks=pytest.mark.slow)])
def test_gradients_once_and_moments_and_nothing_else(name):
    recipe = recipes.get(name)
    state = jax.eval_shape(lambda: jaxgan.init(recipe.build(), jax.random.key(0)))
    # The running mean and variance have as many values as the moments that are exchanged.
    moments = {net: count(getattr(state, net).batch_stats) for net in ("gen", "disc")}
    assert communication.count_bytes(communication.compiled_steps(recipe.build(), recipe.batch_size)) == {
        "gradients": 4 * count((state.gen.params, state.disc.params)),
        "moments": 4 * sum(PASSES["shared"][net] * moments[net] for net in moments),
        "features": 0,
        "losses": 4 * 4,
        "other": 0,
    }


def test_minibatch_features_exchange_means_and_maps():
    """Of maps of 4x4: the mean of 2 channels in each of five passes; and 3 channels of both batches of 8.

    To each of the three backward passes, which need the maps again, the cotangents of one channel.
    """
    found = communication.count_bytes(communication.compiled_steps(small_gan(disc=Comparing()), 8))
    assert found["features"] == 4 * 16 * (5 * 2 + 2 * 8 * 3 + 3 * 8 * 1)
    assert found["other"] == 0


@pytest.mark.parametrize("update", ["shared", "alternating"])
def test_a_small_gan_with_labels_says_as_much(update):
    """Its moments by hand: of 16 units, mean and variance, each time a layer is passed."""
    gan = small_gan(3, update=update)
    state = jax.eval_shape(lambda: jaxgan.init(gan, jax.random.key(0)))
    bytes_of = communication.count_bytes(communication.compiled_steps(gan, 8))
    assert bytes_of == {
        "gradients": 4 * count((state.gen.params, state.disc.params)),
        "moments": 4 * 32 * sum(PASSES[update].values()),
        "features": 0,
        "losses": 4 * 4,
        "other": 0,
    }


def test_pmap_moves_what_shard_map_moves():
    gan = small_gan(3)
    state = jax.eval_shape(lambda: jaxgan.init(gan, jax.random.key(0)))
    dataset = Batch(jax.ShapeDtypeStruct((8, 4, 4, 1), "uint8"), jax.ShapeDtypeStruct((8,), "int32"))
    batches, times = jax.ShapeDtypeStruct((1, 8), "int32"), jax.ShapeDtypeStruct((), "int32")
    steps = parallel.steps_on(gan, parallel.choose_devices(2), "pmap")
    program = jax.jit(steps).lower(state, dataset, batches, times).compile(communication.APART).as_text()
    assert communication.count_bytes(program) == communication.count_bytes(communication.compiled_steps(gan, 8))


def test_one_device_says_nothing():
    program = lower(small_gan(), 16, parallel.choose_devices(1), images=16).compile().as_text()
    assert communication.count_bytes(program) == dict.fromkeys(communication.COLUMNS, 0)


def test_operations_are_counted_by_what_they_are_for():
    program = """ENTRY %main () -> f32[7] {
  %psum.1 = f32[2,64]{1,0} all-reduce(%a), to_apply=%add, metadata={op_name="jit(f)/jvp(Net)/BatchNorm_3/psum"}
  %gather = bf16[8,4]{1,0} all-gather(%b), dimensions={0}, metadata={op_name="jit(f)/minibatch_features/all_gather"}
  %twice = (bf16[8,4]{1,0}, bf16[16,4]{1,0}) all-gather-start(%b), dimensions={0}, metadata={op_name="jit(f)/losses/g"}
  %start = (f32[3]{0}, f64[5]{0}) all-reduce-start(%c, %d), metadata={op_name="jit(f)/gradients/psum"}
  %done = (f32[3]{0}, f64[5]{0}) all-reduce-done(%start), metadata={op_name="jit(f)/gradients/psum"}
  %lost = f32[] collective-permute(%e), metadata={op_name="jit(f)/ppermute"}
  %sum = f32[7]{0} add(%f, %g), metadata={op_name="jit(f)/gradients/add"}
}
"""
    assert communication.count_bytes(program) == {
        "gradients": 4 * 3 + 8 * 5,
        "moments": 4 * 2 * 64,
        "features": 2 * 8 * 4,
        "losses": 2 * 16 * 4,
        "other": 4,
    }


def test_microbatches_exchange_moments_each_and_gradients_once():
    """What is within the loop over microbatches, itself in the loop over updates, has it in its scope once more."""
    gan = small_gan(accumulate=4)
    scopes = [scope for _, scope in communication.collectives(communication.compiled_steps(gan, 8))]
    loops = lambda part: {scope.count("while") for scope in scopes if part in scope}  # noqa: E731
    assert loops("gradients") == {1}
    assert loops("BatchNorm_0") == {2}


def count(tree):
    return sum(x.size for x in jax.tree.leaves(tree))
