"""Which rows belong together: a union-find forest in a file of four bytes a row."""

from pathlib import Path

import numpy as np
from jaxtyping import Int64

MOST_ROWS = 2**32 - 1
PIECE_ROWS = 1 << 20


class UnionFile:
    """A forest over rows 0 to `rows` - 1; the root of a tree is its first row.

    Args:
        path: The file to create.
        rows: Number of rows.

    Raises:
        ValueError: More rows than four bytes can number.
    """

    def __init__(self, path: Path, rows: int) -> None:
        if rows > MOST_ROWS:
            raise ValueError(f"{rows} rows; at most {MOST_ROWS} are compared, split the corpus")
        self._rows = rows
        self._parents = np.memmap(path, "<u4", "w+", shape=(max(rows, 1),))
        for start in range(0, rows, PIECE_ROWS):
            stop = min(start + PIECE_ROWS, rows)
            self._parents[start:stop] = np.arange(start, stop, dtype=np.uint32)

    def unite(self, pairs: Int64[np.ndarray, "pair 2"]) -> None:
        """Joins the trees of each pair."""
        for left, right in pairs.tolist():
            first, second = self._root(left), self._root(right)
            if first != second:
                self._parents[max(first, second)] = min(first, second)

    def flatten(self) -> None:
        """Points every row at its root; to be called before `roots`."""
        for start in range(0, self._rows, PIECE_ROWS):
            piece = self._parents[start : start + PIECE_ROWS]
            while True:  # a parent comes before its row, so earlier pieces are flat already
                above = self._parents[piece]
                if (above == piece).all():
                    break
                piece[:] = above

    def roots(self, start: int, stop: int) -> Int64[np.ndarray, "row"]:
        """The first row of the tree that each of these rows belongs to."""
        return self._parents[start : min(stop, self._rows)].astype(np.int64)

    def _root(self, row: int) -> int:
        parents = self._parents
        while (parent := int(parents[row])) != row:
            above = int(parents[parent])
            parents[row] = above
            row = above
        return row
