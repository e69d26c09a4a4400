"""Draws images from a trained generator: `python -m experiments.sample WORKDIR [--count N] …`."""

from jaxgan.commands.cli import run_script
from jaxgan.commands.sample import main

if __name__ == "__main__":
    run_script(main)
