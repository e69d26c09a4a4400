"""Paired data are scored by their targets: held-out ones, each once, during training, at the end and by `evaluate`."""

import json

import flax.linen as nn
import numpy as np
import pytest
from small_run import few_subsets, metrics_of

import jaxgan
from jaxgan import Losses, data, evaluation, recipes
from jaxgan.commands import evaluate, scored_run, scoring, seed_statistics
from jaxgan.commands.page import tables
from jaxgan.commands.scored_run import Scored
from jaxgan.data import Dataset
from jaxgan.evaluation import Features
from jaxgan.images import save_png
from jaxgan.run import Options, RunError, checkpoint
from jaxgan.run.numerics import root_key

OPTIONS = Options(devices=1, log_every=2, sample_every=100)
UNITS = {"others": (("condition", (8, 8, 1)),), "condition": "condition", "z_size": 1, "image_range": (-1.0, 1.0)}


class Paint(nn.Module):
    """Grey [B, 8, 8, 1] -> colour [B, 8, 8, 3]."""

    @nn.compact
    def __call__(self, z, condition, context):
        return nn.tanh(nn.Dense(3)(condition))


class OfBoth(nn.Module):
    @nn.compact
    def __call__(self, images, condition, context):
        return (
            nn.Dense(1)(images.reshape(len(images), -1))[:, 0] + nn.Dense(1)(condition.reshape(len(images), -1))[:, 0]
        )


def recipe(pairs, **changes):
    made = recipes.get("tf2_gan").replace(gen=Paint(), disc=OfBoth(), data=pairs, batch_size=4, steps=4, **UNITS)
    return made.replace(**changes)


def coloured(count):
    """Random colours, uint8 [count, 8, 8, 3], and in grey their means."""
    colours = np.random.default_rng(0).integers(0, 256, (count, 1, 1, 3)) + np.zeros((1, 8, 8, 1), int)
    return colours.astype(np.uint8), colours.mean(-1, keepdims=True).astype(np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """30 pairs, of which 3 are held out."""
    found = tmp_path_factory.mktemp("pairs")
    for kind, images in zip(("b", "a"), coloured(30), strict=True):
        (found / kind).mkdir()
        for i, image in enumerate(images):
            save_png(found / kind / f"{i:02d}.png", image)
    return found


def by_hand(images, targets):
    """The mean over images of both scores, a value at a time."""
    l1, psnr = [], []
    for image, target in zip(images.tolist(), targets.tolist(), strict=True):
        differences = [abs(x - y) for x, y in zip(np.ravel(image), np.ravel(target), strict=True)]
        l1.append(sum(differences) / len(differences) / 255)
        psnr.append(20 * np.log10(255) - 10 * np.log10(sum(d**2 for d in differences) / len(differences)))
    return {"l1": pytest.approx(np.mean(l1), rel=1e-12), "psnr": pytest.approx(np.mean(psnr), rel=1e-12)}


def test_the_distances_are_those_by_hand():
    images, targets = np.random.default_rng(0).integers(0, 256, (2, 5, 4, 3, 2), np.uint8)
    assert evaluation.paired(images, targets) == by_hand(images, targets)
    # All off by 5: L1 5 / 255, MSE 25. An exact copy is as one value off by 1, and no infinity.
    off = evaluation.paired(targets // 2, targets // 2 + 5)
    assert off == {"l1": pytest.approx(5 / 255), "psnr": pytest.approx(34.1514, abs=1e-4)}
    assert evaluation.paired(images, images) == {"l1": 0, "psnr": pytest.approx(10 * np.log10(255**2 * 24))}
    assert evaluation.paired(images / 2, images / 2 + 3) == {"l1": pytest.approx(3)}
    for wrong in (targets[:2], targets.astype(float)):
        with pytest.raises(ValueError, match="must be alike"):
            evaluation.paired(images, wrong)


@pytest.mark.slow
def test_a_run_of_few_pairs_is_scored_by_its_held_out_targets_alone(folder, tmp_path, monkeypatch, capfd, refused):
    small, reads = recipe(f"pairs:{folder}"), []
    held_out = type(small).held_out
    monkeypatch.setattr(type(small), "held_out", lambda *args: reads.append(args[1:]) or held_out(*args))
    summary = scored_run.run_scored(small, tmp_path / "w", 0, OPTIONS, scored=Scored(2))
    said = capfd.readouterr()
    assert said.err.count("scored by targets alone") == 1
    assert "3 images (test) are too few to compare samples with" in said.err
    assert reads == [(16, None), (3, None), (3, None)]  # for the grids, for all scores during training, and at the end
    gan, test = (
        small.build(),
        data.load(f"pairs:{folder}", image_shape=(8, 8, 3), split="test", others=dict(small.others)),
    )
    state = checkpoint.read(tmp_path / "w" / "checkpoints", jaxgan.init(gan, root_key(0)))
    images = jaxgan.sample(gan, state, root_key(0), 3, labels=test.others["condition"])
    assert summary["final"]["scores"] == by_hand(np.asarray(images), test.images)
    assert {m["step"] for m in metrics_of(tmp_path / "w") if m.keys() >= {"l1", "psnr", "scored_by"}} == {2, 4}
    monkeypatch.setattr(recipes, "of_run", lambda *_: small)
    evaluate.main([str(tmp_path / "w"), "--json", str(tmp_path / "x.json")])
    found = json.loads((tmp_path / "x.json").read_text())
    assert found["scores"] == summary["final"]["scores"]
    assert scoring.differences(found, summary["final"]) == []
    out = [line.split() for line in capfd.readouterr().out.splitlines()]
    assert ["psnr", f"{found['scores']['psnr']:.4g}", "-", "higher", "is", "better,", "in", "dB"] in out
    table = seed_statistics.table("final", seed_statistics.over_seeds({0: found}))
    assert "features none; there is no floor" in table
    assert (tmp_path / "w" / "scores.png").exists()
    assert [tables.title(name) for name in ("l1", "psnr")] == ["L1", "PSNR (dB)"]
    assert tables.measured(found).endswith("features none")
    capfd.readouterr()
    said = refused(evaluate.main, tmp_path / "w", "--nearest", tmp_path / "x.png")
    assert "x.png goes by features, and there are none: pairs:" in said
    assert scored_run.run_scored(small, tmp_path / "w", 0, OPTIONS, scored=Scored(2)) == summary
    assert "scoring" not in capfd.readouterr().out


def test_many_pairs_are_compared_by_features_besides_and_each_target_counts_once(monkeypatch):
    few_subsets(monkeypatch)
    images, grey = coloured(250)
    features = Features("mine", "", lambda x: x.reshape(len(x), -1)[:, ::9], kept=False)
    by = scoring.Scorer(recipe(lambda: Dataset("mine", images, others={"condition": grey})), features)
    given = by.conditions.given(300)
    assert given.images.shape == (300, 8, 8, 3)
    made = np.repeat(grey, 3, axis=3)
    found = by.score(np.concatenate([made, 255 - made[:50]]))  # 250 targets: what comes after is not compared
    assert {name: found[name] for name in ("l1", "psnr")} == by_hand(made, images)
    assert found.keys() > {"frechet_distance", "precision", "l1"}
    assert not {"l1", "psnr"} & by.floor(100).keys()
    unpaired = recipe(lambda: Dataset("two", images, unpaired={"condition": Dataset("other", grey)}))
    assert scoring.scorer(unpaired).conditions.distances(images) == {}


def test_conditions_of_held_out_data_come_from_the_same_place_as_the_images(monkeypatch):
    """--data-dir says where TensorFlow Datasets keeps its data; also that of the conditions."""
    asked = []
    images, grey = coloured(4)
    small = recipe(lambda: Dataset("mine", images, others={"condition": grey}))
    opened = type(small).open_data
    monkeypatch.setattr(type(small), "open_data", lambda self, where=None: asked.append(where) or opened(self))
    by = scoring.scorer(small, "elsewhere")
    by.conditions.distances(images)
    assert set(asked) == {"elsewhere"}


def test_a_metric_of_a_scores_name_is_refused_at_the_first_turn(tmp_path):
    def game(p):
        fake = p.gen(p.z, p.labels)
        gen, disc = -p.disc(fake, p.labels).mean(), p.disc(p.images, p.labels).mean()
        return Losses(gen, disc, {"l1": abs(fake - p.images).mean()})

    images, grey = coloured(8)
    small = recipe(lambda: Dataset("mine", images, others={"condition": grey}), game=game)
    with pytest.raises(RunError, match="the metric 'l1' has the name of what event 'evaluate' finds; give it another"):
        scored_run.run_scored(small, tmp_path / "w", 0, OPTIONS, scored=Scored(2))
    assert not list((tmp_path / "w" / "checkpoints").iterdir())
    scored_run.run_scored(small, tmp_path / "w", 0, OPTIONS, scored=Scored(0))
