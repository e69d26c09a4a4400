"""What scores were measured in: only like is compared with like; and what cannot be measured costs no run."""

import contextlib

import pytest
from small_run import few_subsets, metrics_of, recipe

from jaxgan.commands import sample, scored_run, scoring, seeds
from jaxgan.commands.scored_run import Scored
from jaxgan.commands.scoring import ScorerOptions
from jaxgan.recipes import RecipeError
from jaxgan.run import Event, Options, checkpoint, plots, run, tensorboard

pytestmark = pytest.mark.usefixtures("quick_programs")

OPTIONS = Options(devices=1, log_every=2, sample_every=100, checkpoint_every=4, keep=2)


@pytest.fixture(scope="module", autouse=True)
def quick_scores(shared_programs, tmp_path_factory):
    few_subsets(shared_programs)
    shared_programs.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """The summary of a run that is not scored."""
    return run(recipe(), tmp_path_factory.mktemp("plain"), 0, OPTIONS)


def by_unit(workdir, unit, steps, value):
    """Trains on to `steps`; each step is scored, in that unit, by `value` of it."""

    def found(moment):
        return {"frechet_distance": value(moment.step)} | ({"scored_by": unit} if unit else {})

    run(recipe(steps=steps, events=(Event("evaluate", 1, found),)), workdir, 0, OPTIONS)


def best_of(workdir):
    with contextlib.closing(checkpoint.open_folder(workdir / "checkpoints", read_only=True)) as checkpoints:
        return checkpoints.best()


@pytest.mark.slow
def test_only_scores_of_one_unit_are_compared(tmp_path, capfd):
    """A run that is scored without a word of its unit, as older ones were; then in feet, in metres, and in feet."""
    by_unit(tmp_path, None, 3, lambda step: 0.1 * step)
    assert best_of(tmp_path).step == 1
    assert "note" not in capfd.readouterr().err
    by_unit(tmp_path, "feet", 9, lambda step: abs(step - 5) + 2.0)
    assert "from step 4 on this run is scored by: feet; earlier scores, by: unknown, are not" in capfd.readouterr().err
    assert best_of(tmp_path) == (5, (2.0, "feet"), [1])
    by_unit(tmp_path, "metres", 12, lambda step: 0.3 * step)
    err = capfd.readouterr().err
    assert err.count("note: ") == 1
    assert "from step 10 on this run is scored by: metres; earlier scores, by: feet" in err
    assert best_of(tmp_path) == (10, (3.0, "metres"), [1, 5])
    by_unit(tmp_path, "feet", 15, lambda step: 1.0 * step)
    assert best_of(tmp_path) == (5, (2.0, "feet"), [1, 10, 12])  # it has not been removed meanwhile
    assert sorted(int(path.name) for path in (tmp_path / "checkpoints").iterdir()) == [1, 5, 10, 12, 15]
    # No curve is of two units.
    assert [(m["step"], m.get("scored_by")) for m in metrics_of(tmp_path)][8:10] == [(9, "feet"), (10, "metres")]
    by_unit(tmp_path, "yards", 16, lambda step: 1.0)
    assert plots.read_curves(tmp_path, plots.SCORES)["frechet_distance"][0].tolist() == [16]
    records = (e for path in sorted((tmp_path / "tensorboard").iterdir()) for _, e in tensorboard.read(path))
    tags = {v.tag: event.step for event in records for v in event.summary.value if v.tag.startswith("frechet")}
    of = "frechet_distance"
    assert tags == {of: 3, f"{of} (feet)": 15, f"{of} (metres)": 12, f"{of} (yards)": 16}


@pytest.mark.nightly
def test_other_features_make_another_best(tmp_path, capfd):
    mine = tmp_path / "mine.py"
    mine.write_text("def features(images):\n    return images.reshape(len(images), -1)[:, ::7] / 25500\n")
    first = scored_run.run_scored(
        recipe(steps=6), tmp_path / "w", 0, OPTIONS, scored=Scored(3, ScorerOptions(features=str(mine)))
    )
    assert "features mine.py" in first["best"]["chosen_by"]
    found = scored_run.run_scored(recipe(), tmp_path / "w", 0, OPTIONS, scored=Scored(3))
    assert found["best"]["step"] == 9  # the one step that was scored by the data's own features
    assert found["best"]["chosen_by"].startswith("898 samples, features digits (")
    assert {m["step"] for m in metrics_of(tmp_path / "w") if m.get("scored_by") == found["best"]["chosen_by"]} == {9}
    assert capfd.readouterr().err.count("note: ") == 1
    sample.main([str(tmp_path / "w"), "--weights", "best", "--count", "1"])
    said = capfd.readouterr().err
    assert "note: the best of the steps scored by: 898 samples, features digits" in said
    assert said.strip().endswith("was scored otherwise")


def test_what_may_be_compared():
    by = scoring.scorer(recipe())
    final = {"step": 9, "weights": "averaged", "seed": 0} | scoring.kind(by, 500)
    assert scoring.differences(final, {**final, "seed": 1, "weights": "last"}) == []
    moved = {**final, "reference": final["reference"] | {"data": "folder:elsewhere"}}
    assert scoring.differences(final, moved) == []
    assert scoring.unit(final) == scoring.unit(moved)
    older = {name: value for name, value in final.items() if name != "version"}
    assert scoring.differences(final, older) == [f"version: {scoring.VERSION} and 1"]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("return images.reshape(250, -1)[:, ::7] / (len(seen) < 9)", "mine.py gives features that are not finite"),
        ("raise KeyError('lost')", "--features {path}, line 6: KeyError: 'lost'"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*:RuntimeWarning")
def test_features_that_fail_cost_a_run_its_scores_and_nothing_else(plain, text, why, tmp_path, capfd):
    """Some at once, some after the real images."""
    path = tmp_path / "mine.py"
    path.write_text(f"import numpy as np\nseen = []\n\ndef features(images):\n    seen.append(0)\n    {text}\n")
    found = scored_run.run_scored(
        recipe(), tmp_path / "w", 0, OPTIONS, scored=Scored(3, ScorerOptions(features=str(path)))
    )
    assert found["state_sha256"] == plain["state_sha256"]
    assert "scores" not in found.get("best", {})
    said = capfd.readouterr().err.splitlines()
    assert [line.partition(":")[0] for line in said] == ["not scored", "no final scores"]
    assert all(why.format(path=path) in line for line in said)
    path.write_text("nothing = 1")
    with pytest.raises(RecipeError, match="must define features, a function"):
        scored_run.run_scored(recipe(), tmp_path / "x", 0, OPTIONS, scored=Scored(3, ScorerOptions(features=str(path))))
    assert not (tmp_path / "x").exists()


def test_curves_of_seeds_that_were_scored_otherwise_are_left_out(capfd):
    curves = {seed: {"frechet_distance": seed, "loss_gen": seed} for seed in range(3)} | {3: {"loss_gen": 3}}
    seeds._leave_out_other_units(curves, {0: None, 1: "feet", 2: "feet", 3: None})
    assert curves[0] == {"loss_gen": 0}
    assert all(curves[seed] == {"frechet_distance": seed, "loss_gen": seed} for seed in (1, 2))
    said = "note: seeds.png has no scores of seed 0: they are scored by: unknown; the others by: feet"
    assert capfd.readouterr().out.splitlines() == [said]
