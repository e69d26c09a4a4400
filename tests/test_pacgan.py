"""PacGAN's table of points: its networks, and how the study goes on."""

import functools
import json
import shutil

import jax
import numpy as np
import pytest
from small_run import undrawn

import jaxgan
from experiments.studies import pacgan
from jaxgan.commands import study
from jaxgan.run import Options

pytestmark = pytest.mark.usefixtures("quick_programs")


@pytest.mark.slow
def test_the_table_is_counted_and_goes_on_without_its_runs(tmp_path, monkeypatch):
    """A third trial is trained though the runs of the first two are gone; ALI's encoder draws."""
    monkeypatch.setattr(study, "keep_programs", lambda: None)
    undrawn(monkeypatch)
    monkeypatch.setattr(study, "Options", functools.partial(Options, devices=1))
    page = tmp_path / "page.md"
    page.write_text("<!-- pacgan -->\n<!-- end -->\n")

    def call(*flags, steps=10):
        places = ["--runs", tmp_path / "runs", "--out", tmp_path, "--page", page]
        pacgan.main([*map(str, ("--seeds", 1, *flags, "--steps", steps, *places))])
        return json.loads((tmp_path / "pacgan.json").read_text())

    rows = ["ring_gan", "ring_ali"]
    found = call(*rows)
    assert found["ring_ali"]["config"]["game"] == "experiments.studies.pacgan:ali"
    assert [len(of["seeds"]) for of in found.values()] == [1, 1]
    for of in found.values():
        (seed,) = of["seeds"]
        assert 0 <= seed["found"] <= 8
        assert 0 <= seed["good"] <= 100
    assert page.read_text().count("| ring, ") == 2
    shutil.rmtree(tmp_path / "runs")
    record = json.loads((tmp_path / "pacgan.json").read_text())
    record["ring_gan"]["seeds"].append(found["ring_gan"]["seeds"][0] | {"seed": 2})
    (tmp_path / "pacgan.json").write_text(json.dumps(record))
    more = call("ring_gan", "--seeds", 2)["ring_gan"]["seeds"]
    assert [seed["seed"] for seed in more] == [0, 1, 2]
    assert (more[0], more[1]["seed"]) == (found["ring_gan"]["seeds"][0], 1)
    assert {path.name for path in (tmp_path / "runs" / "ring_gan").glob("seed-*")} == {"seed-1"}
    assert more[0]["state_sha256"] != more[1]["state_sha256"]
    assert len(call("ring_gan", steps=12)["ring_gan"]["seeds"]) == 1, "of another length is another trial"


def test_the_networks_are_its_authors():
    """Parameters by hand: G's and the encoder's layers without biases, normalised; D's maxout of five pieces."""
    gan = pacgan.recipe_of("ring_ali", 10).build()
    state = jax.eval_shape(lambda: jaxgan.init(gan, jax.random.key(0)))
    hidden = lambda n, layers: n * 400 + (layers - 1) * 400 * 400 + layers * 2 * 400 + 400 * 2 + 2  # noqa: E731
    disc = lambda n: n * 1000 + 1000 + 2 * (200 * 1000 + 1000) + 200 + 1  # noqa: E731
    size = lambda net: sum(x.size for x in jax.tree.leaves(net.params))  # noqa: E731
    assert (size(state.gen), size(state.disc)) == (hidden(2, 4) + hidden(4, 2), disc(4))
    recipe = pacgan.recipe_of("grid_gan", 10)
    assert (recipe.gen_learning_rate, recipe.disc_learning_rate, recipe.beta1) == (1e-4, 1e-4, 0.8)
    assert (recipe.update, recipe.loss, recipe.ema_decay) == ("shared", "non_saturating", 0)
    for group in (1, 2, 3, 4):
        recipe = pacgan.recipe_of(f"grid_{'gan' if group == 1 else f'pacgan{group}'}", 10)
        state = jax.eval_shape(functools.partial(jaxgan.init, recipe.build()), jax.random.key(0))
        assert (size(state.gen), size(state.disc), recipe.batch_size) == (hidden(2, 4), disc(2 * group), 100 * group)
    x = np.random.default_rng(0).normal(size=(4, 2)).astype(np.float32)
    params = pacgan.Disc(2).init(jax.random.key(1), x, None, jaxgan.Context())["params"]
    np.testing.assert_allclose(np.std(params["Dense_1"]["kernel"]), 0.02, rtol=0.02)
    out, kernels = x.reshape(2, 4), [params[f"Dense_{i}"] for i in range(4)]
    for layer in kernels[:3]:
        out = (out @ np.asarray(layer["kernel"]) + np.asarray(layer["bias"])).reshape(2, 5, 200).max(1)
    want = (out @ np.asarray(kernels[3]["kernel"]) + np.asarray(kernels[3]["bias"]))[:, 0]
    np.testing.assert_allclose(pacgan.Disc(2).apply({"params": params}, x, None, jaxgan.Context()), want, rtol=1e-4)
