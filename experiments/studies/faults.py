"""How features order sets of pictures with faults: `python -m experiments.studies.faults folder:PATH [--json FILE]`.

Half of some pictures stands for real ones, and the other half for samples: as it is, blurred, with noise, and with
fewer different pictures. Features are fit for pictures of this size where each fault's distance grows with the fault.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from scipy.ndimage import gaussian_filter

from jaxgan import data, evaluation
from jaxgan.commands.cli import keep_programs, one_line_errors, parse, run_script
from jaxgan.commands.feature_files import choose
from jaxgan.run.screen import say
from jaxgan.run.workdir import write_json

FAULTS: dict[str, tuple[float, ...]] = {
    "blurred, deviation in pixels": (0.5, 1, 2),
    "noise, deviation of 255": (5, 15, 40),
    "of so few pictures": (200, 50, 10),
}


@dataclasses.dataclass(frozen=True)
class Faults:
    """Measures the Fréchet distance of pictures with faults, by several features."""

    data: Annotated[str, tyro.conf.Positional]
    """The pictures, as --data of experiments.train."""
    size: int = 64
    """Pixels of their sides."""
    count: int = 400
    """Pictures in each set."""
    features: tuple[str, ...] = ("cifar10", "efficientnet")
    """Which features."""
    json: Path | None = None
    """Where the result is written too."""


def main(args: list[str] | None = None) -> None:
    """Prints the distances of each fault, the smallest fault first."""
    flags = parse(Faults, "experiments.studies.faults", args)
    keep_programs()
    with one_line_errors():
        source = data.open_source(flags.data, image_shape=(flags.size, flags.size, 3))
        chosen = np.random.RandomState(0).permutation(source.size)[: 2 * flags.count]
        real, other = np.split(source.read(chosen).images, 2)
        found: dict[str, dict[str, list[float]]] = {}
        for name in flags.features:
            seen = evaluation.embed(choose(name, None, None), real).features
            distance = distance_to(seen, name)
            found[name] = {"none": [distance(other)]}
            for fault, sizes in FAULTS.items():
                found[name][fault] = [distance(with_fault(other, fault, size)) for size in sizes]
            for fault, values in found[name].items():
                of = ", ".join(
                    f"{size:g}: {value:.3g}" for size, value in zip(FAULTS.get(fault, (0,)), values, strict=True)
                )
                say(f"{name:<13} {fault}: {of}")
        if flags.json:
            write_json(flags.json, {"size": flags.size, "count": flags.count, "faults": FAULTS, "distances": found})


def distance_to(real: np.ndarray, name: str) -> Callable[[np.ndarray], float]:
    """The Fréchet distance of images from those with the features `real`."""
    features = choose(name, None, None)
    return lambda images: evaluation.frechet_distance(real, evaluation.embed(features, images).features)


def with_fault(images: np.ndarray, fault: str, size: float) -> np.ndarray:
    """Images, uint8 [N, H, W, C], with one of `FAULTS`."""
    if fault.startswith("blurred"):
        return gaussian_filter(images.astype(np.float32), (0, size, size, 0)).round().astype(np.uint8)
    if fault.startswith("noise"):
        noise = np.random.RandomState(1).normal(0, size, images.shape)
        return np.clip(images + noise, 0, 255).astype(np.uint8)
    return images[np.arange(len(images)) % int(size)]


if __name__ == "__main__":
    run_script(main)
