"""Whether a start may go on: decided by the first rank, told to all.

The first rank takes the run's lock, finds the checkpoint to go on from, looks for drift and for a
crash loop, and writes the start down. A refusal ends every rank with the same code; nothing else is
written before.
"""

import logging
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from data_sharding.folder_lock import held
from launch.drift import covered, find_drift, refuse_drift, refuse_other_statistics
from launch.errors import USER_ERRORS
from launch.guard_config import VISIBLE_SECONDS
from launch.preemption import EXIT_CRASH_LOOP, EXIT_REFUSED
from launch.probes.permission import allow_probes
from launch.run_config import LOCK_FILE, RunConfig
from launch.starts import (
    STARTS_FILE,
    Start,
    changed_versions,
    furthest_step,
    read_starts,
    starts_in_vain,
    write_starts,
)
from pretrain.checkpoint import Checkpoint, CheckpointError, Ranks, resume_point
from pretrain.checkpoint.group import GroupRanks

logger = logging.getLogger(__name__)


class RefusalError(Exception):
    """This start may not go on; the same on all ranks.

    Attributes:
        code: What the ranks exit with.
    """

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, kw_only=True)
class Admission:
    """What all ranks of a start agree on.

    Attributes:
        checkpoint: Where to go on from; None begins at step 0.
        finished: Whether nothing is left to do.
    """

    checkpoint: Checkpoint | None
    finished: bool


@contextmanager
def admitted(config: RunConfig, prepare: Callable[[], None]) -> Iterator[Admission]:
    """Enter a run as one of its ranks; the first holds its lock meanwhile. Collective.

    Args:
        config: The run.
        prepare: Done by the first rank before it takes the lock; may refuse.

    Raises:
        RefusalError: on every rank.
    """
    ranks = GroupRanks()
    with ExitStack() as stack:
        _on_first(ranks, prepare)
        lock = held(config.run / LOCK_FILE, config.guard.lock_minutes * 60)
        _on_first(ranks, lambda: stack.enter_context(lock))
        _refuse_unshared(config.run, ranks)
        try:
            checkpoint = resume_point(config.run, ranks)
        except CheckpointError as error:
            raise RefusalError(EXIT_REFUSED, str(error)) from error
        finished = checkpoint is not None and checkpoint.step >= config.pretrain.total_steps
        if not finished:
            _on_first(ranks, lambda: _write_start(config, checkpoint, ranks.world_size))
        yield Admission(checkpoint=checkpoint, finished=finished)


def end_start(run: Path, code: int) -> None:
    """Write down how the start ended, where that is possible; on the first rank."""
    try:
        if starts := read_starts(run):
            write_starts(run, [*starts[:-1], replace(starts[-1], code=code)])
    except OSError as error:
        logger.warning("%s: that it ended with %d could not be written down: %s", run, code, error)


def _on_first(ranks: Ranks, action: Callable[[], object]) -> None:
    """Do something on the first rank, and fail on all where it does. Collective."""
    refusal: tuple[int, str] | None = None
    if ranks.rank == 0:
        try:
            action()
        except RefusalError as error:
            refusal = error.code, str(error)
        except USER_ERRORS as error:
            refusal = EXIT_REFUSED, str(error)
    if (told := ranks.gather(refusal)[0]) is not None:
        raise RefusalError(*told)


def _refuse_unshared(run: Path, ranks: Ranks) -> None:
    """Every rank must see the lock that the first has made: its folder is the run's. Collective."""
    deadline = time.monotonic() + VISIBLE_SECONDS
    while not (seen := (run / LOCK_FILE).exists()) and time.monotonic() < deadline:
        time.sleep(0.5)
    places = ranks.gather((socket.gethostname(), seen))
    if blind := sorted({host for host, seen in places if not seen}):
        raise RefusalError(
            EXIT_REFUSED,
            f"{run}: {', '.join(blind)} see another folder of that name than {places[0][0]}; "
            "give --run a folder that all nodes share",
        )


def _write_start(config: RunConfig, checkpoint: Checkpoint | None, world_size: int) -> None:
    drift = find_drift(checkpoint.config, config.pretrain) if checkpoint else {}
    refuse_drift(drift, config.allow_drift, str(config.run))
    if checkpoint is not None:
        stats = config.pretrain.data.stats_folder
        refuse_other_statistics(checkpoint.backbone, stats, str(config.run))
    starts = read_starts(config.run)
    from_step = checkpoint.step if checkpoint else 0
    now = Start(
        furthest=furthest_step(config.run, starts, from_step),
        from_step=from_step,
        ranks=world_size,
        drift=drift,
    )
    vain = starts_in_vain(starts, now.furthest)
    if len(vain) >= config.guard.max_starts:
        raise RefusalError(EXIT_CRASH_LOOP, _crash_loop(config.run, vain, now))
    for change in changed_versions(starts, now):
        logger.warning("%s: goes on with another version: %s", config.run, change)
    for name, change in drift.items():
        if covered(f"pretrain.{name}", config.allow_drift):
            logger.warning("%s: goes on with pretrain.%s: %s", config.run, name, change)
    write_starts(config.run, [*starts, now])
    allow_probes(config.run)


def _crash_loop(run: Path, vain: list[Start], now: Start) -> str:
    jobs = [start.job for start in vain if start.job]
    logs = f"the logs of job {', '.join(jobs)} in {run / 'logs'}" if jobs else "their output"
    stalls = f", the stacks in {run / 'stalls'}" if (run / "stalls").is_dir() else ""
    return (
        f"{run}: refused, because the last {len(vain)} starts (since {vain[0].at} UTC) came no "
        f"further than step {now.furthest}. Read how they ended: {logs}{stalls}. When the cause is "
        f"mended, remove {run / STARTS_FILE} and start it again"
    )
