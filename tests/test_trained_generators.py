"""What is done with a trained generator: styles, projection, and the flags of `sample` and `project` for them."""

import importlib.util
import shutil
import subprocess

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from common import small_gan
from small_data import NOISE, encoded, folder_of, opened

import jaxgan
from jaxgan import evaluation, images, recipes, styles
from jaxgan.commands import latents, project, sample, train
from jaxgan.evaluation import shipped
from jaxgan.networks import Context, StyleGAN2Disc, StyleGAN2Gen
from jaxgan.projection import project as find
from jaxgan.randomness import draw_z
from jaxgan.run import processes

pytestmark = pytest.mark.usefixtures("quick_programs")

WIDTHS, Z, W, LAYERS = (8, 8, 8), 6, 5, 6  # 16 pixels
KEY = jax.random.key(3)


@pytest.fixture(scope="module")
def styled():
    """A narrow StyleGAN2 whose averaged generator is another than the last, with a mean of w."""
    gan = (
        recipes.get("stylegan2_small")
        .replace(gen=StyleGAN2Gen(WIDTHS, W, 2), disc=StyleGAN2Disc(WIDTHS, W, 2), size="16", width=8, z_size=Z)
        .build()
    )
    state = jaxgan.init(gan, KEY)
    # Images that end at no pixel's largest or smallest value.
    noisy = jax.tree.map(lambda x: x * (0.1 if x.ndim == 4 and x.shape[3] == 3 else 1.1), state.averaged_gen)
    return gan, state.replace(averaged_gen=noisy, memory=state.memory | {"w_mean": jnp.arange(W, dtype=jnp.float32)})


def of_mapping(gan, state, z):
    return gan.gen.apply(state.averaged_gen, z, None, Context(), method="styles")


def test_truncation_moves_w_towards_the_mean_that_training_kept(styled):
    gan, state = styled
    z = draw_z(gan, KEY, jnp.arange(5))
    w = np.asarray(of_mapping(gan, state, z))
    assert w.shape == (5, LAYERS, W)
    np.testing.assert_array_equal(styles.styles(gan, state, z), w)
    np.testing.assert_allclose(styles.styles(gan, state, z, truncation=0.25), 0.25 * w + 0.75 * np.arange(W), rtol=1e-5)
    np.testing.assert_array_equal(
        styles.styles(gan, state, z, truncation=0.0), np.broadcast_to(np.arange(W), w.shape).astype(np.float32)
    )
    assert (styles.styles(gan, state, z, averaged=False) != w).any()
    with pytest.raises(ValueError, match="truncation needs the mean of w"):
        styles.styles(gan, state.replace(memory=()), z, truncation=0.5)


def test_images_of_styles_are_those_of_their_latents(styled):
    gan, state = styled
    z = draw_z(gan, KEY, jnp.arange(70))  # more than are made at once
    made = styles.synthesize(gan, state, styles.styles(gan, state, z))
    assert made.dtype == np.uint8
    of_z = np.asarray(jaxgan.generate(gan, state, z)).astype(int)
    assert np.abs(made.astype(int) - of_z).max() <= 1
    with pytest.raises(ValueError, match=rf"styles must be \[N, {LAYERS}, {W}\], not \[2, {W}\]"):
        styles.synthesize(gan, state, jnp.zeros((2, W)))
    small = small_gan()
    with pytest.raises(ValueError, match="has no styles"):
        styles.styles(small, jaxgan.init(small, KEY), jnp.zeros((1, small.z_size)))


def test_mixing_takes_the_first_layers_of_one_and_the_others_of_another():
    coarse, fine = np.random.default_rng(0).normal(size=(2, 3, LAYERS, W))
    both = np.asarray(styles.mixed(jnp.asarray(coarse), jnp.asarray(fine[:2]), 4))
    for i in range(3):
        for j in range(2):
            np.testing.assert_array_equal(both[i, j], np.float32(np.concatenate([coarse[i, :4], fine[j, 4:]])))


def test_directions_are_the_principal_ones_of_w(styled):
    gan, state = styled
    count = 200
    vectors, deviations = styles.directions(gan, state, KEY, count)
    w = np.asarray(of_mapping(gan, state, draw_z(gan, KEY, jnp.arange(count))))[:, 0].astype(np.float64)
    _, singular, right = np.linalg.svd(w - w.mean(0))
    np.testing.assert_allclose(deviations, singular / np.sqrt(count - 1), rtol=1e-4)
    np.testing.assert_allclose(np.abs(np.sum(vectors * right, axis=1)), 1, rtol=1e-3)
    assert (vectors[np.arange(W), np.abs(vectors).argmax(1)] > 0).all()


def squares(a, b):
    return jnp.mean(jnp.square((a - b) / 127.5), axis=(1, 2, 3))


@pytest.mark.slow
@pytest.mark.parametrize("each_layer", [False, True])
def test_a_picture_that_the_generator_made_is_found_again(styled, each_layer):
    gan, state = styled
    wanted = styles.styles(gan, state, draw_z(gan, jax.random.key(9), jnp.arange(2)))
    targets = np.asarray(styles.synthesize(gan, state, wanted))
    found = find(gan, state, targets, squares, KEY, steps=200, frames=4, each_layer=each_layer)
    assert found.latents.shape == (2, LAYERS, W)
    assert each_layer != (found.latents == found.latents[:, :1]).all()
    assert found.path.shape == (5, 2, 16, 16, 3)
    assert found.distances.shape == (201, 2)
    between = squares(*targets.astype(np.float32)[:, None])[0]
    assert (found.distances[-1] < (0.1 if each_layer else 0.01) * between).all(), (found.distances[[0, -1]], between)
    np.testing.assert_array_equal(found.path[-1], found.images)
    of_latents = np.asarray(styles.synthesize(gan, state, jnp.asarray(found.latents))).astype(int)
    assert np.abs(of_latents - found.images).max() <= 1
    expected = np.mean(np.square((found.images / 127.5) - (targets / 127.5)), axis=(1, 2, 3))
    np.testing.assert_allclose(found.distances[-1], expected, atol=2e-4)
    again = find(gan, state, targets, squares, KEY, steps=200, frames=4, each_layer=each_layer)
    np.testing.assert_array_equal(again.latents, found.latents)


def test_projection_in_z_and_what_has_no_latent_of_a_picture(styled):
    gan = small_gan()
    state = jaxgan.init(gan, KEY)
    targets = np.asarray(jaxgan.sample(gan, state, jax.random.key(9), 3))
    found = find(gan, state, targets, squares, KEY, steps=60)
    assert found.latents.shape == (3, gan.z_size)
    assert (found.distances[-1] < found.distances[0]).all()
    of_z = np.asarray(jaxgan.generate(gan, state, jnp.asarray(found.latents))).astype(int)
    assert np.abs(of_z - found.images).max() <= 1
    with pytest.raises(ValueError, match="each layer has a w only where the generator has styles"):
        find(gan, state, targets, squares, KEY, each_layer=True)
    with pytest.raises(ValueError, match=r"images must be uint8 \[4, 4, 1\], not uint8 \[5, 5, 1\]"):
        find(gan, state, np.zeros((1, 5, 5, 1), np.uint8), squares, KEY)


@pytest.mark.slow
def test_the_perceptual_distance_is_lpips_of_the_classifiers_maps():
    """By hand for one stage's maps at a time; images as they are have none, and what is seen alike is near."""
    rng = np.random.default_rng(0)
    a, b = jnp.asarray(rng.uniform(0, 255, (2, 3, 20, 24, 3)), jnp.float32)
    about, variables = shipped.load("cifar10")
    net = shipped.Classifier(tuple(about["training"]["widths"]), len(about["classes"]))
    expected = np.mean(np.square(np.float64(a) - b) / 127.5**2, axis=(1, 2, 3))
    of_a, of_b = (net.apply(variables, x / 255, Context(), method="maps")[0] for x in (a, b))
    for one, other in zip(of_a, of_b, strict=True):
        units = [x / np.linalg.norm(x, axis=-1, keepdims=True) for x in np.asarray([one, other], np.float64)]
        expected += 2 * (1 - np.sum(units[0] * units[1], axis=-1).mean((1, 2)))
    distance = evaluation.perceptual("cifar10")
    np.testing.assert_allclose(distance(a, b), expected, rtol=2e-3)
    np.testing.assert_array_equal(distance(a, a), np.zeros(3))
    near, far = distance(a + 5, a), distance(a[::-1], a)
    assert (near[::2] < 0.5 * far[::2]).all()
    assert np.isfinite(jax.grad(lambda x: jnp.sum(distance(x, a)))(jnp.asarray(a))).all()


def trained(workdir, *words):
    """A run of one step."""
    of_all = ("--steps", "1", "--batch-size", "8", "--evaluate-every", "0", "--devices", "1")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(processes, "join", lambda **_: None)  # too late: devices are in use
        train.main([*words, "--workdir", str(workdir), *of_all])
    return workdir


@pytest.fixture(scope="module")
def of_digits(tmp_path_factory):
    """A run of a generator without styles."""
    return trained(tmp_path_factory.mktemp("runs") / "digits", "digits")


@pytest.fixture(scope="module")
def runs(of_digits):
    """The folder of that run, and of one of a StyleGAN2 for 16 pixels, `styled`."""
    path = of_digits.parent
    data = folder_of(path / "pictures", {f"{i}.png": NOISE[i : i + 16, :16] for i in range(12)})
    trained(path / "styled", "stylegan2_small", "--data", data, "--width", "16")
    return path


def shape(path):
    width, height = opened(path).size
    return height, width


@pytest.mark.nightly
def test_sample_of_chosen_latents(runs, called, tmp_path):
    run, npz = runs / "styled", tmp_path / "a.npz"

    def drawn(*flags, out="a.png"):
        called(sample.main, run, *flags, "--out", tmp_path / out, "--npz", npz)
        with np.load(npz) as file:
            return dict(file)

    three = drawn("--seeds", "3,7-8")
    assert three["images"].shape == (3, 16, 16, 3)
    alone = drawn("--count", "1", "--seed", "7")
    np.testing.assert_array_equal(alone["images"][0], three["images"][1])
    shutil.copy(npz, tmp_path / "alone.npz")
    drawn("--seeds", "7")
    shutil.copy(npz, tmp_path / "w.npz")
    np.testing.assert_array_equal(drawn("--npz-latents", tmp_path / "w.npz")["images"][0], three["images"][1])
    strip = drawn("--seeds", "3,7", "--truncation", "1", "0.5", "0")
    assert strip["images"].shape == (6, 16, 16, 3)
    np.testing.assert_array_equal(strip["images"][0], three["images"][0])
    np.testing.assert_array_equal(strip["images"][2], strip["images"][5])  # the mean's
    mixed = drawn("--seeds", "3,7", "--mix", "8")["images"]
    assert len(mixed) == 2 * 3  # a corner, the seeds above, the mixed at the left, and what comes of them
    np.testing.assert_array_equal(mixed[1:3], three["images"][:2])
    np.testing.assert_array_equal(mixed[3], three["images"][2])
    sheet = drawn("--directions", "2")
    assert sheet["images"].shape == (14, 16, 16, 3)
    np.testing.assert_allclose(sheet["latents"][3], sheet["latents"][10], atol=1e-6)  # in the middle of each row


@pytest.mark.nightly
def test_a_video_is_a_loop_and_a_gif_where_there_is_no_encoder(runs, called, tmp_path, capfd, monkeypatch):
    run = runs / "styled"
    called(sample.main, run, "--seeds", "1-3", "--interpolate", "4", "--video", tmp_path / "walk.gif")
    gif = opened(tmp_path / "walk.gif")
    assert (gif.n_frames, gif.info.get("loop")) == (12, 0)
    ffmpeg = latents._encoder()
    assert ffmpeg
    called(sample.main, runs / "digits", "--count", "2", "--interpolate", "5", "--video", tmp_path / "walk.mp4")
    said = subprocess.run([ffmpeg, "-i", tmp_path / "walk.mp4", "-f", "null", "-"], capture_output=True, text=True)
    assert "frame=   10" in said.stderr, said.stderr[-500:]
    monkeypatch.setattr(latents, "_encoder", lambda: None)
    capfd.readouterr()
    called(sample.main, run, "--count", "2", "--interpolate", "2", "--video", tmp_path / "other.mp4")
    assert "there is no ffmpeg for" in capfd.readouterr().out
    assert opened(tmp_path / "other.gif").n_frames == 4
    assert not (tmp_path / "other.mp4").exists()


@pytest.mark.nightly
@pytest.mark.parametrize("kind", ["styled", "digits"])
def test_project_finds_latents_that_sample_takes(runs, called, tmp_path, kind, capfd):
    run, npz, out = runs / kind, tmp_path / "p.npz", tmp_path / "p.png"
    called(sample.main, run, "--count", "2", "--seed", "5", "--npz", tmp_path / "made.npz")
    called(project.main, run, tmp_path / "made.npz", "--steps", "12", "--out", out, "--npz", npz)
    with np.load(npz) as file:
        found = dict(file)
    assert set(found) == {"latents", "images", "targets", "distances"}
    side = found["images"].shape[1]
    height, width = shape(out)
    assert round(width / height) == 8 / 2  # the picture, the start, and six of the path, for each of two
    called(sample.main, run, "--npz-latents", npz, "--npz", tmp_path / "again.npz")
    with np.load(tmp_path / "again.npz") as file:
        assert np.abs(file["images"].astype(int) - found["images"]).max() <= 1
    assert found["targets"].shape == (2, side, side, 3 if kind == "styled" else 1)
    said = capfd.readouterr().out
    assert "made.npz [1]: distance" in said
    for i, target in enumerate(found["targets"]):
        images.save_png(tmp_path / f"{i}.png", target)
    called(project.main, run, tmp_path / "0.png", tmp_path / "1.png", "--steps", "12", "--npz", npz)
    with np.load(npz) as file:
        np.testing.assert_array_equal(file["targets"], found["targets"])
    assert (run / "projected.png").is_file()


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("sample digits --truncation 0.7", "--truncation needs a generator with styles, such as stylegan2's"),
        ("sample digits --seeds 1 --mix 2", "--mix needs a generator with styles"),
        ("sample digits --directions 3", "--directions needs a generator with styles"),
        ("sample styled --seeds 3,x", "--seeds must be numbers and ranges of them, such as 3,7,12-20, not '3,x'"),
        ("sample styled --seeds 9-2", "--seeds must be numbers and ranges of them"),
        ("sample styled --mix 3", "--mix SEEDS puts styles into those of --seeds"),
        ("sample styled --truncation nan", "--truncation must be numbers"),
        ("sample styled --directions 0", "--directions must be at least 1, not 0"),
        ("sample styled --directions 999", "--directions must be at most 128, the length of w, not 999"),
        ("sample styled --seeds 1 --directions 1 --video {tmp}/a.mp4", "are different pictures"),
        ("sample styled --video {tmp}/a.avi", "must end in .mp4 or .gif"),
        ("sample styled --count 1 --video {tmp}/a.gif", "--video is a loop through at least two images"),
        ("sample styled --npz-latents {tmp}/none.npz", "there is no such file"),
        ("sample styled --npz-latents {tmp}/bad.npz", "is no npz with an array `latents`"),
        ("sample styled --npz-latents {tmp}/short.npz", "its latents are [3], not [128]"),
        ("sample styled --npz-latents {tmp}/w.npz --truncation 0.5", "those of --npz-latents are w"),
        ("sample digits --npz-latents {tmp}/w.npz", "its latents are [6, 128], not ["),
        ("project styled", "name a PICTURE"),
        ("project", "name the WORKDIR"),
        ("project nowhere {tmp}/16.png", "holds no run"),
        ("project styled {tmp}/17.png", "is 17x17 pixels, and the run's images are 16x16; bring it to that size"),
        ("project styled {tmp}/text.png", "text.png"),
        ("project styled {tmp}/none.png", "none.png"),
        ("project styled {tmp}/bad.npz", "is no npz with an array `images`"),
        ("project styled {tmp}/16.png --steps 3", "--steps must be at least 6, not 3"),
        ("project styled {tmp}/16.png --features nothing", "--features nothing: there are"),
        ("project styled {tmp}/16.png --out {tmp}/a.jpg", "must end in .png"),
        ("project digits {tmp}/8.png --each-layer", "each layer has a w only where the generator has styles"),
    ],
)
def test_what_cannot_be_drawn_or_projected_is_one_line(runs, refused, tmp_path, command, said):
    for side in (8, 16, 17):
        (tmp_path / f"{side}.png").write_bytes(encoded(NOISE[:side, :side]))
    (tmp_path / "text.png").write_text("no picture")
    np.savez(tmp_path / "bad.npz", other=np.zeros(3))
    np.savez(tmp_path / "short.npz", latents=np.zeros((2, 3), np.float32))
    np.savez(tmp_path / "w.npz", latents=np.zeros((1, 6, 128), np.float32))
    name, *words = command.format(tmp=tmp_path).split()
    words = [runs / word if word in ("styled", "digits", "nowhere") else word for word in words]
    assert said in refused({"sample": sample, "project": project}[name].main, *words)
    assert not list(tmp_path.glob("*.gif"))


@pytest.mark.parametrize(("file", "package"), [("gen.onnx", "jax2onnx"), ("gen.bin", "flatbuffers")])
def test_an_export_whose_package_is_missing_is_one_line(of_digits, refused, tmp_path, monkeypatch, file, package):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *args: None if name == package else find(name, *args))
    extra = {"jax2onnx": "onnx", "flatbuffers": "export"}[package]
    said = refused(sample.main, of_digits, "--export", tmp_path / file)
    assert f'there is no {package} here; pip install "jaxgan[{extra}]"' in said
    assert not list(tmp_path.iterdir())
