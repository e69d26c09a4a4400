"""Runs that are scored: curves, the best checkpoint, the last and the best in the summary; and no trace in the bits."""

import contextlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_run import few_subsets, metrics_of, recipe

import jaxgan
from jaxgan import evaluation, recipes
from jaxgan.commands import evaluate, feature_files, sample, scored_run, scoring
from jaxgan.commands.scored_run import Scored
from jaxgan.data import Dataset
from jaxgan.evaluation.scores import halves
from jaxgan.run import Event, Options, RunError, checkpoint, run
from jaxgan.run.numerics import root_key

OPTIONS = Options(devices=1, log_every=2, sample_every=100, checkpoint_every=4, keep=2)
CURVES = {"frechet_distance", "precision", "recall", "density", "coverage", "inception_score"}


@pytest.fixture(scope="module", autouse=True)
def quick_scores(shared_programs, tmp_path_factory):
    few_subsets(shared_programs)
    shared_programs.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    """A finished run that was scored at steps 3, 6 and 9; and its summary."""
    workdir = tmp_path_factory.mktemp("scored") / "w"
    return workdir, scored_run.run_scored(recipe(), workdir, 0, OPTIONS, scored=Scored(3))


def steps_kept(workdir):
    return sorted(int(path.name) for path in (workdir / "checkpoints").iterdir())


def test_scores_are_curves_and_leave_no_trace(scored, tmp_path):
    workdir, summary = scored
    assert {m["step"] for m in metrics_of(workdir) if m.keys() >= CURVES} == {3, 6, 9}
    assert (workdir / "scores.png").stat().st_size > 10_000
    plain = run(recipe(), tmp_path, 0, OPTIONS)
    assert summary["state_sha256"] == plain["state_sha256"]
    assert not (tmp_path / "scores.png").exists()
    assert "final" not in plain


def test_events_of_a_recipe_see_the_scores(tmp_path):
    seen = {}
    made = recipe(steps=3, events=(Event("see", 3, lambda snapshot: seen.update(snapshot.found)),))
    scored_run.run_scored(made, tmp_path, 0, OPTIONS, scored=Scored(3))
    assert seen.keys() >= CURVES


def test_the_summary_has_the_last_and_the_best(scored):
    workdir, summary = scored
    assert json.loads((workdir / "summary.json").read_text()) == summary
    distances = {m["step"]: m["frechet_distance"] for m in metrics_of(workdir) if "frechet_distance" in m}
    best = min(distances, key=distances.get)
    assert (summary["final"]["step"], summary["best"]["step"]) == (9, best)
    assert best in steps_kept(workdir)
    for score in (summary["final"], summary["best"]):
        assert score["reference"]["split"] == "second half"
        assert (score["reference"]["count"], score["count"], score["floor"]["count"]) == (898, 899, 899)
        assert score["features"]["name"] == "digits"
        assert score["scores"].keys() == score["floor"].keys() - {"count", "duplicates"}
        assert score["floor"]["frechet_distance"] < 1 < score["scores"]["frechet_distance"]


def test_a_score_is_what_its_parts_say(scored):
    """The same number from the images that `sample` draws, without any of the scripts."""
    workdir, summary = scored
    gan = recipe().build()
    state = checkpoint.read(workdir / "checkpoints", jaxgan.init(gan, root_key(0)))
    images = np.asarray(jaxgan.sample(gan, state, root_key(0), 899))
    features, real = evaluation.classifier("digits"), recipe().load_data()
    real = real.images[halves(real.size, real.labels)[1]]
    samples, reference = (evaluation.embed(features, x).features.astype(np.float64) for x in (images, real))
    difference = samples.mean(0) - reference.mean(0)
    covariances = [np.cov(x, rowvar=False) for x in (samples, reference)]
    roots = np.sqrt(np.abs(np.linalg.eigvals(covariances[0] @ covariances[1])))
    distance = difference @ difference + sum(map(np.trace, covariances)) - 2 * roots.sum()
    assert summary["final"]["scores"]["frechet_distance"] == pytest.approx(distance, rel=1e-4)


def test_a_finished_run_is_scored_once(scored, monkeypatch):
    workdir, summary = scored
    monkeypatch.setattr(scored_run, "_conclude", lambda *_: pytest.fail("scored again"))
    assert scored_run.run_scored(recipe(), workdir, 0, OPTIONS, scored=Scored(3)) == summary


@pytest.mark.slow
def test_a_finished_run_is_scored_later_and_anew_when_it_goes_on(tmp_path):
    before = scored_run.run_scored(recipe(), tmp_path, 0, OPTIONS, scored=Scored(0))
    assert "final" not in before
    after = scored_run.run_scored(recipe(), tmp_path, 0, OPTIONS, scored=Scored(100))
    assert after["final"]["step"] == 9
    assert "best" not in after
    assert after["state_sha256"] == before["state_sha256"]
    longer = scored_run.run_scored(recipe(steps=11), tmp_path, 0, OPTIONS, scored=Scored(3))
    assert longer["final"]["step"] == 11
    assert longer["final"]["scores"] != after["final"]["scores"]


def test_the_best_checkpoint_is_kept_besides_the_newest(tmp_path):
    """Also after a stop; a score that is no number is never the best."""
    scores = dict(enumerate((9.0, float("nan"), 2.0, float("inf"), 8.0, 3.0, 6.0, float("nan"), 4.0), 1))
    score = Event("evaluate", 1, lambda moment: {"frechet_distance": scores[moment.step]})
    stop = Event("stop", 5, lambda moment: 1 / 0 if moment.step == 5 else None)
    with pytest.raises(ZeroDivisionError):
        run(recipe(events=(score, stop)), tmp_path, 0, OPTIONS)
    assert steps_kept(tmp_path) == [3, 4, 5]
    run(recipe(events=(score,)), tmp_path, 0, OPTIONS)
    assert steps_kept(tmp_path) == [3, 8, 9]
    like = jaxgan.init(recipe().build(), root_key(0))
    assert int(checkpoint.read(tmp_path / "checkpoints", like).step) == 9
    assert int(checkpoint.read(tmp_path / "checkpoints", like, best=True).step) == 3


@pytest.mark.parametrize(("which", "best"), [("max", 6), ("min", 3)])
def test_a_recipe_says_what_the_best_checkpoint_is_chosen_by(tmp_path, which, best, capfd):
    """The first of equals; over a stop; no NaN or infinity; of the event's own unit, whatever others are of."""
    values = dict(enumerate((5.0, float("inf"), 2.0, float("nan"), 8.0, 9.0, -float("inf"), 9.0, 4.0), 1))
    mine = Event("mine", 1, lambda moment: {"quality": values[moment.step], "frechet_distance": -moment.step})
    other = Event("other", 2, lambda moment: {"l1": 1.0, "scored_by": "feet"})
    stop = Event("stop", 5, lambda moment: 1 / 0 if moment.step == 5 else None)
    small = recipe(best_by=("quality", which))
    with pytest.raises(ZeroDivisionError):
        run(small.replace(events=(mine, other, stop)), tmp_path, 0, OPTIONS)
    summary = run(small.replace(events=(mine, other)), tmp_path, 0, OPTIONS)
    assert steps_kept(tmp_path) == [best, 8, 9]
    by = f"{'highest' if which == 'max' else 'lowest'} quality"
    assert summary["best"] == {"step": best, "value": values[best], "chosen_by": by}
    with contextlib.closing(checkpoint.open_folder(tmp_path / "checkpoints", read_only=True)) as checkpoints:
        found = checkpoints.best()
    assert (found.step, found.score.unit) == (best, by)
    assert small.config() == recipe().config()
    assert "note" not in capfd.readouterr().err


def test_a_score_that_is_never_found_is_said_at_the_end_and_other_words_are_refused(
    tmp_path, refused, capfd, monkeypatch
):
    event = Event("mine", 4, lambda moment: {"quality": 1.0})
    run(recipe(best_by=("qualty", "max"), events=(event,)), tmp_path, 0, OPTIONS)
    said = "no checkpoint is kept as the best: 'qualty' is not among what events find: quality"
    assert capfd.readouterr().err.count(said) == 1
    monkeypatch.setattr(recipes, "of_run", lambda *_: recipe(best_by=("qualty", "max")))
    said = refused(evaluate.main, tmp_path, "--weights", "best")
    assert said.rstrip().endswith("no checkpoint has a 'qualty', which an event of the recipe has to find")
    for wrong in ("quality", ("quality", "most"), ["quality", "max"], (3, "max")):
        with pytest.raises(ValueError, match='best_by must be a name and "min" or "max", such as '):
            recipe(best_by=wrong)


def test_evaluate_says_what_the_summary_says(scored, tmp_path, capsys):
    workdir, summary = scored
    for weights, which in (("averaged", "final"), ("best", "best")):
        file = tmp_path / f"{weights}.json"
        evaluate.main([str(workdir), "--weights", weights, "--json", str(file)])
        found = json.loads(file.read_text())
        assert found["scores"] == summary[which]["scores"]  # bit-equal again
        assert found["floor"] == summary[which]["floor"]
        assert found["step"] == summary[which]["step"]
        assert scoring.differences(found, summary[which]) == []
    out = capsys.readouterr().out
    assert "899 samples against 898 real images (digits, second half), features digits" in out
    assert "frechet_distance" in out


@pytest.mark.nightly
def test_other_samples_weights_references_and_features_give_other_scores(scored, tmp_path):
    final = scored[1]["final"]
    base = final["scores"]["frechet_distance"]

    def found(*flags):
        evaluate.main([str(scored[0]), *flags, "--json", str(tmp_path / "found.json")])
        return json.loads((tmp_path / "found.json").read_text())

    seed, last, train = found("--seed", "1"), found("--weights", "last"), found("--reference", "train")
    assert base not in [of["scores"]["frechet_distance"] for of in (seed, last, train)]
    assert [bool(scoring.differences(of, final)) for of in (seed, last, train)] == [False, False, True]
    assert seed["scores"]["frechet_distance"] == pytest.approx(base, rel=0.1)
    assert scoring.differences(found("--count", "100"), final) == ["samples: 100 and 899"]
    # Other features are those of the real images, too.
    mnist, digits = found("--features", "mnist"), recipe().load_data()
    parts = (digits.images[half] for half in halves(digits.size, digits.labels))
    parts = (evaluation.embed(evaluation.classifier("mnist"), part).features for part in parts)
    assert mnist["floor"]["frechet_distance"] == pytest.approx(evaluation.frechet_distance(*parts), rel=1e-9)


@pytest.mark.slow
def test_features_of_ones_own_import_what_stands_beside_them(scored, tmp_path, monkeypatch):
    """When the file is read and when it is called; and their digest is of that, too."""
    workdir, json_file = scored[0], tmp_path / "mine.json"
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.chdir(tmp_path)
    (tmp_path / "feat").mkdir()
    (tmp_path / "feat" / "mine.py").write_text(
        "import beside_features\ndef features(images):\n    from late_features import flat\n"
        "    return flat(images)[:, :: beside_features.STRIDE]\n"
    )
    (tmp_path / "feat" / "beside_features.py").write_text("STRIDE = 7")
    (tmp_path / "feat" / "late_features.py").write_text("flat = lambda images: images.reshape(len(images), -1)")
    evaluate.main([str(workdir), "--features", "feat/mine.py", "--json", str(json_file)])
    found = json.loads(json_file.read_text())
    assert "inception_score" not in found["scores"]
    found = found["features"]
    assert found["name"] == "mine.py"
    for name in ("mine", "beside_features", "late_features"):
        with (tmp_path / "feat" / f"{name}.py").open("a") as file:
            file.write("\n# edited")
        assert feature_files.from_file(Path("feat/mine.py")).sha256 != found["sha256"]
        found = {"sha256": feature_files.from_file(Path("feat/mine.py")).sha256}


def test_the_best_can_be_sampled(scored, tmp_path):
    workdir, summary = scored
    sample.main([str(workdir), "--weights", "best", "--count", "4", "--npz", str(tmp_path / "best.npz")])
    gan = recipe().build()
    like = jaxgan.init(gan, root_key(0))
    state = checkpoint.read(workdir / "checkpoints", like, best=True)
    assert int(state.step) == summary["best"]["step"]
    np.testing.assert_array_equal(np.load(tmp_path / "best.npz")["images"], jaxgan.sample(gan, state, root_key(0), 4))


def test_bad_flags_are_one_line(scored, refused, tmp_path):
    for args, message in {
        "--count 99": "--count must be at least 100, not 99",
        "--seed -1": "--seed must be from 0",
        "--weights first": "invalid choice",
        "--reference validation": "invalid choice",
        "--features vgg": "--features vgg: there are cifar10, digits, mnist, inception",
        "--features none.py": "--features none.py: there is no such file",
        "--inception-weights x": "--inception-weights belongs to --features inception",
        "--json scores.txt": "must be a file that ends in .json",
        "--json nowhere/scores.json": "there is no folder nowhere",
    }.items():
        assert message in refused(evaluate.main, scored[0], *args.split()), args
    assert "holds no run" in refused(evaluate.main, tmp_path)
    run(recipe(), tmp_path / "w", 0, OPTIONS)
    said = refused(evaluate.main, tmp_path / "w", "--weights", "best")
    assert "no checkpoint has a score; train with --evaluate-every N" in said
    with pytest.raises(RunError, match="--evaluate-every must be at least 1, or 0 for none, not -1"):
        scored_run.run_scored(recipe(), tmp_path / "x", 0, OPTIONS, scored=Scored(-1))
    assert not (tmp_path / "x").exists()


def test_other_images_than_the_runs_are_refused(scored, refused, tmp_path):
    for i in range(30):
        Image.fromarray(np.full((8, 8), 8 * i, np.uint8)).save(tmp_path / f"{i}.png")
    said = refused(evaluate.main, scored[0], "--data", f"folder:{tmp_path}")
    assert "does not hold the images of this run; --data says where they are now" in said


def few_images():
    return Dataset("few", np.random.default_rng(0).integers(0, 256, (30, 28, 28, 1), np.uint8))


@pytest.mark.nightly
def test_data_of_too_few_images_are_trained_on_and_not_scored(tmp_path, capfd):
    few = recipe(data=few_images, steps=4)
    summary = scored_run.run_scored(few, tmp_path, 0, OPTIONS, scored=Scored(2))
    assert summary["step"] == 4
    assert "final" not in summary
    err = capfd.readouterr().err
    assert "not scored: few: 15 images (second half) are too few to compare samples with; 100 are needed" in err
    assert scored_run.run_scored(few, tmp_path, 0, OPTIONS, scored=Scored(2)) == summary


@pytest.mark.filterwarnings("ignore:.*:RuntimeWarning")
def test_a_file_of_features_that_is_wrong_is_one_line(scored, refused, tmp_path):
    flat = "images.reshape(len(images), -1)"
    for i, (text, message) in enumerate(
        (
            ("def features(images):\n    return images.nothing", "line 2: AttributeError: "),
            ("features = 3", "must define features, a function"),
            ("import nothing_of_that_name", "line 1: ModuleNotFoundError"),
            (f"def features(images):\n    return {flat} / 0.0 * 0", "gives features"),
            ("def features(images):\n    return images[:2]", "must give features"),
        )
    ):
        (tmp_path / f"broken{i}.py").write_text(text)
        said = refused(evaluate.main, scored[0], "--features", tmp_path / f"broken{i}.py")
        assert message in said
        assert f"broken{i}.py" in said


def test_a_floor_of_fewer_images_than_samples_is_said_to_be(scored, capfd):
    workdir, _ = scored
    evaluate.main([str(workdir), "--count", "1000"])
    assert "the floor is of 899 other real images, too few to compare distances with" in capfd.readouterr().out


def test_the_border_is_cut_off_before_anything_is_compared():
    """`gan_elements` puts black pixels around its images, which are then those of the data again."""
    bordered = recipe(data=few_images).replace(border=2)
    images = np.pad(few_images().images, ((0, 0), (2, 2), (2, 2), (0, 0)), constant_values=9)
    np.testing.assert_array_equal(scoring.without_border(bordered, images), few_images().images)
    assert scoring.without_border(recipe(), images) is not None
    assert scoring.without_border(recipe(), images).shape == images.shape
