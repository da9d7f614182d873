"""EMA of the target: float32 lerp and low-precision copy out in one pass over memory.

torch's ``_foreach_lerp_`` refuses mixed types, so its route is three passes (24 bytes a
parameter against 12 here).
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from pretrain.kernels import reference

BLOCK = 4096
"""Elements a program handles: 16 bytes a load, few programs for a large tensor."""


def ema_update_(
    targets: Sequence[Tensor],
    onlines: Sequence[Tensor],
    tau: float,
    copies: Sequence[Tensor] | None = None,
) -> None:
    """`reference.ema_update_`, fused where the tensors live on a GPU.

    Raises:
        ValueError: targets, onlines and copies differ in number or shape, a target is not
            float32, or tau is outside [0, 1].
    """
    _check(targets, onlines, tau, copies)
    if not targets:  # a rank may hold no part of a small network
        return
    if targets[0].is_cuda:
        fused_ema_update_(targets, onlines, tau, copies)
    else:
        reference.ema_update_(targets, onlines, tau, copies)


def fused_ema_update_(
    targets: Sequence[Tensor],
    onlines: Sequence[Tensor],
    tau: float,
    copies: Sequence[Tensor] | None = None,
) -> None:
    """One Triton launch per tensor; all tensors contiguous."""
    from pretrain.kernels import _ema_triton

    kernel: Any = _ema_triton.ema_kernel  # its arguments are pointers, not tensors, to a checker

    for index, (target, online) in enumerate(zip(targets, onlines, strict=True)):
        copy = target if copies is None else copies[index]
        if not (target.is_contiguous() and online.is_contiguous() and copy.is_contiguous()):
            raise ValueError(
                f"ema: tensor {index} of shape {tuple(target.shape)} is not contiguous"
            )
        grid = (-(-target.numel() // BLOCK),)
        kernel[grid](
            target,
            online,
            copy,
            1.0 - tau,
            target.numel(),
            HAS_COPY=copies is not None,
            BLOCK=BLOCK,
        )


def _check(
    targets: Sequence[Tensor],
    onlines: Sequence[Tensor],
    tau: float,
    copies: Sequence[Tensor] | None,
) -> None:
    if not 0.0 <= tau <= 1.0:
        raise ValueError(f"ema: tau must be in [0, 1], got {tau}")
    for name, others in (("onlines", onlines), ("copies", copies)):
        if others is None:
            continue
        if [t.shape for t in targets] != [t.shape for t in others]:
            raise ValueError(f"ema: {name} do not match the targets in number and shape")
    for target in targets:
        if target.dtype != torch.float32:
            raise ValueError(
                f"ema: a target master is {target.dtype}; it must be float32, because bfloat16 "
                "rounds most updates away"
            )
