"""torch-fidelity, which the tests of scores compare with."""

import importlib.util
import sys
import types

import pytest


def torch_fidelity():
    """The package; where torchvision, which it imports for datasets alone, is missing, with a stand-in for that."""
    pytest.importorskip("torch", reason="PyTorch is not installed: pip install torch==2.13.0")
    stand_ins = {}
    if "torch_fidelity" not in sys.modules and importlib.util.find_spec("torchvision") is None:
        names = ["torchvision", "torchvision.datasets", "torchvision.transforms", "torchvision.transforms.functional"]
        stand_ins = {name: types.ModuleType(name) for name in names}
        for name, module in stand_ins.items():
            parent, _, child = name.rpartition(".")
            if parent:
                setattr(stand_ins[parent], child, module)
        datasets = ("CIFAR10", "CIFAR100", "STL10")
        vars(stand_ins["torchvision.datasets"]).update({name: type(name, (), {}) for name in datasets})
    sys.modules.update(stand_ins)
    try:
        return pytest.importorskip(
            "torch_fidelity", reason="torch-fidelity is not installed: pip install torch-fidelity==0.4.0"
        )
    finally:  # a module with no file would mislead others
        for name in stand_ins:
            del sys.modules[name]
