"""Strict settings for every test, and several CPU devices."""

import atexit
import contextlib
import os
import shutil
import sys
import tempfile
from pathlib import Path

import hypothesis
import jax
import pytest

# For the processes that tests start too.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

# Each program is compiled once, for these tests and for the processes that they start.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="jaxgan-tests-")
    atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.03"
jax.config.update("jax_compilation_cache_dir", os.environ["JAX_COMPILATION_CACHE_DIR"])
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.03)

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_legacy_prng_key", "error")

# The first example compiles; and the same examples everywhere, so that a failure can be had again.
hypothesis.settings.register_profile("jaxgan", deadline=None, derandomize=True, max_examples=30)
hypothesis.settings.load_profile("jaxgan")


def forget_programs():
    """Hundreds of large programs in one process take gigabytes, and more mappings than the 65,530 that it may have."""
    maps = Path("/proc/self/maps")
    if not maps.exists() or maps.read_bytes().count(b"\n") > 20_000:
        jax.clear_caches()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Before `-m` chooses: what is nightly is slow, too."""
    for item in items:
        if item.get_closest_marker("nightly"):
            item.add_marker("slow")


@pytest.fixture(autouse=True, scope="module")
def programs_of_a_module_are_not_kept(request):
    yield
    if hasattr(request.module, "has_quick_programs"):  # which have other bits than those of the next module
        jax.clear_caches()
    forget_programs()


@pytest.fixture(autouse=True)
def large_programs_are_not_kept(request):
    yield
    if request.node.get_closest_marker("slow"):
        forget_programs()


@contextlib.contextmanager
def compiling_quickly(module):
    """Lets all be compiled as `QUICK` has it: for numbers, and not for bits, memory or speed."""
    from common import QUICK
    from jax._src import compiler  # of which there is no public setting for `jax.pmap`, and for all that is called

    options = compiler.get_compile_options

    def quick(*args, env_options_overrides=None, **named):
        return options(*args, env_options_overrides=QUICK | dict(env_options_overrides or {}), **named)

    module.has_quick_programs = True
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiler, "get_compile_options", quick)
        yield


@pytest.fixture(scope="module")
def quick_programs(request):
    """For all tests of a module, and what they share."""
    with compiling_quickly(request.module):
        yield


@pytest.fixture
def quick_programs_of_a_test(request):
    """For one test alone."""
    with compiling_quickly(request.module):
        yield


@pytest.fixture(autouse=True, scope="module")
def no_command_of_a_module_leaves_its_way_of_writing():
    """A command called in this process would keep naming flags in what later tests read."""
    from jaxgan.run import screen

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(screen, "write", screen.write)
        yield


@pytest.fixture(autouse=True)
def no_command_leaves_its_way_of_writing(monkeypatch):
    """Nor in the tests of its own module."""
    from jaxgan.run import screen

    monkeypatch.setattr(screen, "write", screen.write)


@pytest.fixture(scope="module")
def shared_programs():
    """Runs of one recipe in a test module share their program, which takes longer to make than they take."""
    from small_run import share_programs

    with pytest.MonkeyPatch.context() as patch:
        share_programs(patch)
        yield patch


@pytest.fixture
def called(monkeypatch):
    """Calls the `main` of a command with arguments, in this process, since another takes long to start."""
    from jaxgan.run import processes

    monkeypatch.setattr(processes, "join", lambda **_: None)  # too late: devices are in use

    def call(main, *args):
        monkeypatch.setattr(sys, "argv", ["command", *map(str, args)])
        main()

    return call


@pytest.fixture
def refused(called, capfd):
    """Calls a command that ends with status 2, or another, and one line on stderr, which is given."""

    def call(main, *args, status=2):
        capfd.readouterr()
        with pytest.raises(SystemExit) as end:
            called(main, *args)
        assert end.value.code == status
        err = capfd.readouterr().err
        assert len(err.splitlines()) == 1, err
        return err

    return call


@pytest.fixture
def x64():
    """Float64 throughout a test, where an oracle's rounding would otherwise hide an error."""
    with jax.enable_x64(True):
        yield
