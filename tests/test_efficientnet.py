"""EfficientNet-Lite0: against PyTorch, on photographs whose answers are known, and by the order of faults."""

import jax
import numpy as np
import pytest
from common import QUICK

from jaxgan import evaluation
from jaxgan.data import pixels
from jaxgan.evaluation import efficientnet
from jaxgan.evaluation.inception_weights import WeightsError

CLASSES = {"china.jpg": {442, 663, 698, 832}, "flower.jpg": {985}}  # bell cote, monastery, palace, stupa; daisy


@pytest.fixture(scope="module")
def weights():
    return efficientnet.read(efficientnet.find())


def test_arrays_are_those_that_pytorch_reads(weights):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install torch==2.13.0")
    theirs = torch.load(efficientnet.find(), weights_only=True)
    assert {name for name in theirs if not name.endswith("num_batches_tracked")} == {*weights}
    for name, array in weights.items():
        np.testing.assert_array_equal(array, theirs[name])


def in_pytorch(weights, x):
    """The same network, of PyTorch's operations: [B, H, W, 3] from 0 to 255 -> features and logits."""
    import torch
    import torch.nn.functional as F

    w = {name: torch.from_numpy(array.copy()) for name, array in weights.items()}

    def conv(x, name, stride=1, groups=1):
        size = w[name].shape[2]
        pad = max((-(-x.shape[2] // stride) - 1) * stride + size - x.shape[2], 0)
        return F.conv2d(F.pad(x, (pad // 2, pad - pad // 2) * 2), w[name], stride=stride, groups=groups)

    def norm(x, name):
        moments = w[f"{name}.running_mean"], w[f"{name}.running_var"]
        return F.batch_norm(x, *moments, w[f"{name}.weight"], w[f"{name}.bias"], eps=1e-3)

    x = (torch.from_numpy(x).permute(0, 3, 1, 2) - 127) / 128
    x = F.relu6(norm(conv(x, "_conv_stem.weight", 2), "_bn0"))
    strides = [1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1]
    for number, stride in enumerate(strides):
        name, y = f"_blocks.{number}.", x
        if number:
            y = F.relu6(norm(conv(y, f"{name}_expand_conv.weight"), f"{name}_bn0"))
        y = F.relu6(norm(conv(y, f"{name}_depthwise_conv.weight", stride, y.shape[1]), f"{name}_bn1"))
        y = norm(conv(y, f"{name}_project_conv.weight"), f"{name}_bn2")
        x = x + y if x.shape == y.shape else y
    x = F.relu6(norm(conv(x, "_conv_head.weight"), "_bn1")).mean((2, 3))
    return x, F.linear(x, w["_fc.weight"], w["_fc.bias"])


@pytest.mark.slow
def test_features_are_pytorchs(weights):
    pytest.importorskip("torch", reason="PyTorch is not installed: pip install torch==2.13.0")
    images = np.random.default_rng(0).uniform(0, 255, (2, 97, 97, 3)).astype(np.float32)
    found = jax.jit(efficientnet.apply, compiler_options=QUICK)(weights, images)
    for ours, theirs in zip(found, in_pytorch(weights, images), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-3)


@pytest.mark.nightly
def test_photographs_are_named_rightly():
    from sklearn.datasets import load_sample_images

    found = load_sample_images()
    photos = {name.rpartition("/")[2]: image for name, image in zip(found.filenames, found.images, strict=True)}
    images = np.stack([pixels.fit_all(photos[name][None], (224, 224, 3))[0] for name in CLASSES])
    seen = evaluation.embed(evaluation.efficientnet_lite0(), images)
    for answer, right in zip(seen.probabilities.argmax(-1), CLASSES.values(), strict=True):
        assert answer in right
    assert seen.features.shape == (2, 1280)


def test_weights_that_cannot_be_had_are_one_line(monkeypatch, tmp_path):
    (tmp_path / "x.pth").write_bytes(b"no weights")
    with pytest.raises(WeightsError, match=r"its SHA-256 is .*, not 57934424.*; install .* again"):
        efficientnet.read(tmp_path / "x.pth")
    monkeypatch.setattr(efficientnet, "PACKAGE", "no_such_package")
    with pytest.raises(WeightsError, match=r'not installed; pip install "jaxgan\[efficientnet\]"'):
        efficientnet.find()
