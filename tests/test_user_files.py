"""Files of a user's own: what they import, their digest, and the modules that they become."""

import importlib
import json
import sys
import types
from pathlib import Path

import pytest

from jaxgan import recipes
from jaxgan.commands.cli import one_line_errors
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
BASE = recipes.get("/".join(["below", "base.py"]))
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


def test_a_run_of_another_digest_is_told_how_to_go_on(folder):
    """Also one of before 0.1.0, whose digest was taken otherwise."""
    written(CHAIN, folder)
    recipe = recipes.get("idea.py")
    config = config_of(recipe, 0)[0] | {"recipe_file_sha256": "0" * 64}
    assert recipes.changed_since(config, recipe)
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(recipes.RecipeError, match=r"an older version began it, .*; `accept_changed_file` takes it as"):
        recipes.of_run(folder, Path("idea.py"))
    with pytest.raises(WorkdirError, match="recipe_file_sha256 is"):
        check(folder, *config_of(recipe, 0))
    check(folder, *config_of(recipe, 0), recipes.in_changed_file(recipe))
    assert recipes.of_run(folder, Path("idea.py"), accept_changed_file=True).file_sha256 == recipe.file_sha256


@pytest.mark.parametrize("experiments", [None, types.ModuleType("experiments")], ids=["none", "another"])
def test_where_there_is_no_checkout_the_error_names_the_import_that_there_is(experiments, folder, monkeypatch, capfd):
    monkeypatch.setitem(sys.modules, "experiments", experiments)
    monkeypatch.delitem(sys.modules, "experiments.recipes", raising=False)
    written({"idea.py": "\nfrom experiments import recipes"}, folder)
    with pytest.raises(SystemExit), one_line_errors():
        recipes.get("idea.py")
    said = capfd.readouterr().err
    assert "idea.py, line 2: " in said
    assert "from jaxgan import recipes" in said
