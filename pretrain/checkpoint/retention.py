"""What is removed: checkpoints that are too old, and what a killed run left half written."""

import logging
import shutil
from pathlib import Path

from pretrain.checkpoint.leases import is_leased
from pretrain.checkpoint.read import open_checkpoint
from pretrain.checkpoint.record import (
    COMPLETE,
    LATEST,
    CheckpointError,
    checkpoints_folder,
    step_folders,
)

logger = logging.getLogger(__name__)

MIN_KEPT = 2
"""Whole checkpoints that always stay: the newest may turn out to be damaged."""


def remove_old(run: Path, keep: int, lease_hours: float) -> None:
    """Remove what is older than the ``keep`` newest whole checkpoints; COMPLETE first.

    A leased one stays. One that has lost COMPLETE or another file does not count as kept; what an
    interrupted removal left goes with the next.

    Args:
        run: The run.
        keep: At least `MIN_KEPT`.
        lease_hours: Age at which a lease ends.
    """
    assert keep >= MIN_KEPT
    folders = step_folders(run)
    kept = [folder for folder in folders if _seems_whole(folder)][-keep:]
    for folder in folders:
        if kept and folder < kept[0] and not is_leased(folder, lease_hours):
            (folder / COMPLETE).unlink(missing_ok=True)
            shutil.rmtree(folder)


def remove_unfinished(run: Path) -> None:
    """Remove what a run that was killed while saving has left: it was never a checkpoint.

    What cannot be removed, as where somebody has a file of it open on NFS, stays: no reader takes
    it for a checkpoint.
    """
    for hint in checkpoints_folder(run).glob(f"{LATEST}.*"):
        _remove(hint)
    for folder in checkpoints_folder(run).glob("step-????????.tmp-*"):
        logger.warning("%s was never finished; it is removed", folder)
        _remove(folder)


def _remove(path: Path) -> None:
    try:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    except OSError as error:
        logger.warning("%s could not be removed: %s; remove it when you can", path, error)


def _seems_whole(folder: Path) -> bool:
    """Whether all files are there with their sizes; to hash them each time would cost too much."""
    try:
        open_checkpoint(folder, verify=False)
    except CheckpointError:
        return False
    return True
