"""The committed records of studies: their tables in the pages, and that nothing of them is trained again."""

import json
from pathlib import Path

import pytest

from experiments.studies import equal_time, games, little_data, methods, modes, pacgan, sharing
from jaxgan.commands import reproduce, study, torture

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "experiments" / "results"


@pytest.mark.parametrize(
    ("made", "page"),
    [
        (reproduce, RESULTS / "README.md"),
        (modes, RESULTS / "README.md"),
        (games, RESULTS / "README.md"),
        (methods, ROOT / "docs" / "methods.md"),
        (equal_time, ROOT / "docs" / "methods.md"),
        (little_data, ROOT / "docs" / "little-data.md"),
        (pacgan, ROOT / "docs" / "reproductions.md"),
        (sharing, ROOT / "docs" / "convergence.md"),
        (torture, ROOT / "docs" / "reliability.md"),
    ],
)
def test_the_pages_tables_are_those_of_their_records(made, page):
    name = made.STUDY.name
    table = study.table(made.STUDY, json.loads((RESULTS / f"{name}.json").read_text()))
    assert table.count("\n| ") >= 1
    assert f"<!-- {name} -->\n{table}\n<!-- end -->\n" in page.read_text()


@pytest.mark.parametrize("made", [methods, modes, equal_time, games, pacgan, sharing])
def test_what_the_results_have_is_not_trained_again(made, monkeypatch, tmp_path):
    """As committed, with no run there; whatever their order and however many seeds are asked for."""
    monkeypatch.setattr(study, "run_seeds", None)
    name = made.STUDY.name
    records = json.loads((RESULTS / f"{name}.json").read_text())
    (tmp_path / f"{name}.json").write_text(json.dumps(records))
    flags = study.Flags((), 0, tmp_path / "runs", out=tmp_path)
    recipe_of = {methods: methods.method, sharing: sharing.method, modes: modes.method, pacgan: pacgan.recipe_of}
    recipe_of |= {equal_time: equal_time.compared, games: games.game}
    rows = [row for row in records if row != "real"]
    assert rows
    for row in rows:
        steps = records[row]["steps"] * (5 if (made, row) == (modes, "wgan_gp") else 1)
        for seeds in range(1, len(records[row]["seeds"]) + 1):
            found = study.train_seeds(made.STUDY, row, recipe_of[made](row, steps), seeds, flags, None)
            assert found["seeds"] == records[row]["seeds"]
            assert {k: v for k, v in found.items() if k != "config"} == {
                k: v for k, v in records[row].items() if k != "config"
            }
