"""Files of a user's own: what they import, their digest, and the modules that they become."""

import hashlib
import importlib
import json
import sys
from pathlib import Path

import pytest

from jaxgan import recipes
from jaxgan.recipes import user_files
from jaxgan.run import WorkdirError
from jaxgan.run.prepare import config_of
from jaxgan.run.workdir import check


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder, with nothing in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    before = {*sys.modules}
    yield tmp_path
    recipes.in_use.clear()
    for name in {*sys.modules} - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


# A recipe file, what it imports, now and while it is traced, and a chain of recipe files that it gets.
CHAIN = {
    "idea.py": """
import importlib, json
import numpy, jax, jaxgan, experiments.train
import in_a_package.inner as inner
from jaxgan import recipes
from jaxgan.losses import of_logits
BASE = recipes.get("below/base.py")
class Disc(type(BASE.disc)):
    pass
def gen(r, f):
    from late import gen
    return gen(r, f)
def disc(r, f):
    return importlib.import_module("later").disc(r, f) + __import__("last").x
RECIPE = BASE.replace(loss=of_logits(gen, disc))
""",
    "below/base.py": "from experiments import recipes\nRECIPE = recipes.get('base0.py').replace(batch_size=8)",
    "below/base0.py": "from experiments import recipes\nimport of_base\nRECIPE = recipes.get('digits')",
    "below/of_base.py": "",
    "in_a_package/__init__.py": "",
    "in_a_package/inner.py": "from . import sibling",
    "in_a_package/sibling.py": "",
    "late.py": "import later_still\ngen = lambda r, f: f.mean()",
    "later_still.py": "",
    "later.py": "disc = lambda r, f: f.mean() - r.mean()",
    "last.py": "x = 0",
}


def written(files, folder):
    for name, text in files.items():
        (folder / name).parent.mkdir(exist_ok=True, parents=True)
        (folder / name).write_text(text)
    return folder


def test_what_a_file_imports_counts_as_part_of_it_wherever_it_does(folder, monkeypatch):
    """Also in a function, and what its own imports do; nothing else; and wherever the files lie."""
    away = written(CHAIN, folder / "away")
    before = recipes.get("away/idea.py").file_sha256
    other = written(CHAIN | {"not_imported.py": "", "json.py": "1 / 0"}, folder / "home" / "ideas")
    monkeypatch.syspath_prepend(other.parent)
    importlib.import_module("ideas.not_imported")  # below the folder, and nothing of the recipe's
    monkeypatch.chdir(other.parent)
    monkeypatch.setenv("HOME", str(other.parent))
    for name in ("ideas/idea.py", "~/ideas/idea.py", "../home/ideas/idea.py", str(other / "idea.py")):
        assert recipes.get(name).file_sha256 == before, name
    for name in CHAIN:
        (away / name).write_text(f"{CHAIN[name]}\n# edited")
        assert recipes.get(str(away / "idea.py")).file_sha256 != before, name
        (away / name).write_text(CHAIN[name])
    assert recipes.get(str(away / "idea.py")).file_sha256 == before


def test_python_itself_may_lie_below_the_folder():
    """And whatever is installed."""
    source = (
        "import json, os, numpy as np, jax.numpy, optax, email.mime.text, jaxgan, experiments.train, flax.linen as nn"
    )
    assert user_files._imported(Path("/idea.py"), source.encode()) == {}


def test_each_recipe_file_is_a_module_of_its_own(folder):
    """A child's classes are those of its module, also after it got another recipe file."""
    written(CHAIN, folder)
    recipe = recipes.get("idea.py")
    modules = [sys.modules[recipe.loss.gen.function.__module__], sys.modules[recipe.disc.__class__.__module__]]
    assert modules[0].__file__ == str(folder / "idea.py")
    assert modules[0].Disc.__module__ == modules[0].__name__
    again = recipes.get("idea.py")
    assert sys.modules[again.loss.gen.function.__module__] is not modules[0]
    assert again.config() == recipe.config()
    assert "gen=jaxgan.losses:OfLogits(function=recipe_file:gen)" in recipe.config()["loss"]  # as it always was
    files = [getattr(module, "__file__", "") for name, module in sys.modules.items() if name.startswith("recipe_file")]
    assert {str(folder / name) for name in ("idea.py", "below/base.py", "below/base0.py")} <= {*files}


def test_two_recipes_have_each_its_own_neighbours(folder):
    text = "from experiments import recipes\nimport beside\nRECIPE = recipes.get('digits').replace(batch_size=beside.x)"
    for i in (1, 2, 1):
        written({"idea.py": text, "beside.py": f"x = {i}"}, folder / str(i))
        assert recipes.get(f"{i}/idea.py").batch_size == i


def test_runs_of_before_are_known_by_their_old_digest_where_it_says_what_it_must(folder):
    """It was of the bytes: of the file, and then of all modules from its folder, itself among them, in their order."""
    sha256 = lambda *names: hashlib.sha256(b"".join((folder / name).read_bytes() for name in names)).hexdigest()  # noqa: E731
    recipe = "from experiments import recipes\nRECIPE = recipes.get('digits')"
    written({f"late/{name}": text for name, text in CHAIN.items()}, folder)
    written(
        {
            "alone.py": recipe,
            "with_one.py": f"import the_one\n{recipe}",
            "the_one.py": "x = 1",
            "child.py": recipe.replace("digits", "alone.py"),
        },
        folder,
    )
    for name, digest, is_known in (
        ("alone.py", sha256("alone.py", "alone.py"), True),
        ("with_one.py", sha256("with_one.py", "the_one.py", "with_one.py"), True),
        ("with_one.py", sha256("with_one.py", "with_one.py"), False),
        ("late/idea.py", sha256("late/idea.py", "late/idea.py"), False),
        ("child.py", sha256("child.py", "alone.py"), True),
    ):
        recipe = recipes.get(name)
        config = config_of(recipe, 0)[0] | {"recipe_file_sha256": digest}
        assert recipes.changed_since(config, recipe) != is_known
        (folder / "config.json").write_text(json.dumps(config))
        if is_known:
            assert recipes.of_run(folder, Path(name)).file_sha256 == recipe.file_sha256
            check(folder, *config_of(recipe, 0), recipes.accepted(config, recipe))
            continue
        with pytest.raises(recipes.RecipeError, match="--accept-changed-file takes it as it is"):
            recipes.of_run(folder, Path(name))
        with pytest.raises(WorkdirError, match="recipe_file_sha256 is"):
            check(folder, *config_of(recipe, 0), recipes.accepted(config, recipe))
        check(folder, *config_of(recipe, 0), recipes.accepted(config, recipe, changed_file=True))
