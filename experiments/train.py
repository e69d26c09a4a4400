"""Trains a recipe: `python -m experiments.train [RECIPE] [--steps N] …`, all flags with `--help`."""

from jaxgan.commands.cli import run_script
from jaxgan.commands.train import main

if __name__ == "__main__":
    run_script(main)
