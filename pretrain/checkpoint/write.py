"""Checkpoints written: whole under their name, or not at all, while training goes on.

The order of things, as a crash may cut it anywhere:

1. The first rank checks the room and makes ``step-N.tmp-<attempt>``; all ranks hear the name, or
   the same refusal.
2. Each part copies to host memory what training will change. Training goes on.
3. A thread of each rank writes its files, syncs them, hashes them.
4. At each step boundary the ranks ask each other whether all are done. Then they exchange
   receipts: any failure is everybody's, and the temporary folder goes.
5. The first rank writes COMPLETE with all sizes and hashes, and 6. renames the folder.
7. ``latest`` is a hint for people. 8. What is too old goes, COMPLETE first.

Every collective is called by the training thread at a step boundary. So a write cannot meet
training in a collective, nothing is committed before the last rank has handed in its receipt,
and a rank that dies is noticed where it always is: in the next collective.
"""

import logging
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pretrain.checkpoint.commit import commit, prepare, room
from pretrain.checkpoint.ranks import Ranks, on_first
from pretrain.checkpoint.record import CheckpointError, Progress, step_folder
from pretrain.checkpoint.retention import remove_old
from pretrain.checkpoint.share import Receipt, failed, write_share
from pretrain.disk_room import tells_of_no_room
from pretrain.parts import Part, Write

logger = logging.getLogger(__name__)

WAIT_SECONDS = 1.0
"""Between two questions whether all are done: no rank waits in one collective for a slow disk."""


@dataclass(frozen=True, kw_only=True)
class CheckpointConfig:
    """How checkpoints are written and kept."""

    write: Literal["background", "blocking"] = "background"
    """`background`: training goes on after a copy to host memory, until the next checkpoint is
    due. `blocking`: it waits."""

    on_failure: Literal["stop", "continue"] = "stop"
    """What follows when one cannot be written, as on a full disk: the older ones stay in either
    case. The last one of a run, or before a stop, must be written."""

    lease_hours: float = 72.0
    """How long a checkpoint is kept for a probe that was submitted and has not reported."""

    def __post_init__(self) -> None:
        if not self.lease_hours > 0.0:
            raise ValueError(f"checkpoint.lease_hours must be positive, got {self.lease_hours}")


@dataclass(frozen=True)
class _Flight:
    """A checkpoint that is being written."""

    progress: Progress
    temporary: Path
    receipt: Future[Receipt]


class CheckpointWriter:
    """Writes the checkpoints of a run, at most one at a time; every rank has one.

    Args:
        run: Run folder, shared by the ranks.
        ranks: Who writes.
        config: How.
        expected_bytes: About the size of a checkpoint, for the question whether there is room.
        alive: Called every `WAIT_SECONDS` while training waits for a disk.
    """

    def __init__(
        self,
        run: Path,
        ranks: Ranks,
        config: CheckpointConfig,
        expected_bytes: int = 0,
        alive: Callable[[], None] = lambda: None,
    ) -> None:
        self._run = run
        self._ranks = ranks
        self._config = config
        self._expected_bytes = expected_bytes
        self._alive = alive
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._flight: _Flight | None = None
        self._written: list[Path] = []
        self._failure: CheckpointError | None = None
        self._said: CheckpointError | None = None

    def save(self, progress: Progress, parts: Sequence[Part]) -> None:
        """Begin a checkpoint; waits for the one before it. Collective.

        Args:
            progress: Where the run is.
            parts: What this rank writes.

        Raises:
            CheckpointError: on every rank: this one cannot be begun, or the one before failed;
                see `CheckpointConfig.on_failure`.
        """
        self._land()
        self._go_on()
        self._failure = None
        try:
            temporary = on_first(
                self._ranks, lambda: prepare(self._run, progress.step, self._expected_bytes)
            )
        except CheckpointError as error:
            return self._fail(progress, str(error))
        self._flight = _Flight(progress, temporary, self._begin(temporary, parts))
        if self._config.write == "blocking":
            self._land()

    def poll(self) -> list[Path]:
        """Checkpoints that have become whole since this was last asked. Collective.

        Raises:
            CheckpointError: on every rank: one could not be written.
        """
        self._try_to_commit()
        self._go_on()
        written, self._written = self._written, []
        return written

    def wait(self) -> list[Path]:
        """`poll`, once nothing is being written any more; a failure is raised in any case."""
        self._land()
        if self._failure is not None:
            raise self._failure
        return self.poll()

    def retire(self, keep: int) -> None:
        """Have the first rank remove what is older than the ``keep`` newest, in the background."""
        if self._ranks.rank == 0:
            self._thread.submit(self._remove_old, keep)

    def close(self) -> None:
        """Leave what is being written; wait for the thread."""
        self._thread.shutdown(wait=True)

    def _begin(self, temporary: Path, parts: Sequence[Part]) -> Future[Receipt]:
        rank = self._ranks.rank
        try:
            writes: list[Write] = [part() for part in parts]
        except Exception as error:  # told to the others with the receipts
            receipt: Future[Receipt] = Future()
            receipt.set_result(failed(rank, error))
            return receipt
        return self._thread.submit(write_share, temporary, rank, writes)

    def _land(self) -> None:
        while self._flight is not None:
            wait([self._flight.receipt], timeout=WAIT_SECONDS)
            self._alive()
            self._try_to_commit()

    def _try_to_commit(self) -> None:
        flight = self._flight
        if flight is None or not all(self._ranks.gather(flight.receipt.done())):
            return
        self._flight = None
        receipts = self._ranks.gather(flight.receipt.result())
        failures = [receipt.failure for receipt in receipts if receipt.failure is not None]
        try:
            if failures:
                raise CheckpointError("; ".join(failures))
            folder = on_first(
                self._ranks,
                lambda: commit(self._run, flight.progress, flight.temporary, receipts),
            )
        except CheckpointError as error:
            if self._ranks.rank == 0:
                shutil.rmtree(flight.temporary, ignore_errors=True)
            return self._fail(flight.progress, str(error))
        self._written.append(folder)

    def _with_room(self, reason: str) -> str:
        """The same reason, with how much is free where that is the matter. Collective."""
        if not tells_of_no_room(reason):
            return reason
        try:
            told = on_first(self._ranks, lambda: room(self._run, self._expected_bytes))
        except CheckpointError:
            return reason  # the disk cannot even be asked; the reason is what counts
        return f"{reason}; {told}"

    def _fail(self, progress: Progress, reason: str) -> None:
        """Raise, or remember where training goes on. Collective."""
        folder = step_folder(self._run, progress.step)
        self._failure = CheckpointError(
            f"{folder}: not written: {self._with_room(reason)}; older ones are as they were"
        )
        if self._config.on_failure == "stop":
            raise self._failure from None

    def _go_on(self) -> None:
        """Say of a failure, once, that training goes on."""
        if self._failure is self._said:
            return
        self._said = self._failure
        if self._failure is not None and self._ranks.rank == 0:
            logger.error("%s. Training goes on", self._failure)

    def _remove_old(self, keep: int) -> None:
        try:
            remove_old(self._run, keep, self._config.lease_hours)
        except OSError as error:
            logger.warning("old checkpoints of %s could not be removed: %s", self._run, error)
        except Exception:  # nobody looks at this thread's result
            logger.exception("old checkpoints of %s could not be removed", self._run)
