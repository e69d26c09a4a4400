"""What several tests share: a small GAN, images, what a step draws, and each loss written out on its own.

`latents` and the others are written from the documentation, with nothing of the package but `Purpose`.
"""

import dataclasses
import functools
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

import jaxgan
from jaxgan import parallel
from jaxgan.gan import Batch, image_shape
from jaxgan.images import from_uint8
from jaxgan.losses import non_saturating
from jaxgan.networks.layers import Context, batch_norm
from jaxgan.networks.minibatch_features import append_diff, append_similarity
from jaxgan.randomness import Purpose
from jaxgan.train_step import pass_gradients

QUICK: dict[str, Any] = {"xla_backend_optimization_level": 0}
if jax.__version_info__ < (0, 11):  # later ones have no other way to fuse
    QUICK["xla_cpu_use_fusion_emitters"] = False
gen_gradients, disc_gradients, shared_gradients = (
    functools.partial(pass_gradients, players) for players in (("gen",), ("disc",), ("gen", "disc"))
)
STEP = jax.jit(jaxgan.train_step, static_argnums=0, compiler_options=QUICK)
PLAIN = jax.jit(jaxgan.train_step, static_argnums=0)  # the same to the last bit as what is compiled for a device
STEPS = jax.jit(jaxgan.train_steps, static_argnums=0, compiler_options=QUICK)
SGD = {"gen_optimizer": optax.sgd(0.1), "disc_optimizer": optax.sgd(0.2)}  # the same objects, so that GANs are equal


def at_night(cases):
    """Cases of `parametrize`, each a value or a tuple of them, for the nightly shelf alone."""
    cases = (case if isinstance(case, tuple) else (case,) for case in cases)
    return [pytest.param(*case, marks=pytest.mark.nightly) for case in cases]


class SmallGen(nn.Module):
    """z [B, z_size] -> images [B, 4, 4, 1] in [-1, 1]; with labels where there are classes."""

    classes: int = 0
    norm: bool = True

    @nn.compact
    def __call__(self, z, labels, context):
        if self.classes:
            z = jnp.concatenate([z, jax.nn.one_hot(labels, self.classes, dtype=z.dtype)], axis=-1)
        x = nn.Dense(16, use_bias=not self.norm)(z)
        x = nn.softplus(batch_norm(context, 0.9)(x) if self.norm else x)
        return jnp.tanh(nn.Dense(16)(x)).reshape(-1, 4, 4, 1)


class SmallDisc(nn.Module):
    """Images [B, 4, 4, 1] -> logits [B]; with labels where there are classes."""

    classes: int = 0
    norm: bool = True

    @nn.compact
    def __call__(self, images, labels, context):
        x = images.reshape(len(images), -1)
        if self.classes:
            x = jnp.concatenate([x, jax.nn.one_hot(labels, self.classes, dtype=x.dtype)], axis=-1)
        x = nn.Dense(16, use_bias=not self.norm)(x)
        x = nn.softplus(batch_norm(context, 0.9)(x) if self.norm else x)
        return nn.Dense(1)(x)[:, 0]


class Comparing(nn.Module):
    """Images [B, 4, 4, 1] -> logits [B], with both features of the whole batch: of maps of 2 and of 3 channels."""

    @nn.compact
    def __call__(self, images, labels, context):
        x = append_diff(nn.Conv(2, (3, 3))(images), context.axis_name)
        x = append_similarity(x, context.axis_name).reshape(len(images), -1)
        return nn.Dense(1)(x)[:, 0]


def small_gan(classes=0, norm=True, **changes):
    """A GAN that compiles in a second. Plain gradient descent: an update shows the gradient itself.

    Without `norm`, batch normalisation, no example sees another.
    """
    gan = jaxgan.GAN(
        gen=SmallGen(classes, norm),
        disc=SmallDisc(classes, norm),
        loss=non_saturating(),
        **SGD,
        z_size=5,
        classes=classes,
        ema_decay=0.5,
    )
    return dataclasses.replace(gan, **changes)


def on(form, count, gan, state, batch):
    """One step on `count` devices, or the plain one: (state, metrics)."""
    if form == "plain":
        return PLAIN(gan, state, batch)
    return _on_devices(form, count, gan)(parallel.replicate(state, parallel.choose_devices(count)), batch)


@functools.lru_cache(maxsize=1)  # for several steps
def _on_devices(form, count, gan):
    return parallel.on_devices(jaxgan.train_step, gan, parallel.choose_devices(count), form)


def real_images(gan, count, seed=0):
    shape, rng = (count, *image_shape(gan)), np.random.default_rng(seed)
    return jnp.asarray(rng.integers(0, 256, shape, np.uint8) if gan.image_range else rng.random(shape, np.float32))


def real_batch(gan, count, seed=0):
    """Random images, with labels where the GAN has classes, and what else it takes."""
    labels = np.random.default_rng(seed + 1).integers(0, gan.classes, count, np.int32) if gan.classes else None
    rng = np.random.default_rng(seed + 2)
    others = {name: jnp.asarray(rng.integers(0, 256, (count, *shape), np.uint8)) for name, shape in gan.others}
    return Batch(real_images(gan, count, seed), labels, others or None)


def in_range(gan, batch):
    """The batch as `losses` and the gradients take it."""
    return batch._replace(images=from_uint8(batch.images, gan.image_range))


def as_float64(tree):
    return jax.tree.map(lambda x: jnp.asarray(np.float64(x)) if x.dtype == jnp.float32 else x, tree)


def small_state(gan, seed=0):
    """A state in float64, where that is allowed, with no zero bias and no unit scale."""
    state, rng = jaxgan.init(gan, jax.random.key(seed)), np.random.default_rng(seed)
    move = lambda x: jnp.asarray(np.float64(x) + 0.1 * rng.normal(size=x.shape))  # noqa: E731
    return with_params(as_float64(state), **{n: jax.tree.map(move, getattr(state, n).params) for n in ("gen", "disc")})


def drawn(draw, state, purpose, examples):
    """draw(key) for each example: i's key is the root key folded by purpose, step and i."""
    key = jax.random.fold_in(jax.random.fold_in(state.key, int(purpose)), state.step)
    return jax.vmap(lambda i: draw(jax.random.fold_in(key, i)))(jnp.asarray(examples))


def latents(gan, state, examples):
    return drawn(lambda key: jax.random.normal(key, (gan.z_size,)), state, Purpose.Z, examples)


def generated_labels(gan, state, examples):
    if not gan.classes:
        return None
    return drawn(lambda key: jax.random.randint(key, (), 0, gan.classes), state, Purpose.LABELS, examples)


def apply(net, params, stats, x, labels=None):
    """A network in training mode: its output, and its new batch statistics."""
    out, updated = net.apply(
        {"params": params, "batch_stats": stats}, x, labels, Context(train=True), mutable=["batch_stats"]
    )
    return out, updated.get("batch_stats", {})


class Pass(NamedTuple):
    """A forward pass written out."""

    images: jax.Array
    fake: jax.Array
    real_judged: Any
    fake_judged: Any
    gen_stats: Any
    disc_stats: Any


def forward(gan, state, batch, examples, gen_params, disc_params):
    """Both networks on a batch that is in the GAN's range. D sees the generated images first."""
    z, labels = latents(gan, state, examples), generated_labels(gan, state, examples)
    fake, gen_stats = apply(gan.gen, gen_params, state.gen.batch_stats, z, labels)
    fake_judged, disc_stats = apply(gan.disc, disc_params, state.disc.batch_stats, fake, labels)
    real_judged, disc_stats = apply(gan.disc, disc_params, disc_stats, batch.images, batch.labels)
    return Pass(batch.images, fake, real_judged, fake_judged, gen_stats, disc_stats)


def gen_formula(real, fake):
    return -jnp.mean(jnp.log(jax.nn.sigmoid(fake)))


def disc_formula(real, fake, real_label=1.0, scale=1.0):
    p, q = jax.nn.sigmoid(real), jax.nn.sigmoid(fake)
    on_real = real_label * jnp.log(p) + (1 - real_label) * jnp.log(1 - p)
    return -scale * (jnp.mean(on_real) + jnp.mean(jnp.log(1 - q)))


class Written(NamedTuple):
    """Both losses at a state, the gradient of each in its own network's parameters, and the pass."""

    loss_gen: jax.Array
    loss_disc: jax.Array
    gen_grads: Any
    disc_grads: Any
    forward: Pass


def written_out(gan, state, batch, examples, gen=gen_formula, disc=disc_formula, penalty=None):
    """Each loss on its own, with a forward pass of its own, by formulas of (real, fake) logits.

    Args:
      gan: the static description.
      state: the state.
      batch: in the GAN's range, as from `in_range`.
      examples: which examples of the step they are.
      gen: the formula of the generator's loss.
      disc: that of the discriminator's.
      penalty: a function (judge, pass, batch, state, examples) of what is added to it; judge(images, labels) is D.
    """
    return _written_out(gan, state, batch, np.array(examples), gen, disc, penalty)


@functools.partial(jax.jit, static_argnums=(0, 4, 5, 6), compiler_options=QUICK)
def _written_out(gan, state, batch, examples, gen, disc, penalty):
    def loss_gen(params):
        made = forward(gan, state, batch, examples, params, state.disc.params)
        return gen(made.real_judged, made.fake_judged)

    def loss_disc(params):
        made = forward(gan, state, batch, examples, state.gen.params, params)
        judge = lambda images, labels: apply(gan.disc, params, state.disc.batch_stats, images, labels)[0]  # noqa: E731
        added = penalty(judge, made, batch, state, examples) if penalty else 0.0
        return disc(made.real_judged, made.fake_judged) + added

    of_gen, gen_grads = jax.value_and_grad(loss_gen)(state.gen.params)
    of_disc, disc_grads = jax.value_and_grad(loss_disc)(state.disc.params)
    made = forward(gan, state, batch, examples, state.gen.params, state.disc.params)
    return Written(of_gen, of_disc, gen_grads, disc_grads, made)


def descended(rate, params, grads):
    return jax.tree.map(lambda p, g: np.asarray(p) - rate * np.asarray(g), params, grads)


def with_params(state, **params):
    """The state with other parameters, of `gen` or `disc`."""
    return state.replace(**{net: getattr(state, net).replace(params=value) for net, value in params.items()})


def assert_close(got, want, rtol=1e-9, atol=1e-12):
    jax.tree.map(lambda g, w: np.testing.assert_allclose(g, w, rtol=rtol, atol=atol), got, want)


def assert_same_bits(got, want):
    for g, w in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        g, w = (jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x for x in (g, w))
        np.testing.assert_array_equal(g, w)


def assert_bf16_is_near(gan, state, batch, share):
    """An update in bf16 differs from that in full precision, by that share of it at most; returns both states."""
    fine, _ = STEP(gan, state, batch)
    coarse, _ = STEP(dataclasses.replace(gan, precision="bf16"), state, batch)
    for net in ("gen", "disc"):
        old, new, rough = (np.asarray(ravel_pytree(getattr(s, net).params)[0]) for s in (state, fine, coarse))
        assert 0 < np.linalg.norm(rough - new) < share * np.linalg.norm(new - old)
    return fine, coarse


def remembering_gan(gan):
    """The same, whose optimisers also keep the gradient, as the first part of their states."""
    zeros = functools.partial(jax.tree.map, jnp.zeros_like)
    keep = optax.GradientTransformation(zeros, lambda grads, state, params=None: (grads, grads))
    chained = {name: optax.chain(keep, getattr(gan, name)) for name in ("gen_optimizer", "disc_optimizer")}
    return dataclasses.replace(gan, **chained)
