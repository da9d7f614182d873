"""The jobs of a run, ``RUN/jobs.jsonl``: a line for each that was submitted, by whomever."""

import json
import os
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

JOBS_FILE = "jobs.jsonl"

Kind = Literal["pretrain", "probe", "publish", "watch"]


@dataclass(frozen=True, kw_only=True)
class JobRecord:
    """One submission.

    Attributes:
        kind: What the job does.
        job_id: Slurm's; of an array, the whole one's.
        name: The job's name in the queue.
        checkpoint: Name of the checkpoint's folder, for a probe.
        tasks: What is probed, by element.
        at: When it was submitted (UTC).
    """

    kind: Kind
    job_id: str
    name: str
    checkpoint: str | None = None
    tasks: tuple[str, ...] = ()
    at: str = field(default_factory=lambda: datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S"))


def record_job(run: Path, job: JobRecord) -> None:
    """Append one submission."""
    # Begun anew: the line before it may have been cut short.
    line = "\n" + json.dumps(asdict(job)) + "\n"
    descriptor = os.open(run / JOBS_FILE, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(descriptor, line.encode())  # one write, so that lines do not mix
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_jobs(run: Path) -> list[JobRecord]:
    """All submissions of a run, in order; a line cut short by a crash is none."""
    path = run / JOBS_FILE
    jobs = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            content = json.loads(line)
            jobs.append(JobRecord(**content | {"tasks": tuple(content["tasks"])}))
        except (ValueError, TypeError, KeyError):
            continue
    return jobs
