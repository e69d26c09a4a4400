"""Signs that a game is dead, each told once in a run: by its lines of metrics, and by its sample grids.

They were set by runs that are well and by sick ones; docs/curves.md counts the true and the false alarms.
"""

import collections
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

LINES, UPDATES = 20, 1_000  # that a sign in the losses lasts, at least
SURE = 0.02  # of D's first loss, below which it is right on nearly everything
STILL = 1e-3  # of a loss, within which it does not change
YOUNG = 500  # updates, before which all samples may be alike
ALIKE = 4.0  # grey levels of 255
SEE = "see docs/curves.md"


class Watch:
    """Looks at what a run reports, in order, and gives a line for each sign of a dead game, the first time.

    Attributes:
      signs: the step at which each was told: `sure`, D is right on nearly everything; `still`, the losses do not
        change; `alike`, all samples of a row are.
    """

    def __init__(self) -> None:
        self._first = float("nan")  # loss of D, which knows nothing yet
        self._losses: collections.deque[tuple[int, float, float]] = collections.deque()  # step, G's and D's
        self._spread: tuple[int, float] | None = None  # of the grid before, and its step
        self.signs: dict[str, int] = {}

    def line(self, line: Mapping[str, Any]) -> list[str]:
        """What a line of metrics makes clear; only of signs that have lasted for `LINES` and `UPDATES`."""
        return self._told_by_losses() if self._keep(line) else []

    def earlier(self, lines: Iterable[Mapping[str, Any]]) -> None:
        """The lines of a run that goes on; what the last of them makes clear has been told."""
        for line in lines:
            self._keep(line)
        if self._losses:
            self._told_by_losses()

    def _keep(self, line: Mapping[str, Any]) -> bool:
        """Keeps a line that has both losses, and forgets those that are too old to be asked for."""
        gen, disc = line.get("loss_gen"), line.get("loss_disc")
        if gen is None or disc is None:
            return False
        self._first = self._first if self._losses else disc
        self._losses.append((line["step"], gen, disc))
        while len(self._losses) > LINES and self._losses[1][0] <= line["step"] - UPDATES:
            self._losses.popleft()
        return True

    def _told_by_losses(self) -> list[str]:
        step = self._losses[-1][0]
        updates = step - self._losses[0][0]
        if len(self._losses) < LINES or updates < UPDATES:
            return []
        _, of_gen, of_disc = np.array(self._losses).T
        return self._new(step, _of_losses(self._first, of_gen, of_disc, f"for {updates:,} updates"))

    def grid(self, step: int, samples: np.ndarray, columns: int) -> list[str]:
        """What a sample grid makes clear, if it is the second in which all are alike.

        Args:
          step: its own.
          samples: uint8 [N, H, W, C]; others are not looked at.
          columns: of the grid. A row of it may be a class.
        """
        if samples.dtype != np.uint8 or len(samples) < columns:
            return []
        before, self._spread = self._spread, (step, spread(samples, columns))
        if not before or step < YOUNG or max(before[1], self._spread[1]) >= ALIKE:
            return []
        said = (
            f"note: at steps {before[0]:,} and {step:,} all samples of a row are alike: the modes have collapsed. Try "
            f"a larger learning rate of D, a smaller one of G, or more updates of D; {SEE}"
        )
        return self._new(step, [("alike", said)])

    def _new(self, step: int, found: Iterable[tuple[str, str]]) -> list[str]:
        new = {sign: said for sign, said in found if sign not in self.signs}
        self.signs |= dict.fromkeys(new, step)
        return [*new.values()]


def _of_losses(first: float, gen: np.ndarray, disc: np.ndarray, lasted: str) -> Iterator[tuple[str, str]]:
    """Signs and what is said of them, by D's first loss and the losses of the last lines."""
    if disc.min() >= 0 and np.median(disc) < SURE * first:
        yield (
            "sure",
            f"note: D has been right on nearly everything {lasted}: its loss is {np.median(disc):.2g}, at first it was "
            f"{first:.2g}. Try a larger learning rate of G, a smaller one of D, or a penalty such as R1; {SEE}",
        )
    if all(np.ptp(loss) <= STILL * max(np.abs(loss).mean(), STILL) for loss in (gen, disc)):  # or are near 0
        yield (
            "still",
            f"note: the losses have not changed {lasted}: G's is {gen[-1]:.4g}, D's {disc[-1]:.4g}. Either the game is "
            f"over, or a network gives the same whatever it is given; {SEE}",
        )


def spread(samples: np.ndarray, columns: int) -> float:
    """How far the samples of a row differ: the standard deviation of a pixel, of 255, mean over pixels and rows."""
    rows = samples[: len(samples) // columns * columns].reshape(-1, columns, *samples.shape[1:])
    return float(rows.std(axis=1, dtype=np.float32).mean())
