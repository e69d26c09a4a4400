"""docs/methods.md: its recipes, and the script that fills its table."""

import functools
import json
import re
import sys
from pathlib import Path

import jax
import pytest
from common import real_batch

import jaxgan
from experiments.studies import methods
from jaxgan.commands import scored_run, scoring
from jaxgan.commands.scored_run import Scored
from jaxgan.recipes.settings import Recipe
from jaxgan.run import Options

ROOT = Path(__file__).parents[1]
BLOCKS = re.findall(r"^```python\n(.*?)^```$", (ROOT / "docs/methods.md").read_text(), re.M | re.S)


@pytest.mark.parametrize("block", range(len(BLOCKS)))
def test_the_page_s_recipes_have_a_step(block):
    names = {}
    exec(BLOCKS[block], names)
    assert isinstance(names["RECIPE"], Recipe)
    gan = names["RECIPE"].build()
    state = jax.eval_shape(lambda: jaxgan.init(gan, jax.random.key(0)))
    batch = jax.eval_shape(lambda: real_batch(gan, 2 * gan.training_ratio))
    after, _ = jax.eval_shape(functools.partial(jaxgan.train_step, gan), state, batch)
    assert jax.tree.map(lambda x: x.shape, after) == jax.tree.map(lambda x: x.shape, state)


def test_each_method_is_one_change_to_the_plain_one():
    plain = methods.method("plain", 10).config()
    for name in methods.METHODS:
        changed = {k for k, v in methods.method(name, 10).config().items() if v != plain[k]} - {"recipe"}
        allowed = {"loss", "penalties", "update", "transforms", "gen", "disc", "classes", "generated_labels"}
        assert changed <= allowed, name
        assert bool(changed) == (name != "plain")


def test_the_table_says_what_was_measured():
    """Twice as slow: what the plain one does in 20 steps' time, it does in 10; one of three seeds diverged."""
    times = {"milliseconds": 10.0, "slower": 1.0}
    results = {
        "plain": times | {"steps": 20, "distances": [{"10": 9.0, "20": 5.0}], "floor": 0.25},
        "r1": {"milliseconds": 20.0, "slower": 2.0, "steps": 20},
        "hinge": times,
    }
    results["r1"]["distances"] = [{"10": 6.0, "20": 4.0}, None, {"10": 8.0, "20": 6.0}]
    plain, hinge, r1 = methods.table(results).splitlines()[2:]
    assert plain == "| non-saturating | 10.0 | 1.00 | 1 of 1 | 5 | 5 | 0.25 |"
    assert hinge == "| hinge | 10.0 | 1.00 | 0 of 0 | - | - | - |"
    assert r1 == "| non-saturating, R1 | 20.0 | 2.00 | 2 of 3 | 5 ± 1.4 | 7 ± 1.4 | - |"


def test_what_was_scored_otherwise_is_not_in_one_table():
    of = {"milliseconds": 10.0, "slower": 1.0, "steps": 20, "distances": [{"20": 5.0}], "floor": 0.25}
    results = {
        "plain": of | {"scored_by": "feet"},
        "r1": of | {"scored_by": "metres"},
        "hinge": of | {"scored_by": "feet"},
    }
    plain, hinge, r1, _, note = methods.table(results).splitlines()[2:]
    assert plain.endswith("| 1 of 1 | 5 | 5 | 0.25 |")
    assert hinge.endswith("| 1 of 1 | 5 | 5 | 0.25 |")
    assert r1.endswith("| 0 of 0 | - | - | - |")
    assert note == "Scored otherwise, and not to be compared: non-saturating, R1."


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (["nothing"], "no method is named 'nothing'"),
        (["--steps", "1"], "--steps must be at least 10, not 1"),
        (["--seeds", "-1"], "--seeds must be at least 0, not -1"),
    ],
)
def test_wrong_flags_are_one_line(flags, line, monkeypatch, capfd, tmp_path):
    monkeypatch.setattr("os._exit", sys.exit)  # a refusal would end the tests, too
    monkeypatch.setattr(sys, "argv", ["methods", "--out", str(tmp_path / "out"), *flags])
    with pytest.raises(SystemExit):
        methods.main()
    assert line in capfd.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_times_and_scores_and_goes_on(monkeypatch, tmp_path):
    monkeypatch.setattr(methods, "BASE", methods.BASE.replace(data="digits"))  # in place of MNIST
    monkeypatch.setattr(methods, "Options", functools.partial(Options, devices=1))
    monkeypatch.setattr(scoring, "COUNT", 500)
    monkeypatch.setattr(scored_run, "COUNT", 200)
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- methods -->\n<!-- end -->\nafter\n")
    flags = ["--steps", "10", "--seeds", "1", "--runs", str(tmp_path / "runs"), "--out", str(tmp_path)]
    flags += ["--page", str(page)]
    monkeypatch.setattr(sys, "argv", ["methods", "r1_r2", "--rounds", "1", *flags])
    methods.main()
    found = json.loads((tmp_path / "methods.json").read_text())
    assert list(found) == ["plain", "r1_r2"]
    assert found["plain"]["slower"] == 1 < found["r1_r2"]["slower"]
    assert list(found["r1_r2"]["distances"][0])[-1] == "10"
    assert found["r1_r2"]["distances"][0]["10"] > 10 * found["r1_r2"]["floor"]
    # The floor is of as many images as there are samples during training.
    by = Scored().yardstick(methods.method("r1_r2", 10), None)
    assert found["r1_r2"]["floor"] == by.floor(200)["frechet_distance"] != by.floor(500)["frechet_distance"]
    assert "| non-saturating, R1, R2 |" in page.read_text()
    assert page.read_text().startswith("before\n")
    monkeypatch.setattr(sys, "argv", ["methods", "r1_r2", "--rounds", "0", *flags])
    methods.main()
    assert json.loads((tmp_path / "methods.json").read_text()) == found
