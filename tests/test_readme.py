"""The examples of the README and of docs/ run as they stand, and their links lead somewhere."""

import re
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import jaxgan
from experiments import recipes
from jaxgan.sampling import export_generator

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "experiments" / "results" / "README.md"]


def example(page, first_words):
    """The block of Python on a page that begins so."""
    blocks = re.findall(r"^```python\n(.*?)^```$", (ROOT / page).read_text(), re.M | re.S)
    (found,) = (block for block in blocks if block.startswith(first_words))
    return found


@pytest.mark.slow
def test_the_notebook_example(monkeypatch, tmp_path):
    """Word for word, but for fewer steps, and for data of the same shape that the test makes."""
    rng = np.random.default_rng(0)
    data = jaxgan.data.Dataset("mnist", rng.integers(0, 256, (300, 28, 28, 1), np.uint8))
    monkeypatch.setattr(jaxgan.data, "load", lambda name: data)
    text = example("README.md", "import jax, jaxgan")
    assert text.count("range(3000)") == 1
    names = {}
    exec(text.replace("range(3000)", "range(2)"), names)
    assert names["images"].shape == (64, 28, 28, 1)
    assert names["images"].dtype == np.uint8
    assert names["state"].step == 2
    assert np.isfinite(float(names["metrics"]["loss_gen"]))
    monkeypatch.chdir(tmp_path)
    jaxgan.images.save_png("grid.png", jaxgan.images.grid(names["images"]))


@pytest.fixture(scope="module")
def tiny():
    gan = recipes.get("tf2_gan").build()
    return gan, jaxgan.init(gan, jax.random.key(0))


def test_the_example_for_several_devices(tiny):
    gan, state = tiny
    names = {"gan": gan, "state": state, "batch": np.zeros((16, 28, 28, 1), np.uint8)}
    exec(example("docs/devices.md", "from jaxgan import parallel"), names)
    assert names["state"].step == 1
    assert len(names["state"].step.sharding.device_set) == 8


@pytest.mark.parametrize("name", ["digits_conditional", pytest.param("digits", marks=pytest.mark.slow)])
def test_an_exported_generator_needs_nothing_of_this_package(tmp_path, name):
    """In a process that cannot import it; any number of latents, and the images that `sample` gives."""
    gan = recipes.get(name).build()
    state = jaxgan.init(gan, jax.random.key(0))
    (tmp_path / "digits.bin").write_bytes(export_generator(gan, state))
    text = example("README.md", "import jax.export")
    assert text.count("generate(z, labels)") == 1
    if not gan.classes:
        text = text.replace("generate(z, labels)", "generate(z)")
    program = text + "assert images.shape == (5, 8, 8, 1) and images.dtype == np.uint8\n"
    program += "import sys; assert not any(name.startswith(('jaxgan', 'flax')) for name in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    generate = jax.export.deserialize((tmp_path / "digits.bin").read_bytes()).call
    labels = jaxgan.sampling.sample_labels(gan, jax.random.key(1), 64)
    z = jaxgan.gan.draw_z(gan, jax.random.key(1), np.arange(64))
    got = np.asarray(generate(z, *([] if labels is None else [labels]))).astype(int)
    assert np.abs(got - np.asarray(jaxgan.sample(gan, state, jax.random.key(1), 64))).max() <= 1


def test_the_quoted_core_is_the_code():
    source = " ".join((ROOT / "jaxgan" / "train_step.py").read_text().split())
    for line in example("README.md", "(loss_gen, loss_disc), pullback").splitlines():
        assert line in source, line


def test_links_lead_somewhere():
    for page in PAGES:
        text = page.read_text()
        links = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'src="([^"]+)"', text)
        for link in links:
            if not link.startswith(("http", "#")):
                assert (page.parent / link.partition("#")[0]).exists(), f"{page.name}: {link}"
