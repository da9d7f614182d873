"""Divides the rows of a job among splits and shards, one piece of rows at a time."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from typing import BinaryIO

import numpy as np
from jaxtyping import Int64, UInt8

from data_sharding.duplicates import Alike, SignatureFile, SignatureFiles
from data_sharding.durable import writing_durably
from data_sharding.job.config import ShardingConfig
from data_sharding.job.folder import JobFolder
from data_sharding.job.splits import (
    BRIDGE,
    COPY,
    NEAR_COPY,
    PlannedShard,
    ShardCutter,
    ShardLimits,
    SplitRanges,
    hashed_split,
)
from data_sharding.schema import canonical_json

REASONS = {COPY: "duplicate", NEAR_COPY: "near-duplicate", BRIDGE: "bridges-splits"}
"""State of a row that is left out -> its reason."""


@dataclass(frozen=True, kw_only=True)
class Earlier:
    """Signatures of a set's earlier generations.

    Attributes:
        files: One table a generation.
        splits: The names that each table's split numbers stand for.
    """

    files: tuple[SignatureFile, ...] = ()
    splits: tuple[tuple[str, ...], ...] = ()

    @property
    def rows(self) -> int:
        """Samples of all generations."""
        return sum(file.rows for file in self.files)


@dataclass(frozen=True, kw_only=True)
class Resolution:
    """What the step found.

    Attributes:
        shards: Number of shards to write.
        splits: Names of splits; a row's state is 1 + its split's number.
        straddling: Clusters that lie in more than one split of the corpus's own.
        rejects: Reason -> number of rows that were left out here.
    """

    shards: int
    splits: tuple[str, ...]
    straddling: int
    rejects: Mapping[str, int] = field(default_factory=dict)


class Divider:
    """Gives each new row its state.

    Args:
        folder: The job, all of whose scan tasks are done.
        table: All signatures, earlier generations first.
        alike: Which of them are.
        earlier: The earlier generations.
        names: Names of all splits, sorted.
    """

    def __init__(
        self,
        folder: JobFolder,
        table: SignatureFiles,
        alike: Alike,
        earlier: Earlier,
        names: Sequence[str],
    ) -> None:
        self._folder = folder
        self._table = table
        self._alike = alike
        self._earlier = earlier
        self._names = tuple(names)
        self._ranges = SplitRanges(folder.scratch / "resolve", len(table))

    def run(self, config: ShardingConfig) -> Resolution:
        """Writes state, origins and shards of all new rows."""
        limits = ShardLimits(samples=config.samples_per_shard, bytes=config.shard_size_bytes)
        cutter = ShardCutter(self._names, limits)
        counts: Counter[int] = Counter()
        num_shards = 0
        with ExitStack() as stack:
            paths = (self._folder.state_file, self._folder.origins_file, self._folder.shards_file)
            states_to, origins_to, shards_to = (
                stack.enter_context(writing_durably(path)) for path in paths
            )
            for first, rows, splits in self._pieces(config):
                if first < 0:
                    self._ranges.add(self._roots(first, rows), splits)
                    continue
                states, origins = self._states(first, rows, splits, config)
                counts.update(dict(zip(*_counted(states), strict=True)))
                states_to.write(states.tobytes())
                origins_to.write(origins.tobytes())
                done = cutter.add(first, states, rows["bytes"].astype(np.int64))
                num_shards += _write_shards(shards_to, done)
            num_shards += _write_shards(shards_to, cutter.rest())
        return Resolution(
            shards=num_shards,
            splits=self._names,
            straddling=0 if config.splits else self._ranges.straddling(),
            rejects={reason: counts[s] for s, reason in REASONS.items() if counts[s]},
        )

    def _pieces(
        self, config: ShardingConfig
    ) -> Iterator[tuple[int, np.ndarray, UInt8[np.ndarray, "row"]]]:
        """Number of the first new row (below 0: of an earlier generation), rows, states."""
        stops = np.cumsum([file.rows for file in self._earlier.files])
        for first, rows in self._table.chunks():
            start = first - self._earlier.rows
            if start < 0:
                names = self._earlier.splits[int(np.searchsorted(stops, first, side="right"))]
            elif config.splits:
                names = sorted(config.splits)
            else:
                receipt = self._folder.read_receipt("scan", start // config.rows_per_task)
                names = receipt["splits"]
            numbers = [1 + self._names.index(name) for name in names]
            translate = np.zeros(256, np.uint8)
            translate[: len(numbers)] = numbers
            if start >= 0 and config.splits:
                shares = [config.splits[name] for name in names]
                yield start, rows, translate[hashed_split(rows["content"], shares) - 1]
            else:
                yield start, rows, translate[rows["split"]]

    def _states(
        self,
        first: int,
        rows: np.ndarray,
        splits: UInt8[np.ndarray, "row"],
        config: ShardingConfig,
    ) -> tuple[UInt8[np.ndarray, "row"], np.ndarray]:
        """States of new rows, and 1 + the row that each repeats (0: none)."""
        roots = self._roots(first, rows)
        held = rows["held"] > 0
        here = np.arange(len(rows)) + first + self._earlier.rows
        states = splits.copy()
        if config.splits:
            fresh = held & (roots == here) & (self._ranges.fixed(roots) == 0)
            self._ranges.add(roots[fresh], splits[fresh])
            states = self._ranges.fixed(roots)
        origins = np.zeros(len(rows), "<u4")
        for state, forest in ((NEAR_COPY, self._alike.near), (COPY, self._alike.copies)):
            if forest is None or (state == COPY and config.duplicates.exact == "keep"):
                continue
            repeated = forest.roots(int(here[0]), int(here[-1]) + 1)
            again = held & (repeated != here)
            states[again] = state
            origins[again] = repeated[again] + 1
        states[~held] = 0
        kept = (states > 0) & (states <= len(self._names))
        self._ranges.add(roots[kept], states[kept])
        return states, origins

    def _roots(self, first: int, rows: np.ndarray) -> Int64[np.ndarray, "row"]:
        start = first + self._earlier.rows
        return self._alike.clusters.roots(start, start + len(rows))


def _counted(states: UInt8[np.ndarray, "row"]) -> tuple[list[int], list[int]]:
    values, counts = np.unique(states, return_counts=True)
    return values.tolist(), counts.tolist()


def _write_shards(file: BinaryIO, shards: Sequence[PlannedShard]) -> int:
    for shard in shards:
        file.write(canonical_json(asdict(shard)) + b"\n")
    return len(shards)
