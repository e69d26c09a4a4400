"""Scores a trained generator, or any pictures: `python -m experiments.evaluate WORKDIR [--weights best] …`."""

from jaxgan.commands.cli import run_script
from jaxgan.commands.evaluate import main

if __name__ == "__main__":
    run_script(main)
