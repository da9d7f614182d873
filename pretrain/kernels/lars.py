"""LARS with a rate for each layer, and the EMA of what it gives, in two launches.

torch's foreach operators go over the memory five times, and some six operators a layer make its
rate of the norms.
"""

from typing import Any

import torch
from torch import Tensor

from pretrain.kernels import reference
from pretrain.kernels.choice import runs_fused
from pretrain.kernels.layers import LarsEma, Layers
from pretrain.kernels.table import Rows, TensorTable

PART = 32768
"""Entries whose squares a program adds up. Every program of the step reads its layer's sums again,
so there must be few of them."""
NORMS_BLOCK = 2048
"""Of these at once."""
BLOCK = 1024
"""Entries that a program steps: eight a thread, of up to seven tensors."""
SUMMED_PARTS = 64
"""Sums of a layer that are added up at once."""


class LarsTable:
    """Keeps the rows of the same layers from call to call; made by whoever holds the tensors."""

    def __init__(self) -> None:
        self._parts, self._blocks = TensorTable(), TensorTable()

    def rows(self, layers: Layers) -> tuple[Rows, Rows]:
        """Of the norms' parts and of the step's blocks; a missing column is the parameters'.

        Raises:
            ValueError: as `TensorTable.rows`.
        """
        given = (layers.targets, layers.parameter_copies, layers.target_copies)
        others = [layers.parameters if column is None else column for column in given]
        columns = (layers.parameters, layers.gradients, layers.velocities, *others)
        return self._parts.rows(columns, PART), self._blocks.rows(columns, BLOCK)


def lars_ema_(layers: Layers, numbers: LarsEma, table: LarsTable | None = None) -> None:
    """`reference.lars_ema_`, fused where the layers live on a GPU.

    Args:
        layers: Updated in place.
        numbers: Of this step.
        table: Kept by the caller for the next call with the same tensors; None makes one anew,
            which costs copies to the device.
    """
    if not layers.parameters:
        return
    if runs_fused(layers.parameters[0]):
        fused_lars_ema_(layers, numbers, table)
    else:
        reference.lars_ema_(layers, numbers)


def fused_lars_ema_(layers: Layers, numbers: LarsEma, table: LarsTable | None = None) -> None:
    """One launch for the norms, where layers have rates of their own, and one for the step.

    Raises:
        ValueError: a tensor is not contiguous or on another device, the parameters are not
            float32, or the kernel does not know another dtype.
    """
    from pretrain.kernels import _lars_triton

    types = _lars_triton.TYPES
    gradient, copy = _dtypes(layers)
    if layers.parameters[0].dtype != torch.float32 or not {gradient, copy} <= set(types):
        raise ValueError(
            f"lars: the kernel takes float32 parameters, and gradients and copies in float32, "
            f"bfloat16 or float16, not {layers.parameters[0].dtype}, {gradient} and {copy}"
        )
    parts, blocks = (table or LarsTable()).rows(layers)
    partials = layers.parameters[0].new_empty(2 * len(parts.blocks))
    # Their arguments are pointers, not tensors, to a checker.
    norms_kernel: Any = _lars_triton.norms_kernel
    kernel: Any = _lars_triton.lars_kernel
    if len(blocks.blocks) == 0:  # tensors may all be empty
        return
    if numbers.trust_coefficient is not None:
        norms_kernel[(len(parts.blocks),)](
            parts.tensors,
            parts.blocks,
            partials,
            GRADIENT=types[gradient],
            PART=PART,
            BLOCK=NORMS_BLOCK,
        )
    kernel[(len(blocks.blocks),)](
        blocks.tensors,
        blocks.blocks,
        parts.starts,
        partials,
        numbers.changing,
        numbers.momentum,
        numbers.trust_coefficient or 0.0,
        GRADIENT=types[gradient],
        COPY=types[copy],
        ADAPTS=numbers.trust_coefficient is not None,
        HAS_PARAMETER_COPY=layers.parameter_copies is not None,
        HAS_TARGET=layers.targets is not None,
        HAS_TARGET_COPY=layers.target_copies is not None,
        PARTS=SUMMED_PARTS,
        BLOCK=BLOCK,
    )


def _dtypes(layers: Layers) -> tuple[torch.dtype, torch.dtype]:
    """Of the gradients, and of the copies where there are any."""
    copies: list[Tensor] = [*(layers.parameter_copies or ()), *(layers.target_copies or ())]
    found = {copy.dtype for copy in copies} or {torch.float32}
    if len(found) > 1:
        raise ValueError(f"lars: the copies have several dtypes: {', '.join(map(str, found))}")
    return layers.gradients[0].dtype, found.pop()
