"""The script that compares keras_dcgan then and now."""

import functools
import json
import sys

import pytest

from experiments.studies import equal_time
from jaxgan import recipes
from jaxgan.commands import scored_run, scoring
from jaxgan.forward_pass import disc_mixing
from jaxgan.run import Options

TIMES = {"milliseconds": 20.0, "slower": 1.0}


def test_the_networks_have_the_same_widths():
    then, now = recipes.get(equal_time.THEN), recipes.get(equal_time.NOW)
    assert (now.batch_size, now.update, now.data) == (then.batch_size, "shared", then.data)
    assert disc_mixing(now.build(), train=True) is None
    assert disc_mixing(then.build(), train=True)


def test_the_table_says_what_was_measured():
    scores = {"frechet_distance": [4.0, 6.0], "precision": [0.5, 0.7], "recall": [0.25, 0.25]}
    results = {"keras_dcgan": TIMES | {"steps": 1_500, "scores": scores, "floor": 0.125}, "keras_dcgan_modern": TIMES}
    then, now = equal_time.table(results).splitlines()[2:]
    assert then == "| `keras_dcgan` | 20.0 | 1,500 | 30 | 2 | 5 ± 1.4 | 0.125 | 0.6 ± 0.14 | 0.25 ± 0 |"
    assert now == "| `keras_dcgan_modern` | 20.0 | - | - | 0 | - | - | - | - |"
    both = {name: TIMES | {"scores": scores, "floor": 0.125, "scored_by": name} for name in results}
    assert equal_time.table(both).splitlines()[3] == now  # scored otherwise


def test_wrong_flags_are_one_line(monkeypatch, capfd, tmp_path):
    monkeypatch.setattr("os._exit", sys.exit)
    monkeypatch.setattr(sys, "argv", ["equal_time", "--out", str(tmp_path / "out"), "--steps", "1"])
    with pytest.raises(SystemExit):
        equal_time.main()
    assert "--steps must be at least 10, not 1" in capfd.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_trains_scores_and_draws(monkeypatch, tmp_path):
    """With two recipes on the embedded digits, of which one has labels, in place of those on CIFAR-10."""
    monkeypatch.setattr(scoring, "COUNT", 500)
    monkeypatch.setattr(scored_run, "COUNT", 200)
    small = {"keras_dcgan": "digits", "keras_dcgan_modern": "digits_conditional"}
    made = {name: recipes.get(of).replace(name=name, data="digits", steps=10) for name, of in small.items()}
    monkeypatch.setattr(recipes, "get", made.__getitem__)
    page = tmp_path / "page.md"
    page.write_text("<!-- equal_time -->\n<!-- end -->\n")
    flags = ["--steps", "10", "--seeds", "1", "--rounds", "0", "--runs", str(tmp_path / "runs"), "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["equal_time", *flags, "--page", str(page)])
    monkeypatch.setattr(equal_time, "Options", functools.partial(Options, devices=1))
    equal_time.main()
    found = json.loads((tmp_path / "equal_time.json").read_text())
    assert list(found) == [equal_time.THEN, equal_time.NOW]
    assert all(len(of["scores"]["frechet_distance"]) == 1 for of in found.values())
    assert all(of["scores"]["frechet_distance"][0] > 5 * of["floor"] for of in found.values())
    assert (tmp_path / "equal_time.png").exists()
    assert "| `keras_dcgan_modern` |" in page.read_text()
