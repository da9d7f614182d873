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
        tensors: The addresses of each row of tensors, one of each column, and their entries.
        blocks: Of each program the row, and the number of its block in it.
        starts: The first program of each row, and the number of programs behind the last one.
    """

    tensors: Int64[Tensor, "tensor column"]
    blocks: Int32[Tensor, "program 2"]
    starts: Int32[Tensor, " tensor_and_end"]


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

    def rows(self, columns: Sequence[Sequence[Tensor]], block: int) -> Rows:
        """The rows of tensors that match each other in number and size, on their device.

        Args:
            columns: At least one tensor each; several may be the same sequence.
            block: Entries that a program handles.

        Raises:
            ValueError: a tensor is not contiguous, or lies on another device than the first.
        """
        distinct = {id(column): column for column in columns}
        found = {key: [t.data_ptr() for t in column] for key, column in distinct.items()}
        addresses = [found[id(column)] for column in columns]
        sizes = [tensor.numel() for tensor in columns[0]]
        known = self._rows if block == self._block and sizes == self._sizes else None
        if known is not None and addresses == self._addresses:
            return known
        device = columns[0][0].device
        for column in distinct.values():
            _check_places(column, device)
        tensors = torch.tensor([*addresses, sizes]).T.contiguous().to(device)
        if known is None:
            blocks, starts = (part.to(device) for part in _blocks(sizes, block))
        else:
            blocks, starts = known.blocks, known.starts
        self._rows = Rows(tensors, blocks, starts)
        self._block, self._addresses, self._sizes = block, addresses, sizes
        return self._rows


def _blocks(
    sizes: Sequence[int], block: int
) -> tuple[Int32[Tensor, "program 2"], Int32[Tensor, " tensor_and_end"]]:
    """Of each program the tensor and the number of its block; each tensor's first program."""
    counts = torch.tensor([-(-size // block) for size in sizes])
    starts = torch.cat([torch.zeros(1, dtype=torch.int64), counts.cumsum(0)])
    tensor = torch.repeat_interleave(torch.arange(len(sizes)), counts)
    blocks = torch.stack([tensor, torch.arange(len(tensor)) - starts[tensor]], 1)
    return blocks.to(torch.int32), starts.to(torch.int32)


def _check_places(tensors: Sequence[Tensor], device: torch.device) -> None:
    for index, tensor in enumerate(tensors):
        if not tensor.is_contiguous():
            raise ValueError(f"tensor {index} of shape {tuple(tensor.shape)} is not contiguous")
        if tensor.device != device:
            raise ValueError(f"tensor {index} is on {tensor.device}, the first one on {device}")
