"""A user's home directory, and the caches in it; and a user who has none."""

import os
import shutil
import subprocess
import sys
import tempfile
import types
from pathlib import Path

import numpy as np
import pytest

from jaxgan import data
from jaxgan.commands import cli
from jaxgan.evaluation import cache, inception_weights


@pytest.fixture
def homeless(tmp_path, monkeypatch):
    """A user without HOME and without an entry in passwd, in a folder of its own."""

    def unknown(_):
        raise KeyError

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("pwd.getpwuid", unknown)
    for name in ("HOME", "XDG_CACHE_HOME", "TORCH_HOME"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.mark.parametrize(
    ("variables", "place"),
    [
        ({}, None),
        ({"XDG_CACHE_HOME": "relative"}, None),
        ({"HOME": "relative"}, None),
        ({"HOME": "{tmp}/home"}, "home/.cache"),
        ({"HOME": "{tmp}/home", "XDG_CACHE_HOME": ""}, "home/.cache"),
        ({"HOME": "{tmp}/home", "XDG_CACHE_HOME": "relative"}, "home/.cache"),
        ({"HOME": "{tmp}/home", "XDG_CACHE_HOME": "{tmp}/cache"}, "cache"),
        ({"XDG_CACHE_HOME": "{tmp}/cache"}, "cache"),
        ({"HOME": "/proc/nothing"}, None),
        ({"XDG_CACHE_HOME": "/proc/nothing"}, None),
    ],
)
def test_there_is_a_cache_where_there_is_a_place(homeless, monkeypatch, variables, place):
    for name, value in variables.items():
        monkeypatch.setenv(name, value.format(tmp=homeless))
    told = {}
    config = types.SimpleNamespace(jax_compilation_cache_dir=None, update=told.__setitem__)
    monkeypatch.setattr(cli.jax, "config", config)
    cli.keep_programs()
    assert told.get("jax_compilation_cache_dir") == (place and f"{homeless}/{place}/jaxgan")
    assert cache.cached(["this"], lambda: {"x": np.ones(1)})["x"] == 1
    found = {path.relative_to(homeless) for path in homeless.rglob("*") if path.is_file()}
    assert {str(path.parent) for path in found} == ({f"{place}/jaxgan/scores"} if place else set())
    assert place or not list(homeless.iterdir())


def test_what_needs_a_home_directory_says_so_and_makes_none(homeless):
    with pytest.raises(data.DataError, match=r"^mnist: there is no home directory .*`data_dir`$"):
        data.open_source("mnist")
    with pytest.raises(inception_weights.WeightsError, match=r"^there is no home directory .*name that file$"):
        inception_weights.find()
    with pytest.raises(data.DataError, match="there is no folder"):
        data.open_source("folder:~/pictures")
    assert not list(homeless.iterdir())


@pytest.mark.nightly
@pytest.mark.skipif(os.geteuid() != 0, reason="only the superuser may become another user")
def test_a_user_without_a_home_directory_trains():
    """A real process; it may read all files, since Python may be in the superuser's home."""
    user = ["setpriv", "--reuid", "54321", "--regid", "54321", "--clear-groups"]
    user += ["--inh-caps", "+dac_read_search", "--ambient-caps", "+dac_read_search"]
    if not shutil.which("setpriv") or subprocess.run([*user, "true"], check=False).returncode:
        pytest.skip("no process of another user can be started")
    unset = ("HOME", "XDG_CACHE_HOME", "JAX_COMPILATION_CACHE_DIR")
    environment = {name: value for name, value in os.environ.items() if name not in unset}
    environment |= {"PYTHONPATH": str(Path(__file__).parents[1]), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [*user, sys.executable, "-m", "experiments.train", "tf2_gan", "--steps", "4", "--evaluate-every", "2"]
    command += ["--data", "digits", "--batch-size", "8", "--devices", "1", "--workdir", "run"]
    with tempfile.TemporaryDirectory() as folder:  # pytest's own is in one that nobody else may enter
        os.chown(folder, 54321, 54321)
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert os.listdir(folder) == ["run"]
