"""The start of a run: what a killed one left is cleared, and all ranks agree where to go on."""

import logging
import secrets
from pathlib import Path

from pretrain.checkpoint.ranks import Ranks
from pretrain.checkpoint.read import newest_complete, newest_together
from pretrain.checkpoint.record import Checkpoint, CheckpointError, step_folders
from pretrain.checkpoint.retention import remove_unfinished

logger = logging.getLogger(__name__)


def resume_point(run: Path, ranks: Ranks) -> Checkpoint | None:
    """Where all ranks of a run go on from. Collective.

    Newer checkpoints that are not whole are put aside under another name, so that the run can
    write these steps again.

    Returns:
        The same on every rank; None in a run without checkpoints.

    Raises:
        CheckpointError: on every rank: there are checkpoints, and none is whole.
    """
    if ranks.rank == 0:
        remove_unfinished(run)
    checkpoint, broken = newest_together(run, ranks)
    if ranks.rank == 0:
        for folder in broken:
            _put_aside(folder)
    return checkpoint


def start_afresh(run: Path) -> None:
    """Let a run without any whole checkpoint begin at step 0: the broken ones are put aside.

    Raises:
        ValueError: it has a whole one.
    """
    try:
        checkpoint = newest_complete(run)
    except CheckpointError:
        for folder in step_folders(run):
            _put_aside(folder)
        return
    if checkpoint is not None:
        raise ValueError(
            f"{checkpoint.folder} is whole: --resume goes on from it, and --run with another "
            "folder begins anew"
        )


def _put_aside(folder: Path) -> None:
    """Give a broken checkpoint a name under which it is none; its files stay to be looked at."""
    aside = folder.with_name(f"{folder.name}.rejected-{secrets.token_hex(4)}")
    folder.rename(aside)
    logger.warning("%s is now %s; remove it when you have looked at it", folder, aside.name)
