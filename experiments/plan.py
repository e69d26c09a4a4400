"""Whether a run fits on an accelerator, and what it will do there: `python -m experiments.plan RECIPE --on TARGET`."""

from jaxgan.commands.cli import run_script
from jaxgan.commands.plan import main

if __name__ == "__main__":
    run_script(main)
