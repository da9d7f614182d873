"""Files that are either whole or absent: temporary name, fsync, rename."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

TEMPORARY_SUFFIX = ".tmp"


def temporary_name(path: Path) -> Path:
    """A name beside `path` that no other process uses, so that two may write the same file."""
    return path.with_name(f"{path.name}.{os.getpid()}-{secrets.token_hex(4)}{TEMPORARY_SUFFIX}")


def sync_folder(folder: Path) -> None:
    """Makes renames and new names inside `folder` survive a crash of the machine."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def publish(temporary: Path, final: Path) -> None:
    """Renames a finished, fsynced file to its final name and fsyncs both folders."""
    os.replace(temporary, final)
    sync_folder(final.parent)
    if temporary.parent != final.parent:
        sync_folder(temporary.parent)


@contextmanager
def writing_durably(path: Path) -> Iterator[BinaryIO]:
    """A file to write that takes the place of `path` at the end, or leaves no trace on an error."""
    temporary = temporary_name(path)
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        publish(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_durably(path: Path, content: bytes) -> None:
    """Writes `path` so that it holds all of `content` or does not change."""
    with writing_durably(path) as file:
        file.write(content)
