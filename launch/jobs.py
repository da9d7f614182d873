"""The jobs of a run: one that pretrains, and a probe for each checkpoint it commits.

``python -m launch.jobs CHECKPOINT TASK CLUSTER_JSON`` submits one probe; the hook below runs it
as a process of its own, because submitting clears variables that the trainer lives by.
"""

import json
import logging
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

from launch.cluster import ClusterConfig, SubmittedJob, submit_command
from launch.job_record import JobRecord, record_job
from launch.slurm_queue import ANSWER_SECONDS, jobs_named
from pretrain.checkpoint import Checkpoint, CheckpointError, open_checkpoint, take_lease

logger = logging.getLogger(__name__)


def submit_pretrain(run_folder: Path, cluster: ClusterConfig) -> SubmittedJob:
    """Queue the run that ``run_folder/config.json`` describes, on all ranks of a job.

    Raises:
        ValueError: there is no such file, or no Slurm on this machine.
        SubmissionError: sbatch refused the job.
    """
    run_folder = run_folder.absolute()
    if not (run_folder / "config.json").is_file():
        raise ValueError(f"{run_folder}: no config.json, so there is no run to submit")
    command = [sys.executable, "-u", "-m", "launch.worker", str(run_folder)]
    job = submit_command(command, f"pretrain-{run_folder.name}", run_folder / "logs", cluster)
    record_job(run_folder, JobRecord(kind="pretrain", job_id=job.job_id, name=job.name))
    return job


def submit_probe(checkpoint_folder: Path, task: str, cluster: ClusterConfig) -> SubmittedJob | None:
    """Queue the probe of one checkpoint on one task, unless that is queued, running or done.

    The checkpoint is leased until the report is there: the run that made it will not remove it.

    Args:
        checkpoint_folder: A whole checkpoint.
        task: A task's name or its folder.
        cluster: Where; the job takes one rank of it.

    Returns:
        The job, or None where nothing was left to submit.

    Raises:
        CheckpointError: the checkpoint is not whole.
        ValueError: there is no Slurm on this machine.
        SubmissionError: Slurm did not answer or refused the job.
    """
    checkpoint = open_checkpoint(checkpoint_folder.absolute(), verify=False)
    name = probe_job_name(checkpoint.digest, task)
    report = report_path(checkpoint, task)
    if report.is_file() and checkpoint.digest in report.read_text(encoding="utf-8"):
        return None
    if jobs_named(name):
        return None
    target = str(Path(task).absolute()) if Path(task).is_dir() else task
    command = [sys.executable, "-u", "-m", "launch", "probe", str(checkpoint.folder), target]
    lease = lease_for_probe(checkpoint, task)
    try:
        return submit_command(command, name, checkpoint.run / "logs", cluster.for_probe())
    except (ValueError, OSError):
        lease.unlink(missing_ok=True)
        raise


def report_path(checkpoint: Checkpoint, task: str) -> Path:
    """Where a probe writes its report."""
    return checkpoint.run / "probes" / checkpoint.folder.name / f"{Path(task).name}.json"


def lease_for_probe(checkpoint: Checkpoint, task: str) -> Path:
    """Keep a checkpoint until its probe has reported; the lease's file."""
    return take_lease(
        checkpoint, probe_job_name(checkpoint.digest, task), report_path(checkpoint, task)
    )


def probe_job_name(digest: str, task: str) -> str:
    """A name that only the probe of these very weights on this task has."""
    return f"probe-{digest[:16]}-{re.sub(r'[^A-Za-z0-9_.-]', '_', Path(task).name)}"


class ProbeOnCheckpoint:
    """Submits a probe of each task for each committed checkpoint; for rank 0's ``on_checkpoint``.

    It returns at once. What goes wrong is logged and never reaches the training.
    """

    def __init__(self, tasks: tuple[str, ...], cluster: ClusterConfig) -> None:
        self._tasks = tasks
        self._cluster = json.dumps(asdict(cluster))
        # One thread, so that a slow controller piles up waiting work and not processes.
        self._submissions = ThreadPoolExecutor(max_workers=1, thread_name_prefix="submit-probe")

    def __call__(self, checkpoint_folder: Path) -> None:
        """Submit the probes of one checkpoint in the background; until then it is leased."""
        for task in self._tasks:
            try:
                lease = lease_for_probe(open_checkpoint(checkpoint_folder, verify=False), task)
            except (CheckpointError, OSError) as error:
                logger.warning("%s: no probe on %s: %s", checkpoint_folder, task, error)
            else:
                self._submissions.submit(self._submit, checkpoint_folder, task, lease)

    def close(self) -> None:
        """Wait until everything is submitted; the interpreter's end does the same."""
        self._submissions.shutdown(wait=True)

    def _submit(self, checkpoint_folder: Path, task: str, lease: Path) -> None:
        command = [sys.executable, "-m", "launch.jobs", str(checkpoint_folder), task, self._cluster]
        try:
            answer = subprocess.run(
                command, capture_output=True, text=True, timeout=ANSWER_SECONDS, check=False
            )
        except subprocess.TimeoutExpired as error:  # it may be queued: the lease stays
            logger.warning("%s: no probe on %s: %s", checkpoint_folder, task, error)
            return
        except OSError as error:
            logger.warning("%s: no probe on %s: %s", checkpoint_folder, task, error)
            lease.unlink(missing_ok=True)
            return
        if answer.returncode == 0:
            logger.info("%s", answer.stdout.strip())
        else:
            reason = (answer.stderr.strip().splitlines() or ["no reason given"])[-1]
            logger.warning("%s: no probe on %s: %s", checkpoint_folder, task, reason)
            lease.unlink(missing_ok=True)


def cluster_from_json(text: str) -> ClusterConfig:
    """What the hook above passed on; plain, because the full reader would import torch."""
    content = json.loads(text)
    tuples = {name: tuple(value) for name, value in content.items() if isinstance(value, list)}
    return ClusterConfig(**content | tuples)


def main() -> None:
    """Submit one probe and print its job id."""
    checkpoint_folder, task, cluster = sys.argv[1:]
    job = submit_probe(Path(checkpoint_folder), task, cluster_from_json(cluster))
    print(
        f"{checkpoint_folder}: probe on {task}: {f'job {job.job_id}' if job else 'there already'}"
    )


if __name__ == "__main__":
    main()
