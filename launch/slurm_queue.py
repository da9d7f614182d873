"""What Slurm says of its queue. squeue and scontrol alone: no accounting database is needed."""

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

from launch.cluster import SubmissionError
from launch.job_record import JobRecord

ANSWER_SECONDS = 120
"""How long a controller that does not answer is waited for."""

_FORMAT = "%i|%T|%r|%M|%L|%N|%j"
"""The name comes last: it is a folder's, and may hold whatever the fields are parted by."""


@dataclass(frozen=True, kw_only=True)
class QueuedJob:
    """A job, or one element of an array, that is pending or running.

    Attributes:
        job_id: ``7``, or ``7_2`` for an element; pending ones may stand together as ``7_[0-3]``.
        state: Slurm's, such as ``PENDING``.
        reason: Why it waits; ``None`` where it does not.
        elapsed: How long it has run, as Slurm writes times.
        left: Until its time limit.
        nodes: Where it runs.
        name: Its name.
    """

    job_id: str
    state: str
    reason: str
    elapsed: str
    left: str
    nodes: str
    name: str

    @property
    def whole_id(self) -> str:
        """Of the array that it is an element of; of another job its own id."""
        return self.job_id.split("_")[0]


def queued_jobs(jobs: Sequence[JobRecord]) -> list[QueuedJob]:
    """Those of some jobs that are pending or running, elements of arrays one by one.

    Raises:
        ValueError: there is no Slurm on this machine.
        SubmissionError: Slurm does not answer.
    """
    if not jobs:
        return []
    # By name too: a cluster that was set up anew counts from 1 again.
    wanted = {(job.job_id, job.name) for job in jobs}
    # Asked for a job that it has forgotten, squeue fails; so all of this user's are asked for.
    return [job for job in _jobs("--me", "--array") if (job.whole_id, job.name) in wanted]


def _jobs(*options: str) -> list[QueuedJob]:
    answer = ask_slurm("squeue", "--noheader", f"--format={_FORMAT}", *options)
    names = list(QueuedJob.__annotations__)
    rows = [line.split("|", len(names) - 1) for line in answer.split("\n") if line]
    return [QueuedJob(**dict(zip(names, row, strict=True))) for row in rows]


def jobs_of_names(names: Sequence[str]) -> list[QueuedJob]:
    """Those that are pending or running, of whomever, elements of arrays one by one.

    Raises:
        ValueError: there is no Slurm on this machine.
        SubmissionError: Slurm does not answer.
    """
    if not names:
        return []
    return _jobs("--array", f"--name={','.join(names)}")


def jobs_named(name: str) -> list[str]:
    """Ids of the jobs of that name that are pending or running.

    Raises:
        ValueError: there is no Slurm on this machine.
        SubmissionError: Slurm does not answer.
    """
    return ask_slurm("squeue", "--noheader", "--format=%i", f"--name={name}").split()


def ask_slurm(*command: str) -> str:
    """What one of Slurm's programs prints.

    Raises:
        ValueError: it is not on this machine.
        SubmissionError: it fails, or does not answer.
    """
    program = command[0]
    try:
        answer = subprocess.run(
            command, capture_output=True, text=True, timeout=ANSWER_SECONDS, check=False
        )
    except FileNotFoundError as error:
        raise ValueError(f"no {program} on PATH: do this on a Slurm login node") from error
    except subprocess.TimeoutExpired as error:
        raise SubmissionError(f"{program} gave no answer in {error.timeout:.0f} s") from error
    if answer.returncode != 0:
        raise SubmissionError(f"{' '.join(command)} failed: {answer.stderr.strip()}")
    return answer.stdout
