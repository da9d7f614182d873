"""Rows that share a key, found by sorting one file at a time.

Entries (key, row) are dealt out to files by their key's highest bits, so that a file is small
enough to be sorted in memory. Within a key, a row is paired with the next `WINDOW` rows only, and
of each piece of rows at most `KEPT` with the same key are written down: a key that a million rows
share costs a few million comparisons and not 10^12.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Int64, UInt64

ENTRY = np.dtype([("key", "<u8"), ("row", "<u8")])
FILE_BYTES = 4 << 20
MOST_FILES = 1024
WINDOW = 8
KEPT = 8


class Buckets:
    """Entries on disk.

    Args:
        folder: A new folder for the files.
        expected_entries: About how many will come; decides the number of files.
    """

    def __init__(self, folder: Path, expected_entries: int) -> None:
        folder.mkdir(parents=True)
        self._folder = folder
        wanted = expected_entries * ENTRY.itemsize // FILE_BYTES + 1
        self._bits = min(wanted, MOST_FILES).bit_length()

    def add(
        self, keys: UInt64[np.ndarray, "entry"], rows: Int64[np.ndarray, "entry"], kept: int = KEPT
    ) -> None:
        """Writes entries down; of equal keys only the first `kept`."""
        if len(keys) == 0:
            return
        order = np.argsort(keys, kind="stable")
        entries = np.empty(len(keys), ENTRY)
        entries["key"], entries["row"] = keys[order], rows[order]
        entries = entries[_rank_in_group(entries["key"]) < kept]
        files = entries["key"] >> np.uint64(64 - self._bits)
        starts = np.flatnonzero(np.diff(files, prepend=files[:1] + np.uint64(1)))
        for start, piece in zip(starts.tolist(), np.split(entries, starts[1:]), strict=True):
            with (self._folder / f"{int(files[start]):04d}").open("ab") as file:
                file.write(piece.tobytes())

    def pairs(self) -> Iterator[Int64[np.ndarray, "pair 2"]]:
        """Pairs of rows that share a key, then removes the files."""
        for path in sorted(self._folder.iterdir()):
            entries = np.fromfile(path, ENTRY)
            for left, right in neighbours(entries["key"]):
                rows = entries["row"].astype(np.int64)
                yield np.stack([rows[left], rows[right]], axis=1)
        shutil.rmtree(self._folder)


def neighbours(
    keys: UInt64[np.ndarray, "entry"], window: int = WINDOW
) -> Iterator[tuple[Int64[np.ndarray, "pair"], Int64[np.ndarray, "pair"]]]:
    """Places of entries with equal keys, each with the next `window` of its key."""
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    for gap in range(1, window + 1):
        places = np.flatnonzero(ordered[gap:] == ordered[:-gap])
        if len(places) == 0:
            return
        yield order[places], order[places + gap]


def _rank_in_group(ordered: UInt64[np.ndarray, "entry"]) -> Int64[np.ndarray, "entry"]:
    """How many equal keys come before each entry."""
    places = np.arange(len(ordered))
    first = np.concatenate([[True], ordered[1:] != ordered[:-1]])[: len(ordered)]
    return places - np.maximum.accumulate(np.where(first, places, 0))
