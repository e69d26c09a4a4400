"""The README says what is true: its notebook example runs, its lines are those that CI runs, its files exist."""

import json
import re
import subprocess
from pathlib import Path

import jax
import numpy as np
import pytest

import jaxgan
from experiments import recipes

ROOT = Path(__file__).parents[1]
TFDS = ROOT.parent / "shared" / "data" / "tfds"
README = (ROOT / "README.md").read_text()


def blocks(section, language):
    text = re.search(rf"^## {section}$(.*?)(?=^## |\Z)", README, re.M | re.S).group(1)
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.M | re.S)


@pytest.mark.slow
@pytest.mark.skipif(not TFDS.is_dir(), reason=f"no prepared MNIST in {TFDS}")
def test_the_notebook_example_runs_as_it_stands(monkeypatch):
    """Word for word, but for fewer steps and the folder of the data."""
    load = jaxgan.data.load
    monkeypatch.setattr(jaxgan.data, "load", lambda name: load(name, data_dir=str(TFDS)))
    example = blocks("In a notebook", "python")[0]
    assert example.count("range(3000)") == 1
    names = {}
    exec(example.replace("range(3000)", "range(2)"), names)
    assert names["images"].shape == (64, 28, 28, 1)
    assert names["images"].dtype == np.uint8
    assert names["state"].step == 2
    assert np.isfinite(float(names["metrics"]["loss_gen"]))


def test_the_example_for_several_devices_runs_as_it_stands():
    gan = recipes.get("tf2_gan").build()
    names = {"gan": gan, "state": jaxgan.init(gan, jax.random.key(0)), "images": np.zeros((16, 28, 28, 1), np.uint8)}
    (example,) = blocks("Several devices", "python")
    exec(example, names)
    assert names["state"].step == 1
    assert len(names["state"].step.sharding.device_set) == 8


def test_it_says_how_well_each_recipe_agrees_on_several_devices():
    """Within what it promises there: 1e-9 in float64, 1e-5 from the same state."""
    section = README.split("## Several devices")[1].split("**What is said")[0]
    for name in recipes.RECIPES:
        (row,) = re.findall(rf"^\| `{name}` \|(.*)\|$", section, re.M)
        float64, same_state, *_ = (float(cell) for cell in row.split("|"))
        assert float64 < 1e-9
        assert same_state < 1e-5


def test_the_quoted_core_is_the_code():
    code = (ROOT / "jaxgan" / "train_step.py").read_text()
    for line in blocks("In a notebook", "python")[1].splitlines():
        assert line in code


def test_quick_start_is_two_blocks_of_one_line_each_and_ci_runs_the_second():
    lines = blocks("Quick start", "bash")
    assert len(lines) == 2
    assert all(len(block.splitlines()) == 1 for block in lines)
    assert "experiments.train" in lines[0]
    # .ci/run, up to where it says what it executes
    script = (ROOT / ".ci" / "run").read_text()
    begin, said, rest = script.partition('echo "+ $line"\n')
    command = begin.replace('"$(dirname "$0")/.."', ".") + said
    out = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert out == f"+ {lines[1]}"
    assert '\nbash -c "$line"\n' in rest


def test_every_file_and_recipe_it_names_exists():
    for path in re.findall(r"\]\(((?:jaxgan|experiments)/[^)]+)\)", README):
        assert (ROOT / path).exists(), path
    for name in re.findall(r"^  (\w+\.py)\b", README, re.M):
        assert (ROOT / "jaxgan" / name).exists() or (ROOT / "experiments" / name).exists(), name
    listed = set(re.findall(r"^  (\w+)\.py", README, re.M))
    assert {p.stem for p in (ROOT / "jaxgan").glob("*.py")} - {"__init__"} <= listed
    table = README.split("## Recipes")[1]
    for name in recipes.RECIPES:
        assert f"`{name}`" in table


def test_the_recipe_table_states_the_recipes_settings():
    for name, recipe in recipes.RECIPES.items():
        table = README.split("## Recipes")[1].split("## Results")[0]
        (row,) = re.findall(rf"^\| `{name}` \|.*$", table, re.M)
        decay = f"beta1 {recipe.beta1}" if recipe.optimizer == "adam" else f"decay {recipe.beta2}"
        for value in (f"{recipe.batch_size}", f"{recipe.steps:,}", decay):
            assert value in row
        rate = f"{recipe.gen_learning_rate:.0e}".replace("e-0", "e-")
        assert f"{recipe.optimizer.replace('adam', 'Adam').replace('rmsprop', 'RMSprop')} {rate}" in row
        assert row.rstrip().endswith(f"{recipe.update} |")


def test_the_results_are_those_of_the_runs():
    """Each row of the table is what experiments.reproduce wrote down, and each of its pictures is there and shown."""
    results = json.loads((ROOT / "experiments/results/results.json").read_text())
    assert set(results) == set(recipes.RECIPES) - {"digits"}
    section = README.split("## Results")[1]
    for name, r in results.items():
        row = f"| `{name}` | {r['updates']:,} | {r['minutes']} min | {r['machine']} |"
        row += f" {r['loss_gen']} | {r['loss_disc']} |"
        assert row in section
    pictures = {p.name for p in (ROOT / "experiments/results").glob("*.png")} - {"digits.png"}
    assert set(re.findall(r'src="experiments/results/([^"]+)"', section)) == pictures
    for name in results:
        assert {f"{name}.png", f"{name}-losses.png"} <= pictures


def speed_row(r):
    """A row of the table under "Speed", from what experiments.benchmark wrote down."""
    eager, compiled = r["torch_eager"], r["torch_compile"]
    faster = min(eager, compiled, key=lambda variant: variant["ms_per_update"])
    shared = r["shared"]["ms_per_update"]
    variants = (r["shared"], r["alternating"], eager, compiled)
    ms = [f"{v['ms_per_update']:,.{0 if v['ms_per_update'] >= 100 else 1}f}" for v in variants]
    cells = [f"`{r['recipe']}`", *ms[:2], f"{r['speedup']:.2f} ({r['bound']:.2f})", *ms[2:]]
    cells += [f"{shared / faster['ms_per_update']:.2f}"]
    cells += [f"{r['shared']['peak_mib']:.0f} ({eager['peak_mib']:.0f})"]
    cells += [f"{r['loop']['percent_of_bare']:.0f}%", f"{r['start_seconds']:.1f} s"]
    return f"| {' | '.join(cells)} |"


def test_the_speed_table_is_what_was_measured():
    results = json.loads((ROOT / "experiments/results/benchmark.json").read_text())
    assert [r["recipe"] for r in results] == list(recipes.RECIPES)
    for r in results:
        assert f"\n{speed_row(r)}\n" in README
