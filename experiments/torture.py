"""Runs killed at random moments, and resumed until they end: `python -m experiments.torture [KIND …] --kills N`."""

from jaxgan.commands.cli import run_script
from jaxgan.commands.torture import main

if __name__ == "__main__":
    run_script(main)
