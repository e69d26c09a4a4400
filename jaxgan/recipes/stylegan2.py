"""StyleGAN2 (Karras et al. 2020, arXiv:1912.04958), with StyleGAN2-ADA's settings for less than 512 pixels ("auto").

It is the usual game with three things that a step keeps for the next: the mean of w, for truncation; the mean length of
the paths, which the regulariser holds G at; and the probability of the augmentation.
"""

from collections.abc import Collection
from typing import Any

import jax
import jax.numpy as jnp

from jaxgan import networks
from jaxgan.adversarial import adversarial
from jaxgan.augmentation import Augment, adaptive, sign_real
from jaxgan.forward_pass import Losses, Pass
from jaxgan.gan import Memory, Seen, memories
from jaxgan.losses import Forward
from jaxgan.penalties import R1, Gen, Lazy
from jaxgan.recipes import pictures
from jaxgan.recipes.groups import Data, Networks, Objective, Optimization, Schedule
from jaxgan.recipes.settings import Recipe
from jaxgan.schedules import Linear

W_KEPT, LENGTH_KEPT = 0.995, 0.99  # of the two means, at each step that adds to them
PATH_WEIGHT = 2.0


def stylegan2(p: Pass) -> Losses:
    """The usual game, which tells the memory the mean of w, and the log the mean length of paths that it remembers."""
    made = p.gen(p.z, p.generated_labels)
    losses = adversarial(p, made)
    metrics = {**losses.metrics, "path_length_mean": p.memory["path_length"]}
    return losses._replace(means={"w": jnp.mean(made[1][:, 0], axis=0)}, metrics=metrics)


def path_length(forward: Forward, gen: Gen) -> tuple[jax.Array, dict[str, jax.Array]]:
    """2 E (|J^T y| - a)^2, with J of the images in w, y ~ N(0, 1) / sqrt(pixels), and a the lengths' running mean.

    Of every second image (arXiv:1912.04958, section 3.2 and appendix B). A length is the root of the mean over the
    layers of |J^T y|^2, as in the authors' code.
    """
    w, keys = forward.gen_extra[::2], gen.keys[::2]
    shape = forward.generated.shape[1:]
    directions = jax.vmap(lambda key: jax.random.normal(key, shape))(keys) / (shape[0] * shape[1]) ** 0.5
    along = jax.grad(lambda w: jnp.sum(gen.apply(w, method="synthesize", keys=keys) * directions))(w)
    lengths = jnp.sqrt(jnp.mean(jnp.sum(jnp.square(along), axis=2), axis=1))
    penalty = PATH_WEIGHT * jnp.mean(jnp.square(lengths - forward.memory["path_length"]))
    return penalty, {"path_length": jnp.mean(lengths)}


def means() -> Memory:
    """The running means of w and of the lengths of paths; of these only the steps count that have measured them."""

    def start(gan: Any, params: Any) -> dict[str, jax.Array]:
        return {"w_mean": jnp.zeros(gan.gen.w_size), "path_length": jnp.zeros(())}

    def update(memory: dict[str, jax.Array], seen: Seen) -> dict[str, jax.Array]:
        length, w = seen.metrics["path_length"], seen.means["w"]
        longer = (1 - LENGTH_KEPT) * (length - memory["path_length"])
        return {
            "w_mean": w + W_KEPT * (memory["w_mean"] - w),
            "path_length": memory["path_length"] + jnp.where(length > 0, longer, 0.0),
        }

    return Memory(start, update)


def penalties(pixels: int, batch_size: int) -> tuple[Any, ...]:
    """R1 at every 16th step, with gamma = 0.0002 pixels / batch size (arXiv:2006.06676, appendix C)."""
    return Lazy(R1(float(f"{0.0002 * pixels / batch_size:.3g}")), 16), sign_real


def recipe(size: int, batch_size: int = 64) -> Recipe:
    """The published one for FFHQ at so many pixels: 25 million images, on eight GPUs."""
    widths = tuple(min(16384 // (4 << stage), 512) for stage in range((size // 4).bit_length()))
    half_life = batch_size * 10_000 / 32
    return Recipe(
        name="stylegan2" if size == 256 else f"stylegan2_ffhq{size}",
        about=f"StyleGAN2 (2020), FFHQ at {size}x{size}: styles, path length, adaptive augmentation",
        gen=networks.StyleGAN2Gen(widths),
        disc=networks.StyleGAN2Disc(widths),
        source=Data(data=f"prepared:ffhq-{size}", batch_size=batch_size, mirror=True),
        objective=Objective(
            z_size=512,
            transforms=(Augment(None),),
            penalties=penalties(size * size, batch_size),
            regularizers=(Lazy(path_length, 4),),
            game=stylegan2,
            memory=memories(means(), adaptive()),
            group=4,
        ),
        optimization=Optimization(gen_learning_rate=2.5e-3, disc_learning_rate=2.5e-3, beta1=0.0, beta2=0.99),
        schedule=Schedule(
            steps=25_000_000 // batch_size,
            update="alternating",
            # At most a twentieth of the images so far.
            ema_half_life=Linear(0.0, half_life, round(half_life / 0.05 / batch_size)),
            ema_ramp=False,
        ),
    )


def of_data(recipe: Recipe, data_dir: str | None = None, said: Collection[str] = ()) -> Recipe:
    """The small form for its data: size, channels and classes by the rules of `pictures`, and R1's gamma by size."""
    recipe, (height, width), line, _ = pictures.fitted(recipe, data_dir, said)
    said_too = f"{recipe.name}: {height}x{width} pixels, width {recipe.width}; each is a flag"
    return recipe.replace(penalties=penalties(height * width, recipe.batch_size), found=(line, said_too))


def small() -> Recipe:
    """For any pictures, like `pictures`: an eighth as wide, w of 128, both networks from one pass."""
    return recipe(64, 32).replace(
        name="stylegan2_small",
        about="StyleGAN2, small, for a folder of your own pictures, at 16 to 256 pixels",
        gen=networks.StyleGAN2Gen((128, 64, 32, 16), w_size=128),
        disc=networks.StyleGAN2Disc((128, 64, 32, 16), w_size=128, layers=2),
        networks=Networks(size="32", channels=3, width=128),
        data="cifar10",
        mirror=False,
        z_size=128,
        update="shared",
        ema_half_life=20_000,
        ema_ramp=True,
        steps=10_000,
        by_data=of_data,
    )


STYLEGAN2 = {made.name: made for made in (recipe(256), recipe(64), small())}
