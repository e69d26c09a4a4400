"""How fast the recipes train: `python -m experiments.benchmark [RECIPE …] [--torch] [--accelerator] [--json FILE]`."""

from jaxgan.commands.benchmark import main

if __name__ == "__main__":
    main()
