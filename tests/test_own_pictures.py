"""A newcomer's own pictures, in folders that are classes: their number and their names, from training to samples."""

import json
import shutil
import sys

import numpy as np
import pytest
from small_data import folder_of, opened

from jaxgan import recipes
from jaxgan.commands import sample, train
from jaxgan.run import processes

pytestmark = pytest.mark.usefixtures("quick_programs")

QUICK = ("--batch-size", "8", "--evaluate-every", "0", "--devices", "1")
NAMES = sorted(map(str, range(1, 21)))  # 1, 10, 11, …: as folders are ordered


@pytest.fixture(scope="module", autouse=True)
def in_this_process():
    """Scripts are called in this process, as they take long to start."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os._exit", sys.exit)
        patch.setattr(processes, "join", lambda **_: None)
        yield


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Twenty classes, an image of each: of its own shade."""
    path = tmp_path_factory.mktemp("pictures")
    return folder_of(path, {f"{name}/1.png": np.full((9, 9), 10 * int(name), np.uint8) for name in NAMES})


@pytest.fixture(scope="module")
def begun(pictures, tmp_path_factory):
    """The folder of a run of two steps on them."""
    workdir = tmp_path_factory.mktemp("begun") / "run"
    train.main(["--data", pictures, "--steps", "2", "--workdir", str(workdir), *QUICK])
    return workdir


def config_of(workdir):
    return json.loads((workdir / "config.json").read_text())


def refused(script, args, capfd):
    capfd.readouterr()
    with pytest.raises(SystemExit) as end:
        script.main([str(arg) for arg in args])
    assert end.value.code == 2
    (line,) = capfd.readouterr().err.splitlines()
    return line


def test_classes_follow_the_data_and_the_run_says_what_they_are(begun, pictures, tmp_path, capfd):
    config = config_of(begun)
    assert config["classes"] == 20
    assert (config["gen"], config["disc"]) == tuple(
        f"jaxgan.networks.digits:DenseDigits{net}(classes=20)" for net in ("Gen", "Disc")
    )
    assert config["class_names"] == NAMES
    restored = recipes.of_run(begun)
    assert (restored.classes, restored.gen.classes, restored.disc.classes) == (20, 20, 20)
    grid = opened(begun / "samples" / "000002.png")
    assert grid.width > grid.height * 8 / 16  # the names stand beside 16 rows of 8
    shutil.copytree(begun, tmp_path / "run")
    train.main(["--data", pictures, "--steps", "3", "--workdir", str(tmp_path / "run"), *QUICK])
    out = capfd.readouterr().out
    assert "note: sample grids show the first 16 of 20 classes" in out
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["steps_resumed_from"] == 2
    assert config_of(tmp_path / "run") == config


def test_samples_are_of_all_classes_and_each_is_known_by_its_name(begun, tmp_path, capfd, monkeypatch):
    npz = tmp_path / "samples.npz"
    sample.main([str(begun), "--npz", str(npz)])
    found = np.load(npz)
    assert found["labels"].tolist() == np.repeat(np.arange(20), 8).tolist()
    assert found["class_names"].tolist() == NAMES
    assert "note" not in capfd.readouterr().out
    monkeypatch.setattr(sample, "ROWS", 5)
    sample.main([str(begun), "--npz", str(npz)])
    assert np.load(npz)["labels"].tolist() == np.repeat(np.arange(5), 8).tolist()
    assert "note: a row of each of the first 5 of 20 classes; --count N draws any" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("label", "number", "said"),
    [
        ("3", 3, "note: class 3 is named 12; the one named 3 is --label 13\n4 images of class 3, 12: "),
        ("20", 12, "4 images of class 12, 20: "),  # no number of a class
        ("0", 0, "4 images of class 0, 1: "),  # no name of a class
        *[(label, None, None) for label in ("21", "-1", "cat", "")],
    ],
)
def test_a_class_is_asked_for_by_its_number_or_else_by_its_name(begun, tmp_path, capfd, label, number, said):
    args = [str(begun), "--label", label, "--count", "4", "--npz", str(tmp_path / "samples.npz")]
    if said:
        sample.main(args)
        assert np.load(tmp_path / "samples.npz")["labels"].tolist() == [number] * 4
        assert capfd.readouterr().out == f"{said}{tmp_path}/samples.npz\n"
    else:
        names = "1, 10, 11, 12, 13, 14, 15, 16, 17, 18, …"
        assert f"--label must be from 0 to 19, or a name: {names}; not {label!r}" in refused(sample, args, capfd)


def test_a_run_begun_before_there_were_names_goes_on_without_them(begun, pictures, tmp_path, capfd):
    workdir, npz = tmp_path / "run", tmp_path / "samples.npz"
    shutil.copytree(begun, workdir)
    before = {name: value for name, value in config_of(workdir).items() if name != "class_names"}
    (workdir / "config.json").write_text(json.dumps(before))
    train.main(["--data", pictures, "--steps", "3", "--workdir", str(workdir), *QUICK])
    assert config_of(workdir) == before
    widths = [opened(workdir / "samples" / f"00000{step}.png").width for step in (0, 3)]
    assert widths[1] < widths[0]  # the first was drawn with names
    capfd.readouterr()
    sample.main([str(workdir), "--label", "12", "--count", "4", "--npz", str(npz)])
    assert capfd.readouterr().out == f"4 images of class 12: {npz}\n"
    assert "class_names" not in np.load(npz)
    assert refused(sample, [workdir, "--label", "cat"], capfd) == "error: --label must be from 0 to 19; not 'cat'"


@pytest.mark.parametrize(
    ("recipe", "nearest"),
    [("digits_conditional", "digits"), ("r3gan_small_conditional", "r3gan_small")],
)
def test_pictures_without_classes_are_told_what_takes_them(recipe, nearest, tmp_path, capfd):
    name = folder_of(tmp_path / "my pictures", {f"{i}.png": np.full((9, 9), i, np.uint8) for i in range(3)})
    line = refused(train, [recipe, "--data", name, "--workdir", tmp_path / "run"], capfd)
    assert line.startswith(f"error: {name} has no labels (its images do not lie in folders; make one in it for each")
    assert f"and {recipe} has 10 classes; a recipe without takes them: python -m experiments.train {nearest} " in line
    assert f"--data '{name}' (without classes are digits, " in line
    assert not (tmp_path / "run").exists()


def test_networks_that_cannot_have_other_classes_are_named(pictures, tmp_path, capfd):
    file = tmp_path / "mine.py"
    file.write_text(
        "import flax.linen as nn\n"
        "from experiments import recipes\n"
        "class Mine(nn.Module):\n"
        "    @nn.compact\n"
        "    def __call__(self, z, labels, context):\n"
        "        return nn.tanh(nn.Dense(64)(z + nn.Embed(10, 64)(labels))).reshape(-1, 8, 8, 1)\n"
        "RECIPE = recipes.get('digits_conditional').replace(gen=Mine())\n"
    )
    line = refused(train, [file, "--data", pictures, "--workdir", tmp_path / "run"], capfd)
    assert f"{pictures} has 20 classes: gen, " in line
    assert ":Mine, is for 10 classes and cannot be made for 20: " in line
    assert "it has no attribute named classes" in line
    assert not (tmp_path / "run").exists()
