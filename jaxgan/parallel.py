"""The same step on several devices of one process: the batch is split, everything else copied.

The step is written for the whole batch, and stays so: batch statistics are the whole batch's, and
noise is keyed by the example's index in it. The compiler splits the work and adds the communication.
"""

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec


def shardings(devices: int) -> tuple[NamedSharding, NamedSharding]:
    """Where the state and a batch live on the first `devices` devices: (copied to each, split between them).

    Raises:
      ValueError: there are fewer devices.
    """
    available = jax.local_devices()
    if not 1 <= devices <= len(available):
        raise ValueError(f"{devices} devices asked for, {len(available)} available ({available[0].platform})")
    mesh = Mesh(np.array(available[:devices]), ("batch",))
    return NamedSharding(mesh, PartitionSpec()), NamedSharding(mesh, PartitionSpec("batch"))
