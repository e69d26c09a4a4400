"""The `jaxgan` command: `jaxgan train …` does what `python -m experiments.train …` does, and so on."""

import ast
import importlib
import sys
from pathlib import Path

from experiments.cli import fail

FOLDER = Path(__file__).parent


def scripts() -> dict[str, str]:
    """The modules of this folder, and of those in it, that have a `main`: their names, and what each says of itself."""
    found = {}
    for path in sorted(FOLDER.rglob("*.py")):
        tree = ast.parse(path.read_bytes())  # to import them all takes seconds
        if path != Path(__file__) and any(isinstance(x, ast.FunctionDef) and x.name == "main" for x in tree.body):
            found[".".join(path.relative_to(FOLDER).with_suffix("").parts)] = ast.get_docstring(tree).splitlines()[0]
    return found


def main() -> None:
    """Calls the script that the first argument names."""
    name, *args = sys.argv[1:] or ["--help"]
    known = scripts()
    if name in ("-h", "--help"):
        width = max(map(len, known))
        print("jaxgan SCRIPT …, the same as python -m experiments.SCRIPT …\n")
        print("\n".join(f"  {script:<{width}}  {about}" for script, about in known.items()))
        return
    if name not in known:
        fail(f"jaxgan has no {name!r}; it has {', '.join(known)}")
    sys.argv = [f"jaxgan {name}", *args]
    importlib.import_module(f"experiments.{name}").main()
