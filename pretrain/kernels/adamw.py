"""AdamW and the EMA of what it gives, in one pass over flat float32 partitions.

Separate passes read the parameters three times and write them once more: 52 bytes a parameter
with low-precision copies of both networks, against 40 here (38 with bfloat16 gradients).
"""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from pretrain.kernels import reference
from pretrain.kernels.choice import runs_fused
from pretrain.kernels.partition import AdamwEma, FlatPartition

BLOCK = 512
"""Entries that a program handles: four a thread, of up to seven tensors. With eight the compiler
takes 150 registers instead of 50, and a GPU runs a third of the threads at once."""


def adamw_ema_(partitions: Sequence[FlatPartition], numbers: AdamwEma) -> None:
    """`reference.adamw_ema_`, fused where the partitions live on a GPU."""
    for partition in partitions:
        if runs_fused(partition.parameters):
            fused_adamw_ema_(partition, numbers)
        else:
            reference.adamw_ema_(partition, numbers)


def fused_adamw_ema_(partition: FlatPartition, numbers: AdamwEma) -> None:
    """One Triton launch; an empty partition takes none."""
    from pretrain.kernels import _adamw_triton

    kernel: Any = _adamw_triton.adamw_ema_kernel  # to a checker its arguments are no tensors
    numel = partition.parameters.numel()
    if numel == 0:
        return

    def given(tensor: Tensor | None) -> Tensor:
        return partition.parameters if tensor is None else tensor  # never looked at

    kernel[(-(-numel // BLOCK),)](
        partition.parameters,
        partition.gradients,
        partition.means,
        partition.squares,
        given(partition.targets),
        given(partition.parameter_copies),
        given(partition.target_copies),
        numbers.changing,
        numel,
        1.0 - numbers.betas[0],
        numbers.betas[1],
        numbers.eps,
        HAS_PARAMETER_COPY=partition.parameter_copies is not None,
        HAS_TARGET=partition.targets is not None,
        HAS_TARGET_COPY=partition.target_copies is not None,
        BLOCK=BLOCK,
    )
