"""The job that pretrains a run; its probes are in `launch.probes.jobs`."""

import shlex
import sys
from dataclasses import replace
from pathlib import Path

from launch.cluster import ClusterConfig, SubmittedJob, submit_command
from launch.job_record import JobRecord, record_job
from launch.probes.permission import allow_probes


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
    # The script runs on the first node, as rank 0 will: it can look which port is free there.
    ask_port = shlex.join([*cluster.container, sys.executable, "-m", "launch.rendezvous"])
    port_line = f'export MASTER_PORT="${{MASTER_PORT:-$({ask_port})}}"'
    cluster = replace(cluster, setup=(*cluster.setup, port_line))
    job = submit_command(command, f"pretrain-{run_folder.name}", run_folder / "logs", cluster)
    allow_probes(run_folder)
    record_job(run_folder, JobRecord(kind="pretrain", job_id=job.job_id, name=job.name))
    return job
