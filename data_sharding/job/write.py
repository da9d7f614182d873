"""The write task: the rows of one planned shard -> tar, index and, last, the receipt."""

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import numpy as np

from data_sharding.cleaning.clean import collect_members, raw_crc32
from data_sharding.cleaning.reencode import final_members
from data_sharding.duplicates import SignatureFile
from data_sharding.job.folder import JobFolder, TaskSettings
from data_sharding.job.plan import rows_between
from data_sharding.job.resolve import planned_shard
from data_sharding.job.splits import PlannedShard
from data_sharding.schema import DecodeError, Record, Rejection
from data_sharding.sources.rows import Row
from data_sharding.writer import ShardWriter

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def write_task(folder: JobFolder, number: int) -> None:
    """Writes one shard; the same task always gives the same bytes.

    Args:
        folder: The job, resolved.
        number: Which of the planned shards.

    Raises:
        ValueError: A row's media are not what they were when they were scanned.
        OSError: The shard cannot be written; it then leaves nothing behind.
    """
    settings = folder.settings()
    shard = planned_shard(folder, number)
    with (
        _room_named(folder.out, shard),
        ShardWriter(folder.scratch, settings.first_shard + number) as writer,
    ):
        for row, crc32 in _rows(folder, shard, settings):
            writer.add(_members(row, crc32, settings))
        entry = writer.publish(folder.out, shard.split)
    sizes = {name: (folder.out / name).stat().st_size for name in (entry.file, entry.index_file)}
    receipt = {"job": settings.job, "files": sizes, "shard": asdict(entry)}
    folder.write_receipt("write", number, receipt)


def _rows(
    folder: JobFolder, shard: PlannedShard, settings: TaskSettings
) -> Iterator[tuple[Row, int]]:
    """The shard's rows, each with the checksum of its scan."""
    per_task = settings.config.rows_per_task
    for number in range(shard.first // per_task, shard.last // per_task + 1):
        start = number * per_task
        first, last = max(shard.first, start), min(shard.last, start + per_task - 1)
        with folder.state_file.open("rb") as file:
            file.seek(first)
            states = np.frombuffer(file.read(last + 1 - first), np.uint8)
        table = SignatureFile.open(folder.table_file(number)).read(first - start, last + 1 - start)
        rows = rows_between(folder, first, last, per_task)
        for row, state, crc32 in zip(rows, states, table["crc32"].tolist(), strict=True):
            if state == shard.state:
                yield row, crc32


def _members(row: Row, crc32: int, settings: TaskSettings) -> dict[str, bytes]:
    record = row.content
    assert isinstance(record, Record)
    try:
        members = collect_members(record, settings.root, settings.config.clean)
    except Rejection as rejection:
        raise ValueError(_changed(row, rejection.detail)) from rejection
    if raw_crc32(members) != crc32:
        raise ValueError(_changed(row, "its media are other bytes now"))
    try:
        return final_members(record, members, settings.config.encode)
    except DecodeError as error:
        raise ValueError(f"row {row.number} ({record.id}) cannot be re-encoded: {error}") from error


def _changed(row: Row, what: str) -> str:
    assert isinstance(row.content, Record)
    return (
        f"row {row.number} ({row.content.id}) changed while it was sharded: {what}; put it back, "
        "or delete the unfinished shard set and begin anew"
    )


@contextmanager
def _room_named(out: Path, shard: PlannedShard) -> Iterator[None]:
    """Says how much room is needed where there is none left."""
    try:
        yield
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        free = shutil.disk_usage(out).free
        raise OSError(
            error.errno,
            f"{error.strerror}: this shard needs about {shard.bytes} bytes, {free} bytes are free; "
            "make room and run the same command again",
            str(out),
        ) from error
