"""Where things are, and which room may import which."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "jaxgan"
# Rooms from the bottom up: each may import itself and those of the lines above its own.
ORDER = [
    ["convolutions", "files", "labels", "losses", "randomness", "schedules", "user_functions"],
    ["affine", "images", "networks", "per_example"],
    ["penalties", "transforms"],
    ["forward_pass"],
    ["adversarial"],
    ["gan"],
    ["accumulation", "augmentation", "sampling", "data", "evaluation", "styles"],
    ["projection", "train_step"],
    ["jacobian", "parallel"],
    ["run"],
    ["recipes"],
    ["programs"],
    ["benchmark"],
    ["commands"],
]
LEVEL = {room: level for level, rooms in enumerate(ORDER) for room in rooms}
FILES = sorted(PACKAGE.rglob("*.py"))


def room_of(path):
    """The room that a file of the package is in: a file, or a folder of files; "__init__" is the package itself."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


ROOMS = {room_of(path) for path in FILES}
OPTIONAL = [
    "PIL",
    "array_record",
    "jinja2",
    "matplotlib",
    "orbax",
    "tensorboardX",
    "tensorflow",
    "tensorflow_datasets",
    "tyro",
]


def imports(source, package="jaxgan"):
    """The full names of all that a module of a package imports, wherever in it, but for its annotations alone."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")
            above = ".".join(parts[: len(parts) - node.level + 1]) if node.level else ""
            module = ".".join(part for part in (above, node.module) if part)
            yield from (f"{module}.{alias.name}" if module else alias.name for alias in node.names)


def rooms(source, package="jaxgan"):
    """The rooms of jaxgan that a module imports; "__init__" where it is the package itself."""
    names = [name.split(".") for name in imports(source, package)]
    return {name[1] if name[1:] and name[1] in ROOMS else "__init__" for name in names if name[0] == "jaxgan"}


def imported_by(path):
    """The rooms that a file of the package imports."""
    package = ".".join(path.relative_to(ROOT).parent.parts)
    return rooms(path.read_text(), package)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import jax, numpy.random\nfrom os import path", set()),
        ("import jaxgan", {"__init__"}),
        ("import jaxgan.gan as g, jaxgan.losses", {"gan", "losses"}),
        ("from jaxgan import data, images as pictures", {"data", "images"}),
        ("from jaxgan import GAN", {"__init__"}),
        ("from jaxgan.networks.layers import Conv", {"networks"}),
        ("from .networks.layers import Conv", {"networks"}),
        ("from . import losses", {"losses"}),
        ("def f():\n    if True:\n        from jaxgan import run", {"run"}),
    ],
)
def test_every_form_of_import_is_seen(source, expected):
    assert rooms(source) == expected


def test_an_import_from_within_a_folder_is_seen():
    assert rooms("from ..gan import GAN", "jaxgan.run") == {"gan"}
    assert rooms("from . import checkpoint", "jaxgan.run") == {"run"}


def test_every_room_has_its_place():
    assert set(LEVEL) == ROOMS - {"__init__"}


@pytest.mark.parametrize("room", sorted(LEVEL))
def test_imports_go_down_one_way(room):
    for path in (path for path in FILES if room_of(path) == room):
        below = {other for other in LEVEL if LEVEL[other] < LEVEL[room]}
        below |= {"__init__"} if LEVEL[room] > LEVEL["run"] else set()  # what the package gives by itself ends there
        assert imported_by(path) - {room} <= below, path


def test_the_package_imports_neither_scripts_nor_tests():
    for path in FILES:
        roots = {name.split(".")[0] for name in imports(path.read_text())}
        assert not roots & {"experiments", "tests"}, path


def test_files_are_of_one_topic():
    """No file of code or tests is longer than 350 lines."""
    paths = [path for folder in ("jaxgan", "experiments", "tests") for path in (ROOT / folder).rglob("*.py")]
    assert len(paths) > 50
    assert {str(path): length for path in paths if (length := len(path.read_text().splitlines())) > 350} == {}


def test_orbax_is_known_to_checkpoint_alone():
    sources = [*FILES, *(ROOT / "experiments").rglob("*.py")]
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
