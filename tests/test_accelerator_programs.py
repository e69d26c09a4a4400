"""What the programs hold that the accelerators' compilers make: `experiments.plan` on targets that are not here.

The compilers are libtpu, and JAX's CUDA plugin with ptxas. Where they are not installed beside JAX, JAXGAN_COMPILERS
may name a folder that they were installed into (`pip install --no-deps --target`). It is for the processes that are
started here alone: with the plugin in sight and no driver, any other use of JAX would complain.
"""

import functools
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest
from common import at_night

import jaxgan
from experiments.bench import communication
from jaxgan import recipes
from jaxgan.gan import image_shape

ROOT = Path(__file__).parents[1]
NAMES = ["tf2_gan", *at_night(["digits", "canton_lsgan"])]  # others take minutes more
SIZES = {"digits": 1_797, "keras_dcgan": 50_000, "canton_lsgan": 50_000, "gan_elements": 70_000}  # else MNIST's 60,000


@functools.cache
def planned(name, target):
    """What `--json` has of a recipe."""
    path = os.pathsep.join(filter(None, [os.environ.get("JAXGAN_COMPILERS"), os.environ.get("PYTHONPATH")]))
    file = Path(os.environ["JAX_COMPILATION_CACHE_DIR"]) / f"plan-{Path(name).stem}-{target.replace(':', '-')}.json"
    command = [sys.executable, "-m", "experiments.plan", name, "--on", target, "--json", str(file)]
    environment = os.environ | {"PYTHONPATH": path}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    if "not installed here" in done.stderr and done.returncode == 2:
        return done.stderr.strip()
    assert done.returncode == 0, done.stderr
    return json.loads(file.read_text()) | {"printed": done.stdout}


def of(name, target):
    """The same, where there is a compiler."""
    found = planned(name, target)
    if isinstance(found, str):
        pytest.skip(found)
    return found


def convolutions(name):
    """How many an update needs, from the number of kernels alone.

    Shared: G runs once forwards and D once on each batch. From D's loss back through both of its passes, to each kernel
    and to each layer's input but the images; from G's back through D's pass on generated images to all inputs, and on
    through G, to each kernel and each input but z. Alternating: G and D once more forwards. Where G begins with a
    transposed convolution of one pixel, that is a matrix product.
    """
    gan = recipes.get(name).build()
    state = jax.eval_shape(lambda: jaxgan.init(gan, jax.random.key(0)))
    kernels = {net: [x for x in jax.tree.leaves(getattr(state, net).params) if x.ndim == 4] for net in ("gen", "disc")}
    gen, disc = len(kernels["gen"]), len(kernels["disc"])
    dense = any(x.ndim == 2 for x in jax.tree.leaves(state.gen.params))  # G's first layer where there is one
    gen -= not dense
    shared = gen + 2 * disc + 2 * (2 * disc - bool(disc)) + disc + 2 * gen
    return shared + (gen + disc if gan.update == "alternating" else 0)


def check(name, target, devices):
    """What holds of every recipe on every accelerator."""
    found, gan = of(name, target), recipes.get(name).build()
    assert found["devices"] == devices
    assert found["convolutions"] == convolutions(name)
    assert "f64" not in found["types"]
    assert found["host_transfers"] == 0
    size = SIZES.get(name, 60_000) * math.prod(image_shape(gan))
    assert not found["streamed"]
    assert found["dataset_bytes"] == size or (size <= found["dataset_bytes"] < 1.5 * size and target.startswith("v"))
    assert found["fits"]
    for word in (f"{found['launches']:,}\n", "fits", "roofline", name, target):
        assert word in found["printed"]
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_recipes_on_an_h100(name):
    found = check(name, "h100", 1)
    state = jax.eval_shape(lambda: jaxgan.init(recipes.get(name).build(), jax.random.key(0)))
    leaves = jax.tree.leaves(state.replace(key=jax.ShapeDtypeStruct((2,), "uint32")))
    assert found["state_bytes"] == sum(x.size * x.dtype.itemsize for x in leaves)
    assert found["collectives"] == {}
    # canton_lsgan compares each of 32 images with all, at once: in loops it would be more than ten times 32 launches.
    assert name != "canton_lsgan" or found["launches"] < 10 * 32


@pytest.mark.nightly
@pytest.mark.parametrize(("name", "target"), [("digits", "v5e:2x4"), ("digits", "h100:8")])
def test_eight_devices_exchange_what_the_docs_say(name, target):
    """Of some recipes: all of them take minutes, most of all for a TPU; docs/devices.md has them."""
    collectives = check(name, target, 8)["collectives"]
    assert {opcode: size for opcode, (_, size) in collectives.items()} == {"all-reduce": exchanged(name)}


@functools.cache
def exchanged(name):
    """The bytes of an update, as this machine's compiler has it."""
    recipe = recipes.get(name)
    return sum(communication.count_bytes(communication.compiled_steps(recipe.build(), recipe.batch_size)).values())


ONE_PIXEL = """
import flax.linen as nn

from jaxgan import recipes
from jaxgan.networks.layers import Conv, ConvTranspose, as_map, flat_logits


class Gen(nn.Module):
    @nn.compact
    def __call__(self, z, labels, context):
        return nn.tanh(ConvTranspose(1, 3, 2)(nn.relu(ConvTranspose(8, 4, padding="VALID")(as_map(z)))))


class Disc(nn.Module):
    @nn.compact
    def __call__(self, images, labels, context):
        return flat_logits(nn.relu(Conv(8, 3, 2)(images)))


RECIPE = recipes.get("digits").replace(gen=Gen(), disc=Disc())
"""


@pytest.mark.slow
def test_a_generator_that_begins_with_one_pixel_on_a_tpu(tmp_path):
    """libtpu breaks down on a convolution that has more padding than its map has pixels."""
    file = tmp_path / "one_pixel.py"
    file.write_text(ONE_PIXEL)
    found = of(str(file), "v5e:1x1")
    # G's second layer forwards, and back to its kernel and input; D's on both batches, back to its kernel for D's loss,
    # and to generated images for G's. On a TPU, XLA writes the product and its gradient as convolutions, too.
    assert found["convolutions"] == 3 + 2 + 2 + 1 + 2


def test_the_number_of_convolutions_is_that_derived_elsewhere():
    """tests/test_one_forward_pass.py counts 28, layer by layer, and 34 where an update does not share."""
    assert (convolutions("tf2_dcgan"), convolutions("gan_elements"), convolutions("tf2_gan")) == (28, 34, 0)


@pytest.mark.slow
def test_a_plan_for_this_machine(tmp_path):
    """From the command line to its JSON, with a file of one's own: XLA counts its products too, and more beside."""
    file = tmp_path / "mine.py"
    file.write_text('from experiments import recipes\nRECIPE = recipes.get("tf2_gan").replace(batch_size=16)\n')
    found = planned(str(file), "cpu")
    assert (found["recipe"], found["batch_size"], found["images"]) == ("mine", 16, 60_000)
    assert found["convolutions"] == 0
    assert found["roofline_ms"] is None
    assert found["fits"]
    assert found["argument_bytes"] == found["state_bytes"] + found["dataset_bytes"] + found["batches_bytes"]
    assert found["batches_bytes"] == 4 * (100 * 16 + 1)
    # Three passes forwards, three back and one for G alone, through products of 784 x 128 and 100 x 128.
    products = 2 * 16 * 128 * (784 + 100)
    assert 5 * products < found["flops"] <= found["xla_flops"]
