"""Whether a run's images fit in memory."""

import os
from collections.abc import Sequence
from pathlib import Path

import jax

from jaxgan.data import Dataset, Source

LIMIT = Path("/sys/fs/cgroup/memory.max")  # of a container


def is_streamed(images: Source | Dataset, asked: bool, devices: Sequence[jax.Device]) -> bool:
    """Whether the images of a run on these devices are to be read as they are needed.

    They are where that is asked for, and where they would take more than half of a device's memory or of the host's.
    On CPU devices, each copy is in the host's. Images that are in memory already stay there.
    """
    if isinstance(images, Dataset):
        return False
    local = [device for device in devices if device.process_index == jax.process_index()]
    limit = (local[0].memory_stats() or {}).get("bytes_limit") if local[0].platform != "cpu" else None
    return asked or are_too_large(images.nbytes, host_memory(), limit, len(local))


def are_too_large(nbytes: int, host: float, device: int | None, devices: int = 1) -> bool:
    """Whether images of so many bytes take more than half of the host's memory, in bytes, or of a device's.

    Where `device` is None, as many `devices` have a copy each in the host's.
    """
    copies = 1 if device else 1 + devices
    return copies * nbytes > host / 2 or (device is not None and nbytes > device / 2)


def host_memory() -> int:
    """The bytes of memory that this machine has, or that its container may use."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        return min(total, int(LIMIT.read_text()))
    except (OSError, ValueError):  # there is no such file, or it says "max"
        return total
