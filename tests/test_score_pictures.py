"""Anybody's pictures are scored against any others: as a run's samples are, with a floor where there can be one."""

import json
import os

import numpy as np
import pytest
from PIL import Image
from small_run import few_subsets, recipe

from jaxgan import data, evaluation
from jaxgan.commands import evaluate, nearest_sheet, pictures, sample, scoring
from jaxgan.data import DataError
from jaxgan.data.arrays import npz
from jaxgan.evaluation import cache, pairs
from jaxgan.images import save_png
from jaxgan.run import Options, run

DIGITS = data.load("digits")


@pytest.fixture(scope="module", autouse=True)
def quick_scores(shared_programs, tmp_path_factory):
    few_subsets(shared_programs)
    shared_programs.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The same 220 digits in a folder and in an .npz, 150 others in a folder, 240 in one with train and test."""
    root = tmp_path_factory.mktemp("made")
    images = DIGITS.images
    parts = {"some": images[:220], "few": images[220:370], "both/train": images[400:520], "both/test": images[520:640]}
    for name, some in parts.items():
        (root / name).mkdir(parents=True)
        for i, image in enumerate(some):
            save_png(root / name / f"{i:03d}.png", image)
    np.savez(root / "some.npz", images=images[:220], labels=DIGITS.labels[:220])
    np.savez(root / "real.npz", images=images[700:1000])
    return root


@pytest.fixture
def scored(made, tmp_path):
    """Scores pictures by the command, and gives what it writes."""

    def call(samples, against, *flags):
        file = tmp_path / "scores.json"
        names = (
            of if of == "digits" else str(made / of) if of.endswith("npz") else f"folder:{made / of}"
            for of in (samples, against)
        )
        samples, against = names
        evaluate.main(["--samples", samples, "--against", against, *map(str, flags), "--json", str(file)])
        return json.loads(file.read_text())

    return call


@pytest.mark.slow
def test_the_samples_of_a_run_have_the_scores_that_the_run_has(scored, tmp_path, made):
    run(recipe(), tmp_path / "w", 0, Options(devices=1, sample_every=100))
    drawn = made / "drawn.npz"
    sample.main([str(tmp_path / "w"), "--count", "300", "--npz", str(drawn)])
    sheet = tmp_path / "sheet.png"
    evaluate.main([str(tmp_path / "w"), "--count", "300", "--json", str(tmp_path / "w.json"), "--nearest", str(sheet)])
    with Image.open(sheet) as picture:
        assert picture.size > (500, 500)
    trained = recipe().load_data()  # of the generator's size
    np.savez(made / "trained.npz", images=trained.images, labels=trained.labels)
    of_run = json.loads((tmp_path / "w.json").read_text())
    of_pictures = scored("drawn.npz", "trained.npz", "--features", "digits")
    assert of_pictures["scores"] == of_run["scores"]  # bit-equal
    assert of_pictures["floor"] == of_run["floor"]
    assert scoring.unit(of_pictures) == scoring.unit(of_run)
    assert scoring.differences(of_pictures, of_run) == []
    assert "step" not in of_pictures
    with np.load(drawn) as file:
        sha256 = data.Dataset("drawn", file["images"]).sha256()
    assert of_pictures["samples"] == {"data": str(drawn), "count": 300, "sha256": sha256}


@pytest.mark.slow
def test_a_folder_and_a_file_of_the_same_pictures_have_the_same_scores(scored, made, capsys):
    """In halves of the real ones, of which one makes the floor; the numbers are those of the library's functions."""
    of_folder, of_file = (
        scored("some", "real.npz", "--features", "digits"),
        scored("some.npz", "real.npz", "--features", "digits"),
    )
    for name in ("scores", "floor", "features", "reference"):
        assert of_folder[name] == of_file[name]
    assert of_folder["samples"]["sha256"] == of_file["samples"]["sha256"]
    out = capsys.readouterr().out
    assert "150 of 220 pictures of folder:" in out
    assert "against 150 real images" in out
    assert "second half), features digits" in out
    assert "the floor is of 150 other real images" in out
    real = DIGITS.images[700:1000]
    halves = [real[which] for which in evaluation.scores.halves(300)]
    first, second = (evaluation.embed(evaluation.classifier("digits"), half) for half in halves)
    taken = evaluation.embed(evaluation.classifier("digits"), evaluation.scores.choice(DIGITS.images[:220], 150))
    assert of_file["scores"]["frechet_distance"] == pytest.approx(
        evaluation.frechet_distance(taken.features, second.features)
    )
    assert of_file["floor"]["frechet_distance"] == pytest.approx(
        evaluation.frechet_distance(first.features, second.features)
    )
    new = {"frechet_infinity", "gaussian_mmd", "sliced_wasserstein", "realism", "authpct"}
    assert of_file["scores"].keys() >= new <= of_file["floor"].keys()
    assert "label_agreement" not in of_file["scores"]  # the real ones have no labels
    known = scored("some.npz", "digits")
    assert known["scores"]["label_agreement"] > 0.98 < known["floor"]["label_agreement"]
    np.savez(made / "parity.npz", images=DIGITS.images[:220], labels=DIGITS.labels[:220] % 2)
    other = scored("parity.npz", "digits")  # other classes than those of the real ones
    assert "label_agreement" not in other["scores"].keys() | other["floor"].keys()


def test_without_a_floor_all_real_pictures_are_compared_with(scored, capfd):
    found = scored("some", "real.npz", "--no-floor", "--features", "digits")
    everything = [
        evaluation.embed(evaluation.classifier("digits"), x).features
        for x in (DIGITS.images[:220], DIGITS.images[700:1000])
    ]
    assert found["scores"]["frechet_distance"] == pytest.approx(evaluation.frechet_distance(*everything))
    assert (found["count"], found["reference"]["count"], found["floor"]) == (220, 300, {"count": 0})
    assert {"nearest_train", "authpct"} <= found["scores"].keys()
    assert "memorized" not in found["scores"]  # there is nothing unseen to compare with
    assert "there is no floor" in capfd.readouterr().out
    assert scoring.differences(found, scored("some", "real.npz", "--features", "digits"))
    capfd.readouterr()
    few = scored("some", "few", "--features", "digits")  # by itself, where there are too few to be halved
    assert (few["reference"]["count"], few["floor"]) == (150, {"count": 0})
    said = capfd.readouterr()
    assert "are too few to be halved, and there is no floor" in said.out
    assert ", all of them), features digits" in said.out


def test_pictures_in_grey_among_those_in_colour_are_in_colour(scored, made):
    """As PNGs of few colours are saved; of one size, and no others."""
    (made / "mixed").mkdir()
    for i, image in enumerate(np.repeat(DIGITS.images[:140], 3, axis=3)):
        save_png(made / "mixed" / f"{i:03d}.png", image[..., : 1 if i % 9 == 4 else 3])
    np.savez(made / "rgb.npz", images=np.repeat(DIGITS.images[:140], 3, axis=3))
    mixed, rgb = (scored(of, "rgb.npz", "--features", "digits") for of in ("mixed", "rgb.npz"))
    assert mixed["samples"]["sha256"] == rgb["samples"]["sha256"]
    save_png(made / "mixed" / "large.png", np.zeros((9, 8, 3), np.uint8))
    with pytest.raises(DataError, match="images must be of one shape, but 000"):
        pictures.opened(f"folder:{made / 'mixed'}").load()


def test_splits_are_taken_as_they_are(scored):
    test, train = (scored("some", "both", "--features", "digits", "--reference", split) for split in ("test", "train"))
    assert (test["reference"]["split"], test["reference"]["count"], test["floor"]["count"]) == ("test", 120, 120)
    embedded = [
        evaluation.embed(evaluation.classifier("digits"), x).features
        for x in (DIGITS.images[400:520], DIGITS.images[520:640])
    ]
    expected = evaluation.frechet_distance(*embedded)
    assert (
        test["floor"]["frechet_distance"]
        == pytest.approx(expected)
        == pytest.approx(train["floor"]["frechet_distance"])
    )
    assert test["scores"]["frechet_distance"] != train["scores"]["frechet_distance"]
    assert test["scores"]["nearest_train"] == train["scores"]["nearest_train"]  # of the train split both times


def test_copies_of_the_real_pictures_are_told_and_shown(scored, made, tmp_path, monkeypatch):
    """Each row of the sheet is a sample, a gap, and its nearest real pictures, by a search of one's own."""
    shown = []
    grid = nearest_sheet.grid
    monkeypatch.setattr(
        nearest_sheet, "grid", lambda tiles, columns: shown.append((tiles, columns)) or grid(tiles, columns=columns)
    )
    named = nearest_sheet.named
    monkeypatch.setattr(nearest_sheet, "named", lambda picture, names: shown.append(names) or named(picture, names))
    images = np.concatenate([DIGITS.images[:150], DIGITS.images[710:740]])
    np.savez(made / "copies.npz", images=images)
    found = scored("copies.npz", "real.npz", "--no-floor", "--features", "digits", "--nearest", tmp_path / "sheet.png")
    assert found["scores"]["authpct"] < 100 * 150 / 180
    with Image.open(tmp_path / "sheet.png") as picture:
        assert picture.height > picture.width / 2 > 200
    (tiles, columns), names = shown
    assert columns == 8
    rows = tiles.reshape(10, 8, 8, 8, 1)
    np.testing.assert_array_equal(rows[:5, 0], images[:5])
    assert (rows[:, 1] == 255).all()
    assert {x.tobytes() for x in rows[5:, 0]} <= {x.tobytes() for x in images[150:]}
    np.testing.assert_array_equal(rows[5:, 0], rows[5:, 2])
    assert names[5:] == ["closest 0.00"] * 5
    assert all(name.startswith("first ") and float(name[6:]) > 0 for name in names[:5])
    features = evaluation.classifier("digits")
    real = evaluation.embed(features, DIGITS.images[700:1000]).features.astype(float)
    for row in rows[:5]:
        distances = np.sqrt(np.sum((evaluation.embed(features, row[:1]).features.astype(float) - real) ** 2, axis=1))
        np.testing.assert_array_equal(row[2:], DIGITS.images[700:1000][np.argsort(distances)[:6]])


@pytest.mark.parametrize("piece", [5, 2**22])
def test_the_nearest_few_are_those_by_sorting(piece, monkeypatch):
    monkeypatch.setattr(pairs, "BLOCK", piece)
    a, b = np.random.default_rng(0).normal(size=(2, 300, 4))
    distances = np.linalg.norm(a[:, None] - b, axis=-1)
    for k in (1, 40, 300):
        np.testing.assert_array_equal(pairs.nearest_few(a, b, k), np.argsort(distances, axis=1)[:, :k])


class Harm:
    """What makes a folder where it is unpickled."""

    def __init__(self, place):
        self.place = place

    def __reduce__(self):
        return os.mkdir, (self.place,)


@pytest.fixture(scope="module")
def wrong(made):
    """Files that hold no pictures that could be scored."""
    images = DIGITS.images
    objects = np.empty(120, object)
    objects[:] = [Harm(str(made / "harm"))] * 120
    np.savez(made / "objects.npz", images=objects)
    np.savez(made / "labels.npz", images=images[:120], labels=objects)
    with (made / "pickle.npz").open("wb") as file:
        np.save(file, objects)
    with (made / "array.npz").open("wb") as file:
        np.save(file, images)
    np.savez(made / "other.npz", pictures=images)
    np.savez(made / "floats.npz", images=images / 255)
    np.savez(made / "flat.npz", images=images[:120, :, :, 0])
    np.savez(made / "hundred_labels.npz", images=images[:120], labels=np.arange(100))
    np.savez(made / "colour.npz", images=np.repeat(images[:120], 3, axis=3))
    np.savez(made / "alpha.npz", images=np.repeat(images[:120], 4, axis=3))
    np.savez(made / "large.npz", images=np.repeat(images[:120], 2, axis=1))
    np.savez(made / "ninety.npz", images=images[:90])
    (made / "damaged.npz").write_bytes((made / "some.npz").read_bytes()[:-900])
    (made / "empty.npz").write_bytes(b"")
    (made / "walk.mp4").write_bytes(b"\0\0\0\x18ftypmp42")
    (made / "film").mkdir()
    (made / "film" / "walk.mp4").write_bytes(b"\0\0\0\x18ftypmp42")
    return made


REFUSED = {
    "": "name either the WORKDIR of a run of experiments.train, or pictures: --samples A --against B",
    "{m} --samples {m}/some.npz --against digits": "name either the WORKDIR",
    "{m} --against digits": "name either the WORKDIR",
    "--samples {m}/some.npz": "--samples and --against belong together",
    "--against {m}/some.npz": "--samples and --against belong together",
    "{m} --no-floor": "--no-floor belongs to --samples",
    "--samples {m}/some.npz --against digits --weights best": "--weights belongs to a run",
    "--samples {m}/some.npz --against digits --seed 3": "--seed belongs to a run",
    "--samples {m}/some.npz --against digits --data digits": "--data belongs to a run",
    "--samples {m}/some.npz --against digits --count 99": "--count must be at least 100, not 99",
    "--samples {m}/some.npz --against digits --count 221": "some.npz has 220 pictures",
    "--samples {m}/some.npz --against digits --nearest s.jpg": "--nearest s.jpg must be a file that ends in .png",
    "--samples {m}/some.npz --against digits --nearest {m}/no/s.png": "there is no folder",
    "--samples {m}/some.npz --against digits --features vgg": "--features vgg: there are",
    "--samples {m}/some.npz --against folder:{m}/both --no-floor": "--no-floor: folder:",
    "--samples {m}/some.npz --against {m}/real.npz --no-floor --reference train": "--reference train: there is no",
    "--samples folder:{m}/both --against digits": "has the splits train, test; name one set of pictures",
    "--samples {m}/some --against digits": "some is a folder; give folder:",
    "--samples {m}/walk.mp4 --against digits": "walk.mp4 is a file; name folder:PATH",
    "--samples folder:{m}/walk.mp4 --against digits": "there is no folder",
    "--samples folder:{m}/film --against digits": "walk.mp4 is not an image that can be read",
    "--samples folder:{m}/missing --against digits": "there is no folder",
    "--samples {m}/missing.npz --against digits": "missing.npz: there is no such file",
    "--samples {m}/some.npz --against {m}/missing.npz": "missing.npz: there is no such file",
    "--samples {m}/objects.npz --against digits": "objects.npz holds Python objects, or is no .npz",
    "--samples {m}/labels.npz --against digits": "labels.npz holds Python objects, or is no .npz",
    "--samples {m}/some.npz --against {m}/pickle.npz": "pickle.npz holds Python objects, or is no .npz",
    "--samples {m}/array.npz --against digits": "array.npz holds no arrays by name, and no array named images",
    "--samples {m}/other.npz --against digits": "other.npz holds pictures, and no array named images",
    "--samples {m}/floats.npz --against digits": "images must be uint8 (0 to 255) of shape [N, H, W, C], not float64",
    "--samples {m}/flat.npz --against digits": "not uint8 of shape [120, 8, 8]",
    "--samples {m}/hundred_labels.npz --against digits": "hundred_labels.npz: labels",
    "--samples {m}/damaged.npz --against digits": "damaged.npz is no .npz file that can be read",
    "--samples {m}/empty.npz --against digits": "empty.npz is no .npz file that can be read",
    "--samples {m}/colour.npz --against digits": "are 8x8 in colour, and those of digits 8x8 in grey; bring",
    "--samples {m}/some.npz --against {m}/large.npz": "are 8x8 in grey, and those of ",
    "--samples {m}/alpha.npz --against {m}/alpha.npz": "images must be grey (C = 1) or RGB (C = 3), not of 4 channels",
    "--samples {m}/ninety.npz --against digits": "ninety.npz: 90 pictures are too few to be compared; 100 are needed",
    "--samples {m}/some.npz --against {m}/ninety.npz": "ninety.npz: 90 pictures are too few to be compared",
}


@pytest.mark.parametrize("args", REFUSED)
def test_what_cannot_be_scored_is_one_line(args, wrong, refused):
    said = refused(evaluate.main, *args.format(m=wrong).split())
    assert REFUSED[args] in said
    assert not (wrong / "harm").exists()


def test_the_file_that_would_do_harm_would_have_done_it(wrong, tmp_path):
    """That the test above can fail."""
    with np.load(wrong / "objects.npz", allow_pickle=True) as file:
        file["images"]
    assert (wrong / "harm").is_dir()
    (wrong / "harm").rmdir()
    with pytest.raises(DataError, match="holds Python objects"):
        npz(str(wrong / "objects.npz"))


def test_only_what_is_counted_is_read():
    reads = []

    class Items:
        def __len__(self):
            return 5000

        def __getitem__(self, number):
            reads.append(number)
            return DIGITS.images[number % 1797]

    source = data.of_items("items", Items())
    reads.clear()
    found = pictures.chosen(source, 120)
    assert found.size == 120
    wanted = evaluation.scores.choice(np.arange(5000), 120)
    np.testing.assert_array_equal(found.images, DIGITS.images[wanted % 1797])
    assert len(reads) < 200  # some more for the digest


def test_a_floor_that_an_older_version_has_kept_is_not_taken_for_one_of_all_scores(monkeypatch):
    """The scores are part of what a kept floor is known by, so that a new one of them makes another file."""
    keys, by = [], scoring.scorer(recipe())
    monkeypatch.setattr(cache, "cached", lambda decided_by, make: keys.append(decided_by) or make())
    floor = by.floor(200)
    (key,) = (key for key in keys if key[0] == "floor")
    assert set(floor) - {"count", "duplicates"} <= set(key[1])
    assert floor.keys() >= {"frechet_infinity", "gaussian_mmd", "sliced_wasserstein", "realism", "authpct"}
