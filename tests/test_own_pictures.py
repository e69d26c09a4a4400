"""A newcomer's own pictures, in folders that are classes: their number and their names, from training to samples."""

import json
import shutil
import sys

import numpy as np
import pytest
from small_data import folder_of, opened

from jaxgan import recipes
from jaxgan.augmentation import Augment
from jaxgan.commands import sample, train
from jaxgan.data import DataError
from jaxgan.gan import image_shape
from jaxgan.penalties import R1, R2
from jaxgan.recipes.settings import taken_apart
from jaxgan.run import processes
from jaxgan.schedules import Cosine

pytestmark = pytest.mark.usefixtures("quick_programs")

QUICK = ("--batch-size", "8", "--evaluate-every", "0", "--devices", "1")
NAMES = sorted(map(str, range(1, 21)))  # 1, 10, 11, …: as folders are ordered
RGB, RGBA = (np.random.default_rng(0).integers(0, 256, shape, np.uint8) for shape in ((32, 48, 3), (40, 40, 4)))


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
    out, err = capfd.readouterr()
    assert not out  # an error comes alone
    (line,) = err.splitlines()
    return line


@pytest.mark.slow
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


def test_pictures_without_classes_are_told_what_takes_them(tmp_path, capfd):
    name = folder_of(tmp_path / "my pictures", {f"{i}.png": np.full((9, 9), i, np.uint8) for i in range(3)})
    line = refused(train, ["--data", name, "--workdir", tmp_path / "run"], capfd)
    assert line.startswith(f"error: {name} has no labels (its images do not lie in folders; make one in it for each")
    takes = f"a recipe for any pictures takes them: python -m experiments.train pictures --data '{name}'"
    assert line.endswith(f"and digits_conditional has 10 classes; {takes}")
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


KINDS = {  # what a folder holds, each by its flags: what is chosen, (size, channels, classes), or what is said
    "grey, of several sizes": (
        {f"{i}.png": np.full((40 + i, 50), 9 * i, np.uint8) for i in range(5)},
        (),
        ("32", 1, 0),
    ),
    "colours among grey": ({"a/1.png": RGB, "b/2.png": np.zeros((20, 33), np.uint8)}, (), ("16", 3, 2)),
    "transparent": ({"1.png": RGBA, "2.png": RGBA}, (), ("32", 3, 0)),
    "with their alpha": ({"1.png": RGBA, "2.png": RGBA}, ("--channels", 4), ("32", 4, 0)),
    "not square": ({"1.png": RGBA}, ("--size", "24x36"), ("24x36", 3, 0)),
    "too small": ({"1.png": np.zeros((9, 90), np.uint8)}, (), "median of its pictures' shorter sides is 9, below 16"),
    "smaller than asked": ({"1.png": RGBA}, ("--size", 64), "--size 64: the median of the shorter sides of folder:"),
    "a size that none has": ({"1.png": RGBA}, ("--size", 50), "multiples of 8, such as 48"),
    "no size": ({"1.png": RGBA}, ("--size", "big"), "--size must be one number, or HEIGHTxWIDTH, such as 64 or 48x64"),
    "no picture": ({"1.png": RGBA, "2.txt": None}, (), "2.txt is not an image that can be read; remove or mend it"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_networks_follow_the_pictures(tmp_path, capfd, kind):
    pictures, flags, expected = KINDS[kind]
    name = folder_of(tmp_path / "in", {file: image for file, image in pictures.items() if image is not None})
    for file in [file for file, image in pictures.items() if image is None]:
        (tmp_path / "in" / file).write_text("no picture")
    words = ["pictures", "--data", name, *map(str, flags)]
    if isinstance(expected, str):
        line = refused(train, [*words, "--workdir", tmp_path / "run"], capfd)
        assert expected in line
        assert not (tmp_path / "run").exists()
        return
    chosen = train.read_flags(train.Train, "experiments.train", words)[2]
    recipe = train.for_data(chosen, recipes.get("pictures"), None, train.given(words))
    assert (recipe.size, recipe.channels, recipe.classes) == expected
    (height, width), stages = recipe.networks.sizes()
    gan = recipe.build()
    assert image_shape(gan) == (height << stages - 1, width << stages - 1, recipe.channels)
    assert gan.gen.widths == gan.disc.widths == (128, 64, 32, 16, 16, 16, 16)[:stages]
    assert len(recipe.found) == 2
    assert name in recipe.found[0]
    assert not capfd.readouterr().out  # before a run begins
    assert recipe.with_config(json.loads(json.dumps(recipe.config()))) == recipe  # as a run reads it again
    assert taken_apart(recipes.get("pictures").with_config(recipe.config()).build()) == taken_apart(gan)


@pytest.mark.nightly
def test_a_run_begins_with_what_was_found_and_one_that_is_refused_says_why_alone(tmp_path, capfd):
    name = folder_of(tmp_path / "in", {f"{i}.png": RGB for i in range(3)})
    args = ["pictures", "--data", name, "--size", "8", "--width", "16", "--batch-size", "2", "--steps", "1", *QUICK[2:]]
    train.main([*args, "--workdir", str(tmp_path / "run")])
    lines = capfd.readouterr().out.splitlines()
    assert lines[0] == f"{name}: 3 pictures, no classes, the median of their shorter sides 32 pixels"
    assert lines[1].startswith(
        "pictures: 8x8 pixels, RGB, width 16, gamma 0.0039, learning rates 0.001 and 0.001, augment"
    )
    assert lines[2].startswith(f"{name}: 3 images of 8x8x3")
    line = refused(train, [*args, "--seed", "1", "--workdir", tmp_path / "run"], capfd)
    assert "holds another run (seed is 0 there, 1 here)" in line


def test_a_file_of_ones_own_may_name_its_pictures_and_pictures_alone_may_not_be_guessed(tmp_path):
    usual = recipes.get("pictures")
    with pytest.raises(DataError, match="pictures is for pictures of your own; say where they are: `data` folder:PATH"):
        train.for_data(usual, usual, None, ())
    mine = usual.replace(data=folder_of(tmp_path / "in", {"1.png": RGB}))
    assert train.for_data(mine, mine, None, ()).size == "32"


def test_what_is_said_stays_and_the_rest_follows_the_rules(tmp_path):
    name = folder_of(tmp_path / "in", {f"{i}.png": RGB for i in range(3)})
    words = ["pictures", "--data", name, "--width", "640", "--batch-size", "16", "--augment", "0", "--gamma=0.1"]
    chosen = train.read_flags(train.Train, "experiments.train", words)[2]
    recipe = train.for_data(chosen, recipes.get("pictures"), None, train.given(words))
    assert recipe.gamma == 0.1
    assert recipe.augment == 0
    assert recipe.gen_learning_rate == recipe.disc_learning_rate == 0.0002  # 0.128 / 640
    unsaid = train.for_data(chosen, recipes.get("pictures"), None, {"width"})
    (augment,) = unsaid.build().transforms
    np.testing.assert_allclose([augment.p(step) for step in (0, 5_000, 20_000)], [0, 0.15, 0.3], atol=1e-6)
    said = [*words[:3], "--augment-ramp", "0"]
    at_once = train.for_data(
        train.read_flags(train.Train, "", said)[2], recipes.get("pictures"), None, train.given(said)
    )
    assert at_once.build().transforms == (Augment(0.3),)
    assert recipe.augment_ramp == 0, "where nothing is augmented"
    with pytest.raises(ValueError, match="`augment_ramp` belongs to an `augment` that is a number, not a schedule"):
        unsaid.replace(augment=augment.p)
    assert (unsaid.gamma, unsaid.augment) == (0.25, 0.3)  # 2 * (32 / 64)^3
    assert unsaid.build().penalties == (R1(0.25), R2(0.25))
    assert unsaid.build().transforms == (Augment(Cosine(0.0, 0.3, 10_000)),)


def test_other_recipes_have_their_own_size(tmp_path, capfd):
    line = refused(train, ["keras_dcgan", "--size", "64", "--workdir", tmp_path / "run"], capfd)
    assert line == (
        "error: --size, --channels and --width are of the recipe pictures; the networks of keras_dcgan have their own"
    )


def test_a_folder_of_train_and_test_has_splits(tmp_path):
    of_all = {f"{split}/{name}/1.png": RGB for split in ("train", "test") for name in "ab"}
    recipe = recipes.get("keras_dcgan").replace(data=folder_of(tmp_path / "in", of_all | {"train/a/2.png": RGB}))
    assert recipe.keeps_apart()
    assert [recipe.replace(split=split).open_data().size for split in ("train", "test")] == [3, 2]
    with pytest.raises(DataError, match=r"`split` val: .* holds the folders train and test; name one of them"):
        recipe.replace(split="val").open_data()
    (tmp_path / "in" / "test" / "b" / "1.png").rename(tmp_path / "in" / "test" / "a" / "3.png")
    with pytest.raises(DataError, match="train and test hold folders of different names"):
        recipe.open_data()
