"""The one place that chooses between a kernel and its plain twin."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

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
