"""Images prepared once: `python -m experiments.prepare folder:PATH --size 64 --out DIR`; or pairs:PATH."""

from jaxgan.commands.cli import run_script
from jaxgan.commands.prepare import main

if __name__ == "__main__":
    run_script(main)
