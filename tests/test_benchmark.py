"""The benchmark from its command line to its JSON, on the smallest networks, and PyTorch's networks against Flax's."""

import importlib.util
import json
import math
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import jax
import pytest

from jaxgan import recipes
from jaxgan.benchmark import timing, updates, whole_run
from jaxgan.commands import benchmark, train
from jaxgan.gan import image_shape
from jaxgan.networks import Context

ROOT = Path(__file__).parents[1]
SYSTEMS = ["keras_dcgan", "keras_mnist", "canton_lsgan", "tf2_gan", "tf2_dcgan", "gan_elements"]


def test_wrong_input_is_one_line_before_anything_is_measured(refused, monkeypatch, tmp_path):
    monkeypatch.setattr(benchmark, "_measure", lambda *_: pytest.fail("it measures"))
    find = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *args: None if name == "torch" else find(name, *args))
    for flags, named in {
        "nonesuch": "nonesuch",
        "tf2_gan --seconds 0": "--seconds",
        "tf2_gan --seconds nan": "--seconds",
        "tf2_gan --rounds 0": "--rounds",
        "tf2_gan --batch-size 0": "--batch-size",
        "tf2_gan --precision float8": "--precision",
        "tf2_gan --torch": "pip install torch",
        "--json {tmp}/missing/results.json": "missing",
        "--json {tmp}": ".json",
        "--json {tmp}/results.txt": ".json",
    }.items():
        assert named in refused(benchmark.main, *flags.format(tmp=tmp_path).split()), flags


def measured(tmp_path, *flags):
    """What a short benchmark of tf2_gan prints, as rows of cells, and writes."""
    path = tmp_path / "results.json"
    flags = ["tf2_gan", "--seconds", "0.05", "--rounds", "1", "--batch-size", "32", "--json", str(path), *flags]
    process = subprocess.run([sys.executable, "-c", QUICK, *flags], cwd=ROOT, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    lines = [line for line in process.stdout.splitlines() if line.startswith("| `tf2_gan`")]
    (result,) = json.loads(path.read_text())
    assert not result["failed"]
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines], result


@pytest.mark.nightly
def test_measures_and_writes_what_it_measured(tmp_path):
    rows, result = measured(tmp_path)
    assert [row[1] for row in rows[:2]] == ["shared", "alternating"]
    assert len(rows) == 3  # and the summary
    assert (result["recipe"], result["batch_size"]) == ("tf2_gan", 32)
    for name in ("shared", "alternating"):
        numbers = [result[name][key] for key in NUMBERS] + result[name]["ms_quartiles"]
        assert all(0 < number < math.inf for number in numbers)
        assert result[name]["images_per_second"] == pytest.approx(32_000 / result[name]["ms_per_update"], rel=1e-4)
        assert result[name]["base_mib"] < result[name]["peak_mib"]
    # Dense layers alone, so the counts are those of their products, and little else. G forwards, and the gradients of
    # its weights and of its second layer's input; D forwards and its weights' gradients, twice, and once to the images.
    gen, disc = (2 * 32 * weights for weights in (100 * 128 + 128 * 784, 784 * 128 + 128))
    products = 2 * gen + 2 * 32 * 128 * 784 + 5 * disc
    assert result["shared"]["flops"] == pytest.approx(products, rel=1e-3)
    assert 1 < result["alternating"]["flops"] / result["shared"]["flops"] < result["bound"] + 0.1
    assert result["bound"] == pytest.approx((4 * gen + 8 * disc) / (3 * gen + 7 * disc), rel=0.02)
    assert 0 < result["speedup"] < math.inf
    assert 0 < result["first_update_seconds"] < result["start_seconds"] < math.inf
    assert all(0 < number < math.inf for number in (*result["loop"].values(), *result["roofline"].values()))
    assert result["machine"]["matmul_gflops"] > 0
    assert result["machine"]["jax"] == jax.__version__


@pytest.mark.nightly
def test_measures_an_accelerator_without_whole_runs(tmp_path):
    """Here on the CPU, of which there is no trace."""
    rows, result = measured(tmp_path, "--accelerator")
    assert [row[1] for row in rows[:3]] == ["shared", "alternating", "same bits"]
    assert rows[-1][-2:] == ["-", "-"]
    for name in ("shared", "alternating", "same_bits"):
        assert result[name]["ms_per_update"] > 0
        assert result[name]["compile_seconds"] > 0
    assert result["shared"]["peak_mib"] > result["shared"]["working_mib"] > 0
    assert result["alternating"]["launches"] > result["shared"]["launches"] > 0
    assert "loop" not in result


NUMBERS = ("ms_per_update", "images_per_second", "flops", "gflops", "matmul_share", "compile_seconds", "peak_mib")
# A shorter run for the loop.
QUICK = """
from jaxgan.benchmark import whole_run
from jaxgan.commands import benchmark
if __name__ == "__main__":
    whole_run.LOOP = (0.5, 0.5)
    benchmark.main()
"""


@pytest.mark.parametrize("name", ["digits", *SYSTEMS])
def test_torch_has_the_same_networks(name):
    """As many parameters in each, and images of one size; nothing is computed."""
    torch = pytest.importorskip("torch")
    from jaxgan.benchmark.torch_networks import networks

    recipe = recipes.get(name)
    gan = recipe.build()
    with torch.device("meta"):
        gen, disc = networks(name, recipe.z_size)
        images = gen(torch.empty(4, recipe.z_size))
        logits = disc(images)
    height, width, channels = image_shape(gan)
    assert images.shape == (4, channels, height, width)
    assert logits.shape == (4,)
    for net, flax_net, x in ((gen, gan.gen, (1, recipe.z_size)), (disc, gan.disc, (1, height, width, channels))):
        x = jax.ShapeDtypeStruct(x, "float32")
        params = jax.eval_shape(lambda x, net=flax_net: net.init(jax.random.key(0), x, None, Context()), x)["params"]
        assert sum(p.numel() for p in net.parameters()) == sum(p.size for p in jax.tree.leaves(params))


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_whole_run_of_each_takes_its_flags(name):
    """None of them is refused for having no effect."""
    recipe = train.read_flags(train.Train, "experiments.train", [name, *whole_run.FLAGS])[2]
    assert (recipe.data, recipe.border) == ("digits", 0)


@pytest.mark.parametrize("name", ["tf2_gan", "digits"])
def test_torch_updates_both_networks(name):
    torch = pytest.importorskip("torch")
    from jaxgan.benchmark.torch_baseline import make_update

    update, *nets = make_update(recipes.get(name), "cpu", compiled=False, precision="float32")
    parameters = [p for net in nets for p in net.parameters()]
    before = [p.detach().clone() for p in parameters]
    update()
    assert all(p.requires_grad and torch.isfinite(p).all() for p in parameters)
    assert not any(torch.equal(p, b) for p, b in zip(parameters, before, strict=True))


def test_the_time_of_a_loop_is_of_stretches_with_a_picture_each():
    # 1 ms an update, 20 ms for a picture; a slow beginning, and a second in which the machine does something else.
    at, lines = 0.0, []
    for step in range(1, 5001):
        at += 0.001 + 0.02 * (step % 250 == 0) + 1.9 * (step == 100) + (step == 3100)
        if step == 1 or step % 50 == 0:
            lines.append({"step": step, "seconds": at})
    assert whole_run.loop_ms(lines) == pytest.approx(1 + 20 / 250)
    for count in (2, 4):  # of a slow loop it is of all its updates but the first
        lines = [{"step": step, "seconds": 10 + step / 2} for step in (1, 50, 100, 150)[:count]]
        assert whole_run.loop_ms(lines) == pytest.approx(500)


def _line(name, *milliseconds):
    return SimpleNamespace(name=name, events=[SimpleNamespace(duration_ns=1e6 * ms) for ms in milliseconds])


def test_counts_the_launches_of_one_gpu():
    # As ProfileData has it: the streams of a GPU, lines derived from them, the host and a second GPU.
    planes = [
        SimpleNamespace(name="/host:CPU", lines=[_line("python", 9.0)]),
        SimpleNamespace(
            name="/device:GPU:0",
            lines=[
                _line("Stream #13(Compute)", 0.5, 0.25),
                _line("Stream #14(MemcpyD2D)", 0.25),
                _line("XLA Ops", 7.0),
            ],
        ),
        SimpleNamespace(name="/device:GPU:1", lines=[_line("Stream #13(Compute)", 5.0)]),
    ]
    assert updates.launches_run(SimpleNamespace(planes=planes)) == {"launches_run": 3, "busy_ms": 1.0}
    assert updates.launches_run(SimpleNamespace(planes=planes[:1])) == {}


def _ready(milliseconds):
    return lambda count: None, {"milliseconds": milliseconds}, lambda: 10 * milliseconds


def _broken():
    raise ValueError("no such device")


def test_workers_keep_their_order_and_say_what_failed():
    work = {"a": (_ready, 3), "b": (_broken,), "c": (_ready, 5)}
    with timing.workers(work, 2) as (workers, failed):
        assert [*workers, *failed] == ["a", "c", "b"]
        assert workers["a"].facts == {"milliseconds": 3}
        assert "no such device" in str(failed["b"])
        assert [timing.end(workers[name]) for name in "ca"] == [50, 30]
        with pytest.raises(timing.Failed, match="killed"):
            timing.measure(workers["a"], 1.0)


def _endless():
    print("here", flush=True)
    time.sleep(600)


def test_a_worker_that_is_never_ready_is_left_out():
    with timing.workers({"a": (_endless,)}, patience=0.01) as (workers, failed):
        assert not workers
        assert str(failed["a"]) == "it was not ready after 0.01 seconds"


@pytest.mark.slow
def test_a_worker_ends_with_its_parent():
    """Both hold the pipe of standard output, which is at its end when both are."""
    program = "import test_benchmark as t\nwith t.timing.workers({'a': (t._endless,)}): pass"
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    with subprocess.Popen([sys.executable, "-c", program], env=environment, stdout=subprocess.PIPE) as parent:
        assert parent.stdout.readline() == b"here\n"
        parent.kill()
        assert parent.communicate(timeout=60)[0] == b""
