"""A sub-command that is not waited for: a Slurm job, or a process of this machine."""

import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from launch.cluster import ClusterConfig, submit_command
from launch.job_record import JobRecord, Kind, record_job

Where = Literal["inline", "local", "slurm"]
"""`inline`: here and now. `local`: a process of this machine that is not waited for. `slurm`: a
job of one rank."""


def run_aside(
    where: Literal["local", "slurm"],
    kind: Kind,
    arguments: Sequence[str],
    run: Path,
    cluster: ClusterConfig,
) -> str:
    """Start a sub-command elsewhere, with the options it was given here.

    Args:
        where: See `Where`.
        kind: Name of the sub-command; it must have the option `--cluster`.
        arguments: Its options; the last `--cluster` is the one that counts.
        run: The run that it is about; its log goes there.
        cluster: What a Slurm job asks for.

    Returns:
        A sentence that says where it is and where its log will be.

    Raises:
        ValueError: there is no Slurm on this machine.
        SubmissionError: sbatch refused the job.
    """
    command = [sys.executable, "-u", "-m", "launch", kind, *arguments, "--cluster", "inline"]
    logs = run.absolute() / "logs"
    name = f"{kind}-{run.absolute().name}"
    if where == "slurm":
        job = submit_command(command, name, logs, cluster.for_probe())
        record_job(run, JobRecord(kind=kind, job_id=job.job_id, name=name))
        return f"job {job.job_id}; log: {job.stdout[0]}"
    logs.mkdir(parents=True, exist_ok=True)
    log = logs / f"{name}-{datetime.now(UTC):%Y%m%d-%H%M%S-%f}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return f"process {process.pid}; log: {log}"
