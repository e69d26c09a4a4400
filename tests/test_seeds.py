"""A study of several seeds: each the run that it is alone, what their scores spread over, and how it goes on."""

import json
import shutil

import numpy as np
import pytest
from common import SmallDisc, SmallGen
from small_data import opened
from small_run import few_subsets, metrics_of, recipe, undrawn

from experiments.bench import vmapped_seeds
from jaxgan.benchmark import timing
from jaxgan.commands import seed_statistics, seeds
from jaxgan.commands.scored_run import Scored, run_scored
from jaxgan.commands.scoring import ScorerOptions
from jaxgan.run import Options, RunError, Stopped, WorkdirError, plots, run

draw = seed_statistics.draw  # which the module's tests do without
SMALL = recipe(steps=6)
EVERY = 3
OPTIONS = Options(devices=1, log_every=2, sample_every=6, checkpoint_every=6)


@pytest.fixture(autouse=True, scope="module")
def quick_scores(shared_programs):
    undrawn(shared_programs)
    few_subsets(shared_programs)


def study(folder, count, small=SMALL):
    return seeds.run_seeds(small, folder, count, OPTIONS, Scored(EVERY))


def summary_of(folder, seed):
    return json.loads((folder / f"seed-{seed}" / "summary.json").read_text())


def written(folder):
    return json.loads((folder / "seeds.json").read_text())


def edit(path, change):
    """Changes a JSON file in place."""
    held = json.loads(path.read_text())
    change(held)
    path.write_text(json.dumps(held))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a study of two seeds."""
    folder = tmp_path_factory.mktemp("studies") / "finished"
    study(folder, 2)
    return folder


@pytest.fixture
def two(finished, tmp_path):
    """A copy of it, to be changed."""
    return shutil.copytree(finished, tmp_path / "two")


@pytest.fixture
def trained(monkeypatch):
    """The seeds that are trained, in their order; they are trained all the same."""
    order = []

    def noted(recipe, workdir, seed, *args, **named):
        order.append(seed)
        return run_scored(recipe, workdir, seed, *args, **named)

    monkeypatch.setattr(seeds, "run_scored", noted)
    return order


def test_the_spread_is_that_of_the_summaries(finished):
    found = written(finished)
    summaries = [summary_of(finished, seed) for seed in (0, 1)]
    assert found["diverged"] == 0
    assert found["steps"] == 6
    for seed, (of, summary) in enumerate(zip(found["seeds"], summaries, strict=True)):
        assert of["seed"] == seed
        assert of["scored"] == 2
        assert of["seconds"] == metrics_of(finished / f"seed-{seed}")[-1]["seconds"]
        for name in ("step", "state_sha256", "final", "best"):
            assert of[name] == summary[name]
    for which in ("final", "best"):
        assert found[which]["seeds"] == [0, 1]
        assert found[which]["steps"] == [summary[which]["step"] for summary in summaries]
        for name in ("count", "features", "reference", "floor"):
            assert found[which][name] == summaries[0][which][name]
        assert found[which]["scores"].keys() == summaries[0][which]["scores"].keys() > {"frechet_distance", "recall"}
        for name, score in found[which]["scores"].items():
            values = [summary[which]["scores"][name] for summary in summaries]
            assert score["values"] == values
            np.testing.assert_allclose(score["mean"], np.mean(values), rtol=1e-12)
            np.testing.assert_allclose(score["std"], np.std(values, ddof=1), rtol=1e-9, atol=1e-15)
    assert found["final"]["scores"]["frechet_distance"]["std"] > 0


def score(count=10, features="f", sha256="0", **scores):
    """A score as `scoring.score_state` makes it."""
    return {
        "step": 5,
        "count": count,
        "features": {"name": features, "sha256": sha256},
        "reference": {"data": "digits", "sha256": sha256},
        "scores": scores,
        "floor": {"count": 7, "recall": 0.9},
    }


def test_the_table_shows_every_value_and_a_dash_for_what_there_is_none():
    three = {0: score(recall=0.25, other=1.0), 1: score(recall=0.5, other=1.0), 4: score(recall=0.75, other=4.0)}
    for found in three.values():
        found["reference"] |= {"count": 20, "split": "odd"}
    lines = seed_statistics.table("final", seed_statistics.over_seeds(three)).splitlines()
    rows = {line.split()[0]: line.split()[1:] for line in lines}
    assert lines[2].split() == ["better", "mean", "std", "floor", "seed", "0", "seed", "1", "seed", "4"]
    assert rows["recall"] == ["higher", "0.5", "0.25", "0.9", "0.25", "0.5", "0.75"]
    assert rows["other"] == ["2", "1.732", "-", "1", "1", "4"]
    assert rows["step"] == ["5", "5", "5"]
    one = seed_statistics.over_seeds({3: three[0]})
    assert one["scores"]["recall"] == {"values": [0.25], "mean": 0.25, "std": None}
    assert "higher 0.25 - 0.9 0.25" in " ".join(seed_statistics.table("final", one).split())


def test_scores_of_different_kinds_are_not_mixed():
    for changed, named in (({"count": 11}, "samples"), ({"features": "g"}, "features"), ({"sha256": "1"}, "reference")):
        with pytest.raises(ValueError, match=f"seed 0 and seed 2 .*{named}"):
            seed_statistics.over_seeds({0: score(recall=0.5), 2: score(recall=0.5, **changed)})


def test_a_study_of_different_kinds_of_scores_is_refused_before_it_trains(two, trained):
    edit(two / "seed-1" / "summary.json", lambda summary: summary["best"].update(count=12))
    before = (two / "seeds.json").read_text()
    with pytest.raises(RunError, match=r"seed 0 and seed 1 .*samples"):
        study(two, 3)
    edit(two / "seed-1" / "summary.json", lambda summary: summary["best"].update(count=summary["final"]["count"]))
    assert study(two, 2) == json.loads(before)
    edit(two / "seed-1" / "config.json", lambda config: config.update(data_sha256="0"))
    with pytest.raises(RunError, match=r"seed 0 and seed 1 .*different data"):
        study(two, 2)
    assert trained == []


@pytest.mark.nightly
def test_runs_that_were_scored_otherwise_are_scored_again_and_not_trained(two, trained):
    whole = written(two)
    edit(two / "seed-1" / "summary.json", lambda s: s["final"]["features"].update(sha256="0"))
    assert study(two, 2) == whole
    assert trained == [1]
    assert summary_of(two, 1)["steps_resumed_from"] == 0  # what is there was not trained anew
    by_mnist = seeds.run_seeds(SMALL, two, 2, OPTIONS, Scored(EVERY, ScorerOptions(features="mnist")))
    assert by_mnist["final"]["features"]["name"] == "mnist"
    assert [of["state_sha256"] for of in by_mnist["seeds"]] == [of["state_sha256"] for of in whole["seeds"]]


@pytest.mark.slow
def test_only_what_is_missing_is_trained(two, trained, tmp_path):
    """Finished runs are left as they are, to the last file; one that has got half way goes on, and so does a longer."""
    kept = [path for seed in (0, 1) for path in (two / f"seed-{seed}").rglob("*")]
    whole, before = written(two), [path.stat().st_mtime_ns for path in kept]
    found = study(two, 3)
    assert trained == [2]
    assert before == [path.stat().st_mtime_ns for path in kept]
    assert found["seeds"][:2] == whole["seeds"]
    assert found["final"]["seeds"] == [0, 1, 2]
    assert study(two, 3) == found
    assert study(two, 2) == whole
    assert trained == [2]
    shutil.rmtree(two / "seed-1")
    run(recipe(steps=3), two / "seed-1", 1, OPTIONS)  # each seed is the run that it is alone
    found = study(two, 2)
    assert trained == [2, 1]
    assert summary_of(two, 1)["steps_resumed_from"] == 3
    assert [of["state_sha256"] for of in found["seeds"]] == [of["state_sha256"] for of in whole["seeds"]]
    assert [of["step"] for of in study(two, 1, SMALL.replace(steps=8))["seeds"]] == [8]
    assert trained == [2, 1, 0]


def test_an_interrupted_study_has_what_is_finished(finished, tmp_path, monkeypatch):
    shutil.copytree(finished / "seed-0", tmp_path / "seed-0")

    def stop(*args, **named):
        raise Stopped("stopped at step 3 of 6")

    monkeypatch.setattr(seeds, "run_scored", stop)
    with pytest.raises(Stopped):
        study(tmp_path, 2)
    assert [of["seed"] for of in written(tmp_path)["seeds"]] == [0]
    assert (tmp_path / "seeds.png").exists()


def test_runs_of_another_recipe_are_refused_before_anything_is_trained(two, trained):
    with pytest.raises(WorkdirError, match="z_size is 100 there, 50 here"):
        study(two, 3, SMALL.replace(z_size=50))
    shutil.move(two / "seed-1", two / "seed-2")
    with pytest.raises(WorkdirError, match="seed is 1 there, 2 here"):
        study(two, 3)
    changed = SMALL.replace(file_sha256="1", name="mine")
    edit(two / "seed-0" / "config.json", lambda config: config.update(recipe="mine", recipe_file_sha256="0"))
    with pytest.raises(WorkdirError, match=r"mine\.py.* is not what .* was begun with"):
        study(two, 1, changed)
    assert trained == []


FLAGS = ("tf2_gan", "--data", "digits", "--batch-size", 16, "--steps", 6, "--evaluate-every", EVERY, "--devices", 1)


def test_a_seed_that_diverges_is_counted_and_the_others_run(two, called, monkeypatch, capfd):
    def diverge(recipe, workdir, seed, *args, **named):
        if seed == 0:
            raise FloatingPointError("step 4: loss_gen is nan")
        return run_scored(recipe, workdir, seed, *args, **named)

    monkeypatch.setattr(seeds, "run_scored", diverge)
    monkeypatch.setattr(seeds, "keep_programs", lambda: None)
    (two / "seed-0" / "summary.json").unlink()
    with pytest.raises(SystemExit) as end:
        called(seeds.main, *FLAGS, "--runs", two, "--seeds", 2, "--json", two / "copy.json")
    out, err = capfd.readouterr()
    assert end.value.code == 1
    assert err.splitlines() == ["seed 0 diverged: step 4: loss_gen is nan", "error: 1 of 2 seeds diverged"]
    found = written(two)
    assert found["diverged"] == 1
    assert found["seeds"][0] == {"seed": 0, "diverged": "step 4: loss_gen is nan"}
    assert found["final"]["seeds"] == [1]
    assert found == json.loads((two / "copy.json").read_text())
    assert "final (last step)" in out


def test_the_script_says_the_spread(two, called, monkeypatch, capfd):
    monkeypatch.setattr(seeds, "keep_programs", lambda: None)
    called(seeds.main, *FLAGS, "--runs", two, "--seeds", 2)
    out, err = capfd.readouterr()
    assert err == ""
    mean = written(two)["best"]["scores"]["frechet_distance"]["mean"]
    rows = [line.split() for line in out.splitlines() if line.startswith("frechet_distance")]
    assert [row[1] for row in rows] == ["lower", "lower"]
    assert rows[1][2] == f"{mean:.4g}"
    assert "note" not in out
    lines = (two / "seed-0" / "metrics.jsonl").read_text().splitlines()
    (two / "seed-0" / "metrics.jsonl").write_text("\n".join([*lines[-1:], ""]))
    called(seeds.main, *FLAGS, "--runs", two, "--seeds", 2)
    assert "note: not all seeds were scored as often" in capfd.readouterr().out


def test_wrong_flags_are_one_line_and_nothing_is_written(refused, tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "other" / "seed-4").mkdir(parents=True)
    (tmp_path / "other" / "seed-4" / "config.json").write_text('{"recipe": "digits", "seed": 4, "batch_size": 7}')
    before = sorted(tmp_path.rglob("*"))
    for args, named in (
        ((), "RECIPE"),
        (("nonesuch",), "nonesuch"),
        (("--seeds", 2, "tf2_gan"), "comes first"),
        (("digits", "--seeds", 0), "--seeds"),
        (("digits", "--steps", 0), "--steps"),
        (("digits", "--evaluate-every", 0), "--evaluate-every"),
        (("digits", "--runs", ""), "--runs"),
        (("digits", "--runs", tmp_path / "file"), f"--runs {tmp_path}/file/seed-0"),
        (("digits", "--json", tmp_path / "scores.txt"), "--json"),
        (("digits", "--json", tmp_path / "missing/scores.json"), "missing"),
        (("digits", "--batch-size", 64, "--runs", tmp_path / "other"), "batch_size is 7 there, 64 here"),
        (("digits", "--batch-size", 64, "--runs", tmp_path / "other"), "; name another --runs"),
        (("digits", "--seed", 3), "--seed"),
    ):
        assert named in refused(seeds.main, *args), args
    assert sorted(tmp_path.rglob("*")) == before


def test_the_picture_has_a_panel_for_each_kind_of_score_and_of_loss(finished, tmp_path):
    draw(tmp_path / "seeds.png", "small", {seed: plots.read_curves(finished / f"seed-{seed}") for seed in (0, 1)})
    image = np.asarray(opened(tmp_path / "seeds.png").convert("RGB")).astype(int)
    assert image.shape == (2 * 540, 3 * 540, 3)
    for row in (slice(0, 540), slice(540, None)):
        for column in range(3):
            panel = image[row, 540 * column : 540 * (column + 1)]
            assert ((panel[..., 2] - panel[..., 0]) > 60).sum() > 50, (row, column)  # tab:blue


def test_the_mean_is_of_the_steps_that_all_seeds_have_and_of_those_that_ended(tmp_path, monkeypatch):
    drawn = {}

    class Axes:
        def plot(self, x, y, *style, label=None, **_):
            if label:
                drawn["mean"] = (list(x), list(y))

        def fill_between(self, x, low, high, **_):
            drawn["band"] = (list(x), list(low), list(high))

    monkeypatch.setattr(
        seed_statistics,
        "draw_panels",
        lambda path, rows, names, draw_one, title: draw_one(Axes(), "recall", "recall", "red"),
    )
    at = lambda steps, values: {"recall": (np.array(steps), np.array(values))}  # noqa: E731
    runs = {0: at([1, 2, 4], [1.0, 2.0, 4.0]), 1: at([2, 3, 4], [4.0, 9.0, 8.0]), 2: at([1], [99.0])}
    draw(tmp_path / "seeds.png", "digits", runs, diverged=[2])
    assert drawn["mean"] == ([2, 4], [3.0, 6.0])
    np.testing.assert_allclose(drawn["band"][1:], [[3 - 2**0.5, 6 - 8**0.5], [3 + 2**0.5, 6 + 8**0.5]])


@pytest.mark.nightly
def test_seeds_in_one_program_are_measured_beside_one_after_the_other(monkeypatch):
    monkeypatch.setattr(timing, "SECONDS", 0.001)
    alone, together = vmapped_seeds.measure(recipe(gen=SmallGen(), disc=SmallDisc()), seeds=2, rounds=2)
    assert len(alone) == len(together) == 2
    assert min(*alone, *together) > 0
