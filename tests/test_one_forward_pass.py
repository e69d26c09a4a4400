"""The promise of one forward pass: the program that runs take holds no second one.

Convolutions and matrix products are counted in it, against counts derived by hand.
"""

import dataclasses
import functools
import re

import jax
import jax.numpy as jnp
import pytest
from common import QUICK, at_night

import jaxgan
from jaxgan import convolutions, networks, recipes
from jaxgan.adversarial import adversarial
from jaxgan.gan import Batch, image_shape
from jaxgan.losses import of_logits, relativistic
from jaxgan.penalties import R1, R2

# tf2_dcgan: both networks have three convolutions and a dense layer. D's dense layer has one output, so the gradient of
# its input is an outer product of vectors, and no product is needed for it.
G_FORWARD, D_FORWARD = (3, 1), (3, 1)  # convolutions, matrix products
GEN_BACKWARD = (3 + 3, 1)  # the gradients of all weights, and of every layer's input but z
DISC_BACKWARD = (3 + 2, 1)  # likewise, without the images; the dense layer's input needs none
DISC_TO_IMAGES = (3, 0)  # the gradients of all inputs, down to the generated images


def total(*counts):
    return tuple(map(sum, zip(*counts, strict=True)))


MINIMUM = total(G_FORWARD, D_FORWARD, D_FORWARD, DISC_BACKWARD, DISC_BACKWARD, DISC_TO_IMAGES, GEN_BACKWARD)


def arguments(gan, count=8):
    """Shapes of what `train_steps` takes after the GAN: nothing is computed."""
    state = jax.eval_shape(lambda key: jaxgan.init(gan, key), jax.random.key(0))
    images = jax.ShapeDtypeStruct((2 * count, *image_shape(gan)), jnp.uint8)
    labels = jax.ShapeDtypeStruct((2 * count,), jnp.int32) if gan.classes else None
    others = {name: jax.ShapeDtypeStruct((2 * count, *shape), jnp.uint8) for name, shape in gan.others}
    return (
        state,
        Batch(images, labels, others or None),
        jax.ShapeDtypeStruct((1, count), jnp.int32),
        jax.ShapeDtypeStruct((), jnp.int32),
    )


def counted(program):
    """How many convolutions and matrix products a compiled program holds."""
    text = program.compile(QUICK).as_text()
    return tuple(len(re.findall(rf" {name}\(", text)) for name in ("convolution", "dot"))


def for_gpu(function, *args):
    """The counts of the program that JAX makes for a GPU, after XLA has dropped what is not needed, as it does here."""
    anywhere = [jax.export.DisabledSafetyCheck.platform()]
    made = jax.export.export(jax.jit(function), platforms=["cuda"], disabled_checks=anywhere)(*args)
    return counted(jax.jit(made.call).lower(*args))


def for_cpu(function, *args):
    """The counts of the program for this CPU, whose own forms of convolutions are switched off: they are products."""
    with convolutions.native():
        return counted(jax.jit(function).lower(*args))


def steps(name="tf2_dcgan", **changes):
    """`train_steps` of a recipe, the program that runs take, and its arguments."""
    gan = dataclasses.replace(recipes.get(name).build(), **changes)
    return functools.partial(jaxgan.train_steps, gan), *arguments(gan)


@pytest.mark.parametrize("count", [for_gpu, for_cpu])
def test_the_shared_step_holds_one_forward_pass_and_three_pullbacks(count):
    assert count(*steps()) == MINIMUM == (28, 6)


def test_the_count_sees_a_step_that_does_not_share():
    """Fresh noise for G's update, as two separate steps have it: another pass of G and of D."""
    assert for_cpu(*steps(update="alternating")) == total(MINIMUM, G_FORWARD, D_FORWARD) == (34, 8)


@pytest.mark.nightly
@pytest.mark.parametrize(("update", "real"), [("shared", (0, 0)), ("alternating", D_FORWARD)])
def test_a_relativistic_loss_costs_a_shared_step_nothing(update, real):
    """G's loss needs D(real), which an alternating step has to compute for it at D's new weights."""
    gen = lambda real, fake: jnp.mean(jax.nn.softplus(jnp.mean(real) - fake))  # noqa: E731
    disc = lambda real, fake: jnp.mean(jax.nn.softplus(jnp.mean(fake) - real))  # noqa: E731
    separate = total(G_FORWARD, D_FORWARD) if update == "alternating" else (0, 0)
    assert for_gpu(*steps(update=update, loss=of_logits(gen, disc))) == total(MINIMUM, separate, real)


# gan_elements has as many layers as tf2_dcgan, of the same kinds, and no batch normalisation in D. A penalty asks for
# D's gradients in its images. The gradient of their squares in D's weights leads once more through each layer, and to
# its weights; not into the forward pass, since D's slopes are constant.
PENALTY = total(DISC_TO_IMAGES, (3 + 3, 1))
PENALISED = {"loss": relativistic(), "penalties": (R1(1.0), R2(1.0))}


@pytest.mark.slow
def test_with_r2_the_generator_needs_no_pass_back_through_d():
    """Of three passes back to the generated images, D's loss's, R2's and G's, the last is R2's own."""
    convolutions, products = total(MINIMUM, PENALTY, PENALTY)
    shared = for_cpu(*steps("gan_elements", update="shared", **PENALISED))
    assert shared == (convolutions - DISC_TO_IMAGES[0], products) == (43, 8)


@pytest.mark.slow
def test_an_alternating_step_with_r1_and_r2_has_a_quarter_more_to_do():
    """Another pass of G, and two of D, as its loss compares generated images with real ones."""
    function, *args = steps("gan_elements", update="alternating", **PENALISED)
    separate = total(MINIMUM, PENALTY, PENALTY, G_FORWARD, D_FORWARD, D_FORWARD)
    assert for_gpu(function, *args) == separate == (55, 11)
    shared, *_ = steps("gan_elements", update="shared", **PENALISED)

    def flops(function):
        with convolutions.native():
            return jax.jit(function).lower(*args).compile(QUICK).cost_analysis()["flops"]

    assert flops(function) > 1.25 * flops(shared)


# StyleGAN2 of four stages, without its penalties. Convolutions of 3x3: seven in G, of which each has a gradient in its
# kernel and, as the constant is a parameter, in its input; seven in D. Those of 1x1 are four in either; XLA makes
# products of them forwards, and counts the others as convolutions. Dense layers: in G two of the mapping, a style for
# each of eleven convolutions, and seven norms of kernels, products of squares; in D two, the last of one output.
STYLES = {
    "gen": networks.StyleGAN2Gen((8, 8, 8, 8), 16, mixing=0.0),
    "disc": networks.StyleGAN2Disc((8, 8, 8, 8), 16),
    "game": adversarial,
    "memory": None,
    **dict.fromkeys(("penalties", "regularizers", "transforms"), ()),
}
STYLES_G, STYLES_D = (7, 4 + 2 + 11 + 7), (7, 4 + 2)
STYLES_BACKWARD = total((2 * 7 + 2 * 4, 2 + 1 + 2 * 11 + 2 * 7), *[(2 * 7 + 4 + 3, 2 + 1)] * 2, (7 + 4, 1))


@pytest.mark.nightly
@pytest.mark.parametrize(("update", "again"), [("shared", ()), *at_night([("alternating", (STYLES_G, STYLES_D))])])
def test_stylegan2_shares_its_pass_too(update, again):
    """Of G on, D on both batches, and back: an alternating step has 14 convolutions and 30 products more."""
    want = total(STYLES_G, STYLES_D, STYLES_D, STYLES_BACKWARD, *again)
    assert for_gpu(*steps("stylegan2_small", update=update, **STYLES)) == want
    assert want == ((96, 82) if update == "shared" else (110, 112))


# pix2pix: a U-Net of eight convolutions, whose input is data, and a D of three, whose gradient in the generated image
# both losses need: G's down to the image, D's own down to its second layer.
PIX2PIX = 8 + 2 * 3, 2 * (3 + 2), 3, 8 + 7  # forward, D's loss back through D, G's loss through D, and on through G

# CycleGAN: generators of twelve convolutions, called six times: there, back, each on what the other has made, and each
# on images of its own domain. Two that are called on generated images have a gradient in these. Each D of three sees
# three batches: D's loss is of the real and the pool's, G's of what is generated now.
CYCLEGAN = 6 * 12 + 2 * 3 * 3, 2 * 2 * (3 + 2), 2 * 3, 6 * 12 + 2 * 12 + 4 * 11


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "parts", "number", "again"),
    [("pix2pix", PIX2PIX, 42, 8 + 3), *at_night([("cyclegan", CYCLEGAN, 256, 2 * 11 + 3)])],
    ids=["pix2pix", "cyclegan"],
)
def test_games_of_images_share_their_pass_too(name, parts, number, again):
    """An alternating step makes the images for D's update once more, and has D judge them in one more pass.

    CycleGAN's generators have no noise, so that the compiler finds their first layers to be the same in both.
    """
    assert for_gpu(*steps(name))[0] == sum(parts) == number
    assert for_gpu(*steps(name, update="alternating"))[0] == number + again
