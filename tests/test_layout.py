"""Where things are, and which room may import which."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# A room is a file, or a folder of files.
MODULES = {path.stem: [path] for path in (ROOT / "jaxgan").glob("*.py")}
MODULES |= {path.parent.name: sorted(path.parent.rglob("*.py")) for path in (ROOT / "jaxgan").glob("*/__init__.py")}
ANY = set(MODULES) - {"__init__"}
# Imports go down one way: what each module may import of the package.
ALLOWED = {
    "phases": set(),
    "cpu_convolutions": {"phases"},
    "convolutions": {"cpu_convolutions", "phases"},
    "layers": {"convolutions"},
    "losses": set(),
    "images": set(),
    "data": {"gan"},
    "checkpoint": set(),
    "networks": {"layers"},
    "gan": {"losses"},
    "train_step": {"gan", "losses"},
    "sampling": {"gan"},
    "parallel": {"gan", "train_step"},
    "processes": set(),
    "workdir": set(),
    "report": {"images"},
    "training": ANY,
    "__init__": ANY,
}
OPTIONAL = [
    "PIL",
    "array_record",
    "matplotlib",
    "orbax",
    "sklearn",
    "tensorboardX",
    "tensorflow",
    "tensorflow_datasets",
    "tyro",
]


def imports(source):
    """The full names of all that a module of jaxgan imports, wherever in it."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = ["", "jaxgan", ""][min(node.level, 2)]
            module = ".".join(part for part in (above, node.module) if part)
            yield from (f"{module}.{alias.name}" if module else alias.name for alias in node.names)


def rooms(source):
    """The modules of jaxgan that a module imports; "__init__" where it is the package itself."""
    names = [name.split(".") for name in imports(source)]
    return {name[1] if name[1:] and name[1] in MODULES else "__init__" for name in names if name[0] == "jaxgan"}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import jax, numpy.random\nfrom os import path", set()),
        ("import jaxgan", {"__init__"}),
        ("import jaxgan.gan as g, jaxgan.losses", {"gan", "losses"}),
        ("from jaxgan import data, images as pictures", {"data", "images"}),
        ("from jaxgan import GAN", {"__init__"}),
        ("from jaxgan.layers import Conv", {"layers"}),
        ("from .layers import Conv", {"layers"}),
        ("from . import layers", {"layers"}),
        ("def f():\n    if True:\n        from jaxgan import training", {"training"}),
    ],
)
def test_every_form_of_import_is_seen(source, expected):
    assert rooms(source) == expected


def test_every_module_has_a_row_and_every_row_a_module():
    assert set(ALLOWED) == set(MODULES)
    seen = {path for paths in MODULES.values() for path in paths}
    assert set((ROOT / "jaxgan").rglob("*.py")) == seen, "a folder without __init__.py"


@pytest.mark.parametrize("module", sorted(MODULES))
def test_imports_go_down_one_way(module):
    used = set().union(*(rooms(path.read_text()) for path in MODULES[module]))
    assert used - {module} <= ALLOWED[module]


@pytest.mark.parametrize("module", sorted(MODULES))
def test_the_package_imports_neither_scripts_nor_tests(module):
    roots = {name.split(".")[0] for path in MODULES[module] for name in imports(path.read_text())}
    assert not roots & {"experiments", "tests"}


def test_orbax_is_known_to_checkpoint_alone():
    sources = [*(path for paths in MODULES.values() for path in paths), *(ROOT / "experiments").glob("*.py")]
    users = {p.stem for p in sources if any(n.split(".")[0] == "orbax" for n in imports(p.read_text()))}
    assert users == {"checkpoint"}


def test_the_core_needs_only_jax_flax_optax_and_numpy_and_starts_no_device():
    script = f"""
import sys
sys.modules.update(dict.fromkeys({OPTIONAL}))  # None makes an import of it fail
import flax.linen  # which needs rich itself
sys.modules.update(dict.fromkeys([name for name in sys.modules if name.split(".")[0] == "rich"]))
import jaxgan
from jax._src import xla_bridge
assert not xla_bridge.backends_are_initialized(), "importing jaxgan started a device backend"
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "path",
    [
        "README.md",
        "LICENSE",
        "pyproject.toml",
        "requirements.txt",
        ".ci/run",
        "jaxgan/__init__.py",
        "experiments/recipes.py",
        "experiments/train.py",
        "experiments/sample.py",
        "tests/conftest.py",
    ],
)
def test_the_repository_has(path):
    assert (ROOT / path).is_file()
