"""Which counters a rank has."""

from collections.abc import Callable

import torch

from pretrain.metrics.energy.counter import Counter
from pretrain.metrics.energy.nvml import GpuCounter
from pretrain.metrics.energy.rapl import CpuPackages


def counters_of(device: torch.device) -> dict[str, Callable[[], Counter]]:
    """By kind, what opens the counter of a rank that trains on ``device``.

    A rank on the CPU has no GPU to count: that is no gap in its measurement.
    """
    if device.type != "cuda":
        return {"cpu": CpuPackages}
    return {"gpu": lambda: GpuCounter(uuid_of(device)), "cpu": CpuPackages}


def uuid_of(device: torch.device) -> str:
    """What NVML calls a GPU that torch calls ``device``."""
    return f"GPU-{torch.cuda.get_device_properties(device).uuid}"
