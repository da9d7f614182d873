"""What a shard set holds: exact counts from its manifest and indexes, the rest from a few samples.

Counts, bytes and modality presence are exact. Picture sizes, durations, languages, labels and text
lengths need the samples themselves; they are measured on samples spread evenly over the set, and
every table says how many that were.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from jaxtyping import UInt32

from data_sharding.index import ShardIndex, decode_index
from data_sharding.manifest import ShardSet
from data_sharding.progress import track
from data_sharding.reading.reader import ShardReader
from data_sharding.retry import RetryConfig, retrying
from data_sharding.schema import RawSample, SampleFault
from data_sharding.storage import join, read_bytes
from data_sharding.tools.inspection_facts import SampleFacts, measure


@dataclass(frozen=True, kw_only=True)
class InspectConfig:
    """How closely a set is looked at."""

    split: str | None = None
    """Only this split."""

    samples: int = 24
    """Samples shown on the HTML page, spread evenly over the set."""

    measured: int = 2_000
    """Samples read for picture sizes, durations, languages and labels, spread evenly; a larger
    number is slower and nearer to the truth."""

    indexes: int = 1_000
    """Indexes read for the bytes of each part, spread evenly; a set of more shards is not read
    whole."""

    def __post_init__(self) -> None:
        for name in ("samples", "measured", "indexes"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")


@dataclass(frozen=True, kw_only=True)
class PartBytes:
    """Size of one part over the samples that have it.

    Attributes:
        suffix: The part.
        count: Samples that have it, in the indexes that were read.
        total: Bytes together.
        median: Half of them are smaller, in bytes.
        p95: 95 of 100 are smaller, in bytes.
    """

    suffix: str
    count: int
    total: int
    median: float
    p95: float


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """What was found.

    Attributes:
        shard_set: The set, or the split of it that was looked at.
        parts: Bytes of each part.
        num_indexes: Indexes that `parts` come from.
        combinations: Modalities of a sample, such as ``text + image`` -> number of samples.
        facts: What was measured on samples.
        faults: Samples among the measured that could not be read, in words.
        shown: Numbers of the samples for the page.
    """

    shard_set: ShardSet
    parts: Sequence[PartBytes]
    num_indexes: int
    combinations: Mapping[str, int]
    facts: Sequence[SampleFacts]
    faults: Sequence[str]
    shown: Sequence[int]

    @property
    def languages(self) -> Counter[str]:
        """Language tag -> measured samples."""
        return Counter(fact.language for fact in self.facts if fact.language)

    @property
    def labels(self) -> dict[str, Counter[str]]:
        """Label name -> value -> measured samples."""
        found: dict[str, Counter[str]] = {}
        for fact in self.facts:
            for name, value in fact.labels.items():
                found.setdefault(name, Counter())[value] += 1
        return found

    def values(self, name: str) -> list[float]:
        """One measure of all samples that have it: an attribute of `SampleFacts`."""
        found = (getattr(fact, name) for fact in self.facts)
        return [float(value) for value in found if value is not None]


@dataclass
class Tables:
    """Part lengths collected from indexes."""

    lengths: dict[str, list[UInt32[np.ndarray, "sample"]]] = field(default_factory=dict)
    combinations: Counter[str] = field(default_factory=Counter)

    def add(self, index: ShardIndex) -> None:
        """Takes over one index."""
        for column, suffix in enumerate(index.parts):
            held = index.part_lengths[:, column]
            self.lengths.setdefault(suffix, []).append(held[held > 0].astype(np.uint32))
        self.combinations.update(index.combinations())

    def parts(self) -> list[PartBytes]:
        """Summed up, the largest part first."""
        found = [_part_bytes(suffix, np.concatenate(held)) for suffix, held in self.lengths.items()]
        return sorted((part for part in found if part.count), key=lambda part: -part.total)


def inspect_set(location: str, config: InspectConfig) -> Inspection:
    """Looks at a set, local or remote.

    Args:
        location: Folder or URL.
        config: How closely.

    Raises:
        ShardError: It is no finished set, has no such split, or a shard or index is broken.
    """
    shard_set = ShardSet.open(location, config.split)
    chosen = spread(len(shard_set.shards), config.indexes)
    tables = Tables()
    for number in track(chosen, "reading indexes", len(chosen)):
        tables.add(_read_index(shard_set, number))
    facts: list[SampleFacts] = []
    faults: list[str] = []
    wanted = spread(shard_set.num_samples, config.measured)
    for sample in track(read_samples(shard_set, wanted), "measuring", len(wanted)):
        if isinstance(sample, SampleFault):
            faults.append(str(sample))
        else:
            facts.append(measure(sample))
    return Inspection(
        shard_set=shard_set,
        parts=tables.parts(),
        num_indexes=len(chosen),
        combinations=dict(tables.combinations.most_common()),
        facts=facts,
        faults=faults,
        shown=spread(shard_set.num_samples, config.samples),
    )


def read_samples(
    shard_set: ShardSet, sample_ids: Sequence[int]
) -> Iterator[RawSample | SampleFault]:
    """Reads samples; one that cannot be had comes as its fault."""
    reader = ShardReader(shard_set)
    try:
        for sample_id in sample_ids:
            try:
                yield reader.read(sample_id)
            except SampleFault as fault:
                yield fault
    finally:
        reader.close()


def spread(count: int, wanted: int) -> list[int]:
    """`wanted` numbers, or all, from 0 to ``count - 1`` at even distances.

    >>> spread(10, 4)
    [0, 3, 6, 9]
    """
    if wanted >= count:
        return list(range(count))
    if wanted == 1:
        return [0]
    return [place * (count - 1) // (wanted - 1) for place in range(wanted)]


def _part_bytes(suffix: str, lengths: UInt32[np.ndarray, "sample"]) -> PartBytes:
    if not len(lengths):
        return PartBytes(suffix=suffix, count=0, total=0, median=0.0, p95=0.0)
    return PartBytes(
        suffix=suffix,
        count=len(lengths),
        total=int(lengths.sum(dtype=np.uint64)),
        median=float(np.median(lengths)),
        p95=float(np.percentile(lengths, 95)),
    )


def _read_index(shard_set: ShardSet, number: int) -> ShardIndex:
    path = join(shard_set.location, shard_set.shards[number].index_file)
    return decode_index(retrying(partial(read_bytes, path), path, RetryConfig()), path)
