"""The script that counts modes: its methods, what it writes, and how it goes on."""

import functools
import json
import sys

import jax
import numpy as np
import pytest
from PIL import Image

import jaxgan
from experiments.studies import modes as script
from jaxgan.evaluation.modes import SAMPLES
from jaxgan.forward_pass import disc_mixing
from jaxgan.gan import image_shape
from jaxgan.run import Options

PAGE = "before\n<!-- modes -->\n<!-- end -->\nafter\n"


@pytest.fixture
def call(monkeypatch, tmp_path):
    """`python -m experiments.studies.modes …` in this process; what modes.json holds then."""
    monkeypatch.setattr("os._exit", sys.exit)
    monkeypatch.setattr(script, "keep_programs", lambda: None)
    monkeypatch.setattr(script, "Options", functools.partial(Options, devices=1))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "README.md").write_text(PAGE)

    def call(*flags):
        folders = ["--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "out")]
        monkeypatch.setattr(sys, "argv", ["modes", *map(str, flags), *folders])
        script.main()
        return json.loads((tmp_path / "out" / "modes.json").read_text())

    return call


def of(seed, found=900, divergence=0.5, **others):
    """What modes.json says of a seed."""
    minutes = {"milliseconds": 20.0 + seed, "minutes": 2.0, "machine": "2 CPU cores", "state_sha256": str(seed)}
    return {"seed": seed, "step": 10, "samples": SAMPLES, "found": found, "divergence": divergence, "floor": 0.02} | (
        minutes | others
    )


@pytest.fixture
def counted(call, monkeypatch):
    """The runs that were asked for, in order; each gives made-up numbers, and one diverges."""
    asked = []

    def count(name, seed, flags):
        asked.append((name, seed, script.method(name, flags.images).steps))
        return (
            {"seed": 1, "diverged": "step 4: loss_gen is nan"}
            if asked[-1][:2] == ("hinge", 1)
            else of(seed, 900 + seed)
        )

    monkeypatch.setattr(script, "count", count)
    monkeypatch.setattr(script, "_of_real_images", lambda data_dir: of(0, 1000, 0.021))
    return asked


def test_every_method_sees_as_many_real_images_in_the_same_networks():
    recipes = {name: script.method(name, 400_000) for name in script.METHODS}
    assert {recipe.steps * recipe.batch_size * recipe.training_ratio for recipe in recipes.values()} == {400_000}
    assert {recipe.steps for name, recipe in recipes.items() if name != "wgan_gp"} == {6_250}
    assert recipes["wgan_gp"].steps == 1_250
    for name, recipe in recipes.items():
        gan = recipe.build()
        assert (recipe.gen, recipe.disc, recipe.name) == (script.BASE.gen, script.BASE.disc, name)
        assert disc_mixing(gan, train=True) is None, "penalties on each image's gradient allow no batch normalisation"
        assert image_shape(gan) == (28, 28, 3)


def test_the_networks_by_their_parameters():
    gan = script.BASE.build()
    variables = jax.eval_shape(lambda: jaxgan.init(gan, jax.random.key(0)))
    gen, disc = (sum(x.size for x in jax.tree.leaves(net.params)) for net in (variables.gen, variables.disc))
    assert gen == (64 * 2352 + 2352) + (4 * 4 * 48 * 24 + 24) + (4 * 4 * 24 * 3 + 3)
    assert disc == (3 * 3 * 3 * 24 + 24) + (3 * 3 * 24 * 48 + 48) + (3 * 3 * 48 * 96 + 96) + (4 * 4 * 96 + 1)


def test_the_first_seed_of_each_comes_first_and_one_that_diverges_is_counted(call, counted, tmp_path):
    found = call("hinge", "wgan_gp", "--seeds", 2, "--images", 3_200)
    assert counted == [("hinge", 0, 50), ("wgan_gp", 0, 10), ("hinge", 1, 50), ("wgan_gp", 1, 10)]
    assert [seed.get("diverged") for seed in found["hinge"]["seeds"]] == [None, "step 4: loss_gen is nan"]
    page = (tmp_path / "out" / "README.md").read_text()
    rows = [" ".join(line.split()) for line in page.splitlines() if line.startswith("|")][2:]
    assert rows == [
        "| hinge | 50 | 50 | 2 | 1 | 900 | 0.5 | 0.02 | 20 | 2 |",
        "| WGAN-GP | 10 | 50 | 2 | 0 | 900 ± 0.71 | 0.5 ± 0 | 0.02 | 20.5 ± 0.71 | 2 ± 0 |",
        "| real images | - | - | - | - | 1000 | 0.021 | 0.02 | - | - |",
    ]
    assert page.startswith("before\n<!-- modes -->\n| method |")
    assert page.endswith("|\n<!-- end -->\nafter\n")


def test_results_of_others_are_kept_and_those_of_another_length_are_not(call, counted):
    call("hinge", "non_saturating", "--seeds", 1, "--images", 640)
    both = call("non_saturating", "--seeds", 3, "--images", 640)
    assert list(both) == ["hinge", "real", "non_saturating"]
    assert [seed["seed"] for seed in both["non_saturating"]["seeds"]] == [0, 1, 2]
    longer = call("non_saturating", "--seeds", 1, "--images", 1_280)
    assert (longer["non_saturating"]["updates"], len(longer["non_saturating"]["seeds"])) == (20, 1)
    assert longer["hinge"] == both["hinge"]


def test_a_method_whose_runs_have_all_diverged_is_in_the_table():
    diverged = {"updates": 5, "images": 320, "seeds": [{"seed": 0, "diverged": "step 1"}]}
    assert script.table({"hinge": diverged}).splitlines()[-1] == "| hinge | 5 | 5 | 1 | 1 | - | - | - | - | - |"


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["lsgan"], "no method is named 'lsgan'; there are non_saturating, hinge"),
        (["--seeds", 0], "--seeds must be at least 1, not 0"),
        (["--images", 319], "--images must be at least 320, which is one update, not 319"),
        (["hinge", "--images", 63], "--images must be at least 64"),
    ],
)
def test_wrong_flags_are_one_line(call, capfd, tmp_path, flags, named):
    with pytest.raises(SystemExit) as end:
        call(*flags)
    assert end.value.code == 2
    error = capfd.readouterr().err
    assert named in error
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "runs").exists()


def test_a_run_with_other_settings_is_named(call, capfd, tmp_path):
    workdir = tmp_path / "runs" / "hinge" / "seed-0"
    workdir.mkdir(parents=True)
    (workdir / "config.json").write_text(json.dumps({**script.method("hinge", 64).config(), "seed": 0, "z_size": 3}))
    with pytest.raises(SystemExit) as end:
        call("hinge")
    assert end.value.code == 2
    error = capfd.readouterr().err
    assert "z_size is 3 there, 64 here" in error
    assert "name another --runs" in error


@pytest.mark.slow
def test_two_updates_are_counted_and_only_once(call, monkeypatch, tmp_path):
    """On the embedded digits, in colour; D of WGAN-GP sees 640 of them in two updates of G."""
    monkeypatch.setattr(script, "BASE", script.BASE.replace(data="digits"))
    monkeypatch.setattr(script.modes, "SAMPLES", 300)
    names = ["wgan_gp", "hinge"]
    found = call(*names, "--seeds", 1, "--images", 640)
    assert [found[name]["updates"] for name in names] == [2, 10]
    for name in names:
        (seed,) = found[name]["seeds"]
        assert (seed["samples"], seed["step"]) == (300, found[name]["updates"])
        assert 1 <= seed["found"] <= 300
        assert seed["divergence"] > seed["floor"] > 1
        assert np.isfinite([seed["milliseconds"], seed["minutes"]]).all()
    assert found["real"]["samples"] == 300
    picture = Image.open(tmp_path / "out" / "modes.png")
    assert picture.width > 2 * 400
    assert len(picture.getcolors()) <= script.COLOURS
    assert '<img src="modes.png"' in (tmp_path / "out" / "README.md").read_text()

    monkeypatch.setattr(script, "run", None)  # what is finished is not trained again
    assert call(*names, "--seeds", 1, "--images", 640) == found


@pytest.mark.slow
def test_a_run_that_diverges_does_not_keep_the_others_from_it(call, monkeypatch, capfd):
    monkeypatch.setattr(script, "BASE", script.BASE.replace(data="digits"))
    monkeypatch.setattr(script.modes, "SAMPLES", 100)
    train = script.run

    def run(recipe, workdir, seed, options):
        if recipe.name == "hinge":
            raise FloatingPointError("step 4: loss_gen is nan")
        return train(recipe, workdir, seed, options)

    monkeypatch.setattr(script, "run", run)
    found = call("hinge", "non_saturating", "--seeds", 1, "--images", 128)
    assert found["hinge"]["seeds"] == [{"seed": 0, "diverged": "step 4: loss_gen is nan"}]
    assert found["non_saturating"]["seeds"][0]["step"] == 2
    assert "hinge, seed 0 diverged: step 4" in capfd.readouterr().err
