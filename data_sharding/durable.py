"""Files that are either whole or absent: temporary name, fsync, rename."""

import os
from pathlib import Path


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


def write_durably(path: Path, content: bytes) -> None:
    """Writes `path` so that it holds all of `content` or does not change."""
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    publish(temporary, path)
