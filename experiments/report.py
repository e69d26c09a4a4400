"""Compares runs on one HTML page: `python -m experiments.report RUN… [--out report.html]`."""

from jaxgan.commands.cli import run_script
from jaxgan.commands.report import main

if __name__ == "__main__":
    run_script(main)
