"""An unfinished sharding job on disk: who owns the folder, and which shards are done.

While a job runs, OUT holds an ``unfinished`` folder with the job's identity and a receipt for each
finished shard. A shard without a receipt does not count and is made again.
"""

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from data_sharding.durable import write_durably
from data_sharding.manifest import ShardEntry
from data_sharding.plan import ShardTask
from data_sharding.schema import canonical_json

UNFINISHED = "unfinished"
JOB_FILE = "job.json"


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """What a finished task leaves behind.

    Attributes:
        rows_sha256: Which rows the task had, so that a changed plan makes its shards anew.
        shard: The shard, or None when every row was rejected.
        rejects: One object a rejected row, as rejects.jsonl holds them.
    """

    rows_sha256: str
    shard: ShardEntry | None
    rejects: tuple[Mapping[str, Any], ...]


def rows_digest(task: ShardTask) -> str:
    """Names a task's rows; their content is fixed by the job's identity."""
    content = [task.split, [row.number for row in task.rows]]
    return hashlib.sha256(canonical_json(content)).hexdigest()


def write_receipt(out: Path, number: int, receipt: Receipt) -> None:
    """Declares a shard finished; its files must be durable already."""
    write_durably(_receipt_path(out, number), canonical_json(asdict(receipt)))


def read_receipt(out: Path, task: ShardTask) -> Receipt | None:
    """The receipt of a finished task, or None if the task is still to be done."""
    path = _receipt_path(out, task.number)
    if not path.is_file():
        return None
    content = json.loads(path.read_bytes())
    shard = ShardEntry(**content["shard"]) if content["shard"] else None
    if content["rows_sha256"] != rows_digest(task) or not _whole(out, shard):
        return None
    return Receipt(
        rows_sha256=content["rows_sha256"], shard=shard, rejects=tuple(content["rejects"])
    )


def remove_shards_but(out: Path, names: Collection[str]) -> None:
    """Removes shard files whose name without suffix is not in `names`."""
    for path in out.glob("shard-*"):
        if path.stem not in names:
            path.unlink()


@contextmanager
def claimed(out: Path, identity: bytes) -> Iterator[None]:
    """Makes or takes over the unfinished job in `out`, and keeps other processes away from it.

    On a ValueError before the first shard is made, nothing is left in `out`.

    Raises:
        ValueError: `out` holds something else, another job, or a job that is running.
    """
    unfinished = out / UNFINISHED
    job_file = unfinished / JOB_FILE
    if not job_file.is_file():
        _refuse_foreign_content(out)
        unfinished.mkdir(parents=True, exist_ok=True)
        write_durably(job_file, identity)
    if job_file.read_bytes() != identity:
        raise ValueError(
            f"{out} holds an unfinished sharding job of another corpus or with other settings; "
            "give it the same ones to finish it, delete the folder, or choose another"
        )
    descriptor = os.open(job_file, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise ValueError(f"another process is sharding into {out}; wait for it") from error
    try:
        _remove_unreceipted(out)
        yield
    except ValueError:
        if not any(out.glob("shard-*.tar")):
            shutil.rmtree(unfinished)
            _remove_if_empty(out)
        raise
    finally:
        os.close(descriptor)


def _refuse_foreign_content(out: Path) -> None:
    """Refuses a folder that holds anything but the start of an unfinished job."""
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out} is a file; a shard set is a folder")
    if out.is_dir() and any(path.name != UNFINISHED for path in out.iterdir()):
        raise ValueError(f"{out} is not empty and no shard set; choose a new folder")


def _remove_unreceipted(out: Path) -> None:
    """Removes what a killed job left half done."""
    for path in [*(out / UNFINISHED).glob("*.tmp"), *out.glob("*.tmp")]:
        path.unlink()
    remove_shards_but(out, {path.stem for path in (out / UNFINISHED).glob("shard-*.json")})


def _whole(out: Path, shard: ShardEntry | None) -> bool:
    """Whether a receipt's shard is still there with the promised size."""
    if shard is None:
        return True
    tar = out / shard.file
    there = tar.is_file() and (out / shard.index_file).is_file()
    return there and tar.stat().st_size == shard.bytes


def _receipt_path(out: Path, number: int) -> Path:
    return out / UNFINISHED / f"shard-{number:06d}.json"


def _remove_if_empty(folder: Path) -> None:
    if not any(folder.iterdir()):
        folder.rmdir()
