"""Signatures of many rows in several files, read by pieces or by row, never as a whole.

A file is one ``.npy`` table with a signature for each row. Where rows have alternatives a second
such table follows in the same file, whose ``number`` is the row, from 0, that each belongs to.
"""

import bisect
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import BinaryIO

import numpy as np
from jaxtyping import Int64

from data_sharding.duplicates.signatures import IS_ALTERNATIVE, SIGNATURE
from data_sharding.durable import writing_durably

CHUNK_ROWS = 1 << 14


@dataclass(frozen=True, kw_only=True)
class SignatureFile:
    """One ``.npy`` file of signatures.

    Attributes:
        path: The file.
        start: Its first row's byte.
        rows: Number of rows.
        alternatives: The table of their alternatives; None where there are none.
    """

    path: Path
    start: int
    rows: int
    alternatives: "SignatureFile | None" = None

    @classmethod
    def open(cls, path: Path) -> "SignatureFile":
        """Checks a file's header and size.

        Raises:
            ValueError: It is no table of signatures, or was cut off.
        """
        with path.open("rb") as file:
            size = path.stat().st_size
            main = cls._table(path, file, size)
            if main.stop == size:
                return main
            file.seek(main.stop)
            others = cls._table(path, file, size)
        if others.stop != size:
            raise ValueError(f"{path}: {size - others.stop} bytes too long")
        return replace(main, alternatives=others)

    @classmethod
    def _table(cls, path: Path, file: BinaryIO, size: int) -> "SignatureFile":
        """The table that begins where `file` stands."""
        try:
            version = np.lib.format.read_magic(file)
            shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        except ValueError as error:
            raise ValueError(f"{path}: no table of signatures: {error}") from error
        if version != (1, 0) or dtype != SIGNATURE or len(shape) != 1:
            raise ValueError(f"{path}: no table of this program's signatures")
        found = cls(path=path, start=file.tell(), rows=shape[0])
        if size < found.stop:
            raise ValueError(f"{path}: cut off; it should hold {found.rows} rows")
        return found

    @property
    def stop(self) -> int:
        """The byte after its last row."""
        return self.start + self.rows * SIGNATURE.itemsize

    def read(self, first: int, stop: int) -> np.ndarray:
        """Rows `first` to `stop` (not included)."""
        at = self.start + first * SIGNATURE.itemsize
        with self.path.open("rb") as file:
            file.seek(at)
            return np.frombuffer(file.read((stop - first) * SIGNATURE.itemsize), SIGNATURE)


def write_signatures(
    path: Path,
    num_rows: int,
    pieces: Iterable[np.ndarray],
    num_alternatives: int = 0,
    alternatives: Iterable[np.ndarray] = (),
) -> None:
    """Writes a table of `num_rows` rows, which come in pieces, and one of alternatives, durably."""
    with writing_durably(path) as file:
        _write_table(file, num_rows, pieces)
        if num_alternatives:
            _write_table(file, num_alternatives, alternatives)


def _write_table(file: BinaryIO, num_rows: int, pieces: Iterable[np.ndarray]) -> None:
    header = {"descr": SIGNATURE.descr, "fortran_order": False, "shape": (num_rows,)}
    np.lib.format.write_array_header_1_0(file, header)
    for piece in pieces:
        file.write(piece.tobytes())


class SignatureFiles:
    """Several files as one table; rows are numbered on from file to file, without alternatives.

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

    def with_alternatives(self, num_old: int) -> "OwnedSignatures":
        """Rows and alternatives of all files as one table.

        Args:
            num_old: Rows of the files that come first and count as old.
        """
        tables: list[SignatureFile] = []
        first_rows: list[int] = []
        old_entries = 0
        for first, file in zip(self._bounds, self._files, strict=False):
            here = [file, *([file.alternatives] if file.alternatives else [])]
            tables += here
            first_rows += [first] * len(here)
            if first + file.rows <= num_old:
                old_entries = sum(table.rows for table in tables)
        return OwnedSignatures(tables, first_rows, old_entries)

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


class OwnedSignatures(SignatureFiles):
    """A table of entries, each of which belongs to a row: the row itself, or an alternative.

    Args:
        tables: In order.
        first_rows: The row that each table's rows begin at.
        num_old: Entries of the tables that come first and count as old.
    """

    def __init__(
        self, tables: Sequence[SignatureFile], first_rows: Sequence[int], num_old: int
    ) -> None:
        super().__init__(tables)
        self.num_old = num_old
        self._first_rows = np.array(first_rows, dtype=np.int64)

    def owners(
        self, entries: Int64[np.ndarray, "entry"], signatures: np.ndarray
    ) -> Int64[np.ndarray, "entry"]:
        """The row that each entry belongs to.

        Args:
            entries: Their numbers in this table.
            signatures: Their signatures.
        """
        tables = np.searchsorted(self._bounds, entries, side="right") - 1
        within = entries - np.asarray(self._bounds, dtype=np.int64)[tables]
        further = (signatures["held"] & IS_ALTERNATIVE) > 0
        return self._first_rows[tables] + np.where(
            further, signatures["number"].astype(np.int64), within
        )


def _close(descriptor: int) -> None:
    if descriptor >= 0:
        os.close(descriptor)
