"""Python files of a user's own, a recipe or features: each is run as a module, and known by a digest.

The digest is of the file and of all that it imports, wherever an import stands: at its top or in a function that runs
later. What is imported is read from the source, so that it does not matter what else has been imported, or in which
order. A name that is computed is not seen.
"""

import ast
import contextlib
import hashlib
import importlib.util
import inspect
import json
import os
import sys
import sysconfig
from collections.abc import Iterator
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

from jaxgan.recipes.description import FILE_MODULE

OWN = ("jaxgan", "experiments")  # packages of this project, not of the user
INSTALLED = tuple({os.path.realpath(sysconfig.get_path(k)) for k in ("stdlib", "platstdlib", "purelib", "platlib")})


class _Folder(str):
    """A folder that is on sys.path for what stands beside a user's file."""


def loaded() -> dict[str, ModuleType]:
    """The user's files that have been run in this process, or begun, the first one first: each path to its module."""
    return {str(module.__file__): module for name, module in sys.modules.items() if name.startswith(f"{FILE_MODULE}@")}


def _running() -> dict[str, Any] | None:
    """The globals of the user's file that is being run; None where none is."""
    frame = inspect.currentframe()
    while frame and not str(frame.f_globals.get("__name__")).startswith(f"{FILE_MODULE}@"):
        frame = frame.f_back
    return frame and frame.f_globals


def find(path: Path) -> Path:
    """Where a file is: beside the file that is being run and names it, else as seen from the current folder."""
    running = _running()
    return _beside(Path(running["__file__"]).parent if running else Path(), path)


def _beside(folder: Path, path: Path) -> Path:
    path = path.expanduser()
    return Path(os.path.abspath(folder / path if (folder / path).is_file() else path))


def load(path: Path) -> tuple[ModuleType, str]:
    """Runs a file as a module. What stands beside it can be imported, by it and by what it runs later.

    Returns:
      The module; and its digest: of the file alone where it imports nothing of the user's, else of the names and
      digests of all.

    Raises:
      OSError: it cannot be read.
      Exception: what the file itself raises.
    """
    path = find(path)
    source = path.read_bytes()
    _make_importable(str(path.parent))
    _forget_namesakes(_imported(path, source))
    name = f"{FILE_MODULE}@{hashlib.sha256(os.fsencode(path)).hexdigest()[:12]}"  # one for each file
    spec = importlib.util.spec_from_file_location(name, path, loader=SourceFileLoader(name, str(path)))
    assert spec
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    got = module.__dict__["__got__"] = {}  # other files that it has run, and what they import
    exec(compile(source, str(path), "exec"), module.__dict__)  # what was read, no cached bytecode
    files: dict[Path, str | None] = _imported(path, source) | got
    files.pop(path, None)
    if running := _running():
        running["__got__"].update({path: None} | files)
    digest, contents = hashlib.sha256(source).hexdigest(), {file: file.read_bytes() for file in files}
    if files:
        named = [(files[file] or os.path.relpath(file, path.parent), content) for file, content in contents.items()]
        all_of_them = sorted((name, hashlib.sha256(content).hexdigest()) for name, content in named)
        digest = hashlib.sha256(json.dumps([digest, all_of_them]).encode()).hexdigest()
    return module, digest


def _make_importable(folder: str) -> None:
    """Puts the folder behind what was on sys.path, where it hides nothing, and before those of other files."""
    importlib.invalidate_caches()
    before = [path for path in sys.path if not isinstance(path, _Folder)]
    if folder not in before:
        others = [path for path in sys.path if isinstance(path, _Folder) and path != folder]
        sys.path[:] = [*before, _Folder(folder), *others]


def _forget_namesakes(files: dict[Path, str | None]) -> None:
    """Removes modules from sys.modules that have these names but are other files, imported for another recipe."""
    for file, name in files.items():
        there = getattr(sys.modules.get(name or ""), "__file__", None)
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
        for file, name, inside in _named(tree, path.parent, package):
            if file not in found:
                with contextlib.suppress(OSError):
                    content = file.read_bytes()
                    found[file] = name
                    missing += [(file, content, inside)] if file.suffix == ".py" else []
    return found


def _named(tree: ast.AST, folder: Path, package: str) -> Iterator[tuple[Path, str | None, str]]:
    """What a source in a folder and a package names anywhere, also where it runs later: modules and recipe files.

    Each with its name as a module, and the package that it is in.
    """
    for node in ast.walk(tree):
        names: list[str] = []
        match node:
            case ast.Import():
                names = [alias.name for alias in node.names]
            case ast.ImportFrom():
                above = package.rsplit(".", node.level - 1)[0] if node.level and package else ""
                base = ".".join(part for part in (above, node.module) if part)
                names = [f"{base}.{alias.name}".removesuffix(".*") for alias in node.names]
            case ast.Call(ast.Attribute(attr=called) | ast.Name(called), [ast.Constant(str(text)), *_]):
                names = [text] if called in ("import_module", "__import__") else []
                if called in ("get", "load_file") and text.endswith(".py"):
                    yield _beside(folder, Path(text)), None, ""
            case _:
                continue
        for name in names:
            yield from _modules(name)


def _modules(name: str) -> Iterator[tuple[Path, str, str]]:
    """The user's own modules that are loaded for a dotted name: the packages around it, and itself; as far as found.

    Each with its file, its name, and the package that it is in.
    """
    top, *inner = name.split(".")
    if top in OWN or not top:
        return
    spec = None
    for finder in sys.meta_path:
        with contextlib.suppress(ImportError, AttributeError, ValueError):
            if spec := finder.find_spec(top, None):
                break
    while spec is not None and not _is_installed(spec):
        if spec.has_location and spec.origin:  # a folder without __init__.py has none
            yield Path(spec.origin), spec.name, spec.parent or ""
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
