"""The tasks of a sharding job as a Slurm array."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from data_sharding.job.engines import SubmittedEngine
from launch.cluster import ClusterConfig, SubmissionError, submit_array
from launch.slurm_queue import ask_slurm, jobs_named

POLL_SECONDS = 5.0
SETTLE_SECONDS = 60.0


@dataclass(frozen=True)
class SlurmArray:
    """An array job in the queue.

    Attributes:
        job_id: Its number.
        name: Its name, which no other job has.
        logs: Where its elements write.
    """

    job_id: str
    name: str
    logs: Path

    def is_active(self) -> bool:
        """Whether any element is queued or running.

        Raises:
            SubmissionError: Slurm does not answer.
        """
        return bool(jobs_named(self.name))

    def log_of(self, element: int) -> Path:
        """Where an element's complaints are."""
        return self.logs / f"{self.job_id}_{element}_0_log.err"


def slurm_engine(
    cluster: ClusterConfig,
    most_at_once: int | None = None,
    poll_seconds: float = POLL_SECONDS,
    settle_seconds: float = SETTLE_SECONDS,
) -> SubmittedEngine:
    """An engine whose tasks are elements of Slurm arrays.

    Args:
        cluster: What each element asks for; it takes one rank of it.
        most_at_once: How many elements may run at the same time; None is no limit.
        poll_seconds: Time between two looks at the queue.
        settle_seconds: How long a finished element's files may take to be seen here.

    Raises:
        ValueError: There is no Slurm on this machine.
        SubmissionError: Slurm does not answer.
    """

    def submit(command: list[str], name: str, elements: Sequence[int], logs: Path) -> SlurmArray:
        active = jobs_named(name)
        if active:  # of a driver that was killed
            return SlurmArray(job_id=re.split(r"[_\[]", active[0])[0], name=name, logs=logs)
        single = cluster.for_one_rank()
        job = submit_array(command, name, logs, single, elements, most_at_once)
        return SlurmArray(job_id=job.job_id, name=name, logs=logs)

    return SubmittedEngine(
        submit=submit,
        most_elements=largest_array(),
        poll_seconds=poll_seconds,
        settle_seconds=settle_seconds,
    )


def largest_array() -> int:
    """Most elements that this cluster takes in one array (MaxArraySize).

    Raises:
        ValueError: There is no Slurm on this machine, or it takes no arrays.
        SubmissionError: Slurm does not answer.
    """
    answer = ask_slurm("scontrol", "show", "config")
    found = re.search(r"^MaxArraySize\s*=\s*(\d+)", answer, re.MULTILINE)
    if found is None:
        raise SubmissionError("scontrol show config names no MaxArraySize")
    if int(found[1]) < 2:
        raise ValueError("this cluster takes no array jobs (MaxArraySize); use --cluster local")
    return int(found[1]) - 1
