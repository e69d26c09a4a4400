"""What the shared pass does to convergence: `python -m experiments.studies.convergence`.

The Dirac-GAN (Mescheder et al. 2018, arXiv:1801.04406), by four updates and with five remedies: the paths of its two
parameters, and the eigenvalues of the update's Jacobian at the equilibrium. Then a small GAN on `ring` where its
training ended, with three losses, by the shared and by the alternating update: the eigenvalues that decide.
"""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxgan
from jaxgan import GAN, Batch, GANState, advance, descend, gradients, networks, recipes
from jaxgan.commands.cli import check_flags, one_line_errors, parse, run_script
from jaxgan.commands.study import Record, Study, make_folder, write_table
from jaxgan.files import atomic_write
from jaxgan.jacobian import eigenvalues, leading_eigenvalues, with_parameters
from jaxgan.penalties import R1, WGANGP
from jaxgan.recipes.settings import Recipe
from jaxgan.run.screen import say
from jaxgan.run.workdir import write_json

RATE, GAMMA, NOISE, CONSENSUS = 0.2, 0.3, 1.0, 1.0  # of the Dirac-GAN
RATE_ON_RING = 0.1  # of the plain gradient descent that is looked at


def extragradient(gan: GAN, state: GANState, batch: Batch) -> tuple[GANState, dict[str, jax.Array]]:
    """The gradients at the point ahead, applied at this one (Gidel et al. 2018, arXiv:1802.10551)."""
    ahead, _ = descend(gan, state, *gradients(gan, state, batch))
    grads, aux = gradients(gan, ahead, batch)
    state, norms = descend(gan, state, grads, aux)
    return advance(gan, state, aux, aux.metrics["gen"] | aux.metrics["disc"] | norms)


def consensus(gan: GAN, state: GANState, batch: Batch) -> tuple[GANState, dict[str, jax.Array]]:
    """Plus the gradient of half of both gradients' squared norm (Mescheder et al. 2017, arXiv:1705.10461)."""

    def field(params: dict[str, Any]) -> Any:
        return gradients(gan, with_parameters(state, **params), batch)

    grads, pull, aux = jax.vjp(field, {"gen": state.gen.params, "disc": state.disc.params}, has_aux=True)
    (of_norm,) = pull(grads)
    grads = jax.tree.map(lambda grad, more: grad + CONSENSUS * more, grads, of_norm)
    state, norms = descend(gan, state, grads, aux)
    return advance(gan, state, aux, aux.metrics["gen"] | aux.metrics["disc"] | norms)


def two_points(images: jax.Array, keys: jax.Array, step: jax.Array) -> jax.Array:
    """Instance noise whose mean over a batch is exact: half of the images are moved by NOISE, half by -NOISE."""
    signs = 1 - 2 * (jnp.arange(len(images)) % 2)
    return images + NOISE * signs.reshape(-1, *[1] * (images.ndim - 1))


UPDATES: dict[str, Any] = {
    "shared": "shared",
    "alternating": "alternating",
    "extragradient": extragradient,
    "consensus": consensus,
}
REMEDIES: dict[str, dict[str, Any]] = {
    "none": {},
    "instance noise": {"transforms": (two_points,)},
    "R1": {"penalties": (R1(GAMMA),)},
    "relativistic": {"loss": "relativistic"},
    "relativistic, R1, R2": {"loss": "relativistic", "gamma": GAMMA},
    "WGAN-GP": {"loss": "wasserstein", "penalties": (WGANGP(0.5),)},
}
# How much of D's parameter each takes away at a unit rate, near 0: f''(0) = -1/4 for each kind of image under noise.
DAMPING = {
    "none": 0.0,
    "instance noise": NOISE**2 / 2,
    "R1": GAMMA,
    "relativistic": 0.0,
    "relativistic, R1, R2": 2 * GAMMA,
}
OF_RING: dict[str, dict[str, Any]] = {
    "non-saturating": {"loss": "non_saturating", "gamma": 0.0},
    "non-saturating, R1": {"loss": "non_saturating", "gamma": 0.0, "penalties": (R1(0.1),)},
    "relativistic, R1, R2": {"gamma": 0.1},
}
DESCENTS = ("shared", "alternating")

DIRAC = Study(
    "dirac", "update", {n: n for n in UPDATES}, {r: lambda of, r=r: f"{of[r]['modulus']:.4f}" for r in DAMPING}
)
PATHS = Study("paths", "update", {n: n for n in UPDATES}, {r: lambda of, r=r: f"{of[r]['end']:.3g}" for r in REMEDIES})
RING = Study(
    "ring",
    "trained by",
    {f"{update}, {name}": f"{update}, {name}" for update in DESCENTS for name in OF_RING},
    {
        "loss of D": "loss_disc",
        "largest real part": "real",
        "largest imaginary part": "imaginary",
        "modulus, shared": lambda of: f"{of['shared']:.4f}",
        "modulus, alternating": lambda of: f"{of['alternating']:.4f}",
    },
)


@dataclasses.dataclass(frozen=True)
class Flags:
    """Draws and measures the games that can be drawn."""

    steps: int = 5_000
    """Updates on ring before its Jacobian is taken."""
    out: Path = Path("experiments/results")
    """Where the pictures and convergence.json are written."""
    page: Path = Path("docs/convergence.md")
    """The page that the tables are written into."""


def dirac(update: str, remedy: str) -> Recipe:
    """The Dirac-GAN by one of UPDATES, with one of REMEDIES."""
    rates = {"gen_learning_rate": RATE, "disc_learning_rate": RATE}
    return recipes.get("dirac").replace(update=UPDATES[update], **rates, **REMEDIES[remedy])


def closed_form(update: str, remedy: str) -> np.ndarray:
    """The eigenvalues of an update of the Dirac-GAN at its equilibrium, complex [2], derived by hand.

    There, to first order, G's parameter moves by a psi and D's by -a theta - d psi, a = f'(0) = 1/2 and d = DAMPING.
    """
    a, d, one = 0.5, DAMPING[remedy], np.eye(2)
    field = np.array([[0, a], [-a, -d]])
    of_disc, of_gen = RATE * np.array([[0, 0], field[1]]), RATE * np.array([field[0], [0, 0]])
    jacobian = {
        "shared": one + RATE * field,
        "alternating": (one + of_gen) @ (one + of_disc),
        "extragradient": one + RATE * field @ (one + RATE * field),
        "consensus": one + RATE * (field - CONSENSUS * field.T @ field),
    }[update]
    half, determinant = np.trace(jacobian) / 2, np.linalg.det(jacobian)
    root = np.sqrt(complex(half**2 - determinant))
    return np.array([half + root, half - root])


def at_zero(gan: GAN) -> GANState:
    """The Dirac-GAN at its equilibrium: both parameters 0."""
    state = jaxgan.init(gan, jax.random.key(0))
    return with_parameters(state, *(jax.tree.map(jnp.zeros_like, net.params) for net in (state.gen, state.disc)))


def path(recipe: Recipe, steps: int) -> np.ndarray:
    """The parameters (theta, psi) before each update and after the last: [steps + 1, 2]."""
    gan = recipe.build()
    start = jaxgan.init(gan, jax.random.key(0))

    def step(state: GANState, _: None) -> tuple[GANState, jax.Array]:
        after, _ = jaxgan.train_step(gan, state, jnp.zeros((recipe.batch_size, 1)))
        return after, both(after)

    def both(state: GANState) -> jax.Array:
        return jnp.stack([state.gen.params["theta"], state.disc.params["psi"]])

    _, found = jax.jit(lambda state: jax.lax.scan(step, state, length=steps))(start)
    return np.concatenate([both(start)[None], found])


def of_dirac(out: Path, steps: int = 500) -> dict[str, Record]:
    """Draws the paths; by update and remedy how far each ends from the equilibrium, and the eigenvalues there."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2.6 * len(REMEDIES), 2.6 * len(UPDATES)), layout="constrained")
    axes = figure.subplots(len(UPDATES), len(REMEDIES), sharex=True, sharey=True)
    found: dict[str, Record] = {update: {} for update in UPDATES}
    for row, update in zip(axes, UPDATES, strict=True):
        for at, remedy in zip(row, REMEDIES, strict=True):
            recipe = dirac(update, remedy)
            went = path(recipe, steps)
            of: Record = {"start": rounded(np.hypot(*went[0])), "end": rounded(np.hypot(*went[-1]))}
            if remedy in DAMPING:
                gan = recipe.build()
                values = eigenvalues(gan, at_zero(gan), jnp.zeros((recipe.batch_size, 1)))
                of |= {"modulus": largest(values), "closed_form": largest(closed_form(update, remedy))}
            found[update][remedy] = of
            at.plot(*went.T, linewidth=0.8, color="tab:blue")
            at.plot(*went[0], "o", color="tab:blue", markersize=3)
            at.plot(0, 0, "+", color="black")
            at.set(xlim=(-3, 3), ylim=(-3, 3), title=f"{update}\n{remedy}")
    for at in axes[-1]:
        at.set_xlabel("theta (G)")
    for at in axes[:, 0]:
        at.set_ylabel("psi (D)")
    with atomic_write(out / "dirac.png") as partial:
        figure.savefig(partial, format="png", dpi=80)
    return found


def of_ring(out: Path, steps: int) -> dict[str, Record]:
    """Trains small GANs on `ring` by each update and loss; where each ended, what plain SGD does by both updates."""
    from matplotlib.figure import Figure

    small = {"gen": networks.PointsGen(width=32), "disc": networks.PointsDisc(width=32), "batch_size": 256}
    figure = Figure(figsize=(4 * len(OF_RING), 8), layout="constrained")
    axes = figure.subplots(2, len(OF_RING))
    found: dict[str, Record] = {}
    for row, update in zip(axes, DESCENTS, strict=True):
        for at, (name, changes) in zip(row, OF_RING.items(), strict=True):
            say(f"ring: {update}, {name}")
            recipe = recipes.get("ring").replace(**small, update=update, steps=steps, **changes)
            gan, data = recipe.build(), recipe.load_data()
            state = jaxgan.init(gan, jax.random.key(0))
            order = data.batches(jax.random.key(1), 0, steps, recipe.batch_size)
            run = jax.jit(jaxgan.train_steps, static_argnums=0)
            state, metrics = run(gan, state, jnp.asarray(data.images), jnp.asarray(order), steps)
            of: Record = {"loss_disc": rounded(metrics["loss_disc"])}
            rates = {"gen_learning_rate": RATE_ON_RING, "disc_learning_rate": RATE_ON_RING}
            for how in DESCENTS:
                descent = recipe.replace(update=how, optimizer=optax.sgd, beta1=0.9, beta2=0.999, **rates).build()
                there = with_parameters(jaxgan.init(descent, state.key), state.gen.params, state.disc.params)
                some = jnp.asarray(data.images[:2048])
                values = np.concatenate([leading_eigenvalues(descent, there, some, 6, by) for by in ("LR", "LI", "LM")])
                if how == "shared":
                    of["real"] = rounded(values.real.max() / RATE_ON_RING)
                    of["imaginary"] = rounded(np.abs(values.imag).max() / RATE_ON_RING)
                of[how] = largest(1 + values)
            found[f"{update}, {name}"] = of
            field(at, gan, state, np.asarray(data.images[:500]))
            at.set_title(f"{update}\n{name}")
    with atomic_write(out / "ring-field.png") as partial:
        figure.savefig(partial, format="png", dpi=80)
    return found


def rounded(value: Any) -> float:
    """For JSON."""
    return float(f"{float(value):.4g}")


def largest(values: np.ndarray) -> float:
    """The largest modulus."""
    return round(float(np.abs(values).max()), 6)


def field(axes: Any, gan: GAN, state: GANState, real: np.ndarray) -> None:
    """Draws D's logit over the plane, real points in black, and generated ones in red."""
    side = np.linspace(-1.5, 1.5, 60)
    grid = jnp.asarray(np.stack(np.meshgrid(side, side), -1).reshape(-1, 2), jnp.float32)
    logits = gan.disc.apply(state.disc.variables, grid, None, networks.Context())
    axes.contourf(side, side, np.asarray(logits).reshape(60, 60), levels=20, cmap="Blues")
    made = np.asarray(jaxgan.sample(gan, state, jax.random.key(2), 500, averaged=False))
    axes.plot(*real.T, ".", color="black", markersize=2)
    axes.plot(*made.T, ".", color="tab:red", markersize=2)
    axes.set(xlim=(-1.5, 1.5), ylim=(-1.5, 1.5), xticks=[], yticks=[])


def main(args: list[str] | None = None) -> None:
    """Measures, draws, and writes the tables into the page."""
    flags = parse(Flags, "experiments.studies.convergence", args)
    check_flags(flags, steps=10)
    make_folder(flags.out)
    with one_line_errors():
        found = {"dirac": of_dirac(flags.out), "ring": of_ring(flags.out, flags.steps)}
        write_json(flags.out / "convergence.json", found)
        for study in (DIRAC, PATHS, RING):
            write_table(study, found["ring" if study is RING else "dirac"], flags.page)
    say(f"see {flags.out} and {flags.page}")


if __name__ == "__main__":
    run_script(main)
