"""The plain twin of each kernel: its specification, and the path taken on a CPU."""

from collections.abc import Sequence

import torch
from torch import Tensor


def ema_update_(
    targets: Sequence[Tensor],
    onlines: Sequence[Tensor],
    tau: float,
    copies: Sequence[Tensor] | None = None,
) -> None:
    """``target <- target + (1 - tau) (online - target)``; then ``copy <- target``, rounded.

    Source: Grill et al. 2020, arXiv 2006.07733, equation 1.

    Args:
        targets: float32 masters, updated in place.
        onlines: Tensors of the same shapes, float32 or bfloat16.
        tau: Share of the old target kept, in [0, 1].
        copies: Working copies of the same shapes in any float type, overwritten.
    """
    sources = [online.to(torch.float32) for online in onlines]
    # torch has no public name for these two; its own optimizers use them.
    torch._foreach_lerp_(list(targets), sources, 1.0 - tau)  # pyright: ignore[reportPrivateImportUsage]
    if copies is not None:
        torch._foreach_copy_(list(copies), list(targets))  # pyright: ignore[reportPrivateImportUsage]
