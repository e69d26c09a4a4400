"""Trains the classifiers whose features score images: `python -m experiments.studies.train_features [NAME …]`.

Their weights are part of the package (`jaxgan/evaluation/weights`), so that a score means the same on every machine.
They need not be trained again. Training gives the same bits on the same kind of machine.
"""

import dataclasses
import functools
import time
from pathlib import Path
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro

import jaxgan
from jaxgan.commands.cli import check_names, keep_programs, one_line_errors, parse, run_script
from jaxgan.commands.study import make_folder
from jaxgan.data import Dataset
from jaxgan.data.order import in_order
from jaxgan.evaluation import shipped
from jaxgan.evaluation.features import Features, embed
from jaxgan.networks import Context
from jaxgan.run.numerics import fixed_numerics, root_key
from jaxgan.run.screen import say


@dataclasses.dataclass(frozen=True)
class Training:
    """How a classifier is trained: stochastic gradient descent with Nesterov's momentum, and a cosine schedule."""

    widths: tuple[int, ...]  # the channels of its stages
    image_shape: tuple[int, int, int]
    epochs: int
    shift: int  # images are moved by up to so many pixels, each way
    mirror: bool = False  # whether half of them are mirrored
    batch_size: int = 250
    learning_rate: float = 0.2  # the highest, after a fifth of the updates
    weight_decay: float = 5e-4  # of kernels


TRAININGS = {
    "digits": Training((32, 64), (8, 8, 1), epochs=60, shift=1, batch_size=50, learning_rate=0.05),
    "mnist": Training((24, 48, 96), (28, 28, 1), epochs=8, shift=2),
    "cifar10": Training((32, 64, 128, 256), (32, 32, 3), epochs=20, shift=4, mirror=True),
}


@dataclasses.dataclass(frozen=True)
class TrainFeatures:
    """Trains the classifiers whose features score images, and measures their accuracy on held-out images."""

    names: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="[NAME …]")] = tuple(TRAININGS)
    """Which ones."""
    out: Path = shipped.FOLDER
    """Where the weights and classifiers.json are written."""
    data_dir: str | None = None
    """Where TensorFlow Datasets keeps its data (by default ~/tensorflow_datasets)."""


def main(args: list[str] | None = None) -> None:
    """Trains one classifier after the other, and saves each as soon as it is trained."""
    flags = parse(TrainFeatures, "experiments.studies.train_features", args)
    check_names(flags.names, TRAININGS, "classifier")
    make_folder(flags.out)
    keep_programs()
    with one_line_errors(), fixed_numerics():
        for name in flags.names:
            training = TRAININGS[name]
            train, test = held_out(name, flags.data_dir)
            begin = time.perf_counter()
            variables = fit(name, training, train)
            # What is shipped is measured: weights that are rounded to float16.
            variables = jax.tree.map(lambda x: np.asarray(x, np.float16), variables)
            right = accuracy(training, variables, test)
            about = {
                "classes": list(train.classes),
                "test_accuracy": round(right, 4),
                "training": dataclasses.asdict(training),
                "train_sha256": train.sha256(labels=True),
                "seconds": round(time.perf_counter() - begin),
                "jax_version": jax.__version__,
            }
            shipped.save(flags.out, name, variables, about)
            say(f"{name}: {right:.2%} of {len(test.images):,} held-out images right; {flags.out / name}.npz")


def held_out(name: str, data_dir: str | None) -> tuple[Dataset, Dataset]:
    """The images to train on, and those to test on: the data's own test split, or every fifth of `digits`."""
    if name != "digits":
        return jaxgan.data.load(name, data_dir), jaxgan.data.load(name, data_dir, split="test")
    digits = jaxgan.data.load(name)
    test = np.arange(len(digits.images)) % 5 == 0
    return tuple(Dataset(name, digits.images[part], digits.labels[part], digits.classes) for part in (~test, test))


def fit(name: str, training: Training, data: Dataset) -> dict[str, Any]:
    """The variables of a trained classifier, float32; a line after each epoch says how far it is."""
    key = root_key(0)
    net = shipped.Classifier(training.widths, len(data.classes))
    variables = net.init(jax.random.fold_in(key, 0), jnp.zeros((1, *training.image_shape)), Context())
    size, batch = len(data.images), training.batch_size
    steps = training.epochs * size // batch
    rate = optax.warmup_cosine_decay_schedule(0.0, training.learning_rate, steps // 5, steps)
    kernels = functools.partial(jax.tree.map, lambda x: x.ndim > 1)
    optimizer = optax.chain(
        optax.add_decayed_weights(training.weight_decay, mask=kernels), optax.sgd(rate, momentum=0.9, nesterov=True)
    )
    opt_state = optimizer.init(variables["params"])

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def update(variables: dict, opt_state: Any, images: jax.Array, labels: jax.Array, step: jax.Array) -> tuple:
        images = augmented(training, images, jax.random.fold_in(jax.random.fold_in(key, 1), step))

        def loss(params: dict) -> tuple[jax.Array, dict]:
            (_, logits), changed = net.apply(
                {**variables, "params": params}, images / 255, Context(train=True), mutable=["batch_stats"]
            )
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean(), changed

        (value, changed), grads = jax.value_and_grad(loss, has_aux=True)(variables["params"])
        changes, opt_state = optimizer.update(grads, opt_state, variables["params"])
        return {"params": optax.apply_updates(variables["params"], changes), **changed}, opt_state, value

    begin = time.perf_counter()
    for step in range(steps):
        chosen = in_order(key, step * batch, (step + 1) * batch, size)
        variables, opt_state, value = update(variables, opt_state, data.images[chosen], data.labels[chosen], step)
        if (step + 1) % -(-size // batch) == 0 or step + 1 == steps:
            seconds = time.perf_counter() - begin
            say(f"{name}: update {step + 1} of {steps}, loss {value:.3f}, {seconds:.0f} s")
    return variables


def augmented(training: Training, images: jax.Array, key: jax.Array) -> jax.Array:
    """Images [B, H, W, C], each moved by up to `shift` pixels each way, on black, and mirrored or not."""
    b, h, w, c = images.shape
    by = jax.random.randint(jax.random.fold_in(key, 0), (b, 2), 0, 2 * training.shift + 1)
    padded = jnp.pad(images, ((0, 0), *[(training.shift, training.shift)] * 2, (0, 0)))
    images = jax.vmap(lambda image, start: jax.lax.dynamic_slice(image, (*start, 0), (h, w, c)))(padded, by)
    if not training.mirror:
        return images
    mirrored = jax.random.bernoulli(jax.random.fold_in(key, 1), shape=(b, 1, 1, 1))
    return jnp.where(mirrored, images[:, :, ::-1], images)


def accuracy(training: Training, variables: dict[str, Any], data: Dataset) -> float:
    """The share of images whose class is the likeliest."""
    net = shipped.Classifier(training.widths, len(data.classes))
    variables = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), variables)
    apply = jax.jit(lambda images: net.apply(variables, images.astype(jnp.float32) / 255, Context()))
    found = embed(Features("", "", apply), data.images).probabilities
    return float(np.mean(found.argmax(1) == data.labels))


if __name__ == "__main__":
    run_script(main)
