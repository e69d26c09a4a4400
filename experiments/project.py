"""Finds the latents of pictures: `python -m experiments.project WORKDIR PICTURE … [--steps N]`."""

from jaxgan.commands.cli import run_script
from jaxgan.commands.project import main

if __name__ == "__main__":
    run_script(main)
