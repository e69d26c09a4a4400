"""A sweep: its grid, each run the one that it is alone, the order of what came of them, and seeds in one program."""

import json
import shutil

import jax
import numpy as np
import pytest
from small_data import opened
from small_run import few_subsets, metrics_of, recipe, undrawn

import jaxgan
from jaxgan.commands import seeds, sweep, sweep_results
from jaxgan.commands.scored_run import Scored, run_scored
from jaxgan.recipes import RecipeError
from jaxgan.run import Event, Options, Stopped, run, run_together
from jaxgan.run import loop as loops

SMALL = recipe(steps=4)
OPTIONS = Options(devices=1, log_every=2, sample_every=4, checkpoint_every=2)
SCORED = Scored(4)
POINTS = {
    "beta1=0.5": sweep.Point({"beta1": 0.5}, SMALL),
    "beta1=0.0": sweep.Point({"beta1": 0.0}, SMALL.replace(beta1=0.0)),
}


@pytest.fixture(autouse=True, scope="module")
def quick(shared_programs):
    undrawn(shared_programs)
    few_subsets(shared_programs)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweeps") / "finished"
    sweep.run_sweep(POINTS, folder, 2, OPTIONS, SCORED)
    return folder


@pytest.fixture
def trained(monkeypatch):
    """The runs that are trained, in their order: their folders' names, and seeds."""
    order = []

    def noted(recipe, workdir, seed, *args, **named):
        order.append((workdir.parent.name, seed))
        return run_scored(recipe, workdir, seed, *args, **named)

    monkeypatch.setattr(seeds, "run_scored", noted)
    return order


def written(folder, name="sweep.json"):
    return json.loads((folder / name).read_text())


def test_each_run_is_the_one_that_it_is_alone_and_the_best_comes_first(finished, tmp_path):
    found = written(finished)
    alone = run(SMALL.replace(beta1=0.0), tmp_path, 1, OPTIONS)
    assert found["vary"] == {"beta1": [0.5, 0.0]}
    assert (found["order_by"], found["higher"]) == ("frechet_distance", False)
    rows = found["rows"]
    assert {row["name"] for row in rows} == set(POINTS)
    assert rows[0]["mean"] < rows[1]["mean"]
    for row in rows:
        assert row["settings"] == POINTS[row["name"]].values
        summaries = [written(finished / row["name"] / f"seed-{seed}", "summary.json") for seed in (0, 1)]
        for kind, name in (("final", "mean"), ("best", "best")):
            values = [summary[kind]["scores"]["frechet_distance"] for summary in summaries]
            np.testing.assert_allclose(row[name], np.mean(values), rtol=1e-12)
        np.testing.assert_allclose(row["std"], np.std(row["values"], ddof=1), rtol=1e-12)
        if row["name"] == "beta1=0.0":
            assert row["state_sha256"][1] == alone["state_sha256"]
    assert opened(finished / "sweep.png").size == (720, 540)


@pytest.mark.nightly
def test_only_what_is_missing_is_trained_the_first_seed_of_each_first(finished, tmp_path, trained):
    folder = shutil.copytree(finished, tmp_path / "more")
    before = written(folder)
    assert sweep.run_sweep(POINTS, folder, 2, OPTIONS, SCORED) == before
    assert trained == []
    shutil.rmtree(folder / "beta1=0.0")
    more = POINTS | {"beta1=0.9": sweep.Point({"beta1": 0.9}, SMALL.replace(beta1=0.9))}
    found = sweep.run_sweep(more, folder, 2, OPTIONS, SCORED)
    assert trained == [("beta1=0.0", 0), ("beta1=0.9", 0), ("beta1=0.0", 1), ("beta1=0.9", 1)]
    assert [row for row in found["rows"] if row["name"] != "beta1=0.9"] == before["rows"]


def test_what_diverges_is_a_row_that_says_so_and_is_trained_once(finished, tmp_path, monkeypatch):
    folder, trained = shutil.copytree(finished, tmp_path / "lost"), []

    def diverge(recipe, workdir, seed, *args, **named):
        trained.append((workdir.parent.name, seed))
        raise FloatingPointError("step 4: loss_gen is nan")

    monkeypatch.setattr(seeds, "run_scored", diverge)
    for seed in (0, 1):
        (folder / "beta1=0.0" / f"seed-{seed}" / "summary.json").unlink()
    found = sweep.run_sweep(POINTS, folder, 2, OPTIONS, SCORED)
    assert trained == [("beta1=0.0", 0), ("beta1=0.0", 1)]
    assert [row["name"] for row in found["rows"]] == ["beta1=0.5", "beta1=0.0"]
    assert found["rows"][1]["diverged"] == dict.fromkeys("01", "step 4: loss_gen is nan")
    *_, first, last = sweep_results.table(found).splitlines()
    assert first.split()[:1] + first.split()[-1:] == ["0.5", "2"]
    assert last.split() == ["0.0", "diverged", "-", "0,", "and", "2", "diverged"]


def test_the_order_is_by_any_metric_and_the_higher_first_where_that_is_better(finished):
    studies = {name: written(finished / name, "seeds.json") for name in POINTS}
    values = {name: point.values for name, point in POINTS.items()}
    by = lambda *order: sweep_results.of_studies(finished, values, studies, *order)  # noqa: E731
    higher, metric, none = by("grad_norm_disc", True), by("grad_norm_gen"), by("nonesuch")
    assert higher["rows"][0]["mean"] > higher["rows"][1]["mean"]
    for row in metric["rows"]:
        last = [metrics_of(finished / row["name"] / f"seed-{seed}")[-1]["grad_norm_gen"] for seed in (0, 1)]
        assert row["values"] == last
    assert metric["rows"][0]["mean"] < metric["rows"][1]["mean"]
    assert "no run has a nonesuch" in sweep_results.table(none)
    assert [row["name"] for row in none["rows"]] == list(POINTS)


def grid(*words, name="digits"):
    flags, _, found = sweep.read_flags(sweep.Sweep, "experiments.sweep", [name, *words])
    return sweep.read_grid(flags.vary, found, [name, *words])


def test_the_grid_is_of_all_combinations_each_read_as_flags_are():
    points = grid("--vary", "loss", "hinge", "wasserstein", "--vary", "clip", "None", "1", "--steps", "7")
    assert list(points) == [f"clip={clip}-loss={loss}" for loss in ("hinge", "wasserstein") for clip in ("None", "1.0")]
    assert points["clip=1.0-loss=hinge"].values == {"loss": "hinge", "clip": 1.0}
    for values, made in points.values():
        assert {"loss": made.loss, "clip": made.clip} == values
        assert made.steps == 7
    found = grid("--vary", "mirror", "True", "false", "--vary", "batch-size", "32", "--seeds", "3")
    assert [(made.mirror, made.batch_size) for _, made in found.values()] == [(True, 32), (False, 32)]


def test_wrong_flags_are_one_line_and_nothing_is_written(refused, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rates = ("--vary", "gen_learning_rate", "1e-3", "2e-3")
    for args, named in (
        ((), "RECIPE"),
        (("digits",), "--vary is missing"),
        (("digits", "--vary"), "--vary"),
        (("digits", "--vary", "nonesuch", "1"), "--vary nonesuch: there is no such setting; there are "),
        (("digits", "--vary", "seed", "1"), "--vary seed: there is no such setting"),
        (("digits", "--vary", "beta1"), "--vary beta1: name its values"),
        (("digits", "--vary", "loss", "hinge", "huge"), "--loss"),
        (("digits", "--vary", "beta1", "2"), "--beta1 must be at least 0 and below 1, not 2.0"),
        (("digits", "--vary", "beta1", "much"), "--beta1"),
        (("digits", "--vary", "mirror", "1"), "--vary mirror: it is True or False"),
        (("digits", "--vary", "beta1", "0.5", "0.50"), "--vary beta1: 0.50 is there twice"),
        (("digits", *rates, *rates), "--vary gen_learning_rate is there twice"),
        (("digits", *rates, "--gen-learning-rate", "1e-3"), "--gen-learning-rate are both there"),
        (("digits", "--vary", "mirror", "True", "--no-mirror"), "--mirror are both there"),
        (("digits", "--vary", "data", "mnist"), "--vary data: scores against other real images"),
        (("digits_conditional", *rates), "--gen-learning-rate: in digits_conditional it is a schedule"),
        (("digits", "--vary", "loss", "hinge", "--vary", "real_label", "0.9"), "--real-label belongs to --loss"),
        (("digits", *rates, "--seeds", "0"), "--seeds"),
        (("digits", *rates, "--together"), "--together"),
        (("digits", *rates, "--seeds", "2", "--together", "--devices", "2"), "--together is for one device"),
        (("digits", *rates, "--seeds", "2", "--together", "--stream"), "--together is for data in memory"),
        (("digits", *rates, "--order-by", "modes", "high"), "--order-by must be a name, and min or max after it"),
        (("digits", *rates, "--runs", ""), "--runs"),
        (("digits", *rates, "--json", "x.txt"), "--json"),
        (("digits", "--vary", "batch_size", "32", "33", "--devices", "2"), "--batch-size 33 cannot be split evenly"),
    ):
        assert named in refused(sweep.main, *args), args
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(RecipeError, match="has no effect"):
        grid("--vary", "instance_noise_decay", "0.9")


def test_the_command_prints_the_table(finished, tmp_path, called, monkeypatch, capfd):
    monkeypatch.setattr(sweep, "keep_programs", lambda: None)
    folder = shutil.copytree(finished, tmp_path / "copy")
    flags = ("tf2_gan", "--data", "digits", "--batch-size", 16, "--steps", 4, "--evaluate-every", 4, "--devices", 1)
    called(sweep.main, *flags, "--vary", "beta1", 0.5, 0, "--seeds", 2, "--runs", folder, "--json", folder / "too.json")
    out, err = capfd.readouterr()
    assert err == ""
    assert sweep_results.table(written(finished)) in out
    assert written(folder, "too.json") == written(finished)


@pytest.mark.slow
def test_seeds_in_one_program_are_the_runs_that_they_are_alone_to_rounding(tmp_path):
    """One goes on from the step where it was killed, one begins: it is taken there first, and both to the end."""
    run(SMALL.replace(steps=2), tmp_path / "0", 0, OPTIONS)
    assert run_together(SMALL, {seed: tmp_path / str(seed) for seed in (0, 1)}, OPTIONS) == {}
    for seed in (0, 1):
        want = run(SMALL, tmp_path / "alone" / str(seed), seed, OPTIONS)
        there, here = tmp_path / "alone" / str(seed), tmp_path / str(seed)
        assert written(here, "config.json") == written(there, "config.json")
        found = written(here, "summary.json")
        assert found.pop("trained_together") == 2
        assert found.keys() == want.keys()
        assert found["steps_resumed_from"] == (0 if seed else 2)
        for kind in ("checkpoints", "samples"):
            names = [{path.name for path in (folder / kind).iterdir()} for folder in (here, there)]
            assert names[0] - {"000002.png"} == names[1]  # which ended the shorter run
        for a, b in zip(metrics_of(here), metrics_of(there), strict=True):
            assert (a["step"], a.keys()) == (b["step"], b.keys())
            np.testing.assert_allclose(a["loss_disc"], b["loss_disc"], rtol=1e-4)
        states = [loops.checkpoint.read(folder / "checkpoints", initial(seed)) for folder in (here, there)]
        for a, b in zip(*(jax.tree.leaves(state.averaged_gen) for state in states), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)


def initial(seed):
    return jaxgan.init(SMALL.build(), jax.random.key(seed))


@pytest.mark.slow
def test_in_one_program_a_seed_that_diverges_ends_alone_and_all_that_are_stopped_are_saved(tmp_path, monkeypatch):
    def diverge(snapshot):
        if snapshot.workdir.name == "1":
            raise FloatingPointError("mine")

    lost = SMALL.replace(events=(Event("lost", 2, diverge),))
    workdirs = {seed: tmp_path / str(seed) for seed in (0, 1, 2)}
    assert run_together(lost, workdirs, OPTIONS) == {1: "mine"}
    assert [(workdir / "summary.json").exists() for workdir in workdirs.values()] == [True, False, True]

    @loops.contextlib.contextmanager
    def at_once():
        yield lambda turn: True

    monkeypatch.setattr(loops, "stop_signals", at_once)
    workdirs = {seed: tmp_path / "stopped" / str(seed) for seed in (0, 1)}
    with pytest.raises(Stopped, match="stopped at step 1 of 4"):
        run_together(SMALL, workdirs, OPTIONS)
    assert [[p.name for p in (workdir / "checkpoints").iterdir()] for workdir in workdirs.values()] == [["1"], ["1"]]
