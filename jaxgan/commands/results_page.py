"""The page of results that scripts write into: JSON beside it, and tables between markers in it."""

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxgan.commands.cli import fail
from jaxgan.run.workdir import whole


def make_folder(out: Path) -> None:
    """Makes the folder, or ends the program with a line."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        fail(f"--out {out} cannot be made ({error.strerror}); name another")


def read_results(path: Path) -> dict[str, Any]:
    """What a script has written before; ends the program where it is something else."""
    try:
        return dict(json.loads(path.read_text())) if path.exists() else {}
    except (ValueError, TypeError):
        fail(f"{path} is not what this script has written; move it away")


def show(readme: Path, name: str, text: str) -> None:
    """Puts text between the markers of that name, <!-- NAME --> and <!-- end -->, where there is such a page."""
    if readme.exists():
        between = re.compile(rf"(?<=<!-- {name} -->\n).*?(?=<!-- end -->)", re.DOTALL)
        page = between.sub(lambda _: f"{text}\n", readme.read_text())
        with whole(readme) as partial:
            partial.write_text(page)


def mean_and_spread(values: Sequence[float]) -> str:
    """The mean, ± the standard deviation where there are several; a dash where there are none."""
    if not len(values):
        return "-"
    return f"{np.mean(values):.3g}" + (f" ± {np.std(values, ddof=1):.2g}" if len(values) > 1 else "")


def machine(device: str) -> str:
    """What a run was on, by its kind of device."""
    return f"{os.cpu_count()} CPU cores" if device == "cpu" else device
