"""Numbers that change from step to step, where the kernels read them."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor


class StepNumbers:
    """A few numbers on a device, in a tensor that stays where it is.

    A kernel that is given them as arguments is launched in another way at every step. Given this
    tensor it is launched in the same way, so that a captured CUDA graph may be played again.

    Args:
        count: How many.
        like: Has their device and dtype: one of the masters that they change.
    """

    def __init__(self, count: int, like: Tensor) -> None:
        self.tensor: Float[Tensor, " count"] = like.new_full((count,), math.nan)
        self.known = False
        """Whether any were set: what a kernel reads before that is NaN."""

    def set(self, values: Sequence[float]) -> Float[Tensor, " count"]:
        """The tensor, with these values in it; one copy, which nobody waits for.

        Args:
            values: Each is rounded once, from Python's own precision.
        """
        self.known = True
        # Pinned memory is given to nobody else before the copy is done.
        sent = torch.tensor(values, dtype=self.tensor.dtype, pin_memory=self.tensor.is_cuda)
        return self.tensor.copy_(sent, non_blocking=True)


def ema_numbers(tau: float) -> tuple[float]:
    """``1 - tau``: made here, because float32 has few digits for a tau near 1.

    Args:
        tau: Share of the old target kept.

    Raises:
        ValueError: tau is outside [0, 1].
    """
    if not 0.0 <= tau <= 1.0:
        raise ValueError(f"ema: tau must be in [0, 1], got {tau}")
    return (1.0 - tau,)
