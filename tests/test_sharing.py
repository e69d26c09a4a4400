"""The alternating update beside the shared one: which methods, their table, and their times."""

import json

from experiments.studies import methods, sharing
from jaxgan.commands import study


def test_sharing_is_of_every_method_that_has_a_shared_form():
    """By the alternating update, beside the record of the shared one; and where it was in the shared one's time."""
    assert set(sharing.METHODS) == set(methods.METHODS) - {"relativistic_r1_r2_alternating"}
    for name in sharing.METHODS:
        one, other = sharing.method(name, 10).config(), methods.method(name, 10).config()
        assert {k for k in one if one[k] != other[k]} == {"update"}
    seed = {"distances": {"300": 9.0, "200": 8.0, "100": 7.0}}
    of = {"steps": 300, "slower": 1.4, "seeds": [seed], "shared": {"seeds": [{"distances": {"300": 5.0}}]}}
    row = study.table(sharing.STUDY, {"hinge": of}).splitlines()[2]
    assert row == "| hinge | 5 | 9 | 1.40 | 8 | 1, 1 |"


def test_sharing_times_each_row_once_and_again_when_it_is_asked_to(tmp_path, monkeypatch):
    timed = []

    def times(pair, rounds):
        timed.append((pair["alternating"].name, rounds))
        return {"alternating": {"milliseconds": 10.0, "slower": float(len(timed))}}

    def train_seeds(made, name, recipe, seeds, *_):
        return {"steps": recipe.steps, "seeds": [{"seed": k, "distances": {"10": 3.0}} for k in range(seeds)]}

    monkeypatch.setattr(study, "keep_programs", lambda: None)
    monkeypatch.setattr(sharing.updates, "times", times)
    monkeypatch.setattr(study, "train_seeds", train_seeds)
    shared = {name: {"steps": 10, "seeds": [{"seed": 0, "distances": {"10": 2.0}}]} for name in ("plain", "hinge")}
    (tmp_path / "methods.json").write_text(json.dumps(shared))

    def call(*flags):
        sharing.main(
            ["plain", "hinge", "--steps", "10", "--out", str(tmp_path), "--page", str(tmp_path / "page.md"), *flags]
        )
        return [of["slower"] for of in json.loads((tmp_path / "sharing.json").read_text()).values()]

    assert (call("--seeds", "1"), timed) == ([1, 2], [("plain", 3), ("hinge", 3)])
    assert call("--seeds", "2") == [1, 2]
    assert (call("--seeds", "2", "--rounds", "5"), timed[2:]) == ([3, 4], [("plain", 5), ("hinge", 5)])
