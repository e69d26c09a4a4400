"""InceptionV3 against torch-fidelity's, with random weights; and how its weights are found and read."""

import hashlib
import io
import sys
import urllib.error
from unittest import mock

import jax
import numpy as np
import pytest
from common import at_night
from fidelity import torch_fidelity

from jaxgan import evaluation
from jaxgan.evaluation import features
from jaxgan.evaluation import inception_weights as weights
from jaxgan.evaluation.inception import InceptionV3, resize

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("quick_programs")]  # the network is large

torch_fidelity()
import torch  # noqa: E402
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3  # noqa: E402
from torch_fidelity.interpolate_compat_tensorflow import interpolate_bilinear_2d_like_tensorflow1x  # noqa: E402

PT, TF = weights.NAMES
OUTPUTS = ["2048", "logits_unbiased", "logits"]
RNG = np.random.default_rng(0)
IMAGES = {size: RNG.integers(0, 256, (2, *size, 3), np.uint8) for size in [(32, 32), (40, 56)]}


def nchw(images):
    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))


class Reference(FeatureExtractorInceptionV3):
    """torch-fidelity's network as PyTorch initialises it."""

    def __init__(self, path):
        torch.save({}, path)
        super().__init__("reference", OUTPUTS, str(path))

    def load_state_dict(self, *args):
        pass


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """Random weights, and batch statistics near those of images, without which 90 layers leave nothing of them."""
    torch.manual_seed(0)
    net = Reference(tmp_path_factory.mktemp("reference") / "empty.pth")
    norms = [module for module in net.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    for norm in norms:
        torch.nn.init.uniform_(norm.weight, 0.5, 1.5)
        torch.nn.init.normal_(norm.bias, 0, 0.3)
        norm.momentum = 1.0  # keeps the last batch's
    net.train()(nchw(IMAGES[32, 32]))
    for norm in norms:
        norm.running_mean += 0.2 * norm.running_var.sqrt() * torch.randn_like(norm.running_mean)
        norm.running_var *= torch.empty_like(norm.running_var).uniform_(0.6, 1.6)
    return net.eval()


@pytest.fixture(scope="module")
def file(reference, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "random.pth"
    torch.save(reference.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def variables(file):
    return weights.read(file)


def assert_near(got, expected, rtol=1e-4):
    got, expected = np.asarray(got), expected.numpy()
    assert got.shape == expected.shape
    assert got.dtype == np.float32
    assert np.linalg.norm(got - expected) <= rtol * np.linalg.norm(expected)
    np.testing.assert_allclose(got, expected, rtol=0, atol=10 * rtol * np.abs(expected).max())


@pytest.mark.parametrize(
    ("size", "biased", "dtype"),
    [((40, 56), True, np.float32), *at_night([((32, 32), False, np.uint8)])],
    ids=["biased", "plain"],
)
def test_features_and_logits_are_torch_fidelitys(reference, variables, size, biased, dtype):
    images = IMAGES[size]
    features, *logits = reference(nchw(images))
    assert (features[0] - features[1]).norm() > 0.02 * features[0].norm()  # the images are told apart
    assert (logits[0] - logits[1]).norm() > 0.001 * logits[0].norm()
    got = jax.jit(InceptionV3(biased).apply)(variables, images.astype(dtype))
    assert_near(got[0], features)
    assert_near(got[1], logits[biased])


@pytest.mark.nightly
def test_it_scores_images_of_any_kind(file, reference, monkeypatch):
    """The features that `--features inception` names, of grey images, are those of three equal colours."""
    monkeypatch.setattr(features, "BATCH", 4)  # of 250 images it takes half a minute
    monkeypatch.setattr(features, "INCEPTION_BATCH", 2)
    grey = IMAGES[32, 32][..., :1]
    found = evaluation.embed(features.inception_v3(str(file)), grey)
    with torch.no_grad():
        want, logits, _ = reference(nchw(np.repeat(grey, 3, -1)))
    assert np.linalg.norm(found.features - want.numpy()) < 1e-4 * np.linalg.norm(want)
    np.testing.assert_allclose(found.probabilities, logits.softmax(1).numpy(), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(
    "size",
    [(32, 32), (40, 56), (1, 3), (13, 23), (299, 299), (598, 301), (500, 333)],
    ids=lambda s: "x".join(map(str, s)),
)
def test_resizing_is_tensorflow_1s(size):
    images = np.random.default_rng(1).integers(0, 256, (2, *size, 3), np.uint8)
    got = np.asarray(jax.jit(resize, static_argnums=(1, 2))(images, 299, 299))
    expected = interpolate_bilinear_2d_like_tensorflow1x(nchw(images).float(), (299, 299), align_corners=False)
    np.testing.assert_allclose(got, expected.numpy().transpose(0, 2, 3, 1), rtol=0, atol=255e-6)


def test_resizing_by_hand():
    """Row i of 6 is at i / 3 of 2 rows: a third of the way, two thirds, and beyond the last row nothing is mixed in."""
    column = np.array([[0], [90]], np.uint8).reshape(1, 2, 1, 1)
    got = resize(column, 6, 1).reshape(-1)
    np.testing.assert_allclose(got, [0, 30, 60, 90, 90, 90], rtol=1e-6)
    assert resize(column, 1, 1).item() == 0


def test_only_rgb_images_are_taken():
    for shape in ((2, 8, 8, 1), (8, 8, 3), (2, 3, 8, 8)):
        with pytest.raises(ValueError, match=r"takes RGB images \[B, H, W, 3\]"):
            jax.eval_shape(InceptionV3().init, jax.random.key(0), np.zeros(shape, np.uint8))


def test_every_tensor_is_read_in_flaxs_layout(reference, variables, tmp_path):
    """From files of other versions of PyTorch too: old ones are no archives and have no batch counters."""
    state = {name: x for name, x in reference.state_dict().items() if "num_batches" not in name}
    assert len(jax.tree.leaves(variables)) == len(state) == 94 * 5 + 2
    block, stats = (variables[kind]["Mixed_6b"]["branch7x7_2"] for kind in ("params", "batch_stats"))
    dense, name = variables["params"]["fc"], "Mixed_6b.branch7x7_2"
    for got, expected in (
        (block["conv"]["kernel"].transpose(3, 2, 0, 1), state[f"{name}.conv.weight"]),
        (block["bn"]["scale"], state[f"{name}.bn.weight"]),
        (block["bn"]["bias"], state[f"{name}.bn.bias"]),
        (stats["bn"]["mean"], state[f"{name}.bn.running_mean"]),
        (stats["bn"]["var"], state[f"{name}.bn.running_var"]),
        (dense["kernel"], state["fc.weight"].T),
        (dense["bias"], state["fc.bias"]),
    ):
        np.testing.assert_array_equal(got, expected)
    state["AuxLogits.conv0.conv.weight"] = torch.zeros(128, 768, 1, 1)  # of torchvision's auxiliary classifier
    torch.save(state, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    jax.tree.map(np.testing.assert_array_equal, weights.read(tmp_path / "old.pth"), variables)


def error_of(function, *args):
    with pytest.raises(weights.WeightsError) as caught:
        function(*args)
    message = str(caught.value)
    assert "\n" not in message
    return message


WRONG = torch.zeros(3, 3, 3, 32)
BAD_STATES = [
    (lambda s: s.pop("Mixed_7c.branch_pool.bn.running_var"), "has no Mixed_7c.branch_pool.bn.run"),
    (lambda s: s.update({"fc.weight": torch.zeros(1000, 2048)}), "fc.weight is (1000, 2048), not (1008"),
    (lambda s: s.update({"fc.bias": 3}), "fc.bias is (), not (1008,)"),
    (lambda s: s.update({"Conv2d_1a_3x3.conv.weight": WRONG}), "conv.weight is (3, 3, 3, 32), not (32, 3, 3, 3)"),
    (lambda s: s.update({"Mixed_8a\n.x": torch.zeros(1)}), "has no Mixed_8a\\n.x"),
    (lambda s: (s.clear(), s.update({1: torch.zeros(1)})), "not tensors by name"),
    (lambda s: (s.clear(), s.update(state_dict={})), "it has no "),
]


@pytest.mark.nightly
def test_another_network_is_refused_in_one_line(reference, tmp_path):
    path = tmp_path / "bad.pth"
    for change, words in BAD_STATES:
        state = dict(reference.state_dict())
        change(state)
        torch.save(state, path)
        message = error_of(weights.read, path)
        assert message.startswith(f"{path}: ")
        assert words in message
        assert message.endswith(weights.URL)


BAD_FILES = {
    "cut off": lambda content: content[:-5000],
    "cut off early": lambda content: content[:100],
    "empty": lambda content: b"",
    "text": lambda content: b"<html>Not found</html>\n",
}


class Code:
    """What would run code when it is read."""

    def __reduce__(self):
        return (pytest.fail, ("it ran",))


@pytest.mark.parametrize("archive", [True, False])
def test_a_file_that_is_damaged_or_gone_or_would_run_code_is_refused_in_one_line(tmp_path, archive, monkeypatch):
    def saved(value):
        buffer = io.BytesIO()
        torch.save({"fc.weight": value}, buffer, _use_new_zipfile_serialization=archive)
        return buffer.getvalue()

    content, path = saved(torch.zeros(1008, 20)), tmp_path / "bad.pth"
    for bad in (saved(Code()), *(damage(content) for damage in BAD_FILES.values())):
        path.write_bytes(bad)
        message = error_of(weights.read, path)
        assert message.startswith(f"{path}: PyTorch cannot read it (")
        assert message.endswith(weights.URL)
    monkeypatch.setitem(sys.modules, "torch", None)
    message = error_of(weights.read, path)
    assert message.startswith(f"{path}: ")
    assert "pip install torch" in message
    for path in (tmp_path / "missing.pth", tmp_path / PT):
        assert "No such file" in error_of(weights.read, path)
        message = error_of(weights.find, str(path))
        assert message.startswith(f"{path}: no such file")
        assert message.endswith(weights.URL)


@pytest.mark.parametrize("name", weights.NAMES)
def test_under_a_published_name_only_the_published_bytes_are_read(file, variables, tmp_path, monkeypatch, name):
    assert name.removesuffix(".pth").rpartition("-")[2] == weights.SHA256[:8]
    assert len(weights.SHA256) == 64
    (tmp_path / name).symlink_to(file)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    message = error_of(weights.read, tmp_path / name)
    assert message.startswith(f"{tmp_path / name}: its SHA-256 is {digest}, not 6726825d")
    monkeypatch.setattr(weights, "SHA256", digest)
    jax.tree.map(np.testing.assert_array_equal, weights.read(tmp_path / name), variables)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """PyTorch's folder of downloads, empty, and no network."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr("urllib.request.urlopen", lambda *args, **kwargs: pytest.fail("downloads"))
    folder = tmp_path / "torch/hub/checkpoints"
    folder.mkdir(parents=True)
    return folder


def test_a_given_file_comes_before_the_cache_and_pytorch_fids_before_torch_fidelitys(cache, tmp_path):
    (tmp_path / "mine.pth").touch()
    (cache / TF).touch()
    assert weights.find() == cache / TF
    (cache / PT).touch()
    assert weights.find(None) == cache / PT
    assert weights.find(str(tmp_path / "mine.pth")) == tmp_path / "mine.pth"


@pytest.mark.parametrize(
    "variable", [{"TORCH_HOME": "a", "XDG_CACHE_HOME": "b"}, {"XDG_CACHE_HOME": "b"}, {"TORCH_HOME": "~/c"}, {}]
)
def test_the_cache_is_where_pytorch_has_it(cache, tmp_path, monkeypatch, variable):
    monkeypatch.chdir(tmp_path)
    for name, value in {"TORCH_HOME": None, "XDG_CACHE_HOME": None, "HOME": str(tmp_path / "home"), **variable}.items():
        monkeypatch.setenv(name, value) if value else monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    folder = tmp_path / torch.hub.get_dir() / "checkpoints"
    folder.mkdir(parents=True)
    (folder / PT).touch()
    assert weights.find().absolute() == folder / PT


def test_a_download_is_checked_and_kept(cache, monkeypatch):
    content = RNG.bytes(3 * weights.CHUNK + 5)
    asked = []
    monkeypatch.setattr("urllib.request.urlopen", lambda url, timeout: asked.append(url) or io.BytesIO(content))
    message = error_of(weights.find)
    assert "try again" in message
    assert hashlib.sha256(content).hexdigest() in message
    assert list(cache.iterdir()) == []
    monkeypatch.setattr(weights, "SHA256", hashlib.sha256(content).hexdigest())
    cache.rmdir()
    assert weights.find() == cache / PT
    assert (cache / PT).read_bytes() == content
    assert weights.find() == cache / PT
    assert [path.name for path in cache.iterdir()] == [PT]
    assert asked == [weights.URL] * 2
    assert weights.URL.startswith("https://github.com/mseitzer/pytorch-fid/")


@pytest.mark.parametrize("case", ["no network", "a connection that ends", "no folder"])
def test_where_nothing_can_be_downloaded_one_line_says_what_to_do(cache, monkeypatch, case):
    urlopen = mock.MagicMock()
    if case == "no network":
        urlopen.side_effect = urllib.error.URLError(OSError(-3, "Temporary failure in name resolution"))
    broken = [bytes(weights.CHUNK), ConnectionResetError(104, "Connection reset by peer")]
    urlopen.return_value.__enter__.return_value.read.side_effect = broken
    monkeypatch.setattr("urllib.request.urlopen", urlopen)
    if case == "no folder":
        cache.rmdir()
        cache.touch()
    message = error_of(weights.find)
    assert message.startswith(f"{cache / PT}: it could not be downloaded (")
    assert message.endswith(f"get {weights.URL}, and put it there")
    assert case == "no folder" or list(cache.iterdir()) == []
    assert urlopen.called == (case != "no folder")
    assert case != "a connection that ends" or "Connection reset by peer" in message
