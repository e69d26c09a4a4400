"""torch-fidelity, the oracle of the evaluation's tests, without torchvision, whose data sets it only names."""

import importlib.machinery
import importlib.util
import sys
import types

import pytest

DATASETS = ("CIFAR10", "STL10", "CIFAR100")


def torch_fidelity():
    """The module `torch_fidelity`; a test that calls this is skipped where it or PyTorch is not installed."""
    pytest.importorskip("torch", reason="PyTorch is not installed")
    if importlib.util.find_spec("torchvision"):
        return pytest.importorskip("torch_fidelity", reason="torch-fidelity is not installed")
    names = ("torchvision", "torchvision.datasets", "torchvision.transforms", "torchvision.transforms.functional")
    modules = {name: types.ModuleType(name) for name in names}
    for name, module in modules.items():
        module.__spec__ = importlib.machinery.ModuleSpec(name, None)
        parent, _, child = name.rpartition(".")
        if parent:
            setattr(modules[parent], child, module)
    for name in DATASETS:
        setattr(modules["torchvision.datasets"], name, type(name, (), {}))
    sys.modules.update(modules)
    try:
        return pytest.importorskip("torch_fidelity", reason="torch-fidelity is not installed")
    finally:  # nobody else takes it for the real one
        for name in names:
            del sys.modules[name]
