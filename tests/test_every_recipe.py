"""Recipes of each kind by their command, two steps long: on their own data, and with the other update on the digits.

That every recipe has a step is tested by shapes in `test_recipes`.
"""

import functools
import json
import math
from pathlib import Path

import pytest
from small_data import opened
from small_run import few_subsets

from jaxgan import data, recipes
from jaxgan.commands import scorer, train
from jaxgan.gan import image_shape
from jaxgan.run.metrics import UNIT

pytestmark = pytest.mark.usefixtures("quick_programs")

TFDS = Path(__file__).parents[2] / "shared/data/tfds"
FLAGS = ("--training-ratio", 2, "--optimizer", "rmsprop", "--beta1", 0, "--clip", 0.5, "--gen-time-decay", 0.1)
OTHERS = {"tf2_gan": FLAGS, "digits_conditional": ()}
OTHER = {"shared": "alternating", "alternating": "shared"}


@pytest.fixture(scope="module", autouse=True)
def each_dataset_is_loaded_once():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data, "load", functools.cache(data.load))
        yield


@pytest.fixture
def run(called, tmp_path):
    """`python -m experiments.train NAME --steps 2 …`, in this process; its config.json and summary.json."""

    def call(name, *flags):
        quick = ["--steps", 2, "--batch-size", 8, "--log-every", 1, "--evaluate-every", 0, "--devices", 1]
        called(train.main, name, *quick, "--workdir", tmp_path, *flags)
        lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
        assert [line["step"] for line in lines] == [1, 2]
        assert all(math.isfinite(value) for line in lines for name, value in line.items() if name != UNIT)
        config, summary = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("config", "summary"))
        assert summary["step"] == 2
        assert min(opened(tmp_path / "samples" / "000002.png").size) > 400
        return config, summary

    return call


@pytest.mark.slow
@pytest.mark.parametrize("name", OTHERS)
def test_on_the_embedded_digits(name, run):
    update = OTHER[recipes.get(name).update]
    config, _ = run(name, "--data", "digits", "--update", update, *OTHERS[name])
    assert (config["recipe"], config["data"], config["update"]) == (name, "digits", update)
    assert (config["training_ratio"], config["clip"]) == ((2, 0.5) if name == "tf2_gan" else (1, None))


@pytest.mark.nightly
@pytest.mark.skipif(not TFDS.is_dir(), reason=f"no prepared TensorFlow datasets in {TFDS}")
def test_on_its_own_data(run, monkeypatch):
    """Of their test split, since fewer images are read and scored in less time."""
    monkeypatch.setattr(scorer, "COUNT", 1_000)
    few_subsets(monkeypatch)
    config, summary = run("tf2_gan", "--data-dir", TFDS, "--split", "test", "--evaluate-every", 1000)
    assert (config["data"], config["update"]) == ("mnist", "shared")
    assert summary["final"]["features"]["name"] == "mnist"
    found, least = summary["final"]["scores"], summary["final"]["floor"]
    assert found["frechet_distance"] > 10 * least["frechet_distance"]


@pytest.mark.slow
@pytest.mark.skipif(not TFDS.is_dir(), reason=f"no prepared TensorFlow datasets in {TFDS}")
def test_the_data_of_canton_lsgan_are_of_the_size_of_its_images():
    recipe = recipes.get("canton_lsgan").replace(split="test")
    assert recipe.load_data(str(TFDS)).images.shape[1:] == image_shape(recipe.build())
