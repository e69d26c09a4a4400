"""States, noise and ranges."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from common import SmallGen, small_gan

import jaxgan
from jaxgan import losses, recipes
from jaxgan.gan import generated_shape, image_shape
from jaxgan.images import from_uint8, to_uint8
from jaxgan.penalties import R1, Lazy
from jaxgan.randomness import Purpose, draw_labels, draw_z, step_key
from jaxgan.transforms import InstanceNoise

pytestmark = pytest.mark.usefixtures("quick_programs")


@pytest.fixture(scope="module")
def gan():
    return recipes.get("digits").build()


def test_an_examples_noise_depends_on_its_index_alone(gan):
    key = jax.random.key(5)
    whole = draw_z(gan, key, jnp.arange(16))
    np.testing.assert_array_equal(draw_z(gan, key, jnp.arange(8, 12)), whole[8:12])
    assert len(np.unique(np.asarray(whole)[:, 0])) == 16


@pytest.mark.parametrize(("prior", "std", "limit"), [("normal", 1, np.inf), ("uniform", 1 / np.sqrt(3), 1)])
def test_priors(gan, prior, std, limit):
    z = np.asarray(draw_z(dataclasses.replace(gan, prior=prior, z_size=100), jax.random.key(0), jnp.arange(1000)))
    assert abs(z.mean()) < 0.01
    np.testing.assert_allclose(z.std(), std, rtol=0.01)
    assert np.abs(z).max() <= limit


def test_scaling_and_its_inverse():
    values = jnp.arange(256, dtype=jnp.uint8)
    for low, high in ((-1.0, 1.0), (0.0, 1.0), (-0.5, 0.5)):
        scaled = from_uint8(values, (low, high))
        np.testing.assert_allclose(scaled, np.linspace(low, high, 256), atol=1e-6)
        np.testing.assert_array_equal(to_uint8(scaled, (low, high)), values)
    np.testing.assert_array_equal(to_uint8(jnp.array([-3.0, 3.0]), (-1, 1)), [0, 255])


def test_init_is_a_function_of_the_key(gan):
    one, same, other = (jaxgan.init(gan, jax.random.key(seed)) for seed in (0, 0, 1))
    jax.tree.map(np.testing.assert_array_equal, one.gen.params, same.gen.params)
    assert not jnp.array_equal(one.gen.params["Dense_0"]["kernel"], other.gen.params["Dense_0"]["kernel"])
    assert one.step == 0


def test_the_two_networks_start_from_different_keys(gan):
    """With G's first layer of D's shape, they would start equal from one key."""
    gan = dataclasses.replace(small_gan(norm=False), gen=SmallDiscTwin(), z_size=16)
    state = jaxgan.init(gan, jax.random.key(0))
    gen, disc = (net.params["Dense_0"]["kernel"] for net in (state.gen, state.disc))
    assert gen.shape == disc.shape
    assert not jnp.array_equal(gen, disc)


class SmallDiscTwin(nn.Module):
    """A generator whose first layer is SmallDisc's."""

    @nn.compact
    def __call__(self, z, labels, context):
        return jnp.tanh(nn.Dense(16)(z)).reshape(-1, 4, 4, 1)


def test_no_two_purposes_share_their_draws():
    """Nor do those of the first hundred transforms and penalties, which are further on by 1000 each."""
    several = [Purpose.TRANSFORM_FAKE, Purpose.TRANSFORM_REAL, Purpose.PENALTIES]
    numbers = [int(purpose) for purpose in Purpose] + [p + 1000 * i for p in several for i in range(1, 100)]
    assert len(set(numbers)) == len(numbers)
    state = jaxgan.init(small_gan(), jax.random.key(0))
    keys = [step_key(state.replace(step=jnp.int32(step)), number) for step in (0, 1) for number in numbers[:12]]
    assert len({tuple(jax.random.key_data(key).tolist()) for key in keys}) == len(keys)


def test_labels_of_generated_images_are_uniform_and_by_example():
    gan = small_gan(classes=10)
    key = jax.random.key(3)
    labels = draw_labels(gan, key, jnp.arange(5000))
    assert labels.dtype == jnp.int32
    counts = np.bincount(labels, minlength=10)
    assert len(counts) == 10
    assert ((counts - 500) ** 2 / 500).sum() < 27.9  # chi squared with 9 degrees of freedom: 1 in 1000 is above
    np.testing.assert_array_equal(draw_labels(gan, key, jnp.arange(100, 200)), labels[100:200])
    other = draw_labels(gan, jax.random.key(4), jnp.arange(5000))
    assert 0.05 < (other == labels).mean() < 0.15
    assert draw_labels(small_gan(), key, jnp.arange(5)) is None


def test_a_gan_is_static_by_its_values():
    """Equal descriptions share a compiled program; different ones do not."""
    loss = losses.non_saturating()
    one, same = (dataclasses.replace(small_gan(), loss=loss) for _ in range(2))
    optimizers = {"gen_optimizer": one.gen_optimizer, "disc_optimizer": one.disc_optimizer}
    same = dataclasses.replace(same, **optimizers)
    assert one == same
    assert hash(one) == hash(same)
    assert one != dataclasses.replace(one, penalties=(R1(1.0),))
    assert dataclasses.replace(one, penalties=(R1(1.0),)) == dataclasses.replace(one, penalties=(R1(1.0),))
    assert losses.non_saturating(0.9) != losses.non_saturating(0.8)


@dataclasses.dataclass
class Thawed:
    weight: float

    def __call__(self, params):
        return 0.0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"penalties": (R1(jnp.float32(1)),)}, r"penalties\[0\].gamma cannot be hashed.*; write float\(gamma\)"),
        ({"penalties": (Lazy(R1(np.array(1.0)), 2),)}, r"penalties\[0\].penalty.gamma .*; write float\(gamma\)"),
        ({"transforms": (InstanceNoise(jnp.float32(1)),)}, r"transforms\[0\].deviation .*; write float\(deviation\)"),
        ({"loss": losses.non_saturating(disc_scale=jnp.float32(2))}, r"loss.disc.scale .*; write float\(scale\)"),
        ({"gen": SmallGen(np.array(0))}, r"gen.classes .*; write float\(classes\)"),
        ({"regularizers": (Thawed(1.0),)}, r"regularizers\[0\] .*; make its class a dataclass with frozen=True"),
        ({"image_range": [0, 1]}, "image_range .*; write a tuple"),
        ({"disc": SmallGen}, r"disc must be a Flax module, not the class SmallGen; write SmallGen\(\)"),
        ({"update": "both"}, "update must be one of shared, alternating, or a function, not 'both'"),
        ({"precision": "float16"}, "precision must be one of float32, bf16, not 'float16'"),
        ({"prior": "cauchy"}, "prior must be one of normal, uniform"),
        ({"generated_labels": "drawn"}, "generated_labels must be one of uniform, real"),
        ({"image_range": (1.0, 1.0)}, r"image_range must be \(low, high\), such as \(-1, 1\), not \(1.0, 1.0\)"),
        ({"classes": -1}, "classes must be at least 0, not -1"),
        ({"training_ratio": 0}, "training_ratio must be at least 1, not 0"),
        ({"accumulate": 0}, "accumulate must be at least 1, not 0"),
        ({"z_size": -1}, "z_size must be at least 0, not -1"),
        ({"ema_decay": 1.0}, "ema_decay must be at least 0 and below 1, not 1.0"),
    ],
)
def test_what_cannot_be_is_named_where_the_gan_is_made(changes, message):
    """What cannot be static, and what would be taken for another value without a word."""
    with pytest.raises((TypeError, ValueError), match=f"^{message}"):
        small_gan(**changes)


def test_shapes_without_computing():
    assert generated_shape(recipes.get("keras_dcgan").build(), (2, 3)) == (1, 40, 48, 3)
    assert image_shape(recipes.get("digits_conditional").build()) == (8, 8, 1)


def test_init_wants_a_typed_key(gan):
    with pytest.raises(TypeError, match=r"jax\.random\.key"):
        jaxgan.init(gan, np.zeros(2, np.uint32))


def test_a_gan_with_classes_starts_with_embeddings_of_them():
    state = jaxgan.init(recipes.get("digits_conditional").build(), jax.random.key(0))
    assert state.gen.params["Embed_0"]["embedding"].shape == (10, 64)
    assert state.disc.params["Embed_0"]["embedding"].shape == (10, 256)
