"""The one place that chooses between a kernel and its plain twin."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Literal

import torch
from torch import Tensor

Kernels = Literal["fused", "reference"]

_asked: list[Kernels] = []
"""What `using` asks for, innermost last."""


def runs_fused(tensor: Tensor) -> bool:
    """Whether an operation on this tensor takes its kernel: on a GPU all do, on a CPU none.

    Within `using`, what was asked for.
    """
    return _asked[-1] == "fused" if _asked else tensor.is_cuda


@contextmanager
def using(kernels: Kernels) -> Iterator[None]:
    """Within it all operations take their kernels, or all their twins, on any device.

    On a CPU the kernels need Triton's interpreter: ``TRITON_INTERPRET=1`` from the start.
    """
    _asked.append(kernels)
    try:
        yield
    finally:
        _asked.pop()


@contextmanager
def chosen(kernels: Kernels | None, device: torch.device) -> Iterator[None]:
    """Within it, what a run's configuration asks for; None leaves the choice to each tensor.

    Args:
        kernels: As `using`.
        device: What the run trains on.

    Raises:
        ValueError: fused kernels on a CPU, without Triton's interpreter.
    """
    require(kernels, device.type != "cpu")
    with nullcontext() if kernels is None else using(kernels):
        yield


def require(kernels: Kernels | None, on_gpu: bool) -> None:
    """Whether a run can have what its configuration asks for.

    Args:
        kernels: As `using`.
        on_gpu: Whether it trains on one.

    Raises:
        ValueError: fused kernels on a CPU, without Triton's interpreter.
    """
    if kernels == "fused" and not on_gpu and os.environ.get("TRITON_INTERPRET") != "1":
        raise ValueError(
            "pretrain.kernels fused needs a GPU, and this run has none: leave it out, or ask for "
            "reference (with TRITON_INTERPRET=1 a CPU interprets the kernels, to test them)"
        )
