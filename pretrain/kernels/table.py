"""A table of tensors' addresses on their device, so that one launch goes over all of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int32, Int64
from torch import Tensor


@dataclass(frozen=True)
class Rows:
    """What a kernel reads.

    Attributes:
        tensors: Of each tensor the addresses of target, online and copy, and its entries.
        blocks: Of each program the tensor, and the number of its block in it.
    """

    tensors: Int64[Tensor, "tensor 4"]
    blocks: Int32[Tensor, "program 2"]


class TensorTable:
    """Keeps the rows of the same tensors from call to call; made by whoever holds the tensors.

    A tensor that moved (another address, another size) makes new rows. To know that none did takes
    a third of a microsecond a tensor.
    """

    def __init__(self) -> None:
        self._block = 0
        self._addresses: list[list[int]] = []
        self._sizes: list[int] = []
        self._rows: Rows | None = None

    def rows(
        self,
        targets: Sequence[Tensor],
        onlines: Sequence[Tensor],
        copies: Sequence[Tensor],
        block: int,
    ) -> Rows:
        """The rows of tensors that match each other in number and size, on their device.

        Args:
            targets: At least one.
            onlines: As many, of the same sizes.
            copies: As many, of the same sizes; may be the targets.
            block: Entries that a program handles.

        Raises:
            ValueError: a tensor is not contiguous, or lies on another device than the first.
        """
        addresses = [[tensor.data_ptr() for tensor in targets]]
        addresses.append([tensor.data_ptr() for tensor in onlines])
        if copies is not targets:
            addresses.append([tensor.data_ptr() for tensor in copies])
        sizes = [tensor.numel() for tensor in targets]
        known, blocks = self._rows, None
        if known is not None and block == self._block and sizes == self._sizes:
            if addresses == self._addresses:
                return known
            blocks = known.blocks
        device = targets[0].device
        for tensors in (targets, onlines, copies):
            _check_places(tensors, device)
        columns = [*addresses[:2], addresses[-1] if copies is not targets else addresses[0], sizes]
        if blocks is None:
            blocks = _blocks(sizes, block).to(device)
        self._rows = Rows(torch.tensor(columns).T.contiguous().to(device), blocks)
        self._block, self._addresses, self._sizes = block, addresses, sizes
        return self._rows


def _blocks(sizes: Sequence[int], block: int) -> Int32[Tensor, "program 2"]:
    """Of each program the tensor and the number of its block."""
    counts = torch.tensor([-(-size // block) for size in sizes])
    tensor = torch.repeat_interleave(torch.arange(len(sizes)), counts)
    first = torch.repeat_interleave(counts.cumsum(0) - counts, counts)
    return torch.stack([tensor, torch.arange(len(tensor)) - first], 1).to(torch.int32)


def _check_places(tensors: Sequence[Tensor], device: torch.device) -> None:
    for index, tensor in enumerate(tensors):
        if not tensor.is_contiguous():
            raise ValueError(f"tensor {index} of shape {tuple(tensor.shape)} is not contiguous")
        if tensor.device != device:
            raise ValueError(f"tensor {index} is on {tensor.device}, the first one on {device}")
