"""Checkpoints read: only whole ones, by what COMPLETE says of every file."""

import hashlib
import logging
from collections.abc import Mapping
from pathlib import Path

from pretrain.checkpoint.files import FileSum, files_of, refuse_other_kinds
from pretrain.checkpoint.ranks import OneRank, Ranks, on_first
from pretrain.checkpoint.record import (
    COMPLETE,
    Checkpoint,
    CheckpointError,
    Marker,
    NotWholeError,
    checkpoints_folder,
    step_folders,
)

logger = logging.getLogger(__name__)


def open_checkpoint(folder: Path, verify: bool = True) -> Checkpoint:
    """The checkpoint at ``folder``, or the newest one where that is a run folder.

    Args:
        folder: A checkpoint, or a run.
        verify: Compare every file with its sha256 too; its name and size always are.

    Raises:
        CheckpointError: it is not whole, or of another format; the first missing, strange or
            changed file is named.
        OSError: it cannot be read now.
    """
    if checkpoints_folder(folder).is_dir():
        newest = newest_complete(folder)
        if newest is None:
            raise CheckpointError(f"{folder}: this run has no whole checkpoint yet")
        return newest
    return _read(folder, slice(None) if verify else slice(0))


def newest_complete(run: Path) -> Checkpoint | None:
    """The newest checkpoint of a run that is whole; a broken newer one is named in the log.

    Returns:
        None where the run has none at all.

    Raises:
        NotWholeError: there are some, and none is whole.
        CheckpointError: one cannot be read, and may be whole.
    """
    return newest_together(run, OneRank())[0]


def newest_together(run: Path, ranks: Ranks) -> tuple[Checkpoint | None, list[Path]]:
    """The newest whole one, and the broken ones that are newer. Collective.

    Each rank hashes a share of the files, and all come to the same answer.

    Raises:
        NotWholeError: on every rank: there are checkpoints, and none is whole.
        CheckpointError: on every rank: one cannot be read, and may be whole.
    """
    broken: list[Path] = []
    # One rank's list for all: a shared file system may show another to each.
    for folder in on_first(ranks, lambda: step_folders(run)[::-1]):
        try:
            return _read_together(folder, ranks), broken
        except NotWholeError as error:
            broken.append(folder)
            if ranks.rank == 0:
                logger.warning("passed over: %s", error)
    if broken:
        raise NotWholeError(
            f"{run}: none of its {len(broken)} checkpoints is whole, see the log for each; bring "
            "one back from a copy, or give --fresh instead of --resume to begin at step 0"
        )
    return None, broken


def _read_together(folder: Path, ranks: Ranks) -> Checkpoint:
    """The checkpoint at a folder, whole by the word of every rank. Collective."""
    checkpoint, problem = None, None
    try:
        checkpoint = _read(folder, slice(ranks.rank, None, ranks.world_size))
    except CheckpointError as error:
        problem = error
    except OSError as error:
        problem = CheckpointError(
            f"{folder}: rank {ranks.rank} cannot read it now, so it may be whole: {error}; start "
            "again when it can be read, or rename the folder to go on from an older one"
        )
    answers = ranks.gather((checkpoint and checkpoint.digest, problem))
    if problems := [told for _, told in answers if told is not None]:
        # What one rank has proven holds for all.
        raise max(problems, key=lambda told: isinstance(told, NotWholeError))
    if len({digest for digest, _ in answers}) > 1:
        raise CheckpointError(f"{folder}: ranks see different files; is it a shared folder?")
    assert checkpoint is not None
    return checkpoint


def _read(folder: Path, hashed: slice) -> Checkpoint:
    """The checkpoint at a folder, with names and sizes of all files compared, and some hashed.

    Args:
        folder: A checkpoint.
        hashed: Which of the files, from the largest to the smallest.
    """
    path = folder / COMPLETE
    if not folder.is_dir():
        raise NotWholeError(f"{folder}: no such folder")
    if not path.is_file():
        raise NotWholeError(f"{folder}: no {COMPLETE} file, so this is no whole checkpoint")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise NotWholeError(f"{path}: unreadable: {error}") from error
    marker = Marker.from_text(text, path)
    _compare(folder, marker.files)
    largest_first = sorted(marker.files, key=lambda name: (-marker.files[name].size_bytes, name))
    for name in largest_first[hashed]:
        if FileSum.of(folder / name) != marker.files[name]:
            raise NotWholeError(f"{folder}: {name} differs from what was written (sha256)")
    digest = hashlib.sha256(text.encode()).hexdigest()
    return Checkpoint(folder, marker.progress, marker.world_size, digest, marker.versions)


def _compare(folder: Path, expected: Mapping[str, FileSum]) -> None:
    """Whether these very files are there, of these sizes and of kinds that hold no code."""
    try:
        found = files_of(folder)
        found.pop(COMPLETE)
        for name in found:
            refuse_other_kinds(name)
    except ValueError as error:
        raise NotWholeError(f"{folder}: {error}") from error
    for name in sorted(expected.keys() ^ found.keys()):
        problem = "is missing" if name in expected else "does not belong to it"
        raise NotWholeError(f"{folder}: {name} {problem}")
    for name, path in found.items():
        size, written = path.stat().st_size, expected[name].size_bytes
        if size != written:
            raise NotWholeError(f"{folder}: {name} has {size} bytes, {written} were written")
