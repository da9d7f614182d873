"""Where a run stands: read from its folder, its lock and Slurm's queue; nothing is changed."""

import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_sharding.folder_lock import Holder, lock_holder
from eval.pages.run_record import RunRecord, read_run
from launch.cluster import SubmissionError
from launch.job_record import JobRecord, read_jobs
from launch.plan.speed import measured_pace
from launch.preemption import EXIT_CODES
from launch.probes.states import whole_checkpoints
from launch.run_config import LOCK_FILE
from launch.slurm_queue import QueuedJob, queued_jobs
from launch.starts import Start, read_starts
from pretrain.checkpoint import Checkpoint


@dataclass(frozen=True, kw_only=True)
class RunStatus:
    """What is known of a run at this moment.

    Attributes:
        run: Its folder.
        record: What its folder holds.
        step: The last that was logged or saved.
        samples_per_second: As a plan measures it; None before the first logged step.
        quiet_seconds: Since something was logged.
        checkpoint: The newest whole one.
        holder: Who works in the folder; None where nobody does.
        last_start: The newest line of ``starts.jsonl``.
        jobs: All that were submitted.
        queued: Those that are pending or running, elements of arrays one by one.
        queue_unknown: Why Slurm could not be asked.
    """

    run: Path
    record: RunRecord
    step: int
    samples_per_second: float | None
    quiet_seconds: float | None
    checkpoint: Checkpoint | None
    holder: Holder | None
    last_start: Start | None
    jobs: list[JobRecord]
    queued: list[QueuedJob]
    queue_unknown: str | None

    @property
    def total_steps(self) -> int:
        """Optimizer steps of the whole run."""
        return int(self._pretrain["total_steps"])

    @property
    def seconds_left(self) -> float | None:
        """Until the last step, at the rate of the last ones."""
        if not self.samples_per_second:
            return None
        samples = (self.total_steps - self.step) * int(self._pretrain["batch"]["global_samples"])
        return samples / self.samples_per_second

    @property
    def finished(self) -> bool:
        """Whether the last step is saved."""
        return self.checkpoint is not None and self.checkpoint.step >= self.total_steps

    @property
    def state(self) -> str:
        """In one word or sentence: finished, running, queued, or how it ended."""
        waiting = [job for job in self.queued_of("pretrain") if job.state == "PENDING"]
        if self.finished:
            return "finished"
        if self.holder is not None and self.holder.has_ended(Holder.here()) is not True:
            return f"running: {self.holder}"
        if waiting:
            return f"queued: job {waiting[0].job_id} waits ({waiting[0].reason})"
        if self.queued_of("pretrain"):
            return "starting"
        if self.last_start is None:
            return "not started yet"
        if self.last_start.code is None:
            return "ended without a word: killed, or its machine went down; --resume goes on"
        code = self.last_start.code
        return f"stopped with exit code {code}: {EXIT_CODES.get(str(code), 'see its log')}"

    def queued_of(self, kind: str) -> list[QueuedJob]:
        """The jobs of one kind that are pending or running."""
        ids = {job.job_id for job in self.jobs if job.kind == kind}
        return [job for job in self.queued if job.whole_id in ids]

    @property
    def _pretrain(self) -> Mapping[str, Any]:
        return self.record.config["pretrain"]


def read_status(run: Path) -> RunStatus:
    """Look at a run.

    Raises:
        ValueError: the folder is no run's.
    """
    if not (run / "config.json").is_file():
        raise ValueError(f"{run}: no run folder: it holds no config.json")
    record = read_run(run)
    checkpoint = next(reversed(whole_checkpoints(run)), None)
    logged = max((int(step) for step, _ in record.metrics.get("samples", [])), default=0)
    global_samples = int(record.config["pretrain"]["batch"]["global_samples"])
    pace = measured_pace(run, global_samples)
    starts = read_starts(run)
    jobs = read_jobs(run)
    queued, unknown = _ask_queue(jobs)
    return RunStatus(
        run=run,
        record=record,
        step=max(logged, checkpoint.step if checkpoint else 0),
        samples_per_second=global_samples / pace.step_seconds if pace else None,
        quiet_seconds=_age(run / "metrics.jsonl"),
        checkpoint=checkpoint,
        holder=lock_holder(run / LOCK_FILE),
        last_start=starts[-1] if starts else None,
        jobs=jobs,
        queued=queued,
        queue_unknown=unknown,
    )


def _ask_queue(jobs: list[JobRecord]) -> tuple[list[QueuedJob], str | None]:
    if not jobs:
        return [], None
    if shutil.which("squeue") is None:
        return [], "no squeue on PATH, so the queue is not known here"
    try:
        return queued_jobs(jobs), None
    except SubmissionError as error:
        return [], str(error)


def _age(path: Path) -> float | None:
    """Seconds since a file was written to; clocks of two machines may make it negative."""
    try:
        return max(0.0, time.time() - path.stat().st_mtime)
    except FileNotFoundError:
        return None
