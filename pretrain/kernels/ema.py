"""EMA of the target: float32 lerp and low-precision copy out in one pass over memory.

torch's ``_foreach_lerp_`` refuses mixed types, so its route is three passes (24 bytes a
parameter against 12 here). However many tensors there are, they take one launch.
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float32
from torch import Tensor

from pretrain.kernels import reference
from pretrain.kernels.choice import runs_fused
from pretrain.kernels.table import TensorTable

BLOCK = 2048
"""Entries that a program handles: 16 a thread, by loads of 16 bytes."""


def ema_update_(
    targets: Sequence[Tensor],
    onlines: Sequence[Tensor],
    weight: Float32[Tensor, " 1"],
    copies: Sequence[Tensor] | None = None,
    distance: Float32[Tensor, ""] | None = None,
    table: TensorTable | None = None,
) -> None:
    """`reference.ema_update_`, fused where the tensors live on a GPU.

    Args:
        targets: As in the twin, like the next four.
        onlines: Of one dtype, float32 or narrower.
        weight: `numbers.ema_numbers`; where the targets live.
        copies: Of one dtype.
        distance: Overwritten where it is given.
        table: Kept by the caller for the next call with the same tensors; None makes one anew,
            which costs a copy to the device.

    Raises:
        ValueError: targets, onlines and copies differ in number or shape, onlines or copies
            among themselves in dtype, or a target is not float32.
    """
    _check(targets, onlines, copies)
    if not targets:  # a rank may hold no part of a small network
        if distance is not None:
            distance.zero_()
        return
    if runs_fused(targets[0]):
        fused_ema_update_(targets, onlines, weight, copies, distance, table)
    else:
        reference.ema_update_(targets, onlines, weight, copies, distance)


def fused_ema_update_(
    targets: Sequence[Tensor],
    onlines: Sequence[Tensor],
    weight: Float32[Tensor, " 1"],
    copies: Sequence[Tensor] | None = None,
    distance: Float32[Tensor, ""] | None = None,
    table: TensorTable | None = None,
) -> None:
    """One Triton launch for all tensors, and one more to add up the distance where it is wanted.

    Raises:
        ValueError: a tensor is not contiguous or on another device, or its dtype is none that the
            kernel knows.
    """
    from pretrain.kernels import _ema_triton

    kernel: Any = _ema_triton.ema_kernel  # its arguments are pointers, not tensors, to a checker
    written = targets if copies is None else copies
    for tensor in (onlines[0], written[0]):
        if tensor.dtype not in _ema_triton.TYPES:
            raise ValueError(f"ema: the kernel knows no {tensor.dtype}")
    rows = (table or TensorTable()).rows((targets, onlines, written), BLOCK)
    num_programs = len(rows.blocks)
    partials = rows.tensors  # not written to
    if distance is not None:
        partials = targets[0].new_empty(num_programs)
    if num_programs > 0:  # tensors may all be empty
        kernel[(num_programs,)](
            rows.tensors,
            rows.blocks,
            partials,
            weight,
            ONLINE=_ema_triton.TYPES[onlines[0].dtype],
            COPY=_ema_triton.TYPES[written[0].dtype],
            HAS_COPY=copies is not None,
            HAS_DISTANCE=distance is not None,
            BLOCK=BLOCK,
        )
    if distance is not None:
        torch.sum(partials, 0, out=distance)  # in one order, unlike atomic adds


def _check(
    targets: Sequence[Tensor],
    onlines: Sequence[Tensor],
    copies: Sequence[Tensor] | None,
) -> None:
    for name, others in (("onlines", onlines), ("copies", copies)):
        if others is None:
            continue
        if [t.shape for t in targets] != [t.shape for t in others]:
            raise ValueError(f"ema: {name} do not match the targets in number and shape")
        if len(dtypes := {t.dtype for t in others}) > 1:
            raise ValueError(f"ema: {name} have several dtypes: {', '.join(map(str, dtypes))}")
    for target in targets:
        if target.dtype != torch.float32:
            raise ValueError(
                f"ema: a target master is {target.dtype}; it must be float32, because bfloat16 "
                "rounds most updates away"
            )
