"""Steps of the protocol that the first rank takes for all, between two training steps."""

import secrets
from collections.abc import Sequence
from pathlib import Path

from data_sharding.durable import sync_folder, write_durably
from pretrain.checkpoint.files import FileSum, files_of
from pretrain.checkpoint.record import (
    COMPLETE,
    LATEST,
    CheckpointError,
    Marker,
    Progress,
    checkpoints_folder,
    library_versions,
    step_folder,
)
from pretrain.checkpoint.share import Receipt
from pretrain.disk_room import free_bytes


def prepare(run: Path, step: int, expected_bytes: int) -> Path:
    """The temporary folder of a checkpoint, made where there is room for it.

    Raises:
        CheckpointError: this step has a checkpoint, or the disk has too little room.
    """
    folder = step_folder(run, step)
    if folder.exists():
        raise CheckpointError("a checkpoint of this step exists already")
    folder.parent.mkdir(parents=True, exist_ok=True)
    if free_bytes(folder.parent) < expected_bytes:
        raise CheckpointError(f"too little room on the disk: {room(run, expected_bytes)}")
    temporary = folder.with_name(f"{folder.name}.tmp-{secrets.token_hex(4)}")
    temporary.mkdir()
    return temporary


def room(run: Path, expected_bytes: int) -> str:
    """What a checkpoint needs and what is free, for people."""
    needed, free = (f"{size / 1e6:.1f} MB" for size in (expected_bytes, free_bytes(run)))
    return f"about {needed} are needed and {free} are free there"


def commit(run: Path, progress: Progress, temporary: Path, receipts: Sequence[Receipt]) -> Path:
    """Make a checkpoint of what all ranks have written: COMPLETE, then its name.

    Raises:
        CheckpointError: what lies there is not what the ranks have written.
    """
    files = _merged(temporary, receipts)
    marker = Marker(
        progress=progress,
        world_size=len(receipts),
        versions=library_versions(),
        files=files,
    )
    for path in [*temporary.rglob("*"), temporary]:
        if path.is_dir():
            sync_folder(path)
    write_durably(temporary / COMPLETE, marker.to_text().encode())
    folder = step_folder(run, progress.step)
    temporary.rename(folder)
    sync_folder(folder.parent)
    write_durably(checkpoints_folder(run) / LATEST, f"{folder.name}\n".encode())
    return folder


def _merged(temporary: Path, receipts: Sequence[Receipt]) -> dict[str, FileSum]:
    files = {name: found for receipt in receipts for name, found in receipt.files.items()}
    if strange := sorted(files.keys() ^ files_of(temporary).keys()):
        raise CheckpointError(
            f"{strange[0]} is not what the ranks have written; is the run folder shared by all "
            "of them?"
        )
    return files
