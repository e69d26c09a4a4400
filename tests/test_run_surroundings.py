"""What surrounds a run must neither change its numbers nor cost it its state: paths, settings, signals."""

import json
import os
import pathlib
import re
import signal
import sys
import types
from unittest import mock

import jax
import pytest
from small_run import OPTIONS, recipe

from jaxgan import data
from jaxgan.run import (
    RunError,
    Stopped,
    WorkdirError,
    loop,
    numerics,
    processes,
    run,
)
from jaxgan.run.workdir import check

pytestmark = pytest.mark.usefixtures("shared_programs")


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A finished run: its folder and its summary."""
    workdir = tmp_path_factory.mktemp("plain")
    return workdir, run(recipe(), workdir, 0, OPTIONS)


# Paths


@pytest.mark.slow
def test_any_path_will_do_and_other_settings_of_jax(plain, tmp_path):
    workdir = tmp_path / "parent[a-b] *" / "~" / "run[1]?{x}#%20 %s\n漢\\[bold]"
    with jax.enable_x64(True), jax.default_prng_impl("rbg"), jax.threefry_partitionable(False):
        run(recipe(steps=4), workdir, 0, OPTIONS)
    summary = run(recipe(), workdir, 0, OPTIONS)
    assert (summary["steps_resumed_from"], summary["state_sha256"]) == (4, plain[1]["state_sha256"])
    assert (workdir / "samples.gif").exists()


# Settings


def test_settings_of_jax_do_not_reach_a_run(capfd):
    """Seen by the key of a seed, a type, and the settings themselves; and they are put back."""
    expected = jax.random.uniform(jax.random.key(7))
    for name, value in (
        ("jax_enable_x64", True),
        ("jax_default_prng_impl", "rbg"),
        ("jax_threefry_partitionable", False),
        ("jax_default_matmul_precision", "bfloat16"),
        ("jax_numpy_dtype_promotion", "strict"),
        ("jax_disable_jit", True),
        ("jax_random_seed_offset", 5),
        ("jax_optimization_level", "O0"),
    ):
        before = getattr(jax.config, name)
        jax.config.update(name, value)
        try:
            with numerics.fixed_numerics():
                assert jax.random.uniform(numerics.root_key(7)) == expected
                for setting, (fixed, _) in numerics.FIXED.items():
                    now = getattr(jax.config, setting)
                    assert getattr(now, "value", now) == fixed
            after = getattr(jax.config, name)
            assert getattr(after, "value", after) == value
        finally:
            jax.config.update(name, before)
        err = capfd.readouterr().err
        assert len(err.splitlines()) == 1
        assert f"{name} is {numerics.FIXED[name][0]}, not {value}" in err
    with numerics.fixed_numerics():
        pass
    assert capfd.readouterr().err == ""


def test_flags_of_xla_that_change_numbers_are_part_of_a_run(plain, monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=8 --xla_cpu_enable_fast_math=false")
    assert numerics.inexact_flags() == []
    monkeypatch.setenv("XLA_FLAGS", "--xla_dump_to=/tmp/x --xla_cpu_enable_fast_math=true")
    assert numerics.inexact_flags() == ["--xla_cpu_enable_fast_math=true"]
    with pytest.raises(WorkdirError, match=r"xla_flags is \[\] there, \['--xla_cpu_enable_fast_math=true'\] here"):
        run(recipe(), plain[0], 0, OPTIONS)


def test_devices_that_are_not_there_are_one_line(monkeypatch):
    missing = mock.Mock(side_effect=RuntimeError("Unable to initialize backend 'cuda': no GPU\nand 70 more lines"))
    monkeypatch.setattr(jax, "devices", missing)
    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    with pytest.raises(RunError, match=r"^JAX_PLATFORMS=cuda: .*no GPU.*unset it$"):
        numerics.start_devices()
    monkeypatch.delenv("JAX_PLATFORMS")
    monkeypatch.setattr(jax, "config", types.SimpleNamespace(jax_platforms=None))
    with pytest.raises(RunError, match=r"^JAX finds no device \(.*no GPU.*set JAX_PLATFORMS=cpu$"):
        numerics.start_devices()


# Whose folder it is

HERE = {"recipe": "r", "seed": 0, "data": "folder:pics", "split": "train", "rate": 0.1}


@pytest.mark.parametrize(
    ("there", "here", "message"),
    [
        ({"data_sha256": "a"}, {"data_sha256": "a"}, None),
        ({"data_sha256": "a", "data": "folder:./pics/", "split": "train[:]"}, {"data_sha256": "a"}, None),
        ({"data_sha256": "a", "data": "elsewhere"}, {}, None),  # before the data are loaded
        ({"data_sha256": "a"}, {"data_sha256": "b"}, "data_sha256 is 'a' there, 'b' here"),
        ({"data": "elsewhere"}, {"data_sha256": "b"}, "data is 'elsewhere' there, 'folder:pics' here"),
        ({}, {"new": 1}, None),
        ({}, {"new": 2}, "new is 1 there, 2 here"),
        ({"new": 1}, {}, None),
        ({"new": 2}, {}, "new is 2 there, 1 here"),
        ({}, {"unheard_of": 1}, "unheard_of is None there, 1 here"),
        ({"unheard_of": 1}, {}, "unheard_of is 1 there, None here"),
        ({"rate": 0.2}, {}, "rate is 0.2 there, 0.1 here"),
        ({}, {"format": 1}, None),
        ({"format": 2}, {"format": 1}, "config.json is of a newer version, whose format is 2; upgrade jaxgan"),
        ({"format": "a"}, {"format": 1}, "is not a run's config.json"),
    ],
)
def test_what_makes_two_configs_one_run(tmp_path, there, here, message):
    (tmp_path / "config.json").write_text(json.dumps(HERE | there))
    if message is None:
        check(tmp_path, HERE | here, {"new": 1})
    else:
        with pytest.raises(WorkdirError, match=re.escape(message)):
            check(tmp_path, HERE | here, {"new": 1})


@pytest.mark.slow
def test_a_folder_of_images_may_be_moved(tmp_path, monkeypatch):
    from PIL import Image

    monkeypatch.chdir(tmp_path)
    os.mkdir("pics")
    for i in range(8):
        Image.new("L", (28, 28), 30 * i).save(f"pics/{i}.png")
    small = {"batch_size": 4}
    first = run(recipe(data="folder:pics", steps=1, **small), "w", 0, OPTIONS)
    for spelled in ("folder:./pics/", f"folder:{tmp_path}/pics"):
        assert run(recipe(data=spelled, steps=1, **small), "w", 0, OPTIONS) == first
    os.rename("pics", "moved")
    run(recipe(data="folder:moved", steps=1, **small), "w", 0, OPTIONS)
    assert json.loads(pathlib.Path("w/config.json").read_text())["data"] == "folder:moved"


# Outputs, signals and other processes


def test_a_closed_output_does_not_cost_a_run(plain, tmp_path, monkeypatch):
    read, write = os.pipe()
    os.close(read)
    file = open(write, "w")  # noqa: SIM115
    monkeypatch.setattr(sys, "stdout", file)
    monkeypatch.setattr(sys, "stderr", None)
    assert run(recipe(), tmp_path, 0, OPTIONS)["state_sha256"] == plain[1]["state_sha256"]
    with pytest.raises(BrokenPipeError):  # it is as it was: a command alone would have pointed it at nothing
        file.close()


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT, signal.SIGTERM])
def test_signals_save_and_stop_unless_they_are_ignored(plain, tmp_path, monkeypatch, number):
    batches = data.Dataset.batches

    def batches_and_signal(self, key, step, *args):
        if step == 1:
            signal.raise_signal(number)
        return batches(self, key, step, *args)

    monkeypatch.setattr(data.Dataset, "batches", batches_and_signal)
    monkeypatch.setattr(loop, "MOST", 1)
    before = signal.getsignal(number)
    signal.signal(number, usual := signal.default_int_handler)  # it may be ignored, where the tests run under nohup
    try:
        with pytest.raises(Stopped, match="stopped at step 2 of 9"):
            run(recipe(), tmp_path / "w", 0, OPTIONS)
        assert signal.getsignal(number) is usual
        resumed = run(recipe(), tmp_path / "w", 0, OPTIONS)
        assert (resumed["steps_resumed_from"], resumed["state_sha256"]) == (2, plain[1]["state_sha256"])
        if number == signal.SIGHUP:  # as under nohup
            signal.signal(number, signal.SIG_IGN)
            assert run(recipe(steps=3), tmp_path / "w2", 0, OPTIONS)["step"] == 3
    finally:
        signal.signal(number, before)


def test_a_cluster_that_is_waited_for_is_named(monkeypatch, capfd):
    started = []
    monkeypatch.setattr(jax.distributed, "initialize", lambda **_: started.append(capfd.readouterr().err))
    for name in processes.TASKS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SLURM_NTASKS", "4")
    processes.join()
    assert re.match(r"SLURM_NTASKS=4: waiting.*`num_processes` 1, or SLURM_NTASKS unset\n$", started[0])
    processes.join(num_processes=1)
    processes.join(num_processes=1, process_id=0)
    assert len(started) == 1
