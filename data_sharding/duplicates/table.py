"""Signatures of many rows in several files, read by pieces or by row, never as a whole."""

import bisect
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from data_sharding.duplicates.signatures import SIGNATURE
from data_sharding.durable import writing_durably

CHUNK_ROWS = 1 << 14


@dataclass(frozen=True, kw_only=True)
class SignatureFile:
    """One ``.npy`` file of signatures.

    Attributes:
        path: The file.
        start: Its first row's byte.
        rows: Number of rows.
    """

    path: Path
    start: int
    rows: int

    @classmethod
    def open(cls, path: Path) -> "SignatureFile":
        """Checks a file's header and size.

        Raises:
            ValueError: It is no table of signatures, or was cut off.
        """
        with path.open("rb") as file:
            version = np.lib.format.read_magic(file)
            shape, _, dtype = np.lib.format.read_array_header_1_0(file)
            start = file.tell()
        if version != (1, 0) or dtype != SIGNATURE or len(shape) != 1:
            raise ValueError(f"{path}: no table of this program's signatures")
        if path.stat().st_size != start + shape[0] * SIGNATURE.itemsize:
            raise ValueError(f"{path}: cut off; it should hold {shape[0]} rows")
        return cls(path=path, start=start, rows=shape[0])

    def read(self, first: int, stop: int) -> np.ndarray:
        """Rows `first` to `stop` (not included)."""
        at = self.start + first * SIGNATURE.itemsize
        with self.path.open("rb") as file:
            file.seek(at)
            return np.frombuffer(file.read((stop - first) * SIGNATURE.itemsize), SIGNATURE)


def write_signatures(path: Path, num_rows: int, pieces: Iterator[np.ndarray]) -> None:
    """Writes a table of `num_rows` rows, which come in pieces, durably."""
    with writing_durably(path) as file:
        header = {"descr": SIGNATURE.descr, "fortran_order": False, "shape": (num_rows,)}
        np.lib.format.write_array_header_1_0(file, header)
        for piece in pieces:
            file.write(piece.tobytes())


class SignatureFiles:
    """Several files as one table; rows are numbered on from file to file.

    Args:
        files: In order.
    """

    def __init__(self, files: Sequence[SignatureFile]) -> None:
        self._files = tuple(files)
        self._bounds = [0, *accumulate(file.rows for file in files)]
        starts = [
            first + start
            for first, file in zip(self._bounds, files, strict=False)
            for start in range(0, file.rows, CHUNK_ROWS)
        ]
        self._pieces = np.array(starts, dtype=np.int64)

    def __len__(self) -> int:
        return self._bounds[-1]

    def chunks(self) -> Iterator[tuple[int, np.ndarray]]:
        """All rows in order: the number of each piece's first row, and the piece."""
        for first, file in zip(self._bounds, self._files, strict=False):
            for start in range(0, file.rows, CHUNK_ROWS):
                yield first + start, file.read(start, min(start + CHUNK_ROWS, file.rows))

    def piece_of(self, rows: Int64[np.ndarray, "row"]) -> Int64[np.ndarray, "row"]:
        """Number of the piece of `chunks` that each row comes in."""
        return np.searchsorted(self._pieces, rows, side="right")

    def gather(self, rows: Int64[np.ndarray, "row"]) -> np.ndarray:
        """Some rows, in any order; each is one short read."""
        unique, places = np.unique(rows, return_inverse=True)
        found = np.empty(len(unique), SIGNATURE)
        places_of = found.view(np.uint8).reshape(len(unique), SIGNATURE.itemsize)
        size, number, descriptor = SIGNATURE.itemsize, -1, -1
        try:
            for place, row in enumerate(unique.tolist()):
                wanted = bisect.bisect_right(self._bounds, row) - 1
                if wanted != number:
                    _close(descriptor)
                    descriptor = -1
                    number = wanted
                    descriptor = os.open(self._files[number].path, os.O_RDONLY)
                at = self._files[number].start + (row - self._bounds[number]) * size
                os.preadv(descriptor, [places_of[place].data], at)
        finally:
            _close(descriptor)
        return found[places]


def _close(descriptor: int) -> None:
    if descriptor >= 0:
        os.close(descriptor)
