"""Stretches of parameters: what one rank holds of weights that the ranks share out."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
import torch.distributed as dist
from jaxtyping import Float, Float32
from torch import Tensor


@dataclass(frozen=True)
class Fragment:
    """Entries [start, start + value.numel()) of a flattened parameter.

    Attributes:
        name: Of the parameter.
        start: First entry.
        value: Shares memory with what it is a stretch of.
    """

    name: str
    start: int
    value: Float32[Tensor, " entry"]


def whole(parameters: Iterable[tuple[str, Tensor]]) -> list[Fragment]:
    """Each parameter as one fragment; they are contiguous, and share memory with it."""
    return [Fragment(name, 0, value.detach().view(-1)) for name, value in parameters]


@dataclass(frozen=True)
class _Piece:
    """Where a fragment is: in its parameter, and in what its rank sends."""

    name: str
    start: int
    numel: int
    offset: int


class Gather:
    """Makes whole parameters of the ranks' fragments. Made, and called, on all ranks together.

    Args:
        fragments: This rank's. Later ones have the same names and ranges.
        shapes: Name -> number of entries, for every parameter that some rank has a part of.

    Raises:
        ValueError: the fragments of all ranks are not every entry once.
    """

    def __init__(self, fragments: Sequence[Fragment], shapes: Mapping[str, int]) -> None:
        mine = [(f.name, f.start, f.value.numel()) for f in fragments]
        layouts: list[list[tuple[str, int, int]]] = [[] for _ in range(dist.get_world_size())]
        dist.all_gather_object(layouts, mine)
        self._pieces = [_with_offsets(layout) for layout in layouts]
        self._mine = self._pieces[dist.get_rank()]
        self._numel = max(sum(piece.numel for piece in pieces) for pieces in self._pieces)
        self._cuts = [cut for pieces in self._pieces for cut in _cuts(pieces, self._numel)]
        _check_cover([piece for pieces in self._pieces for piece in pieces], shapes)

    def outgoing(
        self, dtype: torch.dtype, device: torch.device
    ) -> tuple[Float[Tensor, " sent"], list[Tensor]]:
        """A buffer to fill and send, and each fragment's place in it."""
        buffer = torch.empty(self._numel, dtype=dtype, device=device)  # padding is never read
        return buffer, [buffer[p.offset : p.offset + p.numel] for p in self._mine]

    def places(self, into: Mapping[str, Tensor]) -> list[Tensor]:
        """Where the ranks' fragments belong in whole parameters, which share their memory."""
        return [
            into[p.name].detach().view(-1)[p.start : p.start + p.numel]
            for pieces in self._pieces
            for p in pieces
        ]

    def to_all(self, buffer: Float[Tensor, " sent"], places: Sequence[Tensor]) -> None:
        """Write every rank's filled buffer into `places`, on each rank. Collective."""
        rows = buffer.new_empty(len(self._pieces) * self._numel)
        dist.all_gather_into_tensor(rows, buffer)
        self._deliver(rows, places)

    def to_first(self, buffer: Float[Tensor, " sent"], places: Sequence[Tensor]) -> None:
        """`to_all`, on the first rank alone; ``places`` is not looked at elsewhere. Collective."""
        rows = buffer.new_empty(len(self._pieces), self._numel) if dist.get_rank() == 0 else None
        dist.gather(buffer, None if rows is None else list(rows))
        if rows is not None:
            self._deliver(rows.view(-1), places)

    def _deliver(self, rows: Float[Tensor, " all_sent"], places: Sequence[Tensor]) -> None:
        # One call for all views: ranks times parameters of them are made at each step.
        stretches = zip(rows.split([numel for numel, _ in self._cuts]), self._cuts, strict=True)
        values = [stretch for stretch, (_, is_padding) in stretches if not is_padding]
        # torch has no public name for it; its own optimizers use it.
        torch._foreach_copy_(list(places), values)  # pyright: ignore[reportPrivateImportUsage]


def _with_offsets(layout: Sequence[tuple[str, int, int]]) -> list[_Piece]:
    offsets = accumulate((numel for _, _, numel in layout), initial=0)
    return [_Piece(*entry, offset) for entry, offset in zip(layout, offsets, strict=False)]


def _cuts(pieces: Sequence[_Piece], sent: int) -> list[tuple[int, bool]]:
    """Entries of each piece, then of the padding after them, and whether it is padding."""
    padding = sent - sum(piece.numel for piece in pieces)
    return [*((piece.numel, False) for piece in pieces), (padding, True)]


def _check_cover(pieces: Sequence[_Piece], shapes: Mapping[str, int]) -> None:
    ends = dict.fromkeys(shapes, 0)
    for piece in sorted(pieces, key=lambda piece: piece.start):
        if ends.get(piece.name) != piece.start:
            raise ValueError(f"{piece.name}: the ranks' parts do not join at {piece.start}")
        ends[piece.name] += piece.numel
    for name, end in ends.items():
        if end != shapes[name]:
            raise ValueError(f"{name}: the ranks hold {end} of its {shapes[name]} entries")
