"""Clusters -> splits -> shards: which split each row goes to, and where shards are cut."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int64, UInt8

from data_sharding.cleaning.clean import SPLIT_NAME

MOST_SPLITS = 250
REJECTED = 0
COPY, NEAR_COPY, BRIDGE = 255, 254, 253
"""A row's state is one of these, or 1 + the number of its split."""
PIECE_ROWS = 1 << 18


def check_shares(shares: Mapping[str, float]) -> None:
    """Refuses shares that are no division of the samples.

    Raises:
        ValueError: A name that is none, a share out of (0, 1], or a sum that is not 1.
    """
    for name, share in shares.items():
        if not SPLIT_NAME.fullmatch(name):
            raise ValueError(f"splits: {name!r} is no name for a split")
        if not 0.0 < share <= 1.0:
            raise ValueError(f"splits.{name} must be in (0, 1], got {share}")
    if shares and not math.isclose(sum(shares.values()), 1.0, abs_tol=1e-6):
        raise ValueError(f"splits must add up to 1, got {sum(shares.values()):g}")
    if len(shares) > MOST_SPLITS:
        raise ValueError(f"{len(shares)} splits; at most {MOST_SPLITS} are possible")


def hashed_split(content: np.ndarray, shares: Sequence[float]) -> UInt8[np.ndarray, "row"]:
    """State of rows by their content's digest alone, so that every job agrees.

    Args:
        content: Digests, 16 bytes each.
        shares: Share of each split; they add up to 1.
    """
    upper = np.cumsum(shares)
    halves = np.ascontiguousarray(content).view("<u8").reshape(-1, 2)
    places = halves[:, 1].astype(np.float64) / 2.0**64
    numbers = np.minimum(np.searchsorted(upper, places, side="right"), len(shares) - 1)
    return (numbers + 1).astype(np.uint8)


class SplitRanges:
    """The least and the greatest split of each cluster, in files of one byte a row.

    Args:
        folder: Where the two files are created.
        rows: Number of rows; a cluster is named by its first.
    """

    def __init__(self, folder: Path, rows: int) -> None:
        shape = (max(rows, 1),)
        self._least = np.memmap(folder / "least", "u1", "w+", shape=shape)
        self._greatest = np.memmap(folder / "greatest", "u1", "w+", shape=shape)
        for start in range(0, rows, PIECE_ROWS):
            self._least[start : start + PIECE_ROWS] = 255

    def add(self, roots: Int64[np.ndarray, "row"], states: UInt8[np.ndarray, "row"]) -> None:
        """Takes rows of some clusters into account."""
        np.minimum.at(self._least, roots, states)
        np.maximum.at(self._greatest, roots, states)

    def fixed(self, roots: Int64[np.ndarray, "row"]) -> UInt8[np.ndarray, "row"]:
        """The split of each cluster; 0 where it has none yet, `BRIDGE` where it has several."""
        least, greatest = self._least[roots], self._greatest[roots]
        return np.where(least < greatest, np.uint8(BRIDGE), greatest)

    def straddling(self) -> int:
        """Number of clusters that lie in more than one split."""
        pieces = range(0, len(self._least), PIECE_ROWS)
        return sum(int(self._crossed(start).sum()) for start in pieces)

    def _crossed(self, start: int) -> Bool[np.ndarray, "row"]:
        stop = start + PIECE_ROWS
        return self._least[start:stop] < self._greatest[start:stop]


@dataclass(frozen=True, kw_only=True)
class ShardLimits:
    """Where a shard is cut."""

    samples: int
    """Most samples in a shard."""

    bytes: int
    """A shard takes no further sample once its media reach this size."""


@dataclass(frozen=True, kw_only=True)
class PlannedShard:
    """One shard to write: the rows of a split in a range of rows.

    Attributes:
        split: Name of the split.
        state: The state of the rows that belong to it.
        first: Its first row.
        last: Its last row.
        samples: How many rows of the range belong to it.
        bytes: Their size in a tar as found, headers included.
    """

    split: str
    state: int
    first: int
    last: int
    samples: int
    bytes: int


class ShardCutter:
    """Cuts each split into shards while rows go by.

    Args:
        splits: Their names; the state of a row is 1 + its split's number.
        limits: Where to cut.
    """

    def __init__(self, splits: Sequence[str], limits: ShardLimits) -> None:
        self._splits = splits
        self._limits = limits
        self._open: dict[int, PlannedShard] = {}

    def add(
        self,
        first: int,
        states: UInt8[np.ndarray, "row"],
        sizes: Int64[np.ndarray, "row"],
    ) -> list[PlannedShard]:
        """The shards that these rows complete, in the order of their last rows.

        Args:
            first: Number of the first of these rows.
            states: State of each.
            sizes: Size of each in a tar.
        """
        done: list[PlannedShard] = []
        for state in np.unique(states[(states > 0) & (states <= len(self._splits))]).tolist():
            places = np.flatnonzero(states == state)
            ends = np.cumsum(sizes[places])
            begin = 0
            while begin < len(places):
                stop = self._stop(self._open.get(state), ends, begin)
                before = int(ends[begin - 1]) if begin else 0
                shard = self._grown(state, first + places[begin:stop], int(ends[stop - 1]) - before)
                self._open[state] = shard
                if shard.samples >= self._limits.samples or shard.bytes >= self._limits.bytes:
                    done.append(self._open.pop(state))
                begin = stop
        return sorted(done, key=lambda shard: shard.last)

    def rest(self) -> list[PlannedShard]:
        """The shards that were still open, in the order of their first rows."""
        rest, self._open = sorted(self._open.values(), key=lambda shard: shard.first), {}
        return rest

    def _stop(self, shard: PlannedShard | None, ends: np.ndarray, begin: int) -> int:
        """First place that the open shard takes no more."""
        samples, size = (shard.samples, shard.bytes) if shard else (0, 0)
        before = int(ends[begin - 1]) if begin else 0
        by_samples = begin + self._limits.samples - samples
        by_bytes = int(np.searchsorted(ends, self._limits.bytes - size + before)) + 1
        return min(by_samples, max(by_bytes, begin + 1), len(ends))

    def _grown(self, state: int, rows: np.ndarray, size: int) -> PlannedShard:
        shard = self._open.get(state)
        return PlannedShard(
            split=self._splits[state - 1],
            state=state,
            first=shard.first if shard else int(rows[0]),
            last=int(rows[-1]),
            samples=(shard.samples if shard else 0) + len(rows),
            bytes=(shard.bytes if shard else 0) + size,
        )
