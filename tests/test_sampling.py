"""Samples, patches from grids of latents, and paths between latents."""

import dataclasses
import functools
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from common import at_night, small_gan

import jaxgan
from jaxgan import recipes, sampling
from jaxgan.forward_pass import and_extra
from jaxgan.images import to_uint8
from jaxgan.networks import Context
from jaxgan.networks.layers import ConvTranspose, as_map
from jaxgan.randomness import Purpose, draw_z

pytestmark = pytest.mark.usefixtures("quick_programs")

KEY = jax.random.key(1)


@pytest.fixture(scope="module")
def small():
    gan = small_gan()
    state = jaxgan.init(gan, jax.random.key(0))
    return gan, state.replace(averaged_gen=jax.tree.map(lambda x: x * 0.5, state.averaged_gen))


def made(gan, variables, z, labels=None):
    images, _ = and_extra(gan.gen.apply(variables, z, labels, Context()))
    return np.asarray(to_uint8(images, gan.image_range)).astype(int)


def assert_same_images(got, expected):
    assert got.shape == expected.shape
    assert np.abs(got.astype(int) - expected).max() <= 1  # a value half-way may round either way


def test_samples(small):
    gan, state = small
    images = jaxgan.sample(gan, state, KEY, 70)
    assert images.shape == (70, 4, 4, 1)
    assert images.dtype == np.uint8
    np.testing.assert_array_equal(jaxgan.sample(gan, state, KEY, 10), images[:10])
    assert (jaxgan.sample(gan, state, jax.random.key(2), 10) != images[:10]).any()
    last = jaxgan.sample(gan, state, KEY, 10, averaged=False)
    assert (last != images[:10]).any()
    z = draw_z(gan, KEY, jnp.arange(70))
    assert_same_images(images, made(gan, state.averaged_gen, z))
    assert_same_images(last, made(gan, state.gen.variables, z[:10]))


@pytest.mark.parametrize("prior", ["normal", "uniform"])
def test_a_path_leads_from_each_sample_to_the_next(small, prior):
    gan, state = small
    gan = dataclasses.replace(gan, prior=prior)
    paths = sampling.interpolate(gan, state, KEY, count=5, steps=9)
    assert paths.shape == (5, 9, 4, 4, 1)
    samples = jaxgan.sample(gan, state, KEY, 6)
    assert_same_images(paths[:, 0], samples[:-1].astype(int))
    assert_same_images(paths[:, -1], samples[1:].astype(int))
    z = np.asarray(draw_z(gan, KEY, jnp.arange(6)))
    half = np.sqrt(0.5) if prior == "normal" else 0.5  # equal shares of both ends
    assert_same_images(paths[:, 4], made(gan, state.averaged_gen, jnp.asarray(half * (z[:-1] + z[1:]))))


class Shows(nn.Module):
    """A generator whose images are its latents, scaled to be within the range."""

    def __call__(self, z, labels, context):
        return z.reshape(len(z), 1, -1, 1) / 5


def test_latents_on_a_path_are_as_long_as_any():
    """cos(u)^2 + sin(u)^2 = 1: the variance of the prior all along."""
    gan = small_gan(z_size=4000, gen=Shows())
    state = jaxgan.GANState(0, KEY, None, None, {})
    paths = sampling.interpolate(gan, state, KEY, count=2, steps=7).astype(float)
    np.testing.assert_allclose(paths.std(axis=(2, 3, 4)), paths[:, :1].std(axis=(2, 3, 4)).repeat(7, 1), rtol=0.05)


class Patches(nn.Module):
    """A fully convolutional generator: [B, h, w, z_size] -> [B, 4 * h, 4 * w, 1]."""

    @nn.compact
    def __call__(self, z, labels, context):
        return jnp.tanh(ConvTranspose(1, 4, 4)(as_map(z)))


@pytest.mark.slow
def test_a_grid_of_latents_makes_patches(monkeypatch):
    gan = dataclasses.replace(small_gan(), gen=Patches())
    state = jaxgan.init(gan, jax.random.key(0))
    monkeypatch.setattr(sampling, "AT_ONCE", 4)
    patches = jaxgan.sample(gan, state, KEY, 3, latent_grid=(1, 2))
    assert patches.shape == (3, 4, 8, 1)
    np.testing.assert_array_equal(jaxgan.sample(gan, state, KEY, 1, latent_grid=(1, 2)), patches[:1])
    assert_same_images(patches, made(gan, state.averaged_gen, draw_z(gan, KEY, jnp.arange(3), (1, 2))))


def test_a_grid_of_latents_needs_a_fully_convolutional_generator():
    for name in ("digits", "keras_mnist", "tf2_gan", "tf2_dcgan", "gan_elements"):
        with pytest.raises(ValueError, match="has a dense layer"):
            jaxgan.sample(recipes.get(name).build(), None, KEY, 1, latent_grid=(2, 2))


@pytest.fixture(scope="module")
def conditional():
    gan = small_gan(classes=3)
    return gan, jaxgan.init(gan, jax.random.key(0))


def test_samples_and_paths_of_classes(conditional):
    """By default each image's class is drawn, by the key and its number; or they are those asked for."""
    gan, state = conditional
    drawn = sampling.sample_labels(gan, KEY, 70)
    key = jax.random.fold_in(KEY, int(Purpose.LABELS))
    by_hand = [int(jax.random.randint(jax.random.fold_in(key, i), (), 0, 3)) for i in range(6)]
    assert drawn[:6].tolist() == by_hand
    np.testing.assert_array_equal(sampling.sample_labels(gan, KEY, 10), drawn[:10])
    images = jaxgan.sample(gan, state, KEY, 70)
    z = draw_z(gan, KEY, jnp.arange(70))
    assert_same_images(images, made(gan, state.averaged_gen, z, drawn))
    asked = jnp.arange(70) % 3
    of_asked = jaxgan.sample(gan, state, KEY, 70, labels=asked)
    assert_same_images(of_asked, made(gan, state.averaged_gen, z, asked))
    same = np.asarray(asked == drawn)
    np.testing.assert_array_equal(of_asked[same], images[same])
    assert (of_asked[~same] != images[~same]).any((1, 2, 3)).all()
    labels = jnp.array([2, 0, 1])
    paths = sampling.interpolate(gan, state, KEY, count=3, steps=4, labels=labels)
    assert_same_images(paths[:, 0], made(gan, state.averaged_gen, z[:3], labels))
    assert_same_images(paths[:, -1], made(gan, state.averaged_gen, z[1:4], labels))
    # A grid has a row of each class.
    assert sampling.grid_labels(gan, 2).tolist() == [0, 0, 1, 1, 2, 2]
    assert len(sampling.grid_labels(small_gan(classes=100))) == 16 * 8
    assert sampling.grid_labels(small_gan()) is None


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (jnp.zeros(3, jnp.int32), "4 integers, one for each image, not int32 of shape [3]"),
        (np.array(1), "4 integers, one for each image, not int64 of shape []"),
        (np.full(4, 1.9), "4 integers, one for each image, not float64"),
        (np.array([0, 1, 2, 3]), "from 0 to 2, one less than the number of classes, not from 0 to 3"),
        (jnp.array([0, 0, -1, 0]), "not from -1 to 0"),
    ],
)
def test_labels_that_do_not_fit_are_refused(conditional, labels, words):
    for door in (jaxgan.sample, functools.partial(sampling.interpolate, steps=3)):
        draw = functools.partial(door, *conditional, KEY, 4, labels=labels)
        for call in (draw, jax.jit(draw)):
            with pytest.raises(ValueError, match=re.escape(words)):
                call()
        with pytest.raises(ValueError, match="the GAN has no classes"):
            door(small_gan(), None, KEY, 4, labels=jnp.zeros(4, jnp.int32))


def test_counts_that_make_no_images_are_refused(conditional):
    gan, state = conditional
    for count in (0, -1):
        for door in (jaxgan.sample, functools.partial(sampling.interpolate, steps=3)):
            with pytest.raises(ValueError, match=f"count must be at least 1, not {count}"):
                door(gan, state, KEY, count)
    with pytest.raises(ValueError, match="steps must be at least 2, not 1"):
        sampling.interpolate(gan, state, KEY, 4, 1)
    with pytest.raises(ValueError, match="latent_grid w must be at least 1, not 0"):
        jaxgan.sample(dataclasses.replace(small_gan(), gen=Patches()), state, KEY, 4, latent_grid=(2, 0))


def test_an_exported_generator_makes_the_same_images_and_black_of_a_label_that_is_no_class(conditional):
    """As a program that is being traced: nothing can be raised there, whatever the network makes of such a label."""
    pytest.importorskip("flatbuffers")  # which JAX writes programs with
    gan, state = conditional
    exported = jax.export.deserialize(bytearray(sampling.export_generator(gan, state))).call
    z, labels = draw_z(gan, KEY, jnp.arange(6)), jnp.array([0, 3, 2, -1, 1, 10**6], jnp.int32)
    assert_same_images(exported(z[:1], labels[:1]), made(gan, state.averaged_gen, z[:1], labels[:1]))
    traced = jax.jit(lambda labels: jaxgan.sample(gan, state, KEY, 6, labels=labels))
    for images in (exported(z, labels), traced(labels)):
        assert np.asarray(images).any((1, 2, 3)).tolist() == [True, False, True, False, True, False]
        assert_same_images(images[::2], made(gan, state.averaged_gen, z, labels)[::2])
    with pytest.raises(ValueError, match="args\\[0\\]"):
        exported(z[:, :4], labels)


@pytest.mark.filterwarnings("ignore")  # of the packages that write ONNX
@pytest.mark.parametrize(
    "name",
    ["digits_conditional", pytest.param("r3gan_small", marks=pytest.mark.slow), *at_night(["stylegan2_small"])],
)
def test_an_onnx_model_makes_the_same_images_of_any_number_of_latents(name):
    """By ONNX Runtime. StyleGAN2's noise is part of the model: twice the same."""
    pytest.importorskip("jax2onnx")
    import onnxruntime

    gan = recipes.get(name).build()
    state = jaxgan.init(gan, jax.random.key(0))
    strong = jax.tree_util.tree_map_with_path(
        lambda path, x: x + 1 if "noise" in jax.tree_util.keystr(path) else x, state.averaged_gen
    )
    state = state.replace(averaged_gen=strong)
    model = onnxruntime.InferenceSession(sampling.export_onnx(gan, state))
    for count in (1, 5):
        labels = sampling.sample_labels(gan, KEY, count)
        z = draw_z(gan, KEY, jnp.arange(count))
        arrays = {"z": z} if labels is None else {"z": z, "labels": labels}
        (got,) = model.run(["images"], {name: np.asarray(array) for name, array in arrays.items()})
        assert got.dtype == np.uint8
        assert_same_images(got, made(gan, strong, z, labels))
