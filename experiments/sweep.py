"""A recipe under a grid of settings, and which does best: `python -m experiments.sweep RECIPE --vary NAME VALUE …`."""

from jaxgan.commands.cli import run_script
from jaxgan.commands.sweep import main

if __name__ == "__main__":
    run_script(main)
