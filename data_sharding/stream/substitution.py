"""Samples that another one had to stand in for: recorded, counted, and bounded by a budget."""

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from data_sharding.reading.reader import ShardReader
from data_sharding.schema import DecodeError, SampleFault, ShardError, canonical_json

LOGGER = logging.getLogger(__name__)

LEAST_SAMPLES = 10_000
"""The share of faults is counted over at least so many samples: one early fault is no trend."""

TELLING_SHARD_SAMPLES = 10
"""A shard of at least so many samples, every one of them bad, fails the run."""

NUM_WARNINGS = 10
"""So many faults are said one by one; all of them are in the ledger."""

NUM_EXAMPLES = 3


@dataclass(frozen=True, kw_only=True)
class FaultBudget:
    """How many bad samples a run bears; each is replaced by another one and recorded."""

    max_share: float = 0.001
    """The run fails when more than this share of its samples is bad, counted over at least 10,000
    samples by each rank; 0 fails at the first one."""

    max_consecutive: int = 100
    """The run fails when so many samples in a row are bad."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.max_share <= 1.0:
            raise ValueError(f"faults.max_share must be in [0, 1], got {self.max_share}")
        if self.max_consecutive < 1:
            raise ValueError(
                f"faults.max_consecutive must be at least 1, got {self.max_consecutive}"
            )


@dataclass(frozen=True, kw_only=True)
class Substitution:
    """A bad sample and the one in its place.

    Attributes:
        position: Place in the rank's batch.
        epoch: Epoch of the bad sample's lane.
        sample_id: The bad sample's number in the stream's sets.
        shard_samples: Number of samples of its shard.
        fault: Shard, key, member and reason.
        replaced_by: Key of the sample in its place.
    """

    position: int
    epoch: int
    sample_id: int
    shard_samples: int
    fault: SampleFault
    replaced_by: str

    def line(self) -> bytes:
        """The ledger's record of it, one line of JSON."""
        record = {
            "epoch": self.epoch,
            "shard": self.fault.shard,
            "key": self.fault.key,
            "member": self.fault.member,
            "reason": self.fault.reason,
            "replaced_by": self.replaced_by,
        }
        return canonical_json(record) + b"\n"


class FaultCount:
    """Bad samples against the share that a budget allows.

    Args:
        budget: What is allowed.
        record: Where the user finds all of them, in words.
    """

    def __init__(self, budget: FaultBudget, record: str) -> None:
        self.budget = budget
        self.num_samples = 0
        self.num_faults = 0
        self._record = record
        self._examples: list[SampleFault] = []

    def add(self, num_samples: int, faults: Sequence[SampleFault]) -> None:
        """Counts some samples and the bad ones among them.

        Raises:
            ShardError: Too large a share is bad.
        """
        self.num_samples += num_samples
        self.num_faults += len(faults)
        self._examples += faults[: NUM_EXAMPLES - len(self._examples)]
        allowed = self.budget.max_share * max(self.num_samples, LEAST_SAMPLES)
        if self.num_faults > allowed:
            share = f"{self.budget.max_share:g}"
            raise self.spent(f"more samples are bad than faults.max_share = {share} allows")

    def spent(self, what: str) -> ShardError:
        """An error with the counts, the first examples and what to do."""
        examples = "; ".join(str(fault) for fault in self._examples)
        return ShardError(
            f"{what}: {self.num_faults} of {self.num_samples}, all named in {self._record}. The "
            f"first: {examples}. Find what is broken with `triptych verify`, and copy or shard it "
            "again; or raise the budget, loader.faults"
        )


class Ledger:
    """The one writer of a rank's record of substitutions.

    Counts from the start of the process: a resumed run has its whole budget again.

    Args:
        budget: What the run bears.
        file: JSON lines are appended here; None records nothing on disk.
    """

    def __init__(self, budget: FaultBudget, file: Path | None = None) -> None:
        self.file = file
        self._budget = budget
        self._count = FaultCount(budget, str(file or "no file"))
        self._consecutive = 0
        self._bad: dict[str, set[int]] = {}

    def add(self, num_samples: int, found: Sequence[Substitution]) -> None:
        """Counts one batch; `found` is in the order of its positions.

        Raises:
            ShardError: The budget is spent; says the counts, some examples and what to do.
            OSError: The ledger's file cannot be written.
        """
        if found:
            self._write(found)
            self._warn(found)
        self._count.add(num_samples, [entry.fault for entry in found])
        self._refuse_long_run(num_samples, {entry.position for entry in found})
        self._refuse_barren_shards(found)

    def _write(self, found: Sequence[Substitution]) -> None:
        if self.file is None:
            return
        self.file.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(descriptor, b"".join(entry.line() for entry in found))
        finally:
            os.close(descriptor)

    def _warn(self, found: Sequence[Substitution]) -> None:
        for number, entry in enumerate(found, self._count.num_faults + 1):
            if number <= NUM_WARNINGS:
                LOGGER.warning("%s; %s takes its place", entry.fault, entry.replaced_by)
            if number == NUM_WARNINGS:
                LOGGER.warning("further bad samples are only recorded: %s", self.file or "nowhere")

    def _refuse_long_run(self, num_samples: int, bad: set[int]) -> None:
        for position in range(num_samples) if bad else ():
            self._consecutive = self._consecutive + 1 if position in bad else 0
            if self._consecutive >= self._budget.max_consecutive:
                raise self._count.spent(f"{self._consecutive} samples in a row are bad")
        if not bad:
            self._consecutive = 0

    def _refuse_barren_shards(self, found: Sequence[Substitution]) -> None:
        for entry in found:
            bad = self._bad.setdefault(entry.fault.shard, set())
            bad.add(entry.sample_id)
            if len(bad) == entry.shard_samples >= TELLING_SHARD_SAMPLES:
                raise self._count.spent(f"{entry.fault.shard} has not one good sample")


def fault_of(reader: ShardReader, sample_id: int, error: SampleFault | DecodeError) -> SampleFault:
    """What is wrong with a sample that could not be read, or not be decoded.

    A decoder's message begins with the member's name, ``KEY.SUFFIX: ``.
    """
    if isinstance(error, SampleFault):
        return error
    _, key = reader.locate(sample_id)
    member, _, reason = str(error).removeprefix(f"{key}.").partition(": ")
    return SampleFault(reader.location_of(sample_id), key, member, reason)
