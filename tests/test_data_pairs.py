"""Pictures of two kinds, through every path: folders, memory, streaming, a run, its samples and its scores."""

import dataclasses
import json
import shutil

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_data import opened

import jaxgan
from jaxgan import Losses, data, images, parallel, recipes
from jaxgan.commands import prepare, sample
from jaxgan.data import DataError, Dataset, of_items, stream
from jaxgan.gan import Batch
from jaxgan.networks.layers import Conv, flat_logits
from jaxgan.run import Options, run

pytestmark = pytest.mark.usefixtures("quick_programs")

KEY = jax.random.key(0)


class Paint(nn.Module):
    """Grey [B, 8, 8, 1] -> colour [B, 8, 8, 3]."""

    @nn.compact
    def __call__(self, z, condition, context):
        return nn.tanh(Conv(3, 3)(nn.relu(Conv(8, 3)(condition))))


class OfBoth(nn.Module):
    @nn.compact
    def __call__(self, images, condition, context):
        return flat_logits(nn.leaky_relu(Conv(8, 3, 2)(jnp.concatenate([images, condition], axis=-1))))


@pytest.fixture(autouse=True)
def _read_little_ahead(monkeypatch):
    monkeypatch.setattr(data.streaming, "BUFFER", 2**13)  # of data this small, 64 MiB are thousands of epochs


def write(folder, kinds, count=20, sizes=(8, 8)):
    """Pictures of random colours, in a folder for each kind; those of one number are of one colour."""
    rng = np.random.default_rng(0)
    for i in range(count):
        colour = rng.integers(0, 256, 3).astype(np.uint8)
        for kind in kinds:
            (folder / kind).mkdir(parents=True, exist_ok=True)
            picture = np.broadcast_to(colour, (*sizes, 3))
            images.save_png(folder / kind / f"{i:03d}.png", np.ascontiguousarray(picture))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    found = tmp_path_factory.mktemp("pairs")
    write(found, ("a", "b"))  # by name, the first is the condition
    return found


SHAPES = {"image_shape": (8, 8, 3), "others": {"condition": (8, 8, 1)}}


def test_pairs_stay_together_in_memory_and_streamed_and_a_tenth_is_held_out(folder):
    train, test = (data.open_source(f"pairs:{folder}", split=split, **SHAPES) for split in ("train", "test"))
    assert (train.size, test.size, train.other_shapes) == (18, 2, {"condition": (8, 8, 1)})
    memory = train.load()
    for part in ((0, 1), (1, 2)):
        streamed = stream(train, KEY, 3, 6, part)
        for step in (3, 4, 5):
            want, got = memory.batch(KEY, step, 6, part), next(streamed)
            jax.tree.map(np.testing.assert_array_equal, got, want)
            grey = np.asarray(want.others["condition"], int)[:, 0, 0, 0]
            np.testing.assert_allclose(grey, want.images[:, 0, 0] @ [0.299, 0.587, 0.114], atol=1)
        streamed.close()
    seen = {tuple(x[0, 0]) for x in memory.images}
    assert seen.isdisjoint({tuple(x[0, 0]) for x in test.load().images})
    assert train.digest() == test.digest()


def test_halves_of_a_picture_are_a_pair(tmp_path):
    left, right = np.full((6, 8, 3), 10, np.uint8), np.full((6, 8, 3), 200, np.uint8)
    for i in range(3):
        images.save_png(tmp_path / f"{i}.png", np.concatenate([left, right], axis=1))
    found = data.load(f"pairs:{tmp_path}")
    assert found.images.shape == (2, 6, 8, 3)
    assert (found.images == 200).all()
    assert (found.others["condition"] == 10).all()


def test_folders_of_train_and_test(tmp_path):
    for part, count in (("train", 4), ("val", 3)):
        write(tmp_path / part, ("a", "b"), count)
    assert [data.open_source(f"pairs:{tmp_path}", split=s).size for s in ("train", "test")] == [4, 3]
    for part, count in (("trainA", 5), ("trainB", 4), ("testA", 2), ("testB", 3)):
        write(tmp_path / "cycle", (part,), count)
    train, test = (data.open_source(f"domains:{tmp_path / 'cycle'}", split=s) for s in ("train", "test"))
    assert [(x.size, x.unpaired["other"].size) for x in (train, test)] == [(4, 5), (3, 2)]


def test_unpaired_domains_are_permuted_on_their_own_in_every_epoch():
    """In memory, streamed, and in a run's program: each epoch has every example of either domain once."""
    first = np.arange(6, dtype=np.uint8).reshape(6, 1, 1, 1) * np.ones((1, 2, 2, 1), np.uint8)
    second = np.arange(10, 14, dtype=np.uint8).reshape(4, 1, 1, 1) * np.ones((1, 2, 2, 1), np.uint8)
    found = Dataset("two", first, unpaired={"other": Dataset("second", second)})
    got = [found.batch(KEY, step, 2) for step in range(12)]
    for values, size in (([b.images for b in got], 6), ([b.others["other"] for b in got], 4)):
        epochs = np.concatenate(values)[:, 0, 0, 0].reshape(-1, size)
        assert len({tuple(sorted(epoch)) for epoch in epochs}) == 1
        assert len({tuple(epoch) for epoch in epochs}) > 1
    source = dataclasses.replace(of_items("two", list(first)), unpaired={"other": of_items("second", list(second))})
    streamed = stream(source, KEY, 1, 2)
    jax.tree.map(np.testing.assert_array_equal, [next(streamed) for _ in range(3)], got[1:4])
    streamed.close()


def game(p):
    """Both domains, each a mean that metrics show; each player descends a function of its own parameters."""
    made, real = p.gen(p.z), p.disc(p.images)
    other = jnp.mean(p.others["other"])
    return Losses(jnp.mean(made**2), jnp.mean(real**2), {"of_images": jnp.mean(p.images), "of_other": other})


class Dot(nn.Module):
    @nn.compact
    def __call__(self, x, labels, context):
        return nn.Dense(4)(x.reshape(len(x), -1)).reshape(-1, 2, 2, 1)


class Value(nn.Module):
    @nn.compact
    def __call__(self, x, labels, context):
        return nn.Dense(1)(x.reshape(len(x), -1))[:, 0]


@pytest.mark.parametrize("stream_it", [False, True])
def test_a_run_takes_unpaired_domains_in_their_order(tmp_path, stream_it):
    rng = np.random.default_rng(0)
    first, second = (rng.integers(0, 256, (n, 2, 2, 1), np.uint8) for n in (6, 5))

    def two():
        if not stream_it:
            return Dataset("two", first, unpaired={"other": Dataset("second", second)})
        own, other = of_items("two", list(first)), of_items("second", list(second))
        return dataclasses.replace(own, unpaired={"other": other})

    base = recipes.get("tf2_gan").replace(gen=Dot(), disc=Value(), game=game, others=(("other", (2, 2, 1)),))
    recipe = base.replace(data=two, batch_size=4, steps=5, z_size=3, image_range=(0.0, 255.0))
    run(recipe, tmp_path / "run", options=Options(devices=2, log_every=1, sample_every=100, stream=stream_it))
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    whole = Dataset("two", first, unpaired={"other": Dataset("second", second)})
    key = jax.random.key(0, impl="threefry2x32")
    for line in lines:
        batch = whole.batch(key, line["step"] - 1, 4)
        np.testing.assert_allclose(line["of_images"], batch.images.mean(), rtol=1e-5)
        np.testing.assert_allclose(line["of_other"], batch.others["other"].mean(), rtol=1e-5)


@pytest.mark.slow
def test_a_conditional_run_shows_condition_output_and_target(folder, tmp_path, monkeypatch):
    """Trained on two devices, resumed, sampled: held-out conditions, in rows of three."""
    base = recipes.get("tf2_gan").replace(gen=Paint(), disc=OfBoth(), z_size=1, image_range=(-1.0, 1.0))
    recipe = base.replace(data=f"pairs:{folder}", others=(("condition", (8, 8, 1)),), condition="condition")
    recipe = recipe.replace(batch_size=4, steps=4, mirror=True)
    options = Options(devices=2, log_every=1, sample_every=2)
    run(recipe, tmp_path / "run", options=options)
    picture = opened(tmp_path / "run" / "samples" / "000004.png")
    assert picture.width < picture.height  # 16 examples, two to a row, each three pictures wide
    shown = recipe.held_out(3)
    assert (shown.images.shape, shown.labels.shape) == ((3, 8, 8, 3), (3, 8, 8, 1))
    monkeypatch.setattr(recipes, "of_run", lambda *_: recipe)
    sample.main(
        [str(tmp_path / "run"), "--count", "3", "--npz", str(tmp_path / "x.npz"), "--out", str(tmp_path / "x.png")]
    )
    drawn = np.load(tmp_path / "x.npz")
    assert {name: drawn[name].shape for name in drawn} == {
        "images": (3, 8, 8, 3), "condition": (3, 8, 8, 1), "targets": (3, 8, 8, 3)
    }  # fmt: skip
    np.testing.assert_array_equal(drawn["targets"], shown.images)
    moved = tmp_path / "moved"
    shutil.copytree(folder, moved)
    monkeypatch.setattr(recipes, "of_run", lambda *_: recipe.replace(data="pairs:gone"))
    words = ["--data", f"pairs:{moved}", "--count", "3", "--npz", str(tmp_path / "y.npz")]
    sample.main([str(tmp_path / "run"), *words])
    np.testing.assert_array_equal(np.load(tmp_path / "y.npz")["images"], drawn["images"])


@pytest.mark.parametrize(("given", "message"), [
    ({"others": {"mask": np.zeros((2, 4, 4, 1), np.uint8)}}, "there are 3 images, and 2 of 'mask'"),
    ({"others": {"mask": np.zeros((3, 4, 4, 1), np.int32)}}, "mask must be uint8 .* not int32"),
])  # fmt: skip
def test_wrong_arrays(given, message):
    with pytest.raises(DataError, match=message):
        Dataset("mine", np.zeros((3, 4, 4, 1), np.uint8), **given)


def test_wrong_folders_and_recipes(tmp_path, folder):
    write(tmp_path, ("a", "b"), 3)
    (tmp_path / "b" / "001.png").rename(tmp_path / "b" / "other.png")
    with pytest.raises(DataError, match=r"001 is in a alone; pairs have the same name in both folders"):
        data.open_source(f"pairs:{tmp_path}")
    with pytest.raises(DataError, match=r"domains:.* must hold two folders"):
        data.open_source(f"domains:{folder / 'a'}")
    gan = recipes.get("tf2_gan").replace(others=(("mask", (28, 28, 1)),)).build()
    from jaxgan.run.prepare import _check_data

    with pytest.raises(DataError, match=r"has no 'mask', and the GAN takes one of shape \[28, 28, 1\]"):
        _check_data(Dataset("plain", np.zeros((2, 28, 28, 1), np.uint8)), gan)


def test_floats_and_any_number_of_channels_are_data():
    points = np.random.default_rng(0).normal(size=(50, 2))
    found = Dataset("ring", points)
    assert found.batch(KEY, 0, 4).images.shape == (4, 2)
    assert found.sha256() != Dataset("ring", points[::-1]).sha256()
    assert Dataset("many", np.zeros((3, 4, 4, 7), np.uint8)).shape == (4, 4, 7)
    plot = images.drawn(points)
    assert plot.shape == (images.WIDTH, images.WIDTH, 1)
    assert 50 * 9 >= (plot < 255).sum() > 200
    assert images.drawn(np.zeros((4, 8, 8, 4), np.uint8)).shape[-1] == 4
    with pytest.raises(ValueError, match=r"type float64 and shape \[3\] are not drawn"):
        images.drawn(np.zeros((4, 3)))


def test_transparent_pictures_keep_their_alpha_where_four_channels_are_asked_for(tmp_path):
    from PIL import Image

    picture = np.zeros((8, 8, 4), np.uint8)
    picture[:4] = [255, 0, 0, 255]  # the lower half is transparent black
    Image.fromarray(picture).save(tmp_path / "x.png")
    kept = data.load(f"folder:{tmp_path}", image_shape=(4, 4, 4)).images[0]
    assert kept.shape == (4, 4, 4)
    assert kept[0, 0].tolist() == [255, 0, 0, 255]
    assert kept[3, 0, 3] == 0
    seen = kept[kept[..., 3] > 8]
    assert (seen[:, 0] > 200).all()  # no black from beside it
    on_white = data.load(f"folder:{tmp_path}", image_shape=(4, 4, 3)).images[0]
    assert on_white[3, 0].tolist() == [255, 255, 255]


def test_batches_of_rows_and_a_batch_of_rows_are_the_same_program_text():
    """`train_steps` takes one array of rows, or one for each array."""
    gan = recipes.get("tf2_gan").build()
    state = jaxgan.init(gan, KEY)
    dataset = Batch(np.random.default_rng(0).integers(0, 256, (9, 28, 28, 1), np.uint8))
    rows = np.arange(8, dtype=np.int32).reshape(2, 4)
    steps = jax.jit(jaxgan.train_steps, static_argnums=0)
    one, other = steps(gan, state, dataset, rows, 2), steps(gan, state, dataset, Batch(rows), 2)
    assert parallel.FORMS
    jax.tree.map(np.testing.assert_array_equal, one[1], other[1])


def layout(tmp_path, kind):
    """A folder of pictures of the kind in each of the ways that it may be laid out, by a name for it."""
    both = [("train/a", "train/b", "test/a", "test/b"), ("trainA", "trainB", "testA", "testB")]
    for i, kinds in enumerate([("a", "b"), both[0], both[1] if kind == "domains" else ()]):
        if kinds:
            write(tmp_path / f"in{i}", kinds, sizes=(10, 10))
            yield tmp_path / f"in{i}"
    if kind == "pairs":
        write(tmp_path / "side", ("train", "val"), sizes=(10, 20))
        yield tmp_path / "side"


@pytest.mark.parametrize("kind", ["pairs", "domains"])
def test_prepared_pictures_are_what_they_were_before(tmp_path, called, kind):
    names = {"pairs": "condition", "domains": "other"}
    shapes = {"image_shape": (8, 8, 3), "others": {names[kind]: (8, 8, 3)}}
    for folder in layout(tmp_path, kind):
        out = tmp_path / f"{folder.name}-prepared"
        called(prepare.main, f"{kind}:{folder}", "--size", 8, "--out", out)
        called(prepare.main, f"{kind}:{folder}", "--size", 8, "--out", out)  # again, where all is there
        for split in ("train", "test"):
            before, after = (data.open_source(f"{kind}:{x}", None, split=split, **shapes).load() for x in (folder, out))
            assert before.images.shape[1:] == (8, 8, 3)
            np.testing.assert_array_equal(before.images, after.images)
            others = [x.others["condition"] if kind == "pairs" else x.unpaired["other"].images for x in (before, after)]
            np.testing.assert_array_equal(*others)


def test_what_cannot_be_prepared_or_is_half_prepared_is_one_line(tmp_path, folder, refused):
    def line(of, out="out"):
        return refused(prepare.main, f"{of}", "--size", 8, "--out", tmp_path / out)

    (tmp_path / "one").mkdir()
    images.save_png(tmp_path / "one" / "x.png", np.zeros((8, 7, 3), np.uint8))
    assert "x.png is 7 pixels wide, which are no two halves side by side; mend or remove it" in line(
        f"pairs:{tmp_path}/one"
    )
    with pytest.raises(DataError, match=r"out: it is unfinished; python -m experiments.prepare pairs:.*one --size 8"):
        data.open_source(f"pairs:{tmp_path}/out")
    assert "must hold two folders, one for each domain" in line(f"domains:{tmp_path}/one")
    assert "holds other files (x.png); name another" in line(f"pairs:{folder}", "one")
    assert "is within" in line(f"pairs:{tmp_path}/one", "one/more")
    (tmp_path / "none" / "of").mkdir(parents=True)
    assert "holds 1 folders (of, …); it must hold two, or pictures alone" in line(f"pairs:{tmp_path}/none", "fourth")
    assert "holds neither two folders nor pictures" in line(f"pairs:{tmp_path}/none/of", "fourth")
    assert not (tmp_path / "fourth").exists()
    broken = tmp_path / "broken"
    write(broken, ("a", "b"), count=3)
    (broken / "b" / "001.png").write_text("no picture")
    assert f"remove it, remove {tmp_path}/fifth/b, and say the same again" in line(f"pairs:{broken}", "fifth")
    odd = tmp_path / "odd"
    write(odd, ("a", "b"), count=3)
    (odd / "a" / "002.png").rename(odd / "a" / "003.png")
    assert "002 is in b alone; pairs have the same name" in line(f"pairs:{odd}", "third")
    for side, of in (("a", "a"), ("b", "b")):
        prepare.prepare(prepare.Prepare(f"folder:{odd}/{side}", "8", tmp_path / "apart" / of))
    with pytest.raises(DataError, match="a and b were not prepared of files with the same names; prepare pairs:PATH"):
        data.open_source(f"pairs:{tmp_path}/apart")
