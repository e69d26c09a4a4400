"""The `jaxgan` command: `jaxgan train …` does what `python -m experiments.train …` does, and so on."""

import importlib
import sys

from experiments.cli import fail

SCRIPTS = (
    "train",
    "sample",
    "evaluate",
    "seeds",
    "report",
    "reproduce",
    "benchmark",
    "plan",
    "agreement",
    "communication",
    "convolutions",
    "curves",
    "train_features",
    "prepare",
)


def main() -> None:
    """Calls the script that the first argument names."""
    name, *args = sys.argv[1:] or ["--help"]
    if name in ("-h", "--help"):
        print("jaxgan SCRIPT …, the same as python -m experiments.SCRIPT …\n")
        for script in SCRIPTS:
            print(f"  {script:<14}{(importlib.import_module(f'experiments.{script}').__doc__ or '').splitlines()[0]}")
        return
    if name not in SCRIPTS:
        fail(f"jaxgan has no {name!r}; it has {', '.join(SCRIPTS)}")
    sys.argv = [f"jaxgan {name}", *args]
    importlib.import_module(f"experiments.{name}").main()
