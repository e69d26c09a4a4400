"""Trains and scores the recipes, and draws the results that are shown: `python -m experiments.reproduce [RECIPE …]`."""

from jaxgan.commands.cli import run_script
from jaxgan.commands.reproduce import main

if __name__ == "__main__":
    run_script(main)
