"""The ideas of docs/extending.md as they stand there: each a file of the user's own, trained and resumed.

No file of the package is touched. The files lie in a folder of their own, outside the package.
"""

import functools
import json
import re
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from common import at_night, real_batch
from small_data import opened

import jaxgan
from jaxgan import recipes
from jaxgan.commands import evaluate, sample, train
from jaxgan.data import load
from jaxgan.run import WorkdirError
from jaxgan.run.prepare import config_of
from jaxgan.run.workdir import check

pytestmark = pytest.mark.usefixtures("quick_programs")

ROOT = Path(__file__).parents[1]
PAGES = [(ROOT / "docs" / f"{page}.md").read_text() for page in ("extending", "games")]
IDEAS = dict(re.findall(r"```python\n# (\w+\.py)\n(.*?)```", "\n".join(PAGES), flags=re.DOTALL))
# A loss, networks, data, an event, and a memory; those of docs/games.md have their updates in `test_games`.
RESUMED = ("relativistic.py", "my_networks.py", "from_numpy.py", "brightness.py", "ada.py")
TRAINED = (*RESUMED, "by_class.py", "optimisers.py")
QUICK = ["--batch-size", "8", "--log-every", "5", "--sample-every", "10", "--devices", "1", "--evaluate-every", "0"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """All files of the page beside one another, and the images that one of them reads; the current folder."""
    for name, text in IDEAS.items():
        (tmp_path / name).write_text(text)
    np.save(tmp_path / "squares.npy", load("digits").images[:100])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("recipe_file@")]:
        del sys.modules[name]
    sys.modules.pop("my_networks", None)


def test_the_page_has_them_all_and_they_are_short():
    kinds = "hinge relativistic r1 wgan_gp my_networks info shift from_numpy by_class brightness followed optimisers"
    kinds += " encoder path_length ada lecam packing vae_gan extragradient consensus lookahead"
    assert {f"{name}.py" for name in kinds.split()} == set(IDEAS)
    for name, text in IDEAS.items():  # without blank lines, docstrings and comments
        lines = [line for line in text.splitlines() if line.strip() and not line.strip().startswith(("#", '"""'))]
        assert len(lines) <= (16 if name in PAGES[0] else 32), name


@pytest.mark.slow
@pytest.mark.parametrize("name", [*TRAINED[:1], *at_night(TRAINED[1:])])
def test_an_idea_trains_and_resumes(folder, called, name):
    workdir = folder / "run"
    command = [name, "--workdir", workdir, *QUICK]
    if name in RESUMED:
        called(train.main, *command, "--steps", 5)
    called(train.main, *command, "--steps", 10)
    summary = json.loads((workdir / "summary.json").read_text())
    assert (summary["step"], summary["steps_resumed_from"]) == (10, 5 if name in RESUMED else 0)
    metrics = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert [m["step"] for m in metrics] == [1, 5, 10]
    assert all(np.isfinite(value) for m in metrics for value in m.values())
    npz = folder / "samples.npz"
    called(sample.main, workdir, "--recipe", name, "--count", 5, "--npz", npz)
    drawn = np.load(npz)
    assert drawn["images"].shape == (5, 8, 8, 1)
    if name == "by_class.py":
        assert drawn["labels"].shape == (5,)
        called(sample.main, workdir, "--recipe", name, "--label", 3, "--count", 2, "--npz", npz)
        assert np.load(npz)["labels"].tolist() == [3, 3]
    if name == "brightness.py":
        assert ["brightness" in m for m in metrics] == [False, True, True]


@pytest.mark.parametrize("name", IDEAS)
def test_a_config_says_which_idea_it_was(folder, name):
    recipe = recipes.get(name)
    assert recipe.with_config(json.loads(json.dumps(recipe.config(), allow_nan=False))) == recipe


@pytest.mark.slow
@pytest.mark.parametrize("name", re.findall(r"```python\n# (\w+\.py)\n", PAGES[0]))
def test_an_idea_has_a_step(folder, name):
    """By its shapes, none of which it changes."""
    gan = recipes.get(name).build()
    state = jax.eval_shape(lambda: jaxgan.init(gan, jax.random.key(0)))
    batch = jax.eval_shape(lambda: real_batch(gan, 8 * gan.training_ratio))
    after, metrics = jax.eval_shape(functools.partial(jaxgan.train_step, gan), state, batch)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), after) == jax.tree.map(lambda x: (x.shape, x.dtype), state)
    assert all(value.shape == () for value in metrics.values())


@pytest.mark.slow
def test_by_the_command_itself_in_a_folder_that_has_its_own_experiments(folder):
    (folder / "experiments").mkdir()
    (folder / "experiments" / "__init__.py").write_text("")
    program = f"import sys; sys.path[0] = {str(ROOT)!r}; from jaxgan.commands import main; main()"
    command = [sys.executable, "-c", program, "train", "hinge.py", "--workdir", "run", *QUICK, "--steps", "5"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert json.loads((folder / "run" / "summary.json").read_text())["step"] == 5


BROKEN = {
    "while it is read": ("hinge.py", "import jax.numpy as jnp", "import jax.numpy as jnq", 7, "NameError"),
    "a slip of the pen": ("hinge.py", "return -jnp.mean(fake)", "return -jnp.mean(fake", 7, "SyntaxError"),
    "while it is traced": ("hinge.py", "-jnp.mean(fake)", "-jnp.mean(fake @ real[:3])", 7, "TypeError"),
    "in an event": ("brightness.py", "np.mean(images)", "images['mean']", 9, ""),
    "in the data": ("from_numpy.py", "squares.npy", "circles.npy", 7, "FileNotFoundError"),
}


@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=[pytest.mark.slow] if case == "in an event" else []) for case in BROKEN]
)
def test_an_error_in_the_file_is_one_line_with_its_place(folder, called, refused, capfd, case):
    name, right, wrong, line, kind = BROKEN[case]
    (folder / name).write_text(IDEAS[name].replace(right, wrong, 1))
    err = refused(train.main, name, "--workdir", folder / "run", *QUICK, "--steps", 10)
    assert f"{name}, line {line}: {kind}" in err, err
    assert "--traceback" in err
    with pytest.raises(SystemExit):  # where an event raises, the state was saved, and the run could go on
        called(train.main, name, "--workdir", folder / "again", *QUICK, "--steps", 10, "--traceback")
    err = capfd.readouterr().err
    assert "Traceback (most recent call last)" in err
    assert f"{name}, line {line}: {kind}" in err.splitlines()[-1]


SLIPS = [
    (
        "hinge.py",
        "-jnp.mean(fake)",
        "-fake",
        ["in a run of ", "hinge.py: ValueError: loss.gen must give a scalar"],
    ),
    ("hinge.py", "loss=", "losses=", ["hinge.py, line 14: ", "a recipe has no losses; it has "]),
    (
        "hinge.py",
        "loss=of_logits(gen, disc)",
        "penalties=(gen)",
        ["line 14: ", "penalties must be a tuple"],
    ),
    ("hinge.py", "loss=of_logits(gen, disc)", "loss=gen", ["line 14: ", "loss must be a jaxgan.losses.Loss"]),
    (
        "my_networks.py",
        "images, labels, context",
        "images, context",
        ["disc is called as disc(images, labels, context), but Critic.__call__ takes (self, images, context)"],
    ),
]


@pytest.mark.parametrize(("name", "right", "wrong", "said"), SLIPS)
def test_a_slip_says_what_would_be_right(folder, refused, name, right, wrong, said):
    (folder / name).write_text(IDEAS[name].replace(right, wrong))
    err = refused(train.main, name, "--workdir", "run", *QUICK, "--steps", 1)
    assert all(part in err for part in said), err


@pytest.mark.nightly
def test_a_changed_file_is_refused_unless_it_is_accepted(folder, called, refused):
    """And no workdir makes code run by itself."""
    command = ["r1.py", "--workdir", "run", *QUICK]
    called(train.main, *command, "--steps", 2)
    assert "--recipe FILE" in refused(sample.main, "run")
    (folder / "r1.py").write_text(IDEAS["r1.py"].replace("0.5", "0.6"))
    assert "--accept-changed-file" in refused(train.main, *command, "--steps", 4)
    drawing = ["run", "--recipe", "r1.py", "--out", "grid.png"]
    assert "--accept-changed-file" in refused(sample.main, *drawing)
    called(sample.main, *drawing, "--accept-changed-file")
    called(train.main, *command, "--steps", 4, "--accept-changed-file")
    assert json.loads((folder / "run" / "summary.json").read_text())["step"] == 4


@pytest.mark.slow
def test_a_checkpoint_of_another_width_is_named_at_every_door_and_nothing_is_changed(folder, called, refused):
    """So the file as it was goes on, as the message says."""
    command, own = ["my_networks.py", "--workdir", "run", *QUICK], ["--recipe", "my_networks.py"]
    called(train.main, *command, "--steps", 2)
    before = {path: path.read_bytes() for path in Path("run").rglob("*") if path.is_file()}
    (folder / "my_networks.py").write_text(IDEAS["my_networks.py"].replace("ConvTranspose(32", "ConvTranspose(48"))
    for door, args in (
        (train.main, [*command, "--steps", 4]),
        (sample.main, ["run", *own]),
        (evaluate.main, ["run", *own]),
    ):
        said = refused(door, *args, "--accept-changed-file")
        assert "/2 does not fit the recipe: gen.params['ConvTranspose_0']['kernel'] is [4, 4, 32, 1] there" in said
        assert {path: path.read_bytes() for path in Path("run").rglob("*") if path.is_file()} == before
    (folder / "my_networks.py").write_text(IDEAS["my_networks.py"])
    called(train.main, *command, "--steps", 4)


def test_wrong_files(folder, refused):
    (folder / "empty.py").write_text("")
    assert "missing.py cannot be read" in refused(train.main, "missing.py")
    assert "must define RECIPE" in refused(train.main, "empty.py")
    assert "--loss" in refused(train.main, "hinge.py", "--loss", "least_squares")


@pytest.mark.slow
def test_a_conditional_gan_is_asked_for_a_class_that_there_is(folder, called, refused):
    called(train.main, "by_class.py", "--workdir", "run", *QUICK, "--steps", 1)
    assert "from 0 to 9" in refused(sample.main, "run", "--recipe", "by_class.py", "--label", 10)
    called(sample.main, "run", "--recipe", "by_class.py", "--beside-real")
    width, height = opened("run/beside-real-seed0.png").size
    assert width > height  # two grids of ten rows and eight columns


OWN_BUILD = """
import dataclasses
import optax
from jaxgan import recipes
from jaxgan.recipes.settings import Recipe
from jaxgan.penalties import R1
class Own(Recipe):
    def build(self):
        return dataclasses.replace(super().build(), gen_optimizer=optax.sgd(0.05), penalties=(R1(0.5),))
RECIPE = Own(**vars(recipes.get("digits")))
"""


def test_what_is_recorded_of_an_own_build_is_what_is_built(folder, refused):
    (folder / "own.py").write_text(OWN_BUILD)
    recipe = recipes.get("own.py")
    config, plain = recipe.config(), recipes.get("digits").config()
    assert "step_size=-0.05" in config["gen_optimizer"]
    assert "R1(gamma=0.5)" in config["penalties"]
    # D's Adam has the other settings of optimisers, and penalties are built otherwise.
    assert plain.keys() - config.keys() == {"gen_learning_rate", "gen_time_decay", "gamma"}
    assert {k for k in plain if config.get(k, plain[k]) != plain[k]} == {"recipe", "penalties"}
    assert recipe.with_config(json.loads(json.dumps(config))) == recipe
    command = ["own.py", "--workdir", "run", *QUICK, "--steps", "2"]
    for flag in (["--gen-learning-rate", "1"], ["--gen-time-decay", "0.5"]):
        assert f"{flag[0]} {float(flag[1]):g}" in refused(train.main, *command, *flag).replace(".0 ", " ")
    assert "--beta1" in refused(train.main, "optimisers.py", "--workdir", "run", "--beta1", "0.5")
    assert not (folder / "run").exists()
    train.read_flags(train.Train, "train", [*command, "--disc-learning-rate", "1", "--clip", "0.5", "--beta1", "0.5"])

    (folder / "config.json").write_text(json.dumps(config_of(recipe, 0)[0]))
    check(folder, *config_of(recipe, 0))
    with pytest.raises(WorkdirError, match=r"another run .disc_learning_rate is 0.001 there, 1.0 here"):
        check(folder, *config_of(recipe.replace(disc_learning_rate=1.0), 0))
    (folder / "own.py").write_text(OWN_BUILD.replace("0.05", "0.06"))
    edited = recipes.get("own.py")
    assert edited.config()["gen_optimizer"] != config["gen_optimizer"]
    with pytest.raises(WorkdirError, match=r"gen_optimizer is '.*step_size=-0.05.*there, '.*step_size=-0.06.*' here"):
        check(folder, *config_of(edited, 0))
    check(folder, *config_of(edited, 0), recipes.in_changed_file(edited))
