"""Raw corpus -> shard set: runs the plan's tasks, writes the manifest last."""

import hashlib
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from data_sharding.clean import CleanConfig, clean_record
from data_sharding.durable import write_durably
from data_sharding.manifest import MANIFEST_FILE, VERSION, ShardSet, write_manifest
from data_sharding.plan import ShardLimits, ShardTask, plan_shards
from data_sharding.progress import track
from data_sharding.receipts import (
    JOB_FILE,
    UNFINISHED,
    Receipt,
    claimed,
    read_receipt,
    remove_shards_but,
    rows_digest,
    write_receipt,
)
from data_sharding.schema import Record, Rejection, canonical_json
from data_sharding.sources import find_manifest, read_rows
from data_sharding.writer import ShardWriter

REJECTS_FILE = "rejects.jsonl"


@dataclass(frozen=True, kw_only=True)
class ShardingConfig:
    """How a raw corpus becomes shards. Equal corpus and settings give an equal digest."""

    samples_per_shard: int = 10_000
    """Most samples in a shard."""

    shard_size_bytes: int = 512 * 1024 * 1024
    """A shard takes no further sample once its media reach this size."""

    columns: dict[str, str] = field(default_factory=dict)
    """Field -> its name in the manifest file, where they differ: ``image picture_path``."""

    licence: str | None = None
    """Licence of the corpus, recorded in manifest.json."""

    clean: CleanConfig = field(default_factory=CleanConfig)
    """Limits that a sample must keep."""

    def __post_init__(self) -> None:
        if not 1 <= self.samples_per_shard <= 1_000_000:
            raise ValueError(
                f"samples_per_shard must be in [1, 1000000], got {self.samples_per_shard}"
            )
        if self.shard_size_bytes < 1:
            raise ValueError(f"shard_size_bytes must be at least 1, got {self.shard_size_bytes}")


@dataclass(frozen=True, kw_only=True)
class ShardReport:
    """What `shard_corpus` made.

    Attributes:
        folder: The shard set.
        digest: The set's digest.
        num_samples: Samples written.
        num_shards: Shards written.
        num_bytes: Size of all tars.
        present: Modality -> number of samples that have it.
        rejects: Reason -> number of rows left out.
    """

    folder: Path
    digest: str
    num_samples: int
    num_shards: int
    num_bytes: int
    present: Mapping[str, int]
    rejects: Mapping[str, int]

    @property
    def num_rejected(self) -> int:
        """Rows left out."""
        return sum(self.rejects.values())

    def summary(self) -> str:
        """One or two lines for the terminal."""
        held = ", ".join(f"{count} with {name}" for name, count in self.present.items())
        first = (
            f"{self.num_samples} samples ({held}) in {self.num_shards} shards, "
            f"{self.num_bytes / 1e6:.1f} MB, digest {self.digest[:12]}: {self.folder}"
        )
        if not self.rejects:
            return first + "\nno row rejected"
        return (
            f"{first}\n{self.num_rejected} rows rejected ({_counted(self.rejects)}), "
            f"see {self.folder / REJECTS_FILE}"
        )


def shard_corpus(corpus: Path, out: Path, config: ShardingConfig) -> ShardReport:
    """Writes a corpus as a shard set, or continues a killed job of the same corpus and settings.

    Args:
        corpus: A ``.jsonl`` or ``.csv`` manifest file, or a folder with a ``manifest.jsonl`` or
            ``manifest.csv``.
        out: A folder that is new, empty, or holds such an unfinished job.
        config: Shard sizes and limits.

    Raises:
        ValueError: No such corpus, `out` is taken, or no row passes; then nothing is left behind.
    """
    source = find_manifest(corpus)
    identity, num_lines = _identify(source, config)
    if (out / MANIFEST_FILE).is_file():
        return _already_finished(out, identity)
    with claimed(out, canonical_json(identity)):
        rows = track(read_rows(source, config.columns), "sharding", num_lines)
        limits = ShardLimits(samples=config.samples_per_shard, bytes=config.shard_size_bytes)
        receipts = [
            read_receipt(out, task) or run_task(task, source.parent, out, config.clean)
            for task in plan_shards(rows, source.parent, limits)
        ]
        _finish(out, receipts, identity, source)
    shutil.rmtree(out / UNFINISHED)
    return _report(out)


def run_task(task: ShardTask, folder: Path, out: Path, config: CleanConfig) -> Receipt:
    """Makes one shard and its receipt; the same task always gives the same bytes.

    Args:
        task: Number, split and rows.
        folder: The corpus folder.
        out: The shard set's folder, with its ``unfinished`` folder.
        config: Limits.
    """
    rejects: list[Mapping[str, Any]] = []
    with ShardWriter(out / UNFINISHED, task.number) as writer:
        for row in task.rows:
            try:
                if isinstance(row.content, Rejection):
                    raise row.content
                writer.add(clean_record(row.content, folder, config))
            except Rejection as rejection:
                name = row.content.id if isinstance(row.content, Record) else None
                rejects.append(
                    {
                        "row": row.number,
                        "id": name,
                        "reason": rejection.reason,
                        "detail": rejection.detail.encode("utf-8", "replace").decode("utf-8"),
                    }
                )
        shard = writer.publish(out, task.split) if len(writer) else None
    receipt = Receipt(rows_sha256=rows_digest(task), shard=shard, rejects=tuple(rejects))
    write_receipt(out, task.number, receipt)
    return receipt


def _finish(
    out: Path, receipts: Sequence[Receipt], identity: Mapping[str, Any], source: Path
) -> None:
    """Writes rejects.jsonl and, last, the manifest.

    Raises:
        ValueError: No row passed.
    """
    shards = [receipt.shard for receipt in receipts if receipt.shard]
    rejects = [reject for receipt in receipts for reject in receipt.rejects]
    if not shards:
        raise ValueError(_nothing_left(source, rejects))
    remove_shards_but(out, {shard.file.removesuffix(".tar") for shard in shards})
    lines = b"".join(canonical_json(reject) + b"\n" for reject in rejects)
    write_durably(out / REJECTS_FILE, lines)
    counts = Counter(str(reject["reason"]) for reject in rejects)
    facts = {
        "sources": identity["sources"],
        "licence": identity["config"]["licence"],
        "rejects": dict(sorted(counts.items())),
        "config": identity["config"],
    }
    write_manifest(out, shards, facts)


def _identify(source: Path, config: ShardingConfig) -> tuple[dict[str, Any], int]:
    """What makes a job the same job (corpus file and settings), and the file's lines."""
    digest, num_lines = hashlib.sha256(), 0
    with source.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
            num_lines += piece.count(b"\n")
    identity = {
        "version": VERSION,
        "sources": [{"file": source.name, "sha256": digest.hexdigest()}],
        "config": asdict(config),
    }
    return identity, num_lines


def _already_finished(out: Path, identity: Mapping[str, Any]) -> ShardReport:
    """Cleans up after a job that was killed between its manifest and its end."""
    job_file = out / UNFINISHED / JOB_FILE
    if job_file.is_file() and job_file.read_bytes() == canonical_json(identity):
        shutil.rmtree(out / UNFINISHED)
        return _report(out)
    raise ValueError(f"{out} already holds a finished shard set; choose another folder")


def _report(out: Path) -> ShardReport:
    shard_set = ShardSet.open(out)
    return ShardReport(
        folder=out,
        digest=shard_set.digest,
        num_samples=shard_set.num_samples,
        num_shards=len(shard_set.shards),
        num_bytes=sum(shard.bytes for shard in shard_set.shards),
        present=shard_set.present,
        rejects=shard_set.rejects,
    )


def _nothing_left(source: Path, rejects: Sequence[Mapping[str, Any]]) -> str:
    if not rejects:
        return f"{source} holds no rows"
    counts = Counter(str(reject["reason"]) for reject in rejects)
    first = rejects[0]
    return (
        f"{source}: no row passed, {len(rejects)} rejected ({_counted(counts)}); "
        f"the first, row {first['row']}: {first['detail']}"
    )


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))
