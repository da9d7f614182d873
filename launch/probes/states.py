"""Where the probes of a run stand: its reports, its record of jobs and the queue, side by side."""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from data_sharding.settings import from_json
from eval.card import task_name
from launch.cluster import ClusterConfig
from launch.job_record import JobRecord, read_jobs
from launch.slurm_queue import QueuedJob
from pretrain.checkpoint import Checkpoint, CheckpointError, open_checkpoint

State = Literal["reported", "queued", "missing", "ended"]


@dataclass(frozen=True, kw_only=True)
class ProbeState:
    """One checkpoint and one task.

    Attributes:
        checkpoint: A whole one.
        task: Name or folder, as it was given.
        state: ``reported``; ``queued``: pending or running; ``missing``: never submitted;
            ``ended``: submitted, no longer in the queue, and no report is seen.
        attempts: How often it was submitted.
        job_id: Of the last submission, ``7_2``; None where there was none.
    """

    checkpoint: Checkpoint
    task: str
    state: State
    attempts: int
    job_id: str | None

    @property
    def place(self) -> str:
        """Which checkpoint and task, in words."""
        return f"{self.checkpoint.folder.name} on {task_name(self.task)}"

    @property
    def log(self) -> Path | None:
        """What the last submission complained of."""
        logs = self.checkpoint.run / "logs"
        return logs / f"{self.job_id}_0_log.err" if self.job_id else None


@dataclass(frozen=True, kw_only=True)
class ProbeSettings:
    """What a run's ``config.json`` says of its probes.

    Attributes:
        tasks: What is probed.
        cluster: Where.
        total_steps: Steps of the whole run.
    """

    tasks: tuple[str, ...]
    cluster: ClusterConfig
    total_steps: int


def read_probe_settings(run: Path) -> ProbeSettings:
    """Read them. Plainly: the full reader imports torch, which takes longer than to submit.

    Raises:
        ValueError: the folder has no readable ``config.json``.
    """
    path = run / "config.json"
    try:
        content: dict[str, Any] = json.loads(path.read_text())
        return ProbeSettings(
            tasks=tuple(content.get("probe_tasks", ())),
            cluster=from_json(ClusterConfig, content.get("slurm", {})),
            total_steps=int(content["pretrain"]["total_steps"]),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: no run configuration: {error!r}") from error


def whole_checkpoints(run: Path) -> list[Checkpoint]:
    """The oldest first, without those that are removed while we look.

    By their markers alone: to read gigabytes of them takes longer than one waits for a status.
    """
    found = []
    for folder in sorted((run / "checkpoints").glob("step-????????")):
        try:
            found.append(open_checkpoint(folder.absolute(), verify=False))
        except (CheckpointError, OSError):
            continue
    return found


def probe_states(
    checkpoints: Sequence[Checkpoint], tasks: Sequence[str], queued: Sequence[QueuedJob]
) -> list[ProbeState]:
    """Where each of some checkpoints of a run stands with each task.

    Args:
        checkpoints: Of one run.
        tasks: By name or folder.
        queued: The queue, asked for before this is called: what has left it since has reported.
    """
    if not checkpoints:
        return []
    records = [job for job in read_jobs(checkpoints[0].run) if job.kind == "probe"]
    return [
        _state(checkpoint, task, records, queued) for checkpoint in checkpoints for task in tasks
    ]


def _state(
    checkpoint: Checkpoint, task: str, records: Sequence[JobRecord], queued: Sequence[QueuedJob]
) -> ProbeState:
    name = probe_job_name(checkpoint.digest)
    ours = [job for job in records if job.name == name]
    elements = [
        f"{job.job_id}_{number}"
        for job in ours
        for number, probed in enumerate(job.tasks)
        if task_name(probed) == task_name(task)
    ]
    in_queue = [job for job in queued if job.name == name]
    # One whose submitter died before it was recorded may be probing anything.
    known = {job.job_id for job in ours}
    unknown = any(job.whole_id not in known for job in in_queue)
    state: State = "ended" if elements else "missing"
    if unknown or any(job.job_id in elements for job in in_queue):
        state = "queued"
    if has_report(checkpoint, task):
        state = "reported"
    return ProbeState(
        checkpoint=checkpoint,
        task=task,
        state=state,
        attempts=len(elements),
        job_id=elements[-1] if elements else None,
    )


def report_path(checkpoint: Checkpoint, task: str) -> Path:
    """Where a probe writes its report."""
    return checkpoint.run / "probes" / checkpoint.folder.name / f"{task_name(task)}.json"


def has_report(checkpoint: Checkpoint, task: str) -> bool:
    """Whether a report of these very weights is there."""
    try:
        return checkpoint.digest in report_path(checkpoint, task).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return False


def probe_job_name(digest: str) -> str:
    """A name that only probes of these very weights have."""
    return f"probe-{digest[:16]}"


class Settling:
    """Believes that a probe has failed when its report stayed away for a while after its end.

    Args:
        seconds: How long a report may take to be seen here; shared storage is slow to tell.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._since: dict[str, float] = {}

    def __call__(self, probe: ProbeState) -> bool:
        """Whether a probe that was just seen to have ended has failed."""
        now = time.monotonic()
        since = self._since.setdefault(f"{probe.checkpoint.digest} {probe.job_id}", now)
        return now - since >= self._seconds
