"""The accelerators that the command `plan` knows: what their makers publish of them, and how a target names them."""

import dataclasses
import importlib.metadata
import importlib.util
import math
import os
import re
import shlex
import shutil
from pathlib import Path

import jax
from jax.experimental import topologies

from jaxgan.run.errors import RunError

HARDWARE = Path(__file__).parent / "hardware"  # of each GPU, what XLA asks it for
GIB, MIB = 2**30, 2**20


@dataclasses.dataclass(frozen=True)
class Accelerator:
    """One device, as its maker describes it.

    Attributes:
      platform: "cuda" or "tpu", as JAX names it.
      memory: bytes of a device; of a GPU's 80 GB what CUDA reports, in full GiB.
      usable: the share of them that a run has. On a GPU JAX takes 3/4, unless XLA_PYTHON_CLIENT_MEM_FRACTION says
        otherwise (JAX's documentation, "GPU memory allocation"); of a TPU libtpu keeps a little, and says how much is
        left where a program does not fit.
      bandwidth: bytes in a second between the memory and the chip.
      cache: bytes on the chip that may hold arrays from one launch to the next.
      float32: FLOP in a second of matrix products and convolutions in that precision of a recipe. By default JAX takes
        the products of float32 values in TF32 on NVIDIA's GPUs, and in one pass of bfloat16 on a TPU.
      bf16: the same in that one.
      source: the document that says so.
    """

    platform: str
    memory: int
    usable: float
    bandwidth: float
    cache: int
    float32: float
    bf16: float
    source: str


# Without sparsity. A v4 chip is one device of JAX, as the others are.
_KNOWN: dict[str, tuple[str, int, float, float, int, float, float, str]] = {
    "h100": ("cuda", 79 * GIB, 0.75, 3.35e12, 50 * MIB, 494.7e12, 989.4e12, "NVIDIA H100 datasheet, SXM5 80 GB"),
    "a100": ("cuda", 79 * GIB, 0.75, 2.039e12, 40 * MIB, 156e12, 312e12, "NVIDIA A100 datasheet, SXM 80 GB"),
    "v4": ("tpu", 32 * GIB, 30.75 / 32, 1.228e12, 160 * MIB, 275e12, 275e12, "Cloud TPU v4 documentation"),
    "v5e": ("tpu", 16 * GIB, 15.75 / 16, 0.819e12, 128 * MIB, 197e12, 197e12, "Cloud TPU v5e documentation"),
    "v6e": ("tpu", 32 * GIB, 31.25 / 32, 1.64e12, 128 * MIB, 918e12, 918e12, "Cloud TPU v6e documentation"),
}
ACCELERATORS = {name: Accelerator(*values) for name, values in _KNOWN.items()}
GPUS = 8  # in one machine
AXES = {"v4": 3, "v5e": 2, "v6e": 2}  # of a slice's topology
FORMS = "h100[:N], a100[:N], v5e:2x4, v6e:2x4, v4:2x2x1, or cpu"


@dataclasses.dataclass(frozen=True)
class Target:
    """Several of one accelerator: its name, and how many; of TPUs the shape of the slice, of others ()."""

    text: str
    name: str
    devices: int
    shape: tuple[int, ...] = ()

    @property
    def accelerator(self) -> Accelerator | None:
        """None of this machine's CPU."""
        return ACCELERATORS.get(self.name)

    @property
    def platform(self) -> str:
        """As JAX names it."""
        return self.accelerator.platform if self.accelerator else "cpu"


def read_target(text: str) -> Target:
    """What `on` names, such as h100:8.

    Raises:
      RunError: it is none that is known here.
    """
    name, colon, how_many = text.partition(":")
    if text == "cpu":
        return Target(text, "cpu", 1)
    if name not in ACCELERATORS:
        raise RunError(f"`on` {text}: there is no {name!r} here; name {FORMS}")
    if axes := AXES.get(name):
        if not re.fullmatch(r"[1-9]\d*(x[1-9]\d*)" + f"{{{axes - 1}}}", how_many):
            example = "x".join(["2", "2", "1"] if axes == 3 else ["2", "4"])
            raise RunError(f"`on` {text}: a {name} slice has {axes} axes; name its topology, as {name}:{example}")
        shape = tuple(int(size) for size in how_many.split("x"))
        return Target(text, name, math.prod(shape), shape)
    if colon and how_many not in [str(n) for n in range(1, GPUS + 1)]:
        raise RunError(f"`on` {text}: name how many there are in one machine, {name}:1 to {name}:{GPUS}")
    return Target(text, name, int(how_many or 1))


def packages(platform: str) -> list[str]:
    """What pip is to install for a platform's compiler, of the versions that fit the installed JAX.

    They need `--no-deps`: what they would bring along is for running programs.
    """
    if platform == "tpu":
        needs = importlib.metadata.requires("jax") or ()
        return [next(each for each in needs if each.startswith("libtpu")).split(";")[0]]
    version = importlib.metadata.version("jax")
    return [f"jax-cuda13-plugin=={version}", f"jax-cuda13-pjrt=={version}", "nvidia-cuda-nvcc>=13,<14"]


def find_compilers(target: Target) -> dict[str, str]:
    """The environment of a process that compiles for the target, beside what is in this one's.

    Raises:
      RunError: what compiles for it is not installed; the message says how to install it.
    """
    environment = {"JAX_PLATFORMS": "cpu", "TF_CPP_MIN_LOG_LEVEL": "3"}  # or the CUDA plugin looks for a driver
    # libtpu neither asks a cloud where it is, nor keeps the TPU, which it will not use, for one process alone.
    environment |= {"TPU_SKIP_MDS_QUERY": "1", "ALLOW_MULTIPLE_LIBTPU_LOAD": "1"}
    needed = {"tpu": ["libtpu"], "cuda": ["jax_cuda13_plugin", "jax_plugins"], "cpu": []}[target.platform]
    found = all(importlib.util.find_spec(name) for name in needed)
    if target.platform == "cuda":  # where XLA takes an assembler: of the package nvidia-cuda-nvcc, or of PATH
        package = importlib.util.find_spec("nvidia")
        folders = [f"{root}/cu13/bin" for root in (package.submodule_search_locations if package else None) or ()]
        environment["PATH"] = os.pathsep.join([*folders, os.environ.get("PATH", os.defpath)])
        found = found and shutil.which("ptxas", path=environment["PATH"])
    if not found:
        command = "pip install --no-deps " + " ".join(shlex.quote(each) for each in packages(target.platform))
        raise RunError(f"`on` {target.text} needs a compiler that is not installed here: {command}")
    return environment


def topology(target: Target) -> list[jax.Device]:
    """The devices of a target as JAX's, which nothing can be run on.

    Raises:
      RunError: the maker's library knows no such topology.
    """
    if target.platform == "cpu":
        return jax.devices()[:1]
    if target.platform == "tpu":
        # A host has at most 2x2 chips. The two cores of a v4 are one device.
        name, settings = target.text, {"chips_per_host_bounds": (*(min(2, size) for size in target.shape[:2]), 1)}
        settings |= {"chip_config_name": "megacore"} if target.name == "v4" else {}
    else:
        name, settings = "", {"target_config": (HARDWARE / f"{target.name}.txtpb").read_text()}
        settings["topology"] = f"1x1x{target.devices}"
    try:
        return list(topologies.get_topology_desc(name, target.platform, **settings).devices)
    except (RuntimeError, ValueError) as error:  # JAX's own are among them
        reason = str(error).splitlines()[0]
        raise RunError(f"`on` {target.text}: there is no such topology ({reason}); name another") from error
