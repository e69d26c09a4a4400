"""The same recipe under several seeds, and how their scores vary: `python -m experiments.seeds RECIPE`."""

from jaxgan.commands.cli import run_script
from jaxgan.commands.seeds import main

if __name__ == "__main__":
    run_script(main)
