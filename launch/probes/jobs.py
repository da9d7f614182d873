"""The probes of a run as Slurm arrays: one for each checkpoint, an element for each task.

``python -m launch.probes.jobs RUN`` submits what is missing; rank 0 runs it after each checkpoint
as a process of its own, because submitting clears variables that the trainer lives by. Whoever
asks, and however many at once, ask the same question under one lock: which probe has no report, is
not queued, and was not tried too often?
"""

import re
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from launch.cluster import ClusterConfig, submit_array
from launch.errors import log_plainly, user_errors
from launch.job_record import JobRecord, record_job
from launch.probes.permission import in_turn, refuse_forbidden
from launch.probes.states import (
    ProbeState,
    Settling,
    probe_job_name,
    probe_states,
    read_probe_settings,
    report_path,
    whole_checkpoints,
)
from launch.slurm_queue import jobs_of_names
from pretrain.checkpoint import Checkpoint, open_checkpoint, take_lease

PROBE_ATTEMPTS = 3
"""Submissions of one probe, the first included; each is queued again twice by its own script."""

SETTLE_SECONDS = 60.0


@dataclass(frozen=True, kw_only=True)
class Round:
    """What one look at the probes of a run has seen and done.

    Attributes:
        states: Of all probes, before anything was submitted.
        submitted: The arrays that were queued.
        failed: Probes that ended without a report; what is not among `given_up` was submitted.
        given_up: Those that were tried as often as is allowed.
        in_doubt: Those that have ended and whose report may still be on its way.
        more_waits: Whether to look again at once: one was probed here, others may wait.
    """

    states: list[ProbeState]
    submitted: list[JobRecord] = field(default_factory=list)
    failed: list[ProbeState] = field(default_factory=list)
    given_up: list[ProbeState] = field(default_factory=list)
    in_doubt: list[ProbeState] = field(default_factory=list)
    more_waits: bool = False


def submit_missing_probes(
    run: Path,
    tasks: Sequence[str],
    cluster: ClusterConfig,
    has_failed: Callable[[ProbeState], bool],
    attempts: int = PROBE_ATTEMPTS,
) -> Round:
    """Queue every probe of a run's checkpoints that has no report and no job.

    A checkpoint is leased from then on until its reports are there or are given up: the run that
    made it does not remove it.

    Args:
        run: The run.
        tasks: By name or folder.
        cluster: Where; each probe takes one rank of it.
        has_failed: Whether one that has ended is not merely late with its report.
        attempts: How often one is submitted at most.

    Raises:
        ValueError: there is no Slurm on this machine, another one submits all the while, or the
            run was cancelled.
        SubmissionError: Slurm does not answer, or refused a job.
    """
    run = run.absolute()
    with in_turn(run):
        refuse_forbidden(run)
        checkpoints = whole_checkpoints(run)
        queued = jobs_of_names([probe_job_name(one.digest) for one in checkpoints])
        found = Round(states=probe_states(checkpoints, tasks, queued))
        wanted = _wanted(found, has_failed, attempts)
        for checkpoint in checkpoints:
            missing = [probe.task for probe in wanted if probe.checkpoint == checkpoint]
            if missing:
                found.submitted.append(_submit(checkpoint, missing, cluster))
        return found


def _wanted(
    found: Round, has_failed: Callable[[ProbeState], bool], attempts: int
) -> list[ProbeState]:
    """What is to be submitted; the round is told of what has ended without a report."""
    wanted = [probe for probe in found.states if probe.state == "missing"]
    for probe in (one for one in found.states if one.state == "ended"):
        if not has_failed(probe):
            found.in_doubt.append(probe)
            continue
        found.failed.append(probe)
        if probe.attempts < attempts:
            wanted.append(probe)
        else:
            found.given_up.append(probe)
            release_probe(probe.checkpoint, probe.task)
    return wanted


def submit_probe(checkpoint: Checkpoint, task: str, cluster: ClusterConfig) -> JobRecord | None:
    """Queue one probe, however often it has failed, unless it is queued, running or done.

    Raises:
        ValueError, SubmissionError: as `submit_missing_probes`.
    """
    checkpoint = open_checkpoint(checkpoint.folder.absolute(), verify=False)
    with in_turn(checkpoint.run):
        queued = jobs_of_names([probe_job_name(checkpoint.digest)])
        [probe] = probe_states([checkpoint], [task], queued)
        if probe.state in ("queued", "reported"):
            return None
        return _submit(checkpoint, [task], cluster)


def lease_for_probe(checkpoint: Checkpoint, task: str) -> Path:
    """Keep a checkpoint until its probe has reported; the lease's file."""
    return take_lease(checkpoint, _holder(checkpoint, task), report_path(checkpoint, task))


def release_probe(checkpoint: Checkpoint, task: str) -> None:
    """Keep a checkpoint no longer for a probe that was given up."""
    folder, holder = checkpoint.folder, _holder(checkpoint, task)
    folder.with_name(f"{folder.name}.lease-{holder}.json").unlink(missing_ok=True)


def _submit(checkpoint: Checkpoint, tasks: Sequence[str], cluster: ClusterConfig) -> JobRecord:
    """One array; the tasks' leases come first, and go again where Slurm refuses it."""
    name, run = probe_job_name(checkpoint.digest), checkpoint.run
    targets = [str(Path(task).absolute()) if Path(task).is_dir() else task for task in tasks]
    command = [sys.executable, "-u", "-m", "launch.probes.element"]
    command += [str(checkpoint.folder), checkpoint.digest, *targets]
    leases = [lease_for_probe(checkpoint, task) for task in targets]
    try:
        elements = range(len(targets))
        job = submit_array(
            command, name, run / "logs", cluster.for_probe(), elements, requeue_on="failure"
        )
    except (ValueError, OSError):
        for lease in leases:
            lease.unlink(missing_ok=True)
        raise
    record = JobRecord(
        kind="probe",
        job_id=job.job_id,
        name=name,
        checkpoint=checkpoint.folder.name,
        tasks=tuple(targets),
    )
    record_job(run, record)
    return record


def _holder(checkpoint: Checkpoint, task: str) -> str:
    plain = re.sub(r"[^A-Za-z0-9_.-]", "_", report_path(checkpoint, task).stem)
    return f"{probe_job_name(checkpoint.digest)}-{plain}"


def main(settle_seconds: float = SETTLE_SECONDS) -> None:
    """Submit what is missing and say so; what has just ended gets a second look."""
    log_plainly()
    with user_errors():
        run = Path(sys.argv[1])
        settings, has_failed = read_probe_settings(run), Settling(settle_seconds)
        for _ in range(2):
            found = submit_missing_probes(run, settings.tasks, settings.cluster, has_failed)
            for job in found.submitted:
                print(f"{job.checkpoint}: job {job.job_id} probes {', '.join(job.tasks)}")
            for probe in found.given_up:
                text = f"{probe.place}: given up after {probe.attempts} jobs; see {probe.log}"
                print(text, file=sys.stderr)
            if not found.in_doubt:
                break
            time.sleep(settle_seconds)


if __name__ == "__main__":
    main()
