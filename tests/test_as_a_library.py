"""From Python, jaxgan names settings and leaves its process alone; a command names flags, and quiets its own."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from jaxgan.commands import process

ROOT = Path(__file__).parents[1]
FLAG = re.compile(r"--(?!xla_|no-deps)[a-z]")  # but for XLA's, and pip's
STARTS_COMMANDS = {"commands", "benchmark"}


def literals(tree):
    """The string literals of a module but its docstrings: line and text."""
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node.lineno, node.value


def test_the_library_names_settings_and_not_flags():
    found = [
        (str(path), line, text)
        for path in (ROOT / "jaxgan").rglob("*.py")
        if path.relative_to(ROOT / "jaxgan").parts[0] not in STARTS_COMMANDS
        for line, text in literals(ast.parse(path.read_bytes()))
        if FLAG.search(text)
    ]
    assert found == []


def test_literals_are_found():
    source = 'def f():\n    """--no"""\n    g(f"{x} --one", "--two")\n    """--three"""\n'
    assert sorted(literals(ast.parse(source))) == [(3, " --one"), (3, "--two"), (4, "--three")]


def test_a_command_names_its_flags(capsys):
    for line, shown in (
        ("`batch_size` 3, `data`", "--batch-size 3, --data"),
        ("`features` is no flag here, 'batch_size' no name", "`features` is no flag here, 'batch_size' no name"),
    ):
        process.writer({"batch_size", "data"})(line, sys.stdout)
        assert capsys.readouterr().out == f"{shown}\n"


@pytest.mark.slow
def test_importing_and_training_leave_the_process_as_it_was(tmp_path):
    """Loggers, hooks, and descriptors: those of the process's own files, once JAX has started what it needs."""
    script = f"""
import logging, os, sys, threading
import jax
jax.devices()

def seen():
    loggers = [logging.getLogger(), *map(logging.getLogger, ("absl", "asyncio", "concurrent.futures", "jax", "jaxgan"))]
    fds = {{fd: os.readlink(f"/proc/self/fd/{{fd}}") for fd in map(int, os.listdir("/proc/self/fd")) if fd < 3}}
    return (
        [(x.name, x.level, x.disabled, x.propagate, x.filters) for x in loggers],
        [handler for x in loggers[2:] for handler in x.handlers],
        sys.excepthook, sys.unraisablehook, threading.excepthook, sys.displayhook,
        sys.stdout, sys.stderr, sys.stdin, fds,
    )

def opened():
    paths = (os.path.realpath(f"/proc/self/fd/{{fd}}") for fd in os.listdir("/proc/self/fd"))
    return [path for path in paths if path.startswith(({str(tmp_path)!r}, "/dev/null"))]

before, files = seen(), opened()
import jaxgan, jaxgan.run
from jaxgan import recipes
from jaxgan.run import Options, checkpoint, run
from jaxgan.run.numerics import root_key
assert seen() == before, "import"
recipe = recipes.get("tf2_gan").replace(data="digits", batch_size=8, steps=3)
run(recipe, {str(tmp_path / "run")!r}, 0, Options(devices=1, log_every=1, sample_every=2, checkpoint_every=2))
checkpoint.read({str(tmp_path / "run" / "checkpoints")!r}, jaxgan.init(recipe.build(), root_key(0)))
assert seen() == before, (before, seen())
assert opened() == files, opened()
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
