"""The runner of studies, and the studies: their recipes, their tables, and how they go on."""

import functools
import json
import re
from pathlib import Path

import jax
import numpy as np
import pytest
from common import real_batch
from PIL import Image
from small_run import few_subsets, undrawn

import jaxgan
from experiments.studies import equal_time, games, methods, modes
from jaxgan import recipes
from jaxgan.accumulation import disc_mixing
from jaxgan.commands import scored_run, scorer, scoring, study
from jaxgan.gan import Batch, image_shape
from jaxgan.run import Options, RunError

pytestmark = pytest.mark.usefixtures("quick_programs")

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "experiments" / "results"
BLOCKS = re.findall(r"^```python\n(.*?)^```$", (ROOT / "docs/methods.md").read_text(), re.M | re.S)
TIMES = {"milliseconds": 20.0, "slower": 1.0}


def rows_of(made, results):
    return study.table(made.STUDY, results).splitlines()[2:]


def test_the_table_of_methods():
    """Twice as slow: what the plain one does in 20 steps' time, it does in 10; one of three seeds diverged."""
    of = lambda *distances: {"steps": 20, "seeds": [{"distances": by_step} for by_step in distances]}  # noqa: E731
    results = {
        "plain": TIMES | of({"10": 9.0, "20": 5.0}) | {"floor": 0.25},
        "r1": {"milliseconds": 40.0, "slower": 2.0} | of({"10": 6.0, "20": 4.0}, None, {"10": 8.0, "20": 6.0}),
        "hinge": TIMES,
    }
    assert rows_of(methods, results) == [
        "| non-saturating | 20.0 | 1.00 | 1 of 1 | 5 | 5 | 0.25 |",
        "| hinge | 20.0 | 1.00 | 0 of 0 | - | - | - |",
        "| non-saturating, R1 | 40.0 | 2.00 | 2 of 3 | 5 ± 1.4 | 7 ± 1.4 | - |",
    ]


def test_the_table_of_equal_times():
    seeds = [
        {"frechet_distance": distance, "precision": 0.5, "recall": 0.25, "floor": 0.125} for distance in (4.0, 6.0)
    ]
    results = {"keras_dcgan": TIMES | {"steps": 1_500, "seeds": seeds}, "keras_dcgan_modern": TIMES}
    assert rows_of(equal_time, results) == [
        "| `keras_dcgan` | 20.0 | 1,500 | 30 | 2 | 5 ± 1.4 | 0.125 | 0.5 ± 0 | 0.25 ± 0 |",
        "| `keras_dcgan_modern` | 20.0 | - | - | 0 | - | - | - | - |",
    ]


def test_the_table_of_modes():
    of = {"divergence": 0.5, "floor": 0.02, "milliseconds": 20.0, "minutes": 2.0}
    diverged = {"seed": 1, "diverged": "step 4: loss_gen is nan"}
    made = {"steps": 10, "config": {"training_ratio": 5}}
    results = {
        "hinge": made | {"seeds": [of | {"found": 1_000}, diverged]},
        "wgan_gp": made | {"seeds": [of | {"found": 900}, of | {"found": 901, "milliseconds": None}]},
        "relativistic_r1_r2": made | {"seeds": [diverged]},
        "real": {"found": 1_000, "divergence": 0.021, "floor": 0.02},
    }
    assert rows_of(modes, results) == [
        "| hinge | 10 | 50 | 2 | 1 | 1000 | 0.5 | 0.02 | 20 | 2 |",
        "| WGAN-GP | 10 | 50 | 2 | 0 | 900 ± 0.71 | 0.5 ± 0 | 0.02 | 20 | 2 ± 0 |",
        "| relativistic + R1 + R2 | 10 | 50 | 1 | 1 | - | - | - | - | - |",
        "| real images | - | - | - | - | 1000 | 0.021 | 0.02 | - | - |",
    ]


def test_what_was_scored_otherwise_is_not_in_one_table():
    of = lambda unit: {"steps": 20, "seeds": [{"distances": {"20": 5.0}, "scored_by": unit, "floor": 0.25}]}  # noqa: E731
    results = {"plain": TIMES | of("feet"), "r1": TIMES | of("metres"), "hinge": TIMES | of("feet")}
    plain, hinge, r1, _, note = rows_of(methods, results)
    assert plain.endswith("| 1 of 1 | 5 | 5 | 0.25 |")
    assert hinge.endswith("| 1 of 1 | 5 | 5 | 0.25 |")
    assert r1 == "| non-saturating, R1 | 20.0 | 1.00 | 0 of 0 | - | - | - |"
    assert note == "Scored otherwise, and not to be compared: non-saturating, R1."


@pytest.fixture
def small(monkeypatch, tmp_path):
    """Carries out a study of made-up rows; gives what was measured, in order, NAME.json and the page."""
    monkeypatch.setattr(study, "keep_programs", lambda: None)
    (tmp_path / "README.md").write_text("before\n<!-- small -->\n<!-- end -->\nafter\n")
    made = study.Study("small", "row", {"a": "A", "b": "B", "c": "C"}, {"score": "score"})

    def call(seeds, failing=(), **named):
        call.measured = []

        def measure(name, count):
            call.measured.append((name, count))
            if name in failing:
                raise RunError("it has no scores")
            return {"seeds": [{"score": 2.0 * seed} for seed in range(count)]}

        study.carry_out(made, tmp_path, seeds, measure, **named)
        return json.loads((tmp_path / "small.json").read_text()), (tmp_path / "README.md").read_text()

    return call


def test_the_first_seed_of_each_comes_first_and_other_rows_are_kept(small, tmp_path):
    small({"c": 1})
    found, page = small({"b": 3, "a": 2})
    assert small.measured == [("b", 1), ("a", 1), ("b", 2), ("a", 2), ("b", 3)]
    assert {name: len(of["seeds"]) for name, of in found.items()} == {"a": 2, "b": 3, "c": 1}
    rows = "| row | score |\n|---|---|\n| A | 1 ± 1.4 |\n| B | 2 ± 2 |\n| C | 0 |\n"
    assert page == f"before\n<!-- small -->\n{rows}<!-- end -->\nafter\n"


def test_a_row_that_fails_does_not_keep_the_others_from_it(small, capfd, tmp_path):
    with pytest.raises(SystemExit) as end:
        small({"a": 2, "b": 2}, failing="a")
    assert end.value.code == 1
    assert small.measured == [("a", 1), ("b", 1), ("b", 2)]
    assert capfd.readouterr().err.splitlines() == ["a: it has no scores", "error: a: no results, as said above"]
    assert list(json.loads((tmp_path / "small.json").read_text())) == ["b"]


def test_times_are_kept_and_measured_anew(small, monkeypatch):
    monkeypatch.setattr(
        study.updates, "times", lambda timed, rounds: {name: TIMES | {"slower": rounds} for name in timed}
    )
    assert small({"a": 1}, timed={"a": None, "b": None}, rounds=3)[0]["b"] == TIMES | {"slower": 3}
    again = small({"a": 2}, timed={"b": None}, rounds=4)[0]
    assert (again["a"]["slower"], len(again["a"]["seeds"]), again["b"]["slower"]) == (3, 2, 4)


def test_wrong_flags_are_one_line(refused, tmp_path):
    for made, flags, named in (
        (methods, "nothing", "no method is named 'nothing'; there are plain, least_squares"),
        (methods, "--steps 1", "--steps must be at least 10, not 1"),
        (modes, "lsgan", "no method is named 'lsgan'; there are non_saturating, hinge"),
        (modes, "--seeds -1", "--seeds must be at least 0, not -1"),
        (equal_time, "--rounds -1", "--rounds must be at least 0, not -1"),
        (equal_time, "--runs", "--runs"),
    ):
        assert named in refused(made.main, "--out", tmp_path / "out", *flags.split())
        assert not (tmp_path / "out").exists()


@pytest.fixture
def call(monkeypatch, tmp_path):
    """A study on the embedded digits, with few images; what NAME.json holds then, and the page."""
    monkeypatch.setattr(study, "keep_programs", lambda: None)
    undrawn(monkeypatch)
    monkeypatch.setattr(study, "Options", functools.partial(Options, devices=1))
    monkeypatch.setattr(scorer, "COUNT", 500)
    few_subsets(monkeypatch)
    monkeypatch.setattr(scored_run, "COUNT", 200)
    monkeypatch.setattr(modes.modes, "SAMPLES", 300)
    for made in (methods, modes):
        monkeypatch.setattr(made, "BASE", made.BASE.replace(data="digits"))
    small = {equal_time.THEN: "digits", equal_time.NOW: "digits_conditional"}  # of which one has labels
    small = {name: recipes.get(of).replace(name=name, data="digits", steps=10) for name, of in small.items()}
    get = recipes.get
    monkeypatch.setattr(recipes, "get", lambda name: small.get(name) or get(name))

    def call(made, *flags, steps=10):
        page = tmp_path / "page.md"
        page.write_text(f"before\n<!-- {made.STUDY.name} -->\n<!-- end -->\nafter\n")
        places = ["--runs", tmp_path / "runs", "--out", tmp_path, "--page", page]
        made.main([*map(str, ("--seeds", 1, *flags, "--steps", steps, *places))])
        assert page.read_text().startswith(f"before\n<!-- {made.STUDY.name} -->\n|")
        return json.loads((tmp_path / f"{made.STUDY.name}.json").read_text())

    return call


@pytest.mark.nightly
def test_methods_are_timed_and_scored_and_go_on(call):
    found = call(methods, "r1_r2", "--rounds", 1)
    assert list(found) == ["plain", "r1_r2"]
    assert found["plain"]["slower"] == 1 < found["r1_r2"]["slower"]
    (seed,) = found["r1_r2"]["seeds"]
    assert [*seed["distances"]][-1] == "10"
    assert seed["distances"]["10"] > 10 * seed["floor"]
    # The floor is of as many images as there are samples during training.
    by = scoring.scorer(methods.method("r1_r2", 10))
    assert seed["floor"] == by.floor(200)["frechet_distance"] != by.floor(500)["frechet_distance"]
    assert call(methods, "r1_r2", "--rounds", 0) == found


@pytest.mark.nightly
def test_equal_times_are_scored_and_drawn(call, tmp_path):
    found = call(equal_time, "--rounds", 0)
    assert list(found) == [equal_time.THEN, equal_time.NOW]
    seeds = [of["seeds"] for of in found.values()]
    assert all(seed["frechet_distance"] > 5 * seed["floor"] for (seed,) in seeds)
    assert (tmp_path / "equal_time.png").exists()


@pytest.mark.nightly
def test_modes_are_counted_and_only_once(call, monkeypatch, tmp_path, capfd):
    """In colour. A run that diverges is counted as one, and does not keep the others from it; nor does another's."""
    train = scored_run.run

    def run(recipe, workdir, *of):
        if recipe.name == "hinge":
            workdir.mkdir(parents=True, exist_ok=True)
            raise FloatingPointError("step 4: loss_gen is nan")
        return train(recipe, workdir, *of)

    monkeypatch.setattr(scored_run, "run", run)
    names = ["hinge", "wgan_gp", "non_saturating"]
    found = call(modes, *names)
    assert [found[name]["steps"] for name in names] == [10, 2, 10]
    assert found["hinge"]["seeds"] == [{"seed": 0, "diverged": "step 4: loss_gen is nan"}]
    for name in names[1:]:
        (seed,) = found[name]["seeds"]
        assert (seed["seed"], seed["samples"], seed["step"]) == (0, 300, found[name]["steps"])
        assert 1 <= seed["found"] <= 300
        assert seed["divergence"] > seed["floor"] > 1
        assert np.isfinite([seed["milliseconds"], seed["minutes"]]).all()
    assert found["real"]["samples"] == 300
    picture = Image.open(tmp_path / "modes.png")
    assert picture.width > 2 * 400
    assert len(picture.getcolors()) <= modes.COLOURS
    assert "seed 0 diverged: step 4" in capfd.readouterr().err

    monkeypatch.setattr(modes, "_counted", None)  # what is finished is not counted again
    record = tmp_path / "modes.json"
    record.write_text(json.dumps({"real": found["real"]}))
    assert call(modes, *names[1:]) == {name: found[name] for name in ("wgan_gp", "non_saturating", "real")}
    config = tmp_path / "runs" / "wgan_gp" / "seed-0" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"z_size": 3}))
    assert call(modes, "wgan_gp")["wgan_gp"] == found["wgan_gp"]  # what the results have needs no run
    record.write_text(json.dumps({"real": found["real"]}))
    with pytest.raises(SystemExit, match="2"):
        call(modes, "wgan_gp")
    error = capfd.readouterr().err
    assert "z_size is 3 there, 64 here" in error
    assert "name another --runs" in error


@pytest.mark.nightly
@pytest.mark.parametrize("block", range(len(BLOCKS)))
def test_the_recipes_of_the_page_of_methods_have_a_step(block):
    names = {}
    exec(BLOCKS[block], names)
    gan = names["RECIPE"].build()
    state = jax.eval_shape(lambda: jaxgan.init(gan, jax.random.key(0)))
    batch = jax.eval_shape(lambda: real_batch(gan, 2 * gan.training_ratio))
    after, _ = jax.eval_shape(functools.partial(jaxgan.train_step, gan), state, batch)
    assert jax.tree.map(lambda x: x.shape, after) == jax.tree.map(lambda x: x.shape, state)


def test_each_method_is_one_change_to_the_plain_one():
    plain = methods.method("plain", 10).config()
    allowed = {"loss", "penalties", "update", "transforms", "gen", "disc", "classes", "generated_labels"}
    for name in methods.METHODS:
        changed = {k for k, v in methods.method(name, 10).config().items() if v != plain[k]} - {"recipe"}
        assert changed <= allowed, name
        assert bool(changed) == (name != "plain")


def test_the_networks_of_equal_times_have_the_same_widths():
    then, now = (equal_time.compared(name, 20) for name in (equal_time.THEN, equal_time.NOW))
    assert (then.steps, now.steps) == (20, recipes.get(equal_time.NOW).steps)
    assert (now.batch_size, now.update, now.data) == (then.batch_size, "shared", then.data)
    assert disc_mixing(now.build(), train=True) is None
    assert disc_mixing(then.build(), train=True)


def test_modes_are_of_as_many_real_images_in_the_same_networks():
    made = {name: modes.method(name, 6_250) for name in modes.METHODS}
    assert {recipe.steps * recipe.batch_size * recipe.training_ratio for recipe in made.values()} == {400_000}
    assert {name: recipe.steps for name, recipe in made.items() if recipe.steps != 6_250} == {"wgan_gp": 1_250}
    recorded = json.loads((RESULTS / "modes.json").read_text())
    for name, recipe in made.items():
        config, gan = recipe.config(), recipe.build()
        assert (recipe.gen, recipe.disc, recipe.name) == (modes.BASE.gen, modes.BASE.disc, name)
        assert {k: config[k] for k in recorded[name]["config"]} == json.loads(json.dumps(recorded[name]["config"]))
        assert disc_mixing(gan, train=True) is None, "penalties on each image's gradient allow no batch normalisation"
        assert image_shape(gan) == (28, 28, 3)


def test_the_networks_of_modes_by_their_parameters():
    gan = modes.BASE.build()
    variables = jax.eval_shape(lambda: jaxgan.init(gan, jax.random.key(0)))
    gen, disc = (sum(x.size for x in jax.tree.leaves(net.params)) for net in (variables.gen, variables.disc))
    assert gen == (64 * 2352 + 2352) + (4 * 4 * 48 * 24 + 24) + (4 * 4 * 24 * 3 + 3)
    assert disc == (3 * 3 * 3 * 24 + 24) + (3 * 3 * 24 * 48 + 48) + (3 * 3 * 48 * 96 + 96) + (4 * 4 * 96 + 1)


def test_what_games_have_learned(monkeypatch):
    """Purity by classes that are digits under other names, and by one class for all; PSNR of a known error."""
    labels = np.arange(games.COUNT) % 10
    labels[:500] = 7
    real = Batch(np.zeros((games.COUNT, 28, 28, 1), np.uint8), labels)
    monkeypatch.setattr(games.data, "load", lambda *_, **__: real)
    monkeypatch.setattr(Batch, "read", lambda self, which: self, raising=False)

    def learned(found):
        call = lambda player, *_: (None, (np.eye(10)[found], None)) if player == "disc" else np.zeros((140, 28, 28, 1))  # noqa: E731
        _, value, picture = games.infogan(call, lambda x: x.astype(np.uint8), None)
        assert picture.shape[0] > picture.shape[1], "fourteen rows of ten"
        return value

    assert learned((labels + 3) % 10) == 1
    assert learned(np.zeros_like(labels)) == np.mean(labels == 7)

    grey, colours = np.zeros((games.COUNT, 32, 32, 1), np.uint8), np.full((games.COUNT, 32, 32, 3), 100, np.uint8)
    monkeypatch.setattr(type(recipes.get("pix2pix")), "held_out", lambda *_: Batch(colours, grey))
    _, value, _ = games.pix2pix(lambda *_: colours + 10, lambda x: x, None)
    np.testing.assert_allclose(value, 20 * np.log10(255 / 10))
