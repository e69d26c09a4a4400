"""Kills at random moments, in little: what `experiments.torture` counts, and that it sees a run that went astray."""

import json
import random

import pytest

from jaxgan.commands import torture
from jaxgan.run.workdir import read_summary

SHORT = torture.train("digits", "--evaluate-every", "0", "--batch-size", "8", steps=60)


@pytest.mark.slow
def test_a_run_that_is_killed_twice_comes_to_what_it_comes_to_undisturbed(tmp_path, monkeypatch):
    monkeypatch.setitem(torture.KINDS, "digits", SHORT)
    page = tmp_path / "page.md"
    page.write_text("<!-- torture -->\n<!-- end -->\n")
    torture.main(["digits", "--kills", "2", "--out", str(tmp_path), "--page", str(page)])
    found = json.loads((tmp_path / "torture.json").read_text())["digits"]
    assert found["kills"] == 2
    assert found["same"] == found["runs"] >= 1
    assert "| `train digits` | 2 | " in page.read_text()
    torture.main(["digits", "--kills", "2", "--out", str(tmp_path), "--page", str(page)])
    assert json.loads((tmp_path / "torture.json").read_text())["digits"] == found, "what is done is kept"


@pytest.mark.slow
def test_a_run_that_differs_is_seen(tmp_path, monkeypatch):
    """One bit of a grid, a line of metrics, a scalar."""
    given, out = tmp_path / "given", tmp_path / "out"
    torture.make_input(given)
    monkeypatch.setitem(torture.KINDS, "digits", SHORT)
    torture.undisturbed("digits", out, given)
    want = torture.made(out)
    assert want["summary.json"] == (read_summary(out)["state_sha256"], None)
    assert {line["step"] for line in want["metrics.jsonl"]} == {1, *range(5, 61, 5)}
    assert len(want["tensorboard"]) > 12 * 5
    grid = out / "samples" / "000025.png"
    for path, change in (
        (grid, lambda content: content[:-1] + bytes([content[-1] ^ 1])),
        (out / "metrics.jsonl", lambda content: content[content.index(b"\n") + 1 :]),
        (next((out / "tensorboard").iterdir()), lambda content: content[: len(content) // 2]),
    ):
        before = path.read_bytes()
        path.write_bytes(change(before))
        assert torture.made(out) != want
        path.write_bytes(before)
    assert torture.made(out) == want
    assert torture.kill_once("digits", tmp_path / "other", given, random.Random(0), 0.0, None) is not None
