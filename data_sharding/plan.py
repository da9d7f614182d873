"""Corpus rows -> shard tasks: which rows go into which shard, decided before any is decoded.

The plan depends on the manifest and the sizes of its files alone, so that every engine and every
rerun makes the same shards, and it holds no more rows at once than one open shard of each split.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from data_sharding.schema import DEFAULT_SPLIT, Record
from data_sharding.sources import Row

CARD_BYTES = 200
"""Assumed size of a sample's JSON; only decides where a shard is cut."""


@dataclass(frozen=True, kw_only=True)
class ShardLimits:
    """Where a shard is cut."""

    samples: int
    """Most rows in a shard, rejected ones included."""

    bytes: int
    """A shard takes no further row once its media reach this size."""


@dataclass(frozen=True, kw_only=True)
class ShardTask:
    """Everything that is needed to make one shard; independent of all others."""

    number: int
    split: str
    rows: tuple[Row, ...]


@dataclass
class _Open:
    """Rows of the shard that a split is collecting."""

    rows: list[Row] = field(default_factory=list)
    bytes: int = 0


def plan_shards(rows: Iterable[Row], folder: Path, limits: ShardLimits) -> Iterator[ShardTask]:
    """Cuts a corpus into shards, each of one split, in the order of the rows.

    A row that could not be parsed has no split; it travels with the default split, where it is
    only counted.

    Args:
        rows: The corpus.
        folder: The corpus folder, for the sizes of media.
        limits: Where a shard is cut.
    """
    number = 0
    collecting: dict[str, _Open] = {}
    for row in rows:
        record = row.content if isinstance(row.content, Record) else None
        split = record.split if record else DEFAULT_SPLIT
        shard = collecting.setdefault(split, _Open())
        shard.rows.append(row)
        shard.bytes += _expected_bytes(record, folder) if record else 0
        if len(shard.rows) >= limits.samples or shard.bytes >= limits.bytes:
            yield ShardTask(number=number, split=split, rows=tuple(shard.rows))
            number += 1
            del collecting[split]
    for split, shard in collecting.items():
        yield ShardTask(number=number, split=split, rows=tuple(shard.rows))
        number += 1


def _expected_bytes(record: Record, folder: Path) -> int:
    """Size of a sample's members; a file that cannot be seen counts nothing."""
    total = CARD_BYTES + len(record.text or "")
    for name in (record.image, record.audio):
        try:
            total += (folder / name).stat().st_size if name else 0
        except (OSError, ValueError):
            continue
    return total
