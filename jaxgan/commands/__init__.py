"""The commands: `jaxgan train …`, or `python -m experiments.train …` in a checkout, and so on."""

import ast
import importlib
import sys
from pathlib import Path

from jaxgan.commands.cli import fail, run_script

FOLDER = Path(__file__).parent


def commands() -> dict[str, str]:
    """The modules of this folder that have a `main`: their names, and what each says of itself."""
    found = {}
    for path in sorted(FOLDER.glob("*.py")):
        tree = ast.parse(path.read_bytes())  # to import them all takes seconds
        if path.name != "__init__.py" and any(isinstance(x, ast.FunctionDef) and x.name == "main" for x in tree.body):
            found[path.stem] = (ast.get_docstring(tree) or "").partition("\n")[0]
    return found


def main() -> None:
    """The program `jaxgan`."""
    run_script(command)


def command() -> None:
    """Calls the command that the first argument names."""
    name, *args = sys.argv[1:] or ["--help"]
    known = commands()
    if name in ("-h", "--help"):
        width = max(map(len, known))
        print("jaxgan COMMAND …, in a checkout the same as python -m experiments.COMMAND …\n")
        print("\n".join(f"  {name:<{width}}  {about}" for name, about in known.items()))
        return
    if name not in known:
        fail(f"jaxgan has no {name!r}; it has {', '.join(known)}")
    sys.argv = [f"jaxgan {name}", *args]
    importlib.import_module(f"jaxgan.commands.{name}").main()
