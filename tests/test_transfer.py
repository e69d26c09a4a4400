"""A run that starts from another one's weights, and layers of the discriminator that stay as they are."""

import json
import shutil

import jax
import numpy as np
import pytest
import small_run
from common import QUICK

import jaxgan
from jaxgan import recipes
from jaxgan.randomness import key_data
from jaxgan.recipes.frozen import layers_of
from jaxgan.run import CheckpointError, RunError, checkpoint, run, transfer
from jaxgan.run.numerics import root_key

pytestmark = pytest.mark.usefixtures("shared_programs", "quick_programs")


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A run of nine steps, and its state."""
    workdir = tmp_path_factory.mktemp("source") / "run"
    with pytest.MonkeyPatch.context() as patch:
        small_run.share_programs(patch)
        run(small_run.recipe(), workdir, options=small_run.OPTIONS)
    like = jaxgan.init(small_run.recipe().build(), root_key(0))
    return workdir, checkpoint.read(workdir / "checkpoints", like)


def summary(workdir):
    return json.loads((workdir / "summary.json").read_text())


def config(workdir):
    return json.loads((workdir / "config.json").read_text())


def same(tree, other):
    jax.tree.map(np.testing.assert_array_equal, *map(key_data, (tree, other)))


def test_networks_are_taken_and_all_else_begins_anew(source):
    workdir, state = source
    new = jaxgan.init(small_run.recipe().build(), root_key(1))
    for weights, gen in (("last", state.gen.variables), ("averaged", state.averaged_gen)):
        found = transfer.read(str(workdir), weights)
        assert (found.step, found.sha256) == (9, summary(workdir)["state_sha256"])
        begun, line = transfer.transferred(new, found, "there", weights)
        same(begun.gen.variables, gen)
        same(begun.disc.variables, state.disc.variables)
        same(begun.averaged_gen, state.averaged_gen)
        same(begun.replace(gen=new.gen, disc=new.disc, averaged_gen=new.averaged_gen), new)
        same(begun.disc.opt_state, new.disc.opt_state)
        count = len(jax.tree.leaves((new.gen.variables, new.disc.variables)))
        assert line == f"{count} of {count} arrays are those of there at step 9"


@pytest.mark.slow
def test_what_does_not_fit_is_listed_and_is_as_it_is_without():
    """Another size and other classes: layers of one size are taken, embeddings and wider layers are not."""
    usual = recipes.get("pictures").replace(width=32)
    states = [
        jaxgan.init(recipe.build(), jax.random.key(i))
        for i, recipe in enumerate((usual.with_classes(3), usual.replace(size="16").with_classes(2)))
    ]
    old, new = (jax.tree.map(np.asarray, state.replace(key=jax.random.key_data(state.key))) for state in states)
    nets = {name: {"params": getattr(old, name).params, "batch_stats": {}} for name in ("gen", "disc")}
    found = transfer.Found(5, "", {**nets, "averaged_gen": nets["gen"]})
    begun, line = transfer.transferred(states[1], found, "there", "last")
    same(begun.gen.params["Embed_0"], new.gen.params["Embed_0"])
    same(begun.gen.params["Stage_0"], old.gen.params["Stage_0"])
    assert "arrays are those of there at step 5; these begin anew: gen Embed_0, " in line
    assert "disc Embed_0" in line
    assert "Stage_0" not in line.partition("disc")[0]


@pytest.mark.slow
def test_a_run_names_what_it_came_from_and_goes_on_without_it(source, tmp_path):
    there, _ = source
    origin = tmp_path / "origin"
    shutil.copytree(there, origin)
    recipe = small_run.recipe(init_from=str(origin))
    run(recipe, tmp_path / "whole", 1, small_run.OPTIONS)
    assert config(tmp_path / "whole")["init_sha256"] == summary(there)["state_sha256"]
    without = tmp_path / "without"
    run(small_run.recipe(), without, 1, small_run.OPTIONS)
    assert summary(without)["state_sha256"] != summary(tmp_path / "whole")["state_sha256"]
    parts = tmp_path / "parts"
    run(recipe.replace(steps=4), parts, 1, small_run.OPTIONS)
    shutil.copytree(parts, tmp_path / "unsaved")
    shutil.rmtree(tmp_path / "unsaved" / "checkpoints")  # as after a kill before the first checkpoint
    for name in ("metrics.jsonl", "summary.json"):
        (tmp_path / "unsaved" / name).unlink()
    run(small_run.recipe(steps=11), origin, options=small_run.OPTIONS)  # it is trained further,
    with pytest.raises(RunError, match="has been trained since; name another `workdir`"):
        run(recipe, tmp_path / "unsaved", 1, small_run.OPTIONS)
    shutil.rmtree(origin)  # and then gone
    run(recipe, parts, 1, small_run.OPTIONS)
    assert summary(parts)["state_sha256"] == summary(tmp_path / "whole")["state_sha256"]


def test_what_cannot_be_started_from_is_one_line(source, tmp_path):
    workdir, _ = source
    for init_from, weights, message in (
        (tmp_path / "nowhere", "last", "is no folder; name the workdir of a run"),
        (workdir, "best", "holds no checkpoint with a score; train it first"),
    ):
        recipe = small_run.recipe(init_from=str(init_from), init_weights=weights)
        with pytest.raises(RunError, match=message):
            run(recipe, tmp_path / "run", 1, small_run.OPTIONS)
        assert not (tmp_path / "run").exists()
    recipe = recipes.get("digits").replace(init_from=str(workdir))
    with pytest.raises(RunError, match="its gen has no array with the name and the shape of one of this run's"):
        run(recipe, tmp_path / "another", 1, small_run.OPTIONS)
    assert not (tmp_path / "another").exists()
    shutil.copytree(workdir, tmp_path / "damaged")
    (file,) = (tmp_path / "damaged" / "checkpoints" / "9" / "digest").glob("metadata")
    file.write_text(file.read_text().replace('"state_sha256": "', '"state_sha256": "0'))
    with pytest.raises(CheckpointError, match="is damaged; name another run"):
        transfer.read(str(tmp_path / "damaged"), "last")


@pytest.mark.slow
def test_frozen_layers_stay_and_the_others_move():
    recipe = recipes.get("pictures").replace(size="16", width=16, init_from="there", freeze_disc=3, batch_size=4)
    gan = recipe.build()
    names = ("Conv_0", "Stage_0", "Stage_1", "Stage_2", "Dense_0")
    assert layers_of(gan) == names
    state = jaxgan.init(gan, jax.random.key(0))
    images = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3), np.uint8)
    step = jax.jit(jaxgan.train_step, static_argnums=0, compiler_options=QUICK)
    after, metrics = step(gan, *step(gan, state, images)[:1], images)
    for name in names:
        before, now = (jax.tree.leaves(x.disc.params[name]) for x in (state, after))
        moved = [bool((x != y).any()) for x, y in zip(before, now, strict=True)]
        assert all(moved) if name in names[3:] else not any(moved), name
    assert metrics["grad_norm_disc"] > 0
    with pytest.raises(ValueError, match="`freeze_disc` must be below 5, not 5: D has the layers Conv_0, Stage_0, "):
        recipe.replace(freeze_disc=5).build()
