"""The script behind the README's results: what it writes, and how it goes on."""

import functools
import json

import numpy as np
import pytest
from PIL import Image
from small_run import few_subsets

from jaxgan import recipes
from jaxgan.commands import reproduce, seed_statistics, study

pytestmark = pytest.mark.usefixtures("quick_programs")

DIGITS = {"data": "digits", "split": "train", "border": 0, "batch_size": 8}


@pytest.fixture
def run(called, monkeypatch, tmp_path):
    """`python -m experiments.reproduce …` with few updates on the embedded digits, in this process.

    Returns what results.json holds then.
    """
    monkeypatch.setattr(study, "keep_programs", lambda: None)
    monkeypatch.setattr(seed_statistics, "draw", lambda *args: None)
    few_subsets(monkeypatch)
    monkeypatch.setattr(reproduce, "Options", functools.partial(reproduce.Options, devices=1))
    monkeypatch.setattr(reproduce.recipes, "get", lambda name, get=recipes.get: get(name).replace(**DIGITS))

    def call(*flags, seeds=1, **updates):
        updates = {name: (count, seeds) for name, count in updates.items()}
        monkeypatch.setattr(reproduce, "UPDATES", {**reproduce.UPDATES, **updates})
        called(reproduce.main, *flags, "--runs", tmp_path / "runs", "--out", tmp_path / "out")
        return json.loads((tmp_path / "out" / "results.json").read_text())

    return call


@pytest.mark.nightly
def test_it_goes_on_and_never_back(run, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "README.md").write_text("before\n<!-- results -->\n<!-- end -->\nafter\n")
    first = run("tf2_gan", tf2_gan=3)["tf2_gan"]
    assert first["updates"] == 3
    assert np.isfinite([first["loss_gen"], first["loss_disc"], *first["minutes"]]).all()
    assert first == run("tf2_gan", tf2_gan=3)["tf2_gan"]
    longer = run("tf2_gan", tf2_gan=5)["tf2_gan"]
    assert longer["updates"] == 5
    assert longer["state_sha256"] != first["state_sha256"]
    more = run("tf2_gan", tf2_gan=3, seeds=2)["tf2_gan"]
    assert more["updates"] == 5
    assert more["state_sha256"][:1] == longer["state_sha256"]
    assert len(set(more["state_sha256"])) == 2
    names = ["README.md", "results.json", "tf2_gan-losses.png", "tf2_gan.png"]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == names
    distance = more["final"]["scores"]["frechet_distance"]
    before, row, after = (tmp_path / "out" / "README.md").read_text().partition("| `tf2_gan` | 5 | 2 | ")
    assert before.startswith("before\n<!-- results -->\n| recipe |")
    assert row
    assert after.startswith(f"{np.mean(distance['values']):.3g} ± {np.std(distance['values'], ddof=1):.2g} |")
    assert after.endswith(" |\n<!-- end -->\nafter\n")


def test_what_there_is_not_is_one_line_before_anything_is_trained(refused, tmp_path):
    """A system, results that can be read, and a place that can be written."""
    out = tmp_path / "out"
    out.mkdir()
    for flags, content, named in (
        ("celeb", "{}", "celeb"),
        ("nonesuch", "{}", "tf2_gan, tf2_dcgan"),
        ("tf2_gan", '{"tf2_gan": ', "results.json"),
        ("tf2_gan --out {out}/results.json", "", "--out"),
    ):
        (out / "results.json").write_text(content)
        args = [flag.format(out=out) for flag in flags.split()]
        assert named in refused(reproduce.main, "--out", out, "--runs", tmp_path / "runs", *args)
    assert not (tmp_path / "runs").exists()


def test_the_evolution_shows_equally_spaced_steps(tmp_path):
    (tmp_path / "samples").mkdir()
    for step in (0, 30, 60, 90, 1000, 2000, 3000, 4000, 5000):
        Image.new("L", (80, 80), step // 25).save(tmp_path / "samples" / f"{step:06d}.png")
    picture = reproduce._evolution(tmp_path)
    assert picture.shape[1] == 6 * (40 + 12) - 12
    shades = [int(picture[-20, 20 + i * 52, 0]) for i in range(6)]
    assert shades == [0, 40, 80, 120, 160, 200]
