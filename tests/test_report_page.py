"""The page that compares runs: what it says of them, and that it is whole and safe HTML on its own."""

import base64
import json
import math
import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from made_up_runs import Page, score, workdir
from PIL import Image

from jaxgan import images
from jaxgan.commands import report
from jaxgan.commands.page import figures, runs, tables


@pytest.fixture
def made(tmp_path, monkeypatch):
    """Makes the page of folders, and reads it."""
    monkeypatch.chdir(tmp_path)

    def make(*folders, flags=()):
        report.main([*map(str, folders), *flags])
        source = Path("report.html").read_text(encoding="utf-8")
        return Page(source), source

    return make


def test_means_and_deviations_over_seeds(tmp_path, made):
    last, best = (6.5, 4.0, 9.25), (5.5, 4.0, 8.0)
    for seed in range(3):
        final = score(last[seed])
        workdir(tmp_path / f"several/seed-{seed}", final, score(best[seed], step=seed + 1), seed=seed)
    workdir(tmp_path / "one", score(6.0), score(5.9), batch_size=32)
    page, _ = made("several", "one")
    ((several, one),) = page.table("Fréchet distance, last ↓", "Seeds")
    for cell, values in ((several[4], last), (several[5], best)):
        mean = sum(values) / 3
        deviation = math.sqrt(sum((v - mean) ** 2 for v in values) / 2)
        said = [float(number) for number in re.match(r"([\d.]+) ± ([\d.]+) ", cell).groups()]
        np.testing.assert_allclose(said, (mean, deviation), atol=0.051)
        assert all(f"seed {i}: {value:g}" in cell for i, value in enumerate(values))
    ((_, _, exact),) = [a for a in page.attributes if a[1] == "value" and abs(float(a[2]) - sum(last) / 3) < 1e-12]
    assert exact == repr(sum(last) / 3)
    assert "step 1 to 3" in several[5]
    assert several[0].split() == ["A", "several"]
    assert several[1:4] == ["small", "4", "3 seeds 0, 1, 2"]
    assert (one[0].split(), one[4], one[6]) == (["B", "one"], "6", "0.25")
    ((precision, recall),) = page.table("Score", "A several", "B one")
    assert precision[0] == "precision ↑"
    assert recall[3] == "0.9"


def test_the_best_mean_alone_is_bold(tmp_path, made):
    workdir(tmp_path / "a", score(6.0), batch_size=1)
    workdir(tmp_path / "b", score(4.5), batch_size=2)
    _, source = made("a", "b")
    assert re.findall(r'<data [^>]*class="strong">([^<]*)', source) == [
        "4.5",
        "0.06",
    ]  # Fréchet down, recall up, no precision


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"count": 2000}, "samples: 2000 and 1000"),
        ({"features": {"name": "mnist", "sha256": "f" * 64}}, "features: mnist, ffffffff and digits, ffffffff"),
        ({"features": {"name": "digits", "sha256": "0" * 64}}, "features: digits, 00000000 and digits, ffffffff"),
        (
            {"reference": {"data": "digits", "split": "even", "count": 898, "sha256": "0" * 64}},
            "reference: digits, even",
        ),
    ],
)
def test_scores_that_differ_in_what_they_depend_on_are_never_in_one_table(tmp_path, made, change, reason):
    """Not even of seeds of one config."""
    workdir(tmp_path / "s/seed-0", score(1.0))
    workdir(tmp_path / "s/seed-1", score(2.0, **change), seed=1)
    workdir(tmp_path / "s/seed-2", score(4.0), score(3.0, **change), seed=2)
    workdir(tmp_path / "t", score(0.5, **change), beta1=0.0)
    page, _ = made("s", "t")
    first, second = page.table("Fréchet distance, last ↓")
    assert [row[0].split()[0] for row in first] == ["A"]
    assert first[0][3].startswith("2 of 3")
    assert first[0][4].startswith("2.5 ± 2.1")
    assert "not measured" in first[0][5]
    assert [row[0].split()[0] for row in second] == ["A", "B"]
    assert [row[4].split()[0] for row in second] == ["2", "0.5"]
    assert "Not to be compared with table 1" in page.text
    assert reason in page.text


def test_curves_are_of_one_unit_each(tmp_path, made):
    """Whatever the final scores are measured in, which are alike here; and of a run that changed it, the newer part."""
    units = {"a": ["feet", "metres"], "b": ["metres"] * 2, "c": ["feet"] * 2, "d": [], "e": []}
    for i, (name, measured) in enumerate(units.items()):
        path = workdir(tmp_path / name, score(2.0), batch_size=i)
        lines = [{"step": s, "frechet_distance": s, "scored_by": unit} for s, unit in enumerate(measured, 5)]
        with (path / "metrics.jsonl").open("a") as file:
            file.write("".join(json.dumps(line) + "\n" for line in lines))
    page, _ = made(*units)
    panels = [alt for _, name, alt in page.attributes if name == "alt" and alt.startswith("Fréchet distance over")]
    assert [re.findall(r"\b[A-E]\b(?= \()", panel) for panel in panels] == [["A", "B"], ["C"], ["D"], ["E"]]
    assert "Scored by: metres." in page.text
    assert runs.read(tmp_path / "a").curves["frechet_distance"][0].tolist() == [6]
    assert runs.read(tmp_path / "b").curves["frechet_distance"][0].tolist() == [5, 6]


def test_settings_that_differ(tmp_path, made):
    workdir(tmp_path / "a", score(), beta1=0.0)
    workdir(tmp_path / "b", score(), batch_size=32, clip=None, seed=7)
    workdir(tmp_path / "c", score(), steps=9, seed=8)
    page, _ = made("a", "b", "c")
    (rows,) = page.table("Setting")
    assert {row[0]: row[1:] for row in rows} == {
        "steps": ["4", "4", "9"],
        "batch_size": ["16", "32", "16"],
        "beta1": ["0.0", "0.5", "0.5"],
        "clip": ["\N{EN DASH} not in its config.json", "null", "\N{EN DASH} not in its config.json"],
    }


def test_runs_are_seeds_of_one_entry_wherever_they_lie_and_names_are_as_long_as_it_takes(tmp_path):
    workdir(tmp_path / "x/seed-10", score(), seed=10)
    workdir(tmp_path / "x/seed-9", score(), seed=9)
    (tmp_path / "x/seed-11").mkdir()  # not begun
    workdir(tmp_path / "again", score(), seed=9)  # no further seed
    workdir(tmp_path / "longer", score(), seed=2, steps=8)
    workdir(tmp_path / "other/x", score(), seed=3, data="folder:/elsewhere")  # of the same digest
    workdir(tmp_path / "going", ended=False, seed=4)
    paths = runs.workdirs([tmp_path / n for n in ("x", "again", "longer", "x/seed-9", "other/x")])
    found = runs.entries([runs.read(path) for path in paths])
    assert [(e.key, e.name, [run.seed for run in e.runs]) for e in found] == [
        ("A", "x", [3, 9, 10]),
        ("B", "again", [9]),
        ("C", "longer", [2]),
    ]
    # One that has not ended goes with those that have, where these are of one length.
    found = runs.entries([runs.read(tmp_path / n) for n in ("going", "other/x")])
    assert [[run.seed for run in e.runs] for e in found] == [[3, 4]]
    found = runs.entries([runs.read(tmp_path / n) for n in ("going", "other/x", "longer")])
    assert [[run.seed for run in e.runs] for e in found] == [[4], [3], [2]]
    for name in ("one/n", "two/n", "y", "z/seed-3"):
        workdir(tmp_path / name, beta1=len(name) + (name[0] == "o"))
    found = runs.entries([runs.read(tmp_path / n) for n in ("one/n", "two/n", "y", "z/seed-3")])
    assert [entry.name for entry in found] == ["one/n", "two/n", "y", "z/seed-3"]


def test_runs_are_shown_with_what_they_have(tmp_path, made):
    workdir(tmp_path / "going", ended=False, beta1=0.1)
    workdir(tmp_path / "unscored", beta1=0.2)
    workdir(tmp_path / "half", {"scores": 3}, beta1=0.3)
    workdir(tmp_path / "goes-on", score(), steps=2, beta1=0.4)
    bare = workdir(tmp_path / "bare", ended=False, beta1=0.5)
    (bare / "metrics.jsonl").unlink()
    for path in (bare / "samples").iterdir():
        path.unlink()
    (tmp_path / "unscored/samples/000004.png").write_bytes(b"\x89PNG\r\n\x1a\nhalf a picture")
    odd = score(7.0, scores={"frechet_distance": None, "precision": "high", "mine": 2.5}, floor={})
    workdir(tmp_path / "odd", odd, odd, beta1=0.6)
    page, _ = made("going", "unscored", "half", "goes-on", "bare", "odd")
    (rows,) = page.table("Last losses")
    said = {row[0].split()[1]: " ".join(row[3:]) for row in rows}
    assert list(said) == ["going", "unscored", "half", "goes-on", "bare"]
    assert "4 " in said["going"]
    assert "not finished: step 4 is the last one logged" in said["going"]
    assert "generator 4, discriminator 1.5" in said["going"]
    assert "finished, but not scored" in said["unscored"]
    assert "the scores in its summary.json are not whole" in said["half"]
    assert "goes on: finished at step 2 before, now at 4" in said["goes-on"]
    assert "nothing is logged yet" in said["bare"]
    assert "none logged" in said["bare"]
    assert "there are no sample grids" in page.sections["Samples"]
    assert "000004.png cannot be read" in page.sections["Samples"]
    (scored,) = page.table("Fréchet distance, last ↓")
    assert ["not measured" in cell for cell in scored[1][4:]] == [True, True, True]
    (others,) = page.table("Score", "F odd")
    assert ["mine", "2.5"] in [[row[0], row[2]] for row in others]
    assert page.sections["Curves"].count("not known what these were measured with") == 5


def test_one_run_with_all_its_details(tmp_path, made, capfd):
    workdir(tmp_path / "run", score(3.5), score(3.25, step=2), seed=5)
    page, source = made("run", "run", flags=["--title", "Mine"])
    said = page.sections["Details of each run"]
    for value in ("a1" * 32, "0.10.2", "2 x cpu", "12.5", "321", "batch_size = 16", "f" * 64, "e" * 64, "898", "899"):
        assert value in said
    (rows,) = page.table("Last (step 4)", "Best (step 2)")
    assert rows[0] == ["Fréchet distance", "3.5", "3.25", "0.25"]
    assert "run, seed 5" in said
    command = page.sections["Command that makes this page"].split()
    assert command == ["python", "-m", "experiments.report", "run", "run", "--title", "Mine"]
    assert "<h1>Mine</h1>" in source
    assert source.count('class="crisp"') == 6  # grids of 12 pixels: the last, and a strip of five
    assert "report.html: 1 run, 0." in capfd.readouterr().out
    assert made("run", "run", flags=["--title", "Mine"])[1] == source


def test_the_page_needs_nothing_else_and_escapes_all(tmp_path, made):
    evil = '<img src=x onerror="alert(1)">&amp;'
    bad = score(features={"name": evil, "sha256": "f" * 64}, scores={"frechet_distance": 1.0, evil: 2.0})
    first = workdir(tmp_path / b"a<b>&\"'\xff".decode(errors="surrogateescape"), bad, bad, **{evil: evil})
    with (first / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"step": 5, evil: 1.0, "loss_gen": 1.0}) + "\n")
    workdir(tmp_path / "b", score(), recipe=f"{evil}\ud800\x00", data=evil)
    page, source = made(first, "b", flags=["--title", evil])
    assert "onerror" not in {name for _, name, _ in page.attributes}
    assert not {tag for tag, *_ in page.attributes} & {"script", "link", "iframe", "object"}
    for tag, name, value in page.attributes:
        if name in ("src", "href", "xlink:href"):
            assert value.startswith("data:image/" if tag == "img" else "#")
        if value and value.startswith("data:image/svg"):
            figure = ElementTree.fromstring(base64.b64decode(value.split(",")[1]))
            assert all(v.startswith("#") for e in figure.iter() for k, v in e.items() if k.endswith("href"))
            assert "alert" not in "".join(figure.itertext())
    assert not re.search(r"https?:|url\((?!#)|@import", source)
    assert page.text.count(evil) > 5
    assert "a<b>&\"'\ufffd" in page.text
    names = [value for _, name, value in page.attributes if name == "id"]
    assert len(names) == len(set(names))
    alts = [value for tag, name, value in page.attributes if (tag, name) == ("img", "alt")]
    assert all(alts)
    assert len(alts) == source.count("<img ")
    assert source.encode() == Path("report.html").read_bytes()


def test_texts_and_numbers_of_the_page():
    source = report.page([], "a\ud83d\ude00\ud800\x1b<\x00", "")
    assert "<title>a\U0001f600\ufffd\ufffd&lt;\ufffd</title>" in source
    assert tables.with_deviation(5.123, 0.1634) == "5.12 ± 0.16"
    assert tables.with_deviation(1234.5, 120.0) == "1,234 ± 120"
    assert tables.with_deviation(0.5, 0.0) == "0.5 ± 0"
    assert tables.with_deviation(2 / 3, None) == "0.6667"


def test_large_grids_are_made_small(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (900, 600, 3), np.uint8)
    images.save_png(tmp_path / "noise.png", noise)
    found = figures.grid(tmp_path / "noise.png", "", figures.SMALL)
    assert found.uri.startswith("data:image/jpeg")
    assert (found.width, found.height) == (224, 336)
    images.save_png(tmp_path / "flat.png", np.zeros((300, 300, 1), np.uint8))
    assert figures.grid(tmp_path / "flat.png", "", figures.SMALL).uri.startswith("data:image/png")
    Image.new("RGB", (64, 64)).save(tmp_path / "really.gif")
    assert figures.grid(tmp_path / "really.gif", "", figures.LARGE).uri.startswith("data:image/png")


def test_wrong_input_is_one_line_and_status_2(refused, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    workdir(tmp_path / "run", score())
    workdir(tmp_path / "broken")
    (tmp_path / "broken/config.json").write_text('{"recipe": ')
    for name in ("empty", "seeds/seed-0", "folder.html"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "theirs.html").write_text("<p>kept</p>")
    before = sorted(tmp_path.rglob("*"))
    for args, named in {
        "": "at least one RUN",
        "nowhere": "nowhere holds no run (there is no such folder)",
        "run empty": "empty holds no run (there is neither",
        "seeds": "seeds holds no run (there is neither",
        "broken": "broken/config.json is not a run's config.json",
        "run --out page.txt": "must be a file that ends in .html",
        "run --out no/page.html": "there is no folder no",
        "run --out folder.html": "must be a file",
        "run --out theirs.html": "theirs.html is a file that this script has not written",
        "run --titel x": "--titel",
    }.items():
        assert named in refused(report.main, *args.split()), args
        assert sorted(tmp_path.rglob("*")) == before
    assert (tmp_path / "theirs.html").read_text() == "<p>kept</p>"


def test_runs_without_a_frechet_distance_have_their_first_score_in_its_table(tmp_path, made):
    few = {"features": {"name": "none", "sha256": ""}, "floor": {"count": 0}}
    for seed in (0, 1):
        final = score(scores={"l1": 0.25 + seed, "psnr": 20.0 + seed}, **few)
        workdir(tmp_path / f"w/seed-{seed}", final, seed=seed)
    page, source = made("w")
    assert page.table("L1, last ↓", "L1, best ↓")[0][0][4].startswith("0.75 ± 0.71")
    assert page.table("Score", "A w") == [[["PSNR (dB) ↑", "20.50 ± 0.71", tables.NONE]]]
    assert "Fréchet distance of" not in source
    assert "L1 of each run" in source
    assert "features none." in page.text
