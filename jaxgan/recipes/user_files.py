"""Python files of a user's own, a recipe or features: each is run as a module, and known by a digest.

The digest is of the file and of all that it imports, wherever an import stands: at its top or in a function that runs
later. What is imported is read from the source, so that it does not matter what else has been imported, or in which
order. A name that is computed is not seen.
"""

import ast
import contextlib
import hashlib
import importlib.machinery
import importlib.util
import json
import os
import sys
import sysconfig
from collections.abc import Iterator
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from jaxgan.recipes.described import FILE_MODULE

OWN = ("jaxgan", "experiments")  # packages of this project, not of the user
INSTALLED = tuple({os.path.realpath(sysconfig.get_path(k)) for k in ("stdlib", "platstdlib", "purelib", "platlib")})


class Loaded(NamedTuple):
    """A file that has been run.

    Attributes:
      module: what it defines.
      sha256: of the file alone where it imports nothing of the user's, else of the names and digests of all.
      former_sha256: what older versions took: of the bytes of the file, and then of all files from its folder that they
        saw, one after another: itself again, unless it gets another recipe file, and what it imports.
    """

    module: ModuleType
    sha256: str
    former_sha256: str


class _Loading(NamedTuple):
    """A file that is being run, and the others that it has run: to the name by which it imports them, or None."""

    folder: Path
    files: dict[Path, str | None]


_loading: list[_Loading] = []
_folders: list[str] = []  # that were added to sys.path


def find(path: Path) -> Path:
    """Where a file is: beside the file that is being run and names it, else as seen from the current folder."""
    return _beside(_loading[-1].folder if _loading else Path(), path)


def _beside(folder: Path, path: Path) -> Path:
    path = path.expanduser()
    return Path(os.path.abspath(folder / path if (folder / path).is_file() else path))


def is_alone() -> bool:
    """Whether no file is being run."""
    return not _loading


def load(path: Path) -> Loaded:
    """Runs a file as a module. What stands beside it can be imported, by it and by what it runs later.

    Raises:
      OSError: it cannot be read.
      Exception: what the file itself raises.
    """
    path = find(path)
    source = path.read_bytes()
    _make_importable(path.parent)
    _forget_namesakes(_imported(path, source))
    name = f"{FILE_MODULE}@{hashlib.sha256(os.fsencode(path)).hexdigest()[:12]}"  # one for each file
    module = sys.modules[name] = importlib.util.module_from_spec(importlib.util.spec_from_file_location(name, path))
    _loading.append(_Loading(path.parent, {}))
    try:
        exec(compile(source, str(path), "exec"), module.__dict__)  # what was read, no cached bytecode
        files = _imported(path, source) | _loading[-1].files
    finally:
        _loading.pop()
    files.pop(path, None)
    if _loading:
        _loading[-1].files.update({path: None} | files)
    return Loaded(module, *_digests(path, source, files))


def _digests(path: Path, source: bytes, files: dict[Path, str | None]) -> tuple[str, str]:
    """The digest, and the former one."""
    folder, contents = path.parent, {file: file.read_bytes() for file in files}
    former = hashlib.sha256(source)
    for file, content in sorted((contents if None in files.values() else contents | {path: source}).items()):
        if folder in file.parents:
            former.update(content)
    named = [(files[file] or os.path.relpath(file, folder), content) for file, content in contents.items()]
    all_of_them = sorted((name, hashlib.sha256(content).hexdigest()) for name, content in named)
    digest = hashlib.sha256(source).hexdigest()
    if all_of_them:
        digest = hashlib.sha256(json.dumps([digest, all_of_them]).encode()).hexdigest()
    return digest, former.hexdigest()


def _make_importable(folder: Path) -> None:
    """Puts the folder behind what was on sys.path, where it hides nothing, and before those of other files."""
    importlib.invalidate_caches()
    if str(folder) in sys.path and str(folder) not in _folders:
        return
    if str(folder) in sys.path:
        sys.path.remove(str(folder))
    at = min((sys.path.index(other) for other in _folders if other in sys.path), default=len(sys.path))
    sys.path.insert(at, str(folder))
    _folders.append(str(folder))


def _forget_namesakes(files: dict[Path, str | None]) -> None:
    """Lets modules be imported anew where those of the same name are other files, imported for another recipe."""
    for file, name in files.items():
        there = getattr(sys.modules.get(name), "__file__", None)
        if there and os.path.realpath(there) != os.path.realpath(file):
            for module in [module for module in sys.modules if f"{module}.".startswith(f"{name}.")]:
                del sys.modules[module]


def _imported(path: Path, source: bytes) -> dict[Path, str | None]:
    """The user's own files that a file imports, and those that these import: to their names as modules.

    A recipe file that it gets by its path has no such name.
    """
    found: dict[Path, str | None] = {}
    missing = [(path, source, "")]
    while missing:
        path, source, package = missing.pop()
        try:
            tree = ast.parse(source)
        except (SyntaxError, ValueError):  # it says so itself, where it is run; or it is no source
            continue
        files = [(Path(spec.origin), spec.name, spec) for name in _names(tree, package) for spec in _specs(name)]
        files += [(file, None, None) for file in _recipes(tree, path.parent)]
        for file, name, spec in files:
            if file not in found and (name is None or spec.has_location):
                with contextlib.suppress(OSError):
                    content = file.read_bytes()
                    found[file] = name
                    if file.suffix == ".py":
                        inside = spec.submodule_search_locations is not None if spec else True
                        missing.append((file, content, (name if inside else name.rpartition(".")[0]) if name else ""))
    return found


def _names(tree: ast.AST, package: str) -> Iterator[str]:
    """The names of modules that are imported anywhere in a source, and of what may be modules."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.rsplit(".", node.level - 1)[0] if package else ""
                base = f"{above}.{base}".strip(".")
            yield from (f"{base}.{alias.name}".removesuffix(".*") for alias in node.names)
        elif name := _constant_of(node, "import_module", "__import__"):
            yield name


def _recipes(tree: ast.AST, folder: Path) -> Iterator[Path]:
    """The recipe files that `recipes.get("….py")` names anywhere in a source, also where it runs later."""
    for node in ast.walk(tree):
        if (name := _constant_of(node, "get", "load_file")).endswith(".py"):
            yield _beside(folder, Path(name))


def _constant_of(node: ast.AST, *functions: str) -> str:
    """The text that a call of one of these functions begins with; empty where it is none."""
    if not (isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant)):
        return ""
    called = getattr(node.func, "attr", getattr(node.func, "id", None))
    return node.args[0].value if called in functions and isinstance(node.args[0].value, str) else ""


def _specs(name: str) -> Iterator[ModuleSpec]:
    """The user's own modules that are loaded for a dotted name: the packages around it, and itself; as far as found."""
    top, *inner = name.split(".")
    if top in OWN or not top:
        return
    spec = None
    for finder in sys.meta_path:
        with contextlib.suppress(ImportError, AttributeError, ValueError):
            if spec := finder.find_spec(top, None):
                break
    while spec is not None and not _is_installed(spec):
        if spec.origin:  # a folder without __init__.py has none
            yield spec
        if not inner or spec.submodule_search_locations is None:
            return
        spec = PathFinder.find_spec(f"{spec.name}.{inner.pop(0)}", spec.submodule_search_locations)


def _is_installed(spec: ModuleSpec) -> bool:
    """Whether a module belongs to Python, or to a package that was installed."""
    if spec.origin in ("built-in", "frozen"):
        return True
    places = [spec.origin] if spec.origin else list(spec.submodule_search_locations or ())
    return all(
        {"site-packages", "dist-packages"} & {*Path(place).parts}
        or any(Path(folder) in Path(os.path.realpath(place)).parents for folder in INSTALLED)
        for place in places
    )
