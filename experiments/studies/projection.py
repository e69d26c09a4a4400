"""How near projection comes: `python -m experiments.studies.projection WORKDIR HELD_OUT [--count 10]`.

Pictures that the generator has not seen, from a folder, and as many that it made itself, whose latents are known to
exist, are each projected twice: to one w for all layers, and to one for each (`jaxgan.projection`).
"""

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import jax
import numpy as np
import tyro

import jaxgan
from jaxgan import evaluation, images
from jaxgan.commands.cli import check_flags, one_line_errors, parse, run_script
from jaxgan.commands.project import FRAMES, strip
from jaxgan.commands.trained import Trained, check, load
from jaxgan.data import open_source
from jaxgan.evaluation import for_data
from jaxgan.files import atomic_write
from jaxgan.gan import image_shape
from jaxgan.projection import project
from jaxgan.run.numerics import fixed_numerics, root_key
from jaxgan.run.screen import say, shown
from jaxgan.run.workdir import write_json


@dataclasses.dataclass(frozen=True)
class HeldOut:
    """Pictures that the run was not trained on."""

    held_out: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="HELD_OUT")]
    """A folder of them."""


@dataclasses.dataclass(frozen=True)
class Flags:
    """Projects held-out pictures and generated ones, and says how near each came."""

    run: Annotated[Trained, tyro.conf.OmitArgPrefixes, tyro.conf.arg(name="run")]
    pictures: Annotated[HeldOut, tyro.conf.OmitArgPrefixes, tyro.conf.arg(name="pictures")]
    count: int = 10
    """Of each kind."""
    steps: int = 500
    """Of each descent."""
    out: Path = Path("experiments/results")
    """Where projection.json, the curves and the strips are written."""


def main(args: list[str] | None = None) -> None:
    """Projects, draws the strips and the distances over the steps, and writes what was found."""
    flags = parse(Flags, "experiments.studies.projection", args)
    check(flags.run)
    check_flags(flags, count=2, steps=FRAMES)
    with one_line_errors(flags.run.traceback), fixed_numerics():
        recipe, gan, state = load(flags.run)
        key = root_key(flags.run.seed)
        found = open_source(f"folder:{flags.pictures.held_out}", image_shape=image_shape(gan))
        chosen = np.linspace(0, found.size - 1, flags.count).round().astype(int)
        of_kind = {
            "held-out": found.read(chosen).images,
            "generated": np.asarray(jaxgan.sample(gan, state, jax.random.fold_in(key, 1), flags.count)),
        }
        distance = evaluation.perceptual(for_data(recipe.data))
        results: dict[str, dict[str, Any]] = {}
        for kind, targets in of_kind.items():
            # Of each picture to the next: what pictures are apart that have nothing to do with each other.
            to_next = distance(*(x.astype(np.float32) for x in (targets, np.roll(targets, -1, axis=0))))
            results[kind] = {"to_the_next": rounded(to_next)}
            for name, each_layer in (("one w", False), ("a w for each layer", True)):
                say(f"{kind} pictures, {name}")
                ended = project(gan, state, targets, distance, key, flags.steps, FRAMES, each_layer, True, shown)
                results[kind][name] = {"start": rounded(ended.distances[0]), "end": rounded(ended.distances[-1])}
                results[kind][name]["median_over_steps"] = rounded(
                    np.median(ended.distances, axis=1)[:: max(1, flags.steps // 50)]
                )
                picture = f"projection-{kind}{'-each-layer' * each_layer}.png"
                images.save_png(flags.out / picture, strip(targets, ended))
        draw(flags.out / "projection.png", results, flags.steps)
    write_json(flags.out / "projection.json", {"step": int(state.step), "steps": flags.steps, "distances": results})
    for kind, of in results.items():
        apart = float(np.median(of["to_the_next"]))
        for name in ("one w", "a w for each layer"):
            start, end = (float(np.median(of[name][at])) for at in ("start", "end"))
            say(f"{kind}, {name}: {start:.3g} at the start, {end:.3g} at the end; to another picture {apart:.3g}")


def rounded(values: Any) -> list[float]:
    """For JSON."""
    return [float(f"{value:.4g}") for value in np.asarray(values)]


def draw(path: Path, results: dict[str, dict[str, Any]], steps: int) -> None:
    """Saves the medians of the distances over the steps."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    for (kind, of), colour in zip(results.items(), ("tab:blue", "tab:orange"), strict=True):
        axes.axhline(
            float(np.median(of["to_the_next"])), color=colour, linestyle=":", label=f"{kind}: to another picture"
        )
        for name, style in (("one w", "-"), ("a w for each layer", "--")):
            values = of[name]["median_over_steps"]
            axes.plot(
                np.arange(len(values)) * max(1, steps // 50), values, style, color=colour, label=f"{kind}: {name}"
            )
    axes.set(xlabel="step", ylabel="median distance", ylim=(0, None))
    axes.legend(fontsize=8)
    with atomic_write(path) as partial:
        figure.savefig(partial, format="png", dpi=120)


if __name__ == "__main__":
    run_script(main)
