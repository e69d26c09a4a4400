"""How fast the recipes train: `python -m experiments.benchmark [RECIPE …] [--torch] [--accelerator] [--json FILE]`."""

from jaxgan.commands.benchmark import main
from jaxgan.commands.cli import run_script

if __name__ == "__main__":
    run_script(main)
