"""The benchmark from its command line to its JSON, on the smallest networks, and PyTorch's networks against Flax's."""

import importlib.util
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from jaxgan import recipes
from jaxgan.commands import benchmark
from jaxgan.gan import image_shape
from jaxgan.networks import Context

ROOT = Path(__file__).parents[1]
SYSTEMS = ["keras_dcgan", "keras_mnist", "canton_lsgan", "tf2_gan", "tf2_dcgan", "gan_elements"]


@pytest.fixture
def refuse(monkeypatch, capfd, tmp_path):
    """`python -m experiments.benchmark …` in this process, with wrong input: the line that says so."""
    monkeypatch.setattr("os._exit", sys.exit)
    monkeypatch.setattr(benchmark, "_measure", lambda *_: pytest.fail("it measures"))

    def call(*flags):
        monkeypatch.setattr(sys, "argv", ["benchmark", *(str(flag) for flag in flags)])
        with pytest.raises(SystemExit) as end:
            benchmark.main()
        assert end.value.code == 2
        out, err = capfd.readouterr()
        assert not out
        assert len(err.splitlines()) == 1, err
        return err

    return call


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["nonesuch"], "nonesuch"),
        (["tf2_gan", "--seconds", "0"], "--seconds"),
        (["tf2_gan", "--seconds", "nan"], "--seconds"),
        (["tf2_gan", "--rounds", "0"], "--rounds"),
        (["tf2_gan", "--batch-size", "0"], "--batch-size"),
        (["tf2_gan", "--precision", "float8"], "--precision"),
        (["--json", "{tmp}/missing/results.json"], "missing"),
        (["--json", "{tmp}"], "is a folder"),
    ],
)
def test_wrong_input_is_one_line_before_anything_is_measured(refuse, tmp_path, flags, named):
    assert named in refuse(*(flag.format(tmp=tmp_path) for flag in flags))


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write anywhere")
def test_no_permission_to_write(refuse, tmp_path):
    tmp_path.chmod(0o500)
    assert "not writable" in refuse("--json", tmp_path / "results.json")


def test_torch_is_asked_for_where_it_is_not(refuse, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *args: None if name == "torch" else find(name, *args))
    assert "pip install torch" in refuse("tf2_gan", "--torch")


@pytest.mark.slow
def test_measures_and_writes_what_it_measured(tmp_path, monkeypatch):
    path = tmp_path / "results.json"
    flags = ["tf2_gan", "--seconds", "0.05", "--rounds", "1", "--batch-size", "32", "--json", str(path)]
    command = [sys.executable, "-c", QUICK, *flags]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200)
    assert process.returncode == 0, process.stderr
    rows = [line for line in process.stdout.splitlines() if line.startswith("| `tf2_gan`")]
    assert [row.split("|")[2].strip() for row in rows[:2]] == ["shared", "alternating"]
    assert len(rows) == 3  # and the summary
    (result,) = json.loads(path.read_text())
    assert result["recipe"] == "tf2_gan"
    assert result["batch_size"] == 32
    assert not result["failed"]
    for name in ("shared", "alternating"):
        measured = result[name]
        numbers = [measured[key] for key in NUMBERS] + measured["ms_quartiles"]
        assert all(0 < number < math.inf for number in numbers)
        assert measured["images_per_second"] == pytest.approx(32_000 / measured["ms_per_update"], rel=1e-4)
        assert measured["base_mib"] < measured["peak_mib"]
    # Dense layers alone, so the counts are those of their products, and little else. G forwards, and the gradients of
    # its weights and of its second layer's input; D forwards and its weights' gradients, twice, and once to the images.
    gen, disc = (2 * 32 * weights for weights in (100 * 128 + 128 * 784, 784 * 128 + 128))
    products = 2 * gen + 2 * 32 * 128 * 784 + 5 * disc
    assert result["shared"]["flops"] == pytest.approx(products, rel=1e-3)
    assert 1 < result["alternating"]["flops"] / result["shared"]["flops"] < result["bound"] + 0.1
    assert result["bound"] == pytest.approx((4 * gen + 8 * disc) / (3 * gen + 7 * disc), rel=0.02)
    assert 0 < result["speedup"] < math.inf
    assert 0 < result["first_update_seconds"] < result["start_seconds"] < math.inf
    assert all(0 < number < math.inf for number in (*result["loop"].values(), *result["floor"].values()))
    assert result["machine"]["matmul_gflops"] > 0
    assert result["machine"]["jax"] == jax.__version__


NUMBERS = ("ms_per_update", "images_per_second", "flops", "gflops", "matmul_share", "compile_seconds", "peak_mib")
# A shorter run for the loop.
QUICK = """
from jaxgan.commands import benchmark
if __name__ == "__main__":
    benchmark.LOOP = (0.5, 0.5)
    benchmark.main()
"""


@pytest.mark.parametrize("name", ["digits", *SYSTEMS])
def test_torch_has_the_same_networks(name):
    """As many parameters in each, and images of one size; nothing is computed."""
    torch = pytest.importorskip("torch")
    from jaxgan.benchmark import torch_baseline

    recipe = recipes.get(name)
    gan = recipe.build()
    with torch.device("meta"):
        gen, disc = torch_baseline.networks(recipe)
        images = gen(torch.empty(4, recipe.z_size))
        logits = disc(images)
    height, width, channels = image_shape(gan)
    assert images.shape == (4, channels, height, width)
    assert logits.shape == (4,)
    for net, flax_net, x in ((gen, gan.gen, (1, recipe.z_size)), (disc, gan.disc, (1, height, width, channels))):
        x = jax.ShapeDtypeStruct(x, "float32")
        params = jax.eval_shape(lambda x, net=flax_net: net.init(jax.random.key(0), x, None, Context()), x)["params"]
        assert sum(p.numel() for p in net.parameters()) == sum(p.size for p in jax.tree.leaves(params))


@pytest.mark.parametrize("name", ["tf2_gan", "digits"])
def test_torch_updates_both_networks(name, monkeypatch):
    torch = pytest.importorskip("torch")
    from jaxgan.benchmark import torch_baseline

    made, networks = [], torch_baseline.networks
    monkeypatch.setattr(torch_baseline, "networks", lambda recipe: made.append(networks(recipe)) or made[0])
    update = torch_baseline.make_update(recipes.get(name), "cpu", compiled=False, precision="float32")
    parameters = [p for net in made[0] for p in net.parameters()]
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
    assert benchmark._loop_ms(lines) == pytest.approx(1 + 20 / 250)


@pytest.mark.parametrize("count", [2, 4])
def test_the_time_of_a_slow_loop_is_of_all_its_updates_but_the_first(count):
    lines = [{"step": step, "seconds": 10 + step / 2} for step in (1, 50, 100, 150)[:count]]
    assert benchmark._loop_ms(lines) == pytest.approx(500)
