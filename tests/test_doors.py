"""Generated input at every door: it is taken, or refused in one line with status 2, and nothing is left half written.

Commands are called in this process, up to where they would train. With JAXGAN_CASES=334 there are 2,000 cases, for a
night; without it a hundred.
"""

import dataclasses
import io
import json
import os
import shutil
import string
from pathlib import Path
from unittest import mock

import jax
import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from small_data import encoded, folder_of

import jaxgan
from jaxgan import data, recipes
from jaxgan.commands import evaluate, prepare, sample, train
from jaxgan.gan import image_shape
from jaxgan.run.prepare import check_options
from jaxgan.train_step import train_step

pytestmark = pytest.mark.slow
SOME = settings(
    phases=[Phase.explicit, Phase.generate],  # one that fails is large, and takes minutes to be made smaller
    max_examples=int(os.environ.get("JAXGAN_CASES", "17")),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=20)
NUMBERS = st.one_of(st.integers().map(str), st.floats().map(str), st.sampled_from(["1e400", "-0", "0x10", "1_0"]))
ODD = st.sampled_from(["", "-", "--", "/dev/null", "..", "~", "folder:", "None", "a\nb"])
VALUES = st.one_of(NUMBERS, TEXT, ODD)
GROUPS = [group for group in vars(recipes.get("digits")).values() if dataclasses.is_dataclass(group)]
SETTINGS = [field.name for group in GROUPS for field in dataclasses.fields(group)]
OTHERS = (
    "seed",
    "workdir",
    "devices",
    "parallel",
    "log_every",
    "keep",
    "data_dir",
    "evaluate_every",
    "nonesuch",
    "strict",
)
FLAGS = [f"--{name.replace('_', '-')}" for name in (*SETTINGS, *OTHERS)]


@pytest.fixture
def door(called, capfd, tmp_path, monkeypatch):
    """Calls a command that would train, and gives its status.

    It ends well, or with status 2 and one line, before which there may be notes; the folder that it is in stays empty.
    """
    (here := tmp_path / "here").mkdir()
    monkeypatch.chdir(here)

    def without_training(chosen, folder, seed, options, accepted, scored):
        """What a run checks before its first update; of a recipe of a file the update is traced, too."""
        check_options(chosen, seed, options)
        gan, found = chosen.build(), chosen.open_data(options.data_dir)
        if isinstance(found, data.Source):
            found.load()
        if chosen.file_sha256:
            state = jax.eval_shape(lambda: jaxgan.init(gan, jax.random.key(0)))
            images = jax.ShapeDtypeStruct((chosen.batch_size * gan.training_ratio, *image_shape(gan)), np.uint8)
            jax.eval_shape(lambda state, images: train_step(gan, state, images), state, images)
        return {"step": 0}

    monkeypatch.setattr(train, "run_scored", without_training)

    def call(main, *args):
        capfd.readouterr()
        try:
            called(main, *args)
            status = 0
        except SystemExit as end:
            status = end.code or 0
        err = capfd.readouterr().err
        assert status in (0, 2), err
        assert "Traceback" not in err
        if status:
            errors = [line for line in err.splitlines() if line.startswith("error: ")]
            assert [err.splitlines()[-1]] == errors, err
            assert "\x1b" not in errors[0]
        assert not list(here.iterdir())
        return status

    return call


@SOME
@given(
    st.one_of(st.sampled_from([*recipes.RECIPES]), VALUES),
    st.lists(st.tuples(st.sampled_from(FLAGS), VALUES), max_size=3),
)
@example("digits", [("--data", "folder:\0")])
@example("digits", [("--workdir", "x" * 300)])
@example("tf2_gan", [("--batch-size", "9" * 30)])
@example("digits", [("--steps", "9" * 5000)])
def test_flags(door, recipe, flags):
    door(train.main, *([recipe] if recipe else []), *(part for flag in flags for part in flag))


LITERALS = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), TEXT, st.binary(max_size=5)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.tuples(inner, inner), st.dictionaries(TEXT, inner)),
    max_leaves=4,
).map(lambda value: repr(value).replace("nan", "float('nan')").replace("inf", "float('inf')"))
NUMERIC = "fake.mean()", "fake", "real - fake", "fake[0]", "jnp.zeros((3, 3))", "jnp.int32(1)", "jnp.mean(fake) > 0"
WRONG = "None", "1 / 0", "undefined", "real.sum() + 'x'", "float(jnp.mean(fake))", "next(iter(()))", "fake.mean(axis=7)"
EXPRESSIONS = st.sampled_from([*NUMERIC, *WRONG])
PASSES = st.sampled_from(
    ["p.gen(p.z), p.disc(p.images)", "p.gen(), 0", "p.z, p.nothing", "p.gen(p.images), p.disc(p.z)", "p.gen(p.z)"]
)
START = """
import jax.numpy as jnp
from jaxgan import recipes
from jaxgan.forward_pass import Losses
from jaxgan.gan import Memory
from jaxgan.losses import of_logits
real = fake = jnp.ones(3)
def game_of(gen, of):
    def game(p):
        fake, real = of(p)
        return Losses(gen=gen(fake, real), disc=real.mean())
    return game
def recipe(**changes):
    return recipes.get("tf2_gan").replace(data="digits", **changes)
"""
FILES = st.one_of(
    TEXT,
    LITERALS.map("RECIPE = {}".format),
    st.builds("RECIPE = recipe({}={})".format, st.sampled_from(SETTINGS), LITERALS),
    st.builds(
        "RECIPE = recipe(disc_loss_scale=1.0, loss=of_logits(lambda real, fake: {}, lambda real, fake: {}))".format,
        EXPRESSIONS,
        EXPRESSIONS,
    ),
    st.builds(
        "RECIPE = recipe(game=game_of(lambda fake, real: {}, lambda p: ({})))".format,
        EXPRESSIONS,
        PASSES,
    ),
    st.builds(
        "RECIPE = recipe(memory=Memory(lambda gan, params: {}, lambda memory, seen: {}))".format,
        EXPRESSIONS,
        EXPRESSIONS,
    ),
)


@SOME
@given(FILES)
def test_recipe_files(door, tmp_path, text):
    path = tmp_path / "mine.py"
    path.write_text(START + text, encoding="utf-8")
    door(train.main, path)


SIDE = st.integers(1, 9)
FORMATS = st.sampled_from(["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"])
PIXELS = arrays.arrays(np.uint8, st.tuples(SIDE, SIDE, st.just(3)))
WITH_ALPHA = arrays.arrays(np.uint8, st.tuples(SIDE, SIDE, st.just(4)))
PICTURES = st.one_of(st.binary(max_size=200), st.builds(encoded, PIXELS, FORMATS), WITH_ALPHA.map(encoded))
NAMES = st.text(string.ascii_letters + " .-_é漢", min_size=1, max_size=8).filter(lambda name: name.strip(". "))
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)


HOW = "no", "flip", "cut", "twice", "more"


def damaged(draw, content):
    """Bytes of which one is flipped, that are cut, doubled, or have others put in; or as they are."""
    at, how = (
        draw(st.integers(0, max(0, len(content) - 1))),
        draw(st.sampled_from(["no", "flip", "cut", "twice", "more"])),
    )
    flipped = bytes([content[at] ^ 1 << draw(st.integers(0, 7))]) if content else b""
    return {
        "no": content,
        "flip": content[:at] + flipped + content[at + 1 :],
        "cut": content[:at],
        "twice": content + content,
        "more": content[:at] + draw(st.binary(max_size=4)) + content[at:],
    }[how]


@SOME
@given(st.data())
def test_folders_of_pictures(door, tmp_path_factory, of):
    """Real files, of which some are damaged or no pictures, in folders of any depth."""
    folder = tmp_path_factory.mktemp("pictures")
    for name in of.draw(st.sets(PATHS, max_size=4)):
        path = folder / f"{name}.png"
        if not any(parent.is_file() for parent in path.parents) and not path.exists():
            folder_of(folder, {str(path.relative_to(folder)): damaged(of.draw, of.draw(PICTURES))})
    recipe = of.draw(st.sampled_from(["digits", "digits_conditional", "pictures"]))
    door(train.main, recipe, "--data", f"folder:{folder}")
    shutil.rmtree(folder)


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-5, 2**70), st.floats(), TEXT),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXT, inner, max_size=3)),
    max_leaves=5,
)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A prepared folder of two classes, which is not written to."""
    root, rng = tmp_path_factory.mktemp("prepared"), np.random.default_rng(0)
    images = {f"{'ab'[i % 2]}/{i}.png": rng.integers(0, 256, (8, 8), np.uint8) for i in range(12)}
    command = ["prepare", folder_of(root / "from", images), "--size", "8", "--out", str(root / "to")]
    with mock.patch("sys.argv", command):
        prepare.main()
    return root / "to"


@SOME
@given(st.data())
def test_prepared_folders(door, prepared, tmp_path_factory, of):
    folder = tmp_path_factory.mktemp("copy") / "of"
    shutil.copytree(prepared, folder)
    if of.draw(st.booleans()):
        about = json.loads((folder / "prepared.json").read_text())
        about[of.draw(st.sampled_from([*about, "more"]))] = of.draw(JSON)
        (folder / "prepared.json").write_text(json.dumps(about))
    else:
        file = of.draw(st.sampled_from(sorted(folder.iterdir())))
        file.write_bytes(damaged(of.draw, file.read_bytes()))
    door(train.main, "digits", "--data", f"prepared:{folder}")
    shutil.rmtree(folder)


@st.composite
def npz_files(draw):
    """The bytes of an .npz of some arrays, perhaps damaged, or with a header that promises far more than there is."""
    shapes, sides = st.lists(st.integers(0, 9), max_size=4).map(tuple), st.integers(1, 9)
    kinds = st.sampled_from([np.float32, np.int64, np.uint8, "U2"])
    images = arrays.arrays(np.uint8, st.tuples(st.integers(0, 12), sides, sides, st.sampled_from([1, 3])))
    values = {"images": st.one_of(images, arrays.arrays(kinds, shapes)), "labels": arrays.arrays(kinds, shapes)}
    names = draw(st.sets(st.sampled_from(["images", "labels", "class_names", "other"])))
    file = io.BytesIO()
    np.savez(file, **{name: draw(values.get(name, values["images"])) for name in names})
    content = file.getvalue()
    if draw(st.booleans()):  # as long as before
        more = draw(st.sampled_from([b"9", b"-", b"9" * 12]))
        content = content.replace(b"'shape': (", b"'shape': (" + more).replace(b" " * len(more) + b"\n", b"\n", 1)
    return damaged(draw, content)


@SOME
@given(npz_files())
@example(b"")
@example(b"\x80\x04cos\nsystem\n(S'touch run'\ntR.")  # a pickle
def test_arrays_in_files(door, tmp_path, content):
    path = tmp_path / "some.npz"
    path.write_bytes(content)
    with mock.patch.object(evaluate, "Scorer", side_effect=lambda *args: evaluate.fail("taken")):
        assert door(evaluate.main, "--samples", path, "--against", path, "--features", "mnist") == 2


@SOME
@given(st.data())
def test_workdirs(door, tmp_path_factory, of):
    """As another command reads one."""
    kept, folder = Path(__file__).parent / "kept", tmp_path_factory.mktemp("copy") / "run"
    shutil.copytree(kept / "run", folder)
    path = folder / of.draw(st.sampled_from(["config.json", "metrics.jsonl"]))
    if of.draw(st.booleans()) and path.suffix == ".json":
        config = json.loads(path.read_text())
        config[of.draw(st.sampled_from([*config]))] = of.draw(JSON)
        path.write_text(json.dumps(config))
    else:
        path.write_bytes(damaged(of.draw, path.read_bytes()))
    before = {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    door(sample.main, folder, "--recipe", kept / "tiny.py", "--count", "1", "--out", folder.parent / "grid.png")
    assert before == {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    shutil.rmtree(folder)
