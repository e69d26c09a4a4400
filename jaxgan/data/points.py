"""Points of distributions that can be drawn, as `data` points:NAME: of a few modes in the plane, of a curve, or of one.

- ring: eight normal distributions around a circle of radius 1, of standard deviation 0.01.
- grid: 25 of standard deviation 0.05, two apart, from -4 to 4 in both directions.
- swiss_roll: a spiral of one and a half turns, with noise of standard deviation 0.05.
- dirac: zeros, of one number each: the data of the Dirac-GAN (Mescheder et al. 2018, arXiv:1801.04406).

Ring and grid are those of PacGAN (Lin et al. 2018, arXiv:1712.04086, section 4.1).
"""

import numpy as np

from jaxgan.data.dataset import DataError, Dataset

SIZE = 100_000
# Of the modes their centres, [modes, 2], and the standard deviation.
_ANGLES = 2 * np.pi * np.arange(8) / 8
MODES = {
    "ring": (np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], axis=1), 0.01),
    "grid": (
        np.stack(np.meshgrid(2.0 * np.arange(-2, 3), 2.0 * np.arange(-2, 3), indexing="ij"), -1).reshape(-1, 2),
        0.05,
    ),
}


def points(name: str) -> Dataset:
    """100,000 points, float32 [N, 2], of dirac [N, 1]; always the same ones.

    Raises:
      DataError: there are no points of that name.
    """
    rng = np.random.default_rng(0)
    if name == "dirac":
        return Dataset("points:dirac", np.zeros((SIZE, 1), np.float32))
    if name == "swiss_roll":
        turn = 1.5 * np.pi * (1 + 2 * rng.random(SIZE))
        curve = np.stack([turn * np.cos(turn), turn * np.sin(turn)], axis=1) / (4.5 * np.pi)
        return Dataset("points:swiss_roll", (curve + 0.05 * rng.normal(size=curve.shape)).astype(np.float32))
    if name not in MODES:
        raise DataError(f"points:{name}: there are points:ring, points:grid, points:swiss_roll and points:dirac")
    centres, deviation = MODES[name]
    drawn = centres[rng.integers(0, len(centres), SIZE)] + deviation * rng.normal(size=(SIZE, 2))
    return Dataset(f"points:{name}", drawn.astype(np.float32))
