"""An event that tells Weights & Biases of a run: `events=(weights_and_biases(100, project="faces"),)` in a recipe."""

import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxgan import images
from jaxgan.run.errors import RunError
from jaxgan.run.events import Event, Snapshot
from jaxgan.run.workdir import read_config


def weights_and_biases(every: int, **options: Any) -> Event:
    """An event that logs metrics, scores and what other events before it found, and sample grids.

    It logs those of the steps that it is called at.

    A run that goes on does so there, too: what identifies it is kept in WORKDIR/wandb, where W&B keeps its own files.
    Steps that it logged before it was killed and takes again are not logged twice: W&B leaves them as they were.

    Args:
      every: the period, in steps. Of `log_every` and `sample_every` it sees what falls on its own steps.
      options: those of `wandb.init`, such as `project`, or `mode="offline"`; the run's name is by default its folder's.

    Raises:
      RunError: the package `wandb` is not there.
    """
    try:
        import wandb
    except ImportError:
        raise RunError('Weights & Biases: there is no wandb here; pip install "jaxgan[wandb]"') from None
    started: dict[Path, Any] = {}  # by workdir: several seeds may train together

    def start(workdir: Path) -> Any:
        folder = workdir / "wandb"
        folder.mkdir(exist_ok=True)
        kept = folder / "id.txt"
        if not kept.exists():
            kept.write_text(uuid.uuid4().hex)
        arguments: dict[str, Any] = {"name": workdir.name, "config": read_config(workdir), "dir": workdir, **options}
        return wandb.init(id=kept.read_text(), resume="allow", reinit="create_new", **arguments)

    def log(snapshot: Snapshot) -> None:
        workdir = snapshot.workdir
        if workdir not in started:
            started[workdir] = start(workdir)
        seen: Mapping[str, Any] = {**snapshot.metrics, **snapshot.found}
        if snapshot.device_samples is not None:
            seen = {**seen, "samples": wandb.Image(images.drawn(np.asarray(snapshot.device_samples)))}
        started[workdir].log(seen, step=snapshot.step)

    def close() -> None:
        while started:
            started.popitem()[1].finish()

    return Event("weights_and_biases", every, log, close=close)
