"""The start of a run: what a killed one left is cleared, and all ranks agree where to go on."""

import logging
import secrets
from collections.abc import Sequence
from pathlib import Path

from pretrain.checkpoint.ranks import Ranks, on_first
from pretrain.checkpoint.read import newest_complete, newest_together
from pretrain.checkpoint.record import Checkpoint, CheckpointError, NotWholeError, step_folders
from pretrain.checkpoint.retention import remove_unfinished

logger = logging.getLogger(__name__)


def resume_point(run: Path, ranks: Ranks) -> Checkpoint | None:
    """Where all ranks of a run go on from. Collective.

    Newer checkpoints that are not whole are put aside under another name, so that the run can
    write these steps again.

    Returns:
        The same on every rank; None in a run without checkpoints.

    Raises:
        CheckpointError: on every rank: there are checkpoints, and none is whole; one cannot be
            read, and may be whole; a broken one cannot be put aside.
    """
    on_first(ranks, lambda: remove_unfinished(run))
    checkpoint, broken = newest_together(run, ranks)
    on_first(ranks, lambda: _put_aside(broken))
    return checkpoint


def start_afresh(run: Path) -> None:
    """Let a run without any whole checkpoint begin at step 0: the broken ones are put aside.

    Raises:
        ValueError: it has a whole one.
        CheckpointError: one cannot be read, and may be whole.
    """
    try:
        checkpoint = newest_complete(run)
    except NotWholeError:
        return _put_aside(step_folders(run))
    if checkpoint is not None:
        raise ValueError(
            f"{checkpoint.folder} is whole: --resume goes on from it, and --run with another "
            "folder begins anew"
        )


def _put_aside(broken: Sequence[Path]) -> None:
    """Give broken checkpoints names under which they are none; their files stay to be looked at."""
    for folder in broken:
        aside = folder.with_name(f"{folder.name}.rejected-{secrets.token_hex(4)}")
        try:
            folder.rename(aside)
        except OSError as error:
            raise CheckpointError(
                f"{folder}: is not whole and cannot be renamed: {error}; remove it or rename it, "
                "then start again"
            ) from error
        logger.warning("%s is now %s; remove it when you have looked at it", folder, aside.name)
