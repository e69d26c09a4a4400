"""What each method costs and what it brings: `python -m experiments.studies.methods [METHOD …]`.

Every method is one change to the same small GAN on MNIST, with as many updates. Its cost is the time of an update,
measured in turns with the plain one. What it brings is the Fréchet distance over seeds: after all updates, and when
the plain one would have ended by the clock. Started again, it goes on where it was stopped.
"""

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import tyro

from jaxgan.benchmark import turns
from jaxgan.commands import results_page, scored_run
from jaxgan.commands.cli import check_names, fail, keep_programs, one_line_errors, parse
from jaxgan.commands.results_page import mean_and_spread
from jaxgan.commands.scored_run import Scored
from jaxgan.commands.seeds import study
from jaxgan.networks import PlainDisc, PlainGen
from jaxgan.penalties import R1, R2, WGANGP, Lazy
from jaxgan.recipes.groups import Data, Objective, Optimization, Schedule
from jaxgan.recipes.settings import Recipe
from jaxgan.run import Options, RunError
from jaxgan.run.metrics import comparable, unit
from jaxgan.run.screen import say
from jaxgan.run.workdir import write_json
from jaxgan.transforms import DIFF_AUGMENT

BASE = Recipe(
    name="plain",
    gen=PlainGen(channels=1),
    disc=PlainDisc(),
    source=Data(data="mnist", batch_size=64),
    objective=Objective(z_size=64),
    optimization=Optimization(gen_learning_rate=2e-4, disc_learning_rate=2e-4, beta1=0.0, beta2=0.99),
    schedule=Schedule(ema_decay=0.995),
)
R1_R2 = (R1(1.0), R2(1.0))
PAIRS = {"loss": "relativistic", "penalties": R1_R2}
# By name: what the table calls each, and its change to BASE, which is the non-saturating loss alone.
METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "plain": ("non-saturating", {}),
    "least_squares": ("least squares", {"loss": "least_squares"}),
    "hinge": ("hinge", {"loss": "hinge"}),
    "spectral": ("hinge, spectral normalisation", {"loss": "hinge", "disc": PlainDisc(spectral_norm=True)}),
    "wgan_gp": ("Wasserstein, WGAN-GP", {"loss": "wasserstein", "penalties": (WGANGP(),)}),
    "r1": ("non-saturating, R1", {"penalties": (R1(1.0),)}),
    "lazy_r1": ("non-saturating, R1 every 8th step", {"penalties": (Lazy(R1(1.0), 8),)}),
    "r1_r2": ("non-saturating, R1, R2", {"penalties": R1_R2}),
    "relativistic": ("relativistic", {"loss": "relativistic"}),
    "relativistic_r1_r2": ("relativistic, R1, R2", PAIRS),
    "relativistic_r1_r2_alternating": ("relativistic, R1, R2, alternating", PAIRS | {"update": "alternating"}),
    "diff_augment": ("relativistic, R1, R2, DiffAugment", PAIRS | {"transforms": DIFF_AUGMENT}),
    "labels": (
        "relativistic, R1, R2, labels",
        PAIRS | {"gen": PlainGen(1, 10), "disc": PlainDisc(10), "classes": 10, "generated_labels": "real"},
    ),
}


@dataclasses.dataclass(frozen=True)
class Methods:
    """Measures each method's cost, and trains and scores it."""

    methods: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="[METHOD …]")] = tuple(METHODS)
    """Which ones."""
    seeds: int = 3
    """How many seeds of each; 0 measures times alone."""
    steps: int = 3_000
    """How many updates of each."""
    rounds: int = 5
    """How many times each update is timed, for a second; 0 keeps the times that were measured before."""
    runs: Path = Path("runs/methods")
    """Where the runs are kept, a folder for each method."""
    out: Path = Path("experiments/results")
    """Where methods.json is written."""
    page: Path = Path("docs/methods.md")
    """The page that the table is written into."""
    data_dir: str | None = None
    """Where TensorFlow Datasets keeps its data (by default ~/tensorflow_datasets)."""


def main() -> None:
    """Times all, then trains the first seed of each, the second of each, and so on."""
    flags = parse(Methods, "experiments.studies.methods")
    check_names(flags.methods, METHODS, "method")
    for name, least in (("seeds", 0), ("steps", 10), ("rounds", 0)):
        if getattr(flags, name) < least:
            fail(f"--{name} must be at least {least}, not {getattr(flags, name)}")
    results_page.make_folder(flags.out)
    keep_programs()
    with one_line_errors():
        results = results_page.read_results(flags.out / "methods.json")
        if flags.rounds:
            timed = {name: method(name, 1) for name in dict.fromkeys(["plain", *flags.methods])}
            for name, times in turns.times(timed, flags.rounds).items():
                results[name] = results.get(name, {}) | times
            _write(flags, results)
        for seeds in range(1, flags.seeds + 1):
            for name in flags.methods:
                try:
                    results[name] = results.get(name, {}) | _scores(name, seeds, flags)
                except RunError as error:
                    say(f"{name}: {error}", "stderr")
                _write(flags, results)
    say(f"see {flags.out}/methods.json and {flags.page}")


def method(name: str, steps: int) -> Recipe:
    """The recipe of a method."""
    return BASE.replace(name=name, steps=steps, **METHODS[name][1])


def table(results: dict[str, Any]) -> str:
    """The results as a table in Markdown: means over the seeds, ± the standard deviation.

    What was scored otherwise than the first method is not beside it.
    """
    units = {name: results[name].get("scored_by") for name in METHODS if "distances" in results.get(name, {})}
    alike = [name for name in units if units[name] == next(iter(units.values()))]
    lines = ["| method | ms | of plain | seeds | Fréchet distance | at equal time | floor |", "|---" * 7 + "|"]
    for name in (name for name in METHODS if name in results):
        found = results[name]
        slower, distances = found.get("slower"), found["distances"] if name in alike else []
        ended = [by_step for by_step in distances if by_step]
        at_equal_time = [_at(by_step, found["steps"] / max(1, slower)) for by_step in ended] if slower else []
        cells = [
            METHODS[name][0],
            f"{found['milliseconds']:.1f}" if slower else "-",
            f"{slower:.2f}" if slower else "-",
            f"{len(ended)} of {len(distances)}",
            mean_and_spread([_at(by_step, found["steps"]) for by_step in ended]),
            mean_and_spread(at_equal_time),
            f"{found['floor']:.3g}" if "floor" in found and name in alike else "-",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    if others := [METHODS[name][0] for name in units if name not in alike]:
        lines += ["", f"Scored otherwise, and not to be compared: {'; '.join(others)}."]
    return "\n".join(lines)


def _at(distances: dict[str, float], step: float) -> float:
    """The last of the distances during training that was measured by that step."""
    return distances[max((s for s in distances if int(s) <= step), key=int, default=min(distances, key=int))]


def _scores(name: str, seeds: int, flags: Methods) -> dict[str, Any]:
    """Trains and scores a method under some seeds: the distances of each by step, None where it diverged.

    The floor is that of as many real images as there are samples during training.
    """
    recipe, folder, every = method(name, flags.steps), flags.runs / name, max(1, flags.steps // 10)
    options = Options(flags.data_dir, log_every=20, sample_every=max(1, flags.steps // 4), checkpoint_every=every)
    scored = Scored(every)
    found = study(recipe, folder, seeds, options, scored)
    distances, units = [], set()
    for seed in found["seeds"]:
        workdir = folder / f"seed-{seed['seed']}"
        lines = comparable(workdir) if "diverged" not in seed else ()
        distances.append({str(x["step"]): x["frechet_distance"] for x in lines if "frechet_distance" in x} or None)
        units |= {unit(workdir)} if distances[-1] else set()
    if len(units) > 1:
        raise RunError(f"{folder}: not all seeds were scored alike during training; name another --runs")
    result = {"steps": recipe.steps, "config": recipe.config(), "distances": distances}
    if not units:
        return result
    floor = scored.yardstick(recipe, flags.data_dir).floor(scored_run.COUNT)
    return result | {"scored_by": units.pop(), "floor": floor["frechet_distance"]}


def _write(flags: Methods, results: dict[str, Any]) -> None:
    write_json(flags.out / "methods.json", {name: results[name] for name in METHODS if name in results})
    results_page.show(flags.page, "methods", table(results))


if __name__ == "__main__":
    main()
