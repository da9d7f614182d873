"""Who may work in OUT: one driver at a time, with one corpus and one set of settings."""

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import chain
from pathlib import Path
from typing import Any

from data_sharding.durable import TEMPORARY_SUFFIX, write_durably
from data_sharding.folder_lock import HeldError, held
from data_sharding.job.folder import UNFINISHED, JobFolder
from data_sharding.schema import canonical_json
from data_sharding.settings import differences

MOST_DIFFERENCES = 5
LOCK_FILE = ".sharding.lock"


@contextmanager
def claimed(folder: JobFolder, identity: Mapping[str, Any]) -> Iterator[None]:
    """Makes or takes over the unfinished job in a folder, and keeps other processes away from it.

    What a ValueError leaves unplanned is removed again, so that a corpus that cannot be read
    leaves nothing behind.

    Raises:
        ValueError: The folder holds something else, another job, or a job that is running.
    """
    with locked(folder):
        if not folder.job_file.is_file():
            if identity["generation"] == 0:
                _refuse_foreign_content(folder.out)
            if folder.unfinished.is_dir():  # what is left of one that was being removed
                shutil.rmtree(folder.unfinished)
            folder.unfinished.mkdir()
            write_durably(folder.job_file, canonical_json(identity))
        _refuse_another(folder, identity)
        _remove_half_written(folder)
        try:
            yield
        except ValueError:
            if not folder.plan_file.is_file():
                abandon(folder)
            raise


@contextmanager
def locked(folder: JobFolder) -> Iterator[None]:
    """Holds OUT, which is made where it is missing and removed where it stays empty.

    Raises:
        ValueError: Another process holds it, or OUT cannot be a folder.
    """
    try:
        folder.out.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise ValueError(f"{folder.out} is a file; a shard set is a folder") from error
    except NotADirectoryError as error:
        raise ValueError(f"{folder.out}: something above it is a file") from error
    try:
        with held(folder.out / LOCK_FILE):
            yield
    except HeldError as error:
        raise ValueError(
            f"another process is sharding into {folder.out}; wait for it ({error})"
        ) from error
    finally:
        with suppress(OSError):  # it is not empty
            folder.out.rmdir()


def unlock(folder: JobFolder) -> None:
    """Removes the lock's file that a killed process left in a finished set.

    Raises:
        ValueError: The process lives.
    """
    if (folder.out / LOCK_FILE).exists():
        with locked(folder):
            pass


def dissolve(folder: JobFolder) -> None:
    """Removes a finished job's folder, what tells about it last."""
    last = (folder.resolved_file, folder.job_file)
    for path in folder.unfinished.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path not in last:
            path.unlink()
    for path in last:
        path.unlink(missing_ok=True)
    folder.unfinished.rmdir()


def abandon(folder: JobFolder) -> None:
    """Removes an unfinished job."""
    if folder.unfinished.is_dir():
        shutil.rmtree(folder.unfinished)


def remove_shards(folder: JobFolder, first: int) -> None:
    """Removes shards numbered `first` and up, which no job has planned."""
    for path in folder.out.glob("shard-*"):
        digits = path.stem.removeprefix("shard-")
        if digits.isdigit() and int(digits) >= first:
            path.unlink()


def _refuse_foreign_content(out: Path) -> None:
    """Refuses a folder that holds anything but the start of an unfinished job."""
    if any(path.name not in (UNFINISHED, LOCK_FILE) for path in out.iterdir()):
        raise ValueError(f"{out} is not empty and no shard set; choose a new folder")


def _refuse_another(folder: JobFolder, identity: Mapping[str, Any]) -> None:
    if folder.job_file.read_bytes() == canonical_json(identity):
        return
    old = json.loads(folder.job_file.read_bytes())
    anew = folder.unfinished if identity["generation"] else folder.out
    found = differences(old, json.loads(canonical_json(identity)))
    listed = "; ".join(found[:MOST_DIFFERENCES]) + (
        "; ..." if len(found) > MOST_DIFFERENCES else ""
    )
    raise ValueError(
        f"{folder.out} holds an unfinished sharding job of another corpus or with other settings "
        f"({listed}); give it the same ones to finish it, delete {anew}, or choose "
        "another folder"
    )


def _remove_half_written(folder: JobFolder) -> None:
    """Removes what killed processes left half done."""
    pattern = f"*{TEMPORARY_SUFFIX}"
    places = (
        folder.out.glob(pattern),
        folder.out.glob(f"signatures/{pattern}"),
        folder.unfinished.rglob(pattern),
    )
    for path in chain(*places):
        path.unlink(missing_ok=True)
