"""The examples of the README and of docs/ run as they stand, and their links lead somewhere."""

import functools
import json
import re
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import jaxgan
from jaxgan import recipes
from jaxgan.sampling import export_generator

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "experiments" / "results" / "README.md"]


def example(page, first_words):
    """The block of Python on a page that begins so."""
    blocks = re.findall(r"^```python\n(.*?)^```$", (ROOT / page).read_text(), re.M | re.S)
    (found,) = (block for block in blocks if block.startswith(first_words))
    return found


@pytest.mark.slow
def test_the_notebook_is_the_readmes_example(monkeypatch, tmp_path):
    """Word for word, and run but for fewer steps: on MNIST, or where that is not there on data of the same shape."""
    rng, mnist = np.random.default_rng(0), ROOT.parent / "shared" / "data" / "tfds"
    if mnist.is_dir():
        monkeypatch.setattr(jaxgan.data, "load", functools.partial(jaxgan.data.load, data_dir=str(mnist)))
    else:
        data = jaxgan.data.Dataset("mnist", rng.integers(0, 256, (300, 28, 28, 1), np.uint8))
        monkeypatch.setattr(jaxgan.data, "load", lambda name: data)
    cells = json.loads((ROOT / "docs" / "quickstart.ipynb").read_text())["cells"]
    text, *others = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    assert text == example("README.md", "import jax, jaxgan").strip()
    assert text.count("range(3000)") == 1
    names = {}
    for code in (text.replace("range(3000)", "range(2)"), *others):
        exec(code, names)
    assert names["images"].shape == (64, 28, 28, 1)
    assert names["images"].dtype == np.uint8
    assert names["state"].step == 2
    assert np.isfinite(float(names["metrics"]["loss_gen"]))
    monkeypatch.chdir(tmp_path)
    jaxgan.images.save_png("grid.png", jaxgan.images.grid(names["images"]))


def test_the_example_for_several_devices():
    gan = recipes.get("tf2_gan").build()
    names = {"gan": gan, "state": jaxgan.init(gan, jax.random.key(0)), "batch": np.zeros((16, 28, 28, 1), np.uint8)}
    exec(example("docs/devices.md", "import jaxgan\nfrom jaxgan import parallel"), names)
    assert names["state"].step == 1
    assert len(names["state"].step.sharding.device_set) == 8


@pytest.mark.slow
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
    z = jaxgan.randomness.draw_z(gan, jax.random.key(1), np.arange(64))
    got = np.asarray(generate(z, *([] if labels is None else [labels]))).astype(int)
    assert np.abs(got - np.asarray(jaxgan.sample(gan, state, jax.random.key(1), 64))).max() <= 1


def test_the_quoted_core_is_the_code():
    source = " ".join((ROOT / "jaxgan" / "train_step.py").read_text().split())
    for line in example("README.md", "(loss_gen, loss_disc), pullback").splitlines():
        assert line in source, line


def record(name):
    return json.loads((ROOT / "experiments" / "results" / f"{name}.json").read_text())


def row(page, recipe):
    """The cells of the row of a recipe in the first table of a text, as numbers where they begin with one."""
    line = next(line for line in page.splitlines() if line.startswith(f"| `{recipe}` |"))
    numbers = [re.match(r"[\d.,]+", cell.strip()) for cell in line.split("|")[2:-1]]
    return [float(number[0].replace(",", "")) for number in numbers]


def test_tables_are_those_of_their_records():
    cpu, on_h100 = (ROOT / "docs" / "speed.md").read_text().split("## On an H100")
    for found in record("benchmark"):
        variants = [found[name]["ms_per_update"] for name in ("shared", "alternating", "torch_eager", "torch_compile")]
        shared, alternating, eager, compiled = variants
        expected = [shared, alternating, found["speedup"], eager, compiled, shared / min(eager, compiled)]
        expected += [found["shared"]["peak_mib"], found["loop"]["percent_of_bare"]]
        expected += [found["first_update_seconds"], found["start_seconds"]]
        assert row(cpu, found["recipe"]) == pytest.approx(expected, rel=0.015, abs=0.005)
    planned, more = (ROOT / "docs" / "devices.md").read_text(), []
    for found in record("h100")["recipes"]:
        shared, other, torch = found["shared"], found["alternating"]["ms"], found["torch eager"]["ms"]
        mib = sum(shared[f"{of}_bytes"] for of in ("argument", "working", "program")) / 2**20
        expected = [shared["ms"], other, other / shared["ms"], torch, shared["ms"] / torch]
        expected += [shared["launches"], shared["launches_run"], shared["busy_ms"], mib]
        assert row(on_h100, found["recipe"]) == pytest.approx(expected, rel=0.015, abs=0.5 if mib < 20 else 0.005)
        more.append(round(100 * shared["launches_run"] / row(planned, found["recipe"])[1]) - 100)
    assert f"was {min(more)} to {max(more)} %\nmore launches" in planned


def test_an_accelerator_that_is_spoken_of_has_a_record_or_can_be_planned_for():
    known = {
        record("h100")["device"].split()[1],
        *(p.stem.upper() for p in (ROOT / "jaxgan/programs/hardware").iterdir()),
    }
    for page in PAGES:
        assert set(re.findall(r"\b[ABHV]\d{2,3}\b", page.read_text())) <= known, page


def test_links_lead_somewhere():
    for page in PAGES:
        text = page.read_text()
        links = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'src="([^"]+)"', text)
        for link in links:
            if not link.startswith(("http", "#")):
                assert (page.parent / link.partition("#")[0]).exists(), f"{page.name}: {link}"


def test_the_functions_that_the_page_on_architecture_follows_are_there_and_as_many():
    sections = (ROOT / "docs" / "architecture.md").read_text().split("\n## ")[2:]
    assert len(sections) == 5
    for section in sections:
        named = set(re.findall(r"`([\w/]+\.py):([\w.]+)`", section))
        for path, name in named:
            assert re.search(rf"^ *(def|class) {name.rpartition('.')[2]}\b", (ROOT / "jaxgan" / path).read_text(), re.M)
        assert f"{len(named)} functions in {len({path for path, _ in named})} files" in section
