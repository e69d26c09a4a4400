"""The plan of a run: its arithmetic, the search for the largest batch, and wrong input."""

import subprocess

import jax
import optax
import pytest
from common import SmallDisc, SmallGen, at_night, small_gan

import jaxgan
from experiments.bench import communication
from jaxgan import recipes
from jaxgan.commands import plan
from jaxgan.programs import accelerators
from jaxgan.programs.accelerators import Target, read_target
from jaxgan.programs.compile_ahead import compile_and_read, lower
from jaxgan.run.errors import RunError
from jaxgan.run.memory import are_too_large

GIB = 2**30
FACTS = {"argument_bytes": 50 * GIB, "working_bytes": 8 * GIB, "program_bytes": GIB + GIB // 4}
FACTS |= {"state_bytes": 4 * GIB, "flops": 989_400_000_000}


def test_memory_is_what_the_program_takes_and_works_in_of_what_jax_takes():
    found = plan.estimate(FACTS, read_target("h100"), "float32")
    assert (found["total_bytes"], found["room_bytes"], found["fits"]) == (59.25 * GIB, 59.25 * GIB, True)  # 3/4 of 79
    assert not plan.estimate(FACTS | {"program_bytes": GIB + GIB // 4 + 1}, read_target("h100"), "float32")["fits"]
    assert plan.estimate(FACTS, read_target("v5e:2x4"), "float32")["room_bytes"] == 15.75 * GIB
    assert plan.estimate({"out_of_memory": "…"}, read_target("v5e:2x4"), "float32")["fits"] is False


def test_the_roofline_is_the_longer_of_products_and_of_the_state():
    """At 494.7 TFLOP/s in TF32 2 ms; 4 GiB less 50 MiB of cache, in and out, at 3.35 TB/s 2.53 ms."""
    found = plan.estimate(FACTS, read_target("h100"), "float32")
    assert found["products_ms"] == pytest.approx(2)
    assert found["roofline_ms"] == found["state_ms"] == pytest.approx(2.5328, rel=1e-4)
    assert plan.estimate(FACTS, read_target("h100"), "bf16")["products_ms"] == pytest.approx(1)
    few = plan.estimate(FACTS | {"state_bytes": 50 * 2**20}, read_target("h100"), "float32")
    assert (few["state_ms"], few["roofline_ms"]) == (0, few["products_ms"])
    assert plan.estimate(FACTS, read_target("cpu"), "float32")["roofline_ms"] is None


def test_images_are_streamed_where_a_run_would_stream_them():
    half = plan.room(read_target("h100")) // 2
    assert half == 79 * GIB * 3 // 8
    assert not are_too_large(half, float("inf"), 2 * half)
    assert are_too_large(half + 1, float("inf"), 2 * half)


@pytest.mark.parametrize(
    ("total", "first", "unit", "largest", "tries"),
    [
        (lambda b: 100 + 3 * b, 8, 1, 300, 5),  # two, one not too far, the guess, and what is next to it
        (lambda b: 100 + 3 * b, 8, 8, 296, 5),
        (lambda b: 100 + 3 * b, 1024, 8, 296, 8),  # from above
        (lambda b: 100 + 3 * b if b < 150 else None, 8, 1, 149, 12),  # the compiler gives up
        (lambda b: 100 + b**2 / 100, 8, 1, 300, 8),  # not affine at all
        (lambda b: 100 + 3 * b + 40 * (b == 300), 8, 1, 299, 8),  # the guess itself takes more
        (lambda b: 100 + b / 2**20, 8, 1, 900 * 2**20, 14),  # far from where it began
        (lambda b: 2000 + b, 64, 8, None, 3),
    ],
)
def test_the_largest_batch(total, first, unit, largest, tries, capsys):
    """Of batches that take `total(batch)` bytes of 1,000, None where the compiler gives up."""
    asked = []

    def of_batch(batch):
        asked.append(batch)
        taken = total(batch)
        fits = taken is not None and taken <= 1000
        return {"batch_size": batch, "total_bytes": taken, "room_bytes": 1000, "fits": fits}

    found = plan.largest(of_batch, first, unit)
    if largest is None:
        assert found is None
    else:
        assert largest - max(unit, largest // plan.NEAR) < found["batch_size"] <= largest
    assert len(asked) <= tries
    assert len(asked) == len(set(asked))
    assert all(batch % unit == 0 for batch in asked)
    assert len(capsys.readouterr().err.splitlines()) == len(asked)


def test_targets():
    for target in (
        Target("h100", "h100", 1),
        Target("h100:8", "h100", 8),
        Target("v5e:2x4", "v5e", 8, (2, 4)),
        Target("v4:2x2x1", "v4", 4, (2, 2, 1)),
        Target("cpu", "cpu", 1),
    ):
        assert read_target(target.text) == target
    wrong = ("", "h200", "h100:0", "h100:9", "h100:", "v5e", "v5e:2", "v5e:0x4", "v5e:2x4x1", "v4:2x2", "cpu:2")
    for text in wrong:
        with pytest.raises(RunError, match="`on`"):
            read_target(text)


@pytest.mark.parametrize("name", ["h100", "a100"])
def test_gpus_are_described(name):
    """The description that XLA reads says of the memory what the table of accelerators says."""
    text = (accelerators.HARDWARE / f"{name}.txtpb").read_text()
    known = accelerators.ACCELERATORS[name]
    assert f"device_memory_size: {known.memory}\n" in text
    assert f"memory_bandwidth: {known.bandwidth:.0f}\n" in text
    assert f"l2_cache_size: {known.cache}\n" in text


def test_a_compiler_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for target, line in (("v5e:2x4", "libtpu=="), ("h100", f"jax-cuda13-plugin=={jax.__version__}")):
        with pytest.raises(RunError, match=f"pip install --no-deps .*{line}"):
            accelerators.find_compilers(read_target(target))


def test_wrong_input_is_one_line_before_anything_is_compiled(refused, monkeypatch, tmp_path):
    monkeypatch.setattr(plan, "_compile", lambda *_: pytest.fail("it compiles"))
    (tmp_path / "mine.py").write_text(
        'from experiments import recipes\nRECIPE = recipes.get("digits").replace(data="folder:pictures")\n'
    )
    for flags, named in {
        "digits": "--on",
        "nonesuch --on cpu": "nonesuch",
        "missing.py --on cpu": "missing.py",
        "digits --on h200": "h200",
        "digits --on h100:8 --batch-size 12": "multiple of 8",
        "digits --on cpu --batch-size 0": "batch",
        "digits --on cpu --precision float8": "--precision",
        "digits --on cpu --data-size 0": "--data-size",
        "digits --on cpu --json plan.txt": "--json",
        f"{tmp_path}/mine.py --on cpu": "--data-size",  # whose data are of a size that is not known
    }.items():
        assert named in refused(plan.main, *flags.split()), flags


@pytest.mark.parametrize(
    ("status", "said", "line"),
    [
        (-6, "*** SIGABRT\nF1126 11:33:52 7 emitter.cc:45] Check failed: low == 0 (-3 vs. 0)", "low == 0 (-3 vs. 0)"),
        (-9, "", "status -9"),
        (2, "W1126 noise\nerror: --on v5e:3x3: there is no such topology", "--on v5e:3x3: there is no such topology"),
    ],
)
def test_a_compiler_that_breaks_down_is_one_line(monkeypatch, refused, status, said, line):
    done = subprocess.CompletedProcess([], status, "", said)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: done)
    asked = {"recipe": "digits", "settings": {"batch_size": 64}, "target": "v5e:2x4"}
    assert line in refused(lambda: plan._compile(asked, {}), status=1 if status < 0 else status)


@pytest.mark.slow
@pytest.mark.parametrize(("devices", "streamed"), [(2, True), *at_night([(1, False)])], ids=["streamed", "whole"])
def test_what_is_compiled_is_what_a_run_takes(devices, streamed):
    """A small GAN, on parts of this CPU: its memory in bytes by hand."""
    recipe = recipes.get("digits").replace(gen=SmallGen(3), disc=SmallDisc(3), classes=3, z_size=5, batch_size=8)
    recipe = recipe.replace(optimizer=optax.sgd, ema_decay=0.0)  # quick to compile
    found = compile_and_read(lower(recipe.build(), 8, jax.devices()[:devices], 50, streamed))
    state = jax.eval_shape(lambda: jaxgan.init(recipe.build(), jax.random.key(0)))
    state = jax.tree.leaves(state.replace(key=jax.ShapeDtypeStruct((2,), "uint32")))
    assert found["state_bytes"] == sum(x.size * x.dtype.itemsize for x in state)
    each = 8 // devices  # images of 16 bytes, and a label of 4
    assert found["dataset_bytes"] == (16 + 4) * (100 * each if streamed else 50)
    assert found["batches_bytes"] == 4 * (100 * each + 1)
    assert found["argument_bytes"] == sum(found[f"{name}_bytes"] for name in ("state", "dataset", "batches"))
    exchanged = communication.count_bytes(communication.compiled_steps(recipe.build(), 8))
    assert sum(size for _, size in found["collectives"].values()) == (devices > 1) * sum(exchanged.values())
    assert found["convolutions"] == found["host_transfers"] == 0
    assert found["launches"] > 10


@pytest.mark.parametrize(("batch_size", "updates"), [(8, 100), (2**16, 16), (2**21, 1)])
def test_a_streamed_turn_is_as_long_as_the_loop_makes_it(batch_size, updates):
    """At most 16 MiB of images, here of 16 bytes each, and at most 100 updates."""
    lowered = lower(small_gan(), batch_size, jax.devices()[:1], 50, streamed=True)
    assert lowered.args_info[0][2].shape == (updates, batch_size)
