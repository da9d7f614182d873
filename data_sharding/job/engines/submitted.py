"""Tasks as an array job of a scheduler; who submits it is given from outside."""

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from data_sharding.job.engines.engine import OnDone, task_name
from data_sharding.job.folder import JobFolder, Stage

LAST_LINES = 3


@runtime_checkable
class ArrayJob(Protocol):
    """An array job in a scheduler's hands."""

    def is_active(self) -> bool:
        """Whether any element is still queued or running.

        Raises:
            OSError: The scheduler gives no answer.
        """
        ...

    def log_of(self, element: int) -> Path:
        """Where an element writes what goes wrong."""
        ...


Submit = Callable[[list[str], str, Sequence[int], Path], ArrayJob]
"""(command, name, elements, folder for logs) -> the job. Each element finds its number in
SLURM_ARRAY_TASK_ID. A job of that name that is active already is waited for instead."""


@dataclass(frozen=True, kw_only=True)
class SubmittedEngine:
    """Submits an array, then waits for receipts.

    Attributes:
        submit: How an array is submitted.
        most_elements: Largest array; with more tasks than that, an element does several.
        poll_seconds: Time between two looks at the receipts and the queue.
        settle_seconds: How long receipts may take to appear after the job has left the queue.
        silent_seconds: How long a scheduler may give no answer.
    """

    submit: Submit
    most_elements: int = 1000
    poll_seconds: float = 5.0
    settle_seconds: float = 60.0
    silent_seconds: float = 600.0

    def __post_init__(self) -> None:
        if self.most_elements < 1:
            raise ValueError(f"most_elements must be at least 1, got {self.most_elements}")

    def run(self, out: Path, stage: Stage, numbers: Sequence[int], on_done: OnDone) -> None:
        """See `Engine.run`."""
        folder = JobFolder(out.absolute())
        missing = folder.missing(stage, numbers)
        for number in sorted(set(numbers) - set(missing)):
            on_done(number)
        if not missing:
            return
        stride = min(self.most_elements, max(numbers) + 1)
        elements = sorted({number % stride for number in missing})
        command = [sys.executable, "-u", "-m", "data_sharding.job.task"]
        command += [str(folder.out), stage, "--stride", str(stride)]
        name = f"shard-{stage}-{folder.settings().job[:16]}"
        for number in missing:  # what an earlier try promised and lost must not pass for done
            folder.receipt_file(stage, number).unlink(missing_ok=True)
        job = self.submit(command, name, elements, folder.logs)
        left = self._wait(folder, stage, missing, job, on_done)
        if left:
            log = job.log_of(left[0] % stride)
            raise OSError(
                f"{len(left)} {stage} tasks failed; {task_name(stage, left[0])}: {_end_of(log)} "
                f"(log: {log})"
            )

    def _wait(
        self, folder: JobFolder, stage: Stage, numbers: list[int], job: ArrayJob, on_done: OnDone
    ) -> list[int]:
        """Waits until all receipts are there or the job is over; returns what is missing."""
        left, answered, over = list(numbers), time.monotonic(), None
        while True:
            for number in [each for each in left if folder.is_done(stage, each)]:
                left.remove(number)
                on_done(number)
            now = time.monotonic()
            if not left or (over is not None and now - over >= self.settle_seconds):
                return left
            try:
                active = job.is_active()
                answered = now
            except OSError:
                if now - answered >= self.silent_seconds:
                    raise
                active = True
            over = None if active else over if over is not None else now
            time.sleep(self.poll_seconds)


def _end_of(log: Path) -> str:
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    except OSError:
        return "it left no log"
    said = [line.strip() for line in lines if line.strip()]
    return " / ".join(said[-LAST_LINES:]) or "it said nothing"
