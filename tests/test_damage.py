"""The damage matrix: each file of a run, damaged in each way. It goes on to the same bits, or one line says why not."""

import json
import re
import shutil

import pytest
from common import at_night
from small_run import OPTIONS, metrics_of, recipe

from jaxgan.run import Options, RunError, WorkdirError, plots, run
from jaxgan.run.checkpoint import CheckpointError

pytestmark = [
    pytest.mark.usefixtures("shared_programs"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
STEPS = 11


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run of 9 steps, with checkpoints of 8 and 9; and what it comes to after 11."""
    folder = tmp_path_factory.mktemp("runs")
    run(recipe(), folder / "run", 0, OPTIONS)
    shutil.copytree(folder / "run", folder / "longer")
    return folder / "run", run(recipe(steps=STEPS), folder / "longer", 0, OPTIONS)["state_sha256"]


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """A run of another seed, as long."""
    run(recipe(), folder := tmp_path_factory.mktemp("other"), 1, OPTIONS)
    return folder


def damaged(target, how, from_other):
    """Damages a file: cuts it in half, empties it, removes it, flips a bit, or puts another run's in its place."""
    content = bytearray(target.read_bytes())
    if how == "missing":
        target.unlink()
    elif how == "other":
        shutil.copyfile(from_other, target)
    elif how == "flipped":
        content[len(content) // 2] ^= 0x10
        target.write_bytes(content)
    else:
        target.write_bytes(content[: len(content) // 2 if how == "truncated" else 0])


def files_of(workdir):
    """One of each kind of file of a run, and all of its newest checkpoint."""
    files = [p for p in sorted(workdir.rglob("*")) if p.is_file() and p.name != ".lock"]
    newest = workdir / "checkpoints" / "9"
    return [p for p in files if "checkpoints" not in p.parts or newest in p.parents]


@pytest.mark.slow
@pytest.mark.parametrize("how", ["flipped", "missing", *at_night(["truncated", "emptied", "other"])])
def test_a_run_with_a_damaged_file_goes_on_to_the_same_bits_or_says_why_not(
    whole, other, tmp_path, how, capfd, monkeypatch
):
    (workdir, want), draw = whole, plots.draw
    outcomes = {}
    for i, file in enumerate(p for p in files_of(workdir) if p.stat().st_size):
        name = file.relative_to(workdir)
        twin = next(iter(sorted(other.glob(re.sub(r"[0-9a-f]{32}|events\..*|\d{10}.*", "*", str(name))))), None)
        if how == "other" and twin is None:
            continue
        shutil.copytree(workdir, copy := tmp_path / str(i))
        damaged(copy / name, how, twin)
        of_pictures = name.suffix in (".png", ".gif")  # which take longer than all else, and are drawn for these alone
        monkeypatch.setattr(plots, "draw", draw if of_pictures else lambda workdir, step: None)
        try:
            outcomes[name] = run(recipe(steps=STEPS), copy, 0, OPTIONS)
        except (CheckpointError, RunError, WorkdirError) as error:
            outcomes[name] = str(error)
            assert "\n" not in outcomes[name]
            assert not (copy / "checkpoints" / "9.damaged").exists()
            continue
        assert outcomes[name]["state_sha256"] == want, name
        steps = [line["step"] for line in metrics_of(copy)]
        assert steps == sorted(set(steps))
        if name.name != "metrics.jsonl":
            resumed = outcomes[name]["steps_resumed_from"]
            assert steps == [1, 2, 4, 6, 8, *([9] if resumed == 9 else []), 10, 11]
            assert (copy / "checkpoints" / "9.damaged").exists() == (resumed == 8)
        if name.suffix != ".png" and name.parts[0] != "tensorboard" and outcomes[name]["steps_resumed_from"] == 9:
            assert {p.name for p in (copy / "samples").iterdir()} >= {"000000.png", "000011.png"}
    refused = {str(name) for name, of in outcomes.items() if isinstance(of, str)}
    assert refused <= {"config.json"}, outcomes
    gone_back = [name for name, of in outcomes.items() if isinstance(of, dict) and of["steps_resumed_from"] == 8]
    assert gone_back, "a damaged checkpoint is seen"
    assert all(name.parts[:2] == ("checkpoints", "9") for name in gone_back)
    said = capfd.readouterr().out
    assert said.count("9; this goes on from step 8") == len(gone_back)


def test_a_strict_run_refuses_what_is_damaged_and_none_begins_anew_unasked(whole, tmp_path):
    """Nor is a checkpoint that does not fit called damaged; nor does a run whose checkpoints are gone begin anew."""
    shutil.copytree(whole[0], workdir := tmp_path / "run")
    largest = max((workdir / "checkpoints" / "9").rglob("*"), key=lambda p: p.stat().st_size if p.is_file() else 0)
    damaged(largest, "truncated", None)
    strict = Options(**{**vars(OPTIONS), "strict": True})
    with pytest.raises(
        CheckpointError, match=r"9 cannot be read.*: without `strict` a run goes on from the newest whole one"
    ):
        run(recipe(steps=STEPS), workdir, 0, strict)
    assert sorted(p.name for p in (workdir / "checkpoints").iterdir()) == ["8", "9"]
    for name in ("9.damaged", "9.damaged-3"):
        shutil.copytree(workdir / "checkpoints" / "8", workdir / "checkpoints" / name)
    assert run(recipe(steps=STEPS), workdir, 0, OPTIONS)["steps_resumed_from"] == 8
    assert {p.name for p in (workdir / "checkpoints").iterdir()} >= {"9.damaged", "9.damaged-2", "9.damaged-3"}
    before = (workdir / "metrics.jsonl").read_bytes()
    for path in (workdir / "checkpoints").iterdir():
        path.rename(tmp_path / path.name)
    with pytest.raises(RunError, match=r"is empty, and the run was at step 11; put back what was there"):
        run(recipe(steps=12), workdir, 0, OPTIONS)
    (workdir / "checkpoints").rmdir()
    with pytest.raises(RunError, match=r"checkpoints is gone; put it back"):
        run(recipe(steps=12), workdir, 0, OPTIONS)
    assert (workdir / "metrics.jsonl").read_bytes() == before
    json.loads((workdir / "config.json").read_text())
