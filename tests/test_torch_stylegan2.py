"""StyleGAN2 against an independent PyTorch implementation: its parts, and whole updates, narrow and in float64."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from common import STEP, at_night, drawn, generated_labels, in_range, latents, real_batch, remembering_gan, small_state

from jaxgan import recipes
from jaxgan.networks import StyleGAN2Disc, StyleGAN2Gen
from jaxgan.networks.layers import Context
from jaxgan.randomness import Purpose

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install torch==2.13.0")
pytestmark = pytest.mark.usefixtures("quick_programs")

B, WIDTHS, Z, W = 8, (12, 12, 8, 6), 5, 7  # 32 pixels
LAYERS = 2 * len(WIDTHS)
GAMMA = 3.0


def narrow(classes=0, **changes):
    """The published recipe with narrow networks, and the gradients in its optimisers' states."""
    nets = {"gen": StyleGAN2Gen(WIDTHS, W, 2, classes), "disc": StyleGAN2Disc(WIDTHS, W, 2, classes)}
    recipe = recipes.get("stylegan2").replace(**nets, classes=classes, z_size=Z, mirror=False, **changes)
    (r1, *others) = recipe.penalties
    r1 = dataclasses.replace(r1, penalty=dataclasses.replace(r1.penalty, gamma=GAMMA))
    return remembering_gan(recipe.replace(penalties=(r1, *others)).build())


def networks(classes=0):
    from jaxgan.benchmark.torch_stylegan2 import Discriminator, Generator

    return Generator(WIDTHS, Z, W, 2, classes).double(), Discriminator(WIDTHS, W, 2, classes).double()


def pairs(net, params):
    """Each parameter of a PyTorch network, and the array of a Flax tree in its layout."""
    found = {}

    def give(p, array, axes=None):
        found[p] = np.ascontiguousarray(np.transpose(np.asarray(array), axes)).reshape(p.shape)

    def dense(layer, of):
        give(layer.weight, of["kernel"], (1, 0))
        give(layer.bias, of["bias"])

    def mapping(net, of):
        for i, layer in enumerate([*([net.embed] if net.embed else []), *net.layers]):
            dense(layer, of[f"EqualDense_{i}"])

    def modulated(layer, bias, of, number):
        kernel = np.asarray(of[f"ModulatedConv_{number}"]["kernel"])
        give(layer.weight, kernel[::-1, ::-1] if layer.up else kernel, (3, 2, 0, 1))
        dense(layer.style, of[f"ModulatedConv_{number}"]["EqualDense_0"])
        give(bias, of[f"Bias_{number}"]["bias"])

    if hasattr(net, "to_rgb"):
        mapping(net.mapping, params["mapping"])
        of = params["synthesis"]
        give(net.constant, of["constant"], (2, 0, 1))
        layers = iter(zip(net.convs, net.biases, strict=True))
        number = 0
        for stage, (to_rgb, bias) in enumerate(zip(net.to_rgb, net.rgb_biases, strict=True)):
            for layer in [*[next(layers) for _ in range(2 if stage else 1)], (to_rgb, bias)]:
                modulated(*layer, of, number)
                number += 1
        for i, strength in enumerate(net.strengths):
            give(strength, of[f"noise_{i}"])
    else:
        blocks = zip(net.skips, net.firsts, net.seconds, strict=True)
        for i, layer in enumerate([net.from_rgb, *itertools.chain(*blocks), net.conv]):
            give(layer.weight, params[f"EqualConv_{i}"]["kernel"], (3, 2, 0, 1))
            if layer.bias is not None:
                give(layer.bias, params[f"EqualConv_{i}"]["Bias_0"]["bias"])
        kernel = np.asarray(params["EqualDense_0"]["kernel"]).reshape(4, 4, WIDTHS[0], WIDTHS[0])
        give(net.dense.weight, kernel, (3, 2, 0, 1))
        give(net.dense.bias, params["EqualDense_0"]["bias"])
        dense(net.logit, params["EqualDense_1"])
        if net.mapping is not None:
            mapping(net.mapping, params["Mapping_0"])
    assert {*found} == {*net.parameters()}
    return found


def load(net, params):
    for p, value in pairs(net, params).items():
        p.data = torch.from_numpy(value.copy())


def to_torch(x):
    return torch.from_numpy(np.array(x, np.float64))


def nchw(x):
    return to_torch(np.moveaxis(np.asarray(x), -1, 1))


def noises(of_each):
    """`of_each(draw)` of the noise of each layer, as PyTorch takes it."""
    sizes = [4, *(4 << stage for stage in range(1, len(WIDTHS)) for _ in range(2))]
    draw = lambda i, n: lambda key: jax.random.normal(jax.random.fold_in(key, 3 + i), (n, n, 1))  # noqa: E731
    return [nchw(of_each(draw(i, size))) for i, size in enumerate(sizes)]


class Drawn:
    """What a step draws for a pass over some examples, and G with it."""

    def __init__(self, gan, state, examples, gen):
        self.z, labels = to_torch(latents(gan, state, examples)), generated_labels(gan, state, examples)
        self.labels = None if labels is None else torch.from_numpy(np.array(labels, np.int64))
        of_gen = lambda draw: drawn(draw, state, Purpose.DROPOUT_GEN, examples)  # noqa: E731
        part = lambda i, draw: of_gen(lambda key: draw(jax.random.fold_in(key, i)))  # noqa: E731
        self.other = to_torch(part(0, lambda key: jax.random.normal(key, (Z,))))
        first = np.asarray(part(1, lambda key: jax.random.randint(key, (), 1, LAYERS)))
        self.first = np.where(np.asarray(part(2, jax.random.uniform)) < 0.9, first, LAYERS)
        self.noise, self.gen = noises(of_gen), gen
        of_path = lambda draw: drawn(draw, state, Purpose.REGULARIZERS, examples[::2])  # noqa: E731
        self.directions = nchw(of_path(lambda key: jax.random.normal(key, (32, 32, 3))))
        self.path_noise = noises(of_path)

    def styles(self):
        one, other = (self.gen.mapping(z, self.labels)[:, None].expand(-1, LAYERS, -1) for z in (self.z, self.other))
        own = torch.arange(LAYERS)[None] < torch.from_numpy(self.first)[:, None]
        return torch.where(own[..., None], one, other)

    def images(self):
        return self.gen.synthesis(self.styles(), self.noise)

    def lengths(self):
        from jaxgan.benchmark.torch_stylegan2 import path_lengths

        w = self.styles()[::2]
        return path_lengths(self.gen.synthesis(w, self.path_noise), w, self.directions)


@pytest.mark.slow
@pytest.mark.parametrize("classes", [3, *at_night([0])])
def test_the_parts_are_pytorchs(classes, x64):
    """Images without mixing and with noise that is the same for all; logits, and their gradient in the images."""
    gan = narrow(classes)
    state, (gen, disc) = small_state(gan), networks(classes)
    load(gen, state.gen.params)
    load(disc, state.disc.params)
    rng = np.random.default_rng(0)
    z, labels = rng.normal(size=(B, Z)), rng.integers(0, classes, B) if classes else None
    images, w = jax.jit(gan.gen.apply)(state.gen.variables, z, labels, Context())
    given = torch.from_numpy(labels) if classes else None
    of_w = gen.mapping(to_torch(z), given)
    np.testing.assert_allclose(w[:, 3], of_w.detach(), rtol=1e-9)
    sizes = [4, *(4 << stage for stage in range(1, len(WIDTHS)) for _ in range(2))]
    fixed = [jax.random.normal(jax.random.fold_in(jax.random.key(0), i), (1, n, n, 1)) for i, n in enumerate(sizes)]
    want = gen.synthesis(of_w[:, None].expand(-1, LAYERS, -1), [nchw(x) for x in fixed])
    np.testing.assert_allclose(images, want.detach().permute(0, 2, 3, 1), rtol=1e-9, atol=1e-9)
    logits = lambda images: gan.disc.apply(state.disc.variables, images, labels, Context())  # noqa: E731
    value, pull = jax.vjp(jax.jit(logits), images)
    there = want.detach().requires_grad_()
    wanted = disc(there, given)
    np.testing.assert_allclose(value, wanted.detach(), rtol=1e-9)
    (gradient,) = torch.autograd.grad(wanted.sum(), there)
    scale = float(gradient.abs().max())
    assert scale > 1e-4
    np.testing.assert_allclose(pull(jnp.ones(B))[0], gradient.permute(0, 2, 3, 1), rtol=1e-9, atol=1e-9 * scale)


@pytest.mark.slow
@pytest.mark.parametrize(("classes", "update"), [(3, "shared"), *at_night([(0, "alternating")])])
def test_updates_are_pytorchs(classes, update, x64):
    """Two of them: the first with R1, 16 times, and the paths' lengths, 4 times; the second with neither."""
    from torch_layout import update as updated

    from jaxgan.benchmark.torch_stylegan2 import r1

    softplus = torch.nn.functional.softplus
    gan, alternating = narrow(classes, update=update), update == "alternating"
    state, nets = small_state(gan), networks(classes)
    gen, disc = nets
    load(gen, state.gen.params)
    load(disc, state.disc.params)
    adams = [(torch.optim.Adam(net.parameters(), 2.5e-3, (0.0, 0.99)),) for net in nets]
    w_mean, length = torch.zeros(W, dtype=torch.float64), torch.zeros((), dtype=torch.float64)
    for step in range(2):
        batch = real_batch(gan, B, step)
        real = nchw(in_range(gan, batch).images).requires_grad_()
        labels = torch.from_numpy(np.array(batch.labels, np.int64)) if classes else None
        passes = [Drawn(gan, state, x, gen) for x in np.split(np.arange(B * (1 + alternating)), 1 + alternating)]
        before = passes[0].gen.mapping(passes[0].z, passes[0].labels).mean(0).detach()
        found = {}

        def gen_loss(p=passes[-1], found=found, length=length, step=step):
            loss = softplus(-disc(p.images(), p.labels)).mean()
            if step % 4:
                return loss
            lengths = p.lengths()
            found["length"] = lengths.mean().detach()
            return loss + 4 * 2 * (lengths - length).square().mean()

        def disc_loss(p=passes[0], real=real, labels=labels, step=step):
            on_real = disc(real, labels)
            loss = softplus(-on_real).mean() + softplus(disc(p.images(), p.labels)).mean()
            return loss if step % 16 else loss + 16 * r1(on_real, real, GAMMA)

        theirs = updated(alternating, nets, adams, gen_loss, [disc_loss])
        state, metrics = STEP(gan, state, batch)
        w_mean = w_mean.lerp(before, 0.005)
        length = length.lerp(found["length"], 0.01) if found else length
        np.testing.assert_allclose(state.memory["w_mean"], w_mean, rtol=1e-7)
        np.testing.assert_allclose(state.memory["path_length"], length, rtol=1e-7)
        for name, net, of, (loss, gradients) in zip(
            ("gen", "disc"), nets, (state.gen, state.disc), theirs, strict=True
        ):
            np.testing.assert_allclose(metrics[f"loss_{name}"], loss, rtol=1e-7)
            got, after = pairs(net, of.opt_state[0]), pairs(net, of.params)
            for p, want in zip(net.parameters(), gradients, strict=True):
                largest = float(want.abs().max())
                np.testing.assert_allclose(got[p], want.numpy(), rtol=1e-6, atol=1e-6 * largest)
                np.testing.assert_allclose(after[p], p.detach(), rtol=1e-6, atol=1e-6)
            assert max(float(g.abs().max()) for g in gradients) > 1e-3
