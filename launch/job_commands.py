"""`triptych logs` and `cancel`: what a run's jobs have said, and their end."""

import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

import tyro

from data_sharding.folder_lock import Holder, lock_holder
from launch.job_record import JobRecord, read_jobs
from launch.probes.permission import forbid_probes
from launch.run_config import LOCK_FILE
from launch.slurm_queue import QueuedJob, ask_slurm, queued_jobs


@dataclass(frozen=True, kw_only=True)
class LogsCommand:
    """Print the end of what the ranks of a run's newest Slurm job have said."""

    run: tyro.conf.Positional[Path]
    """Run folder."""

    job: str | None = None
    """Job id; without it the newest pretraining job. `status` names the probes' jobs."""

    rank: int = 0
    """Which rank, or which task of a probe job."""

    lines: int = 20
    """How many lines of each file."""

    follow: bool = False
    """Go on printing what is added, until Ctrl-C."""


@dataclass(frozen=True, kw_only=True)
class CancelCommand:
    """Ask a run to save and stop, and take its jobs out of the queue.

    Running ranks save at their next step and end; they are not queued again. What is saved goes on
    with `triptych pretrain --config RUN/config.json --resume`. Until then neither the run
    nor a `triptych watch` submits probes; the watch ends with a line that says so.
    """

    run: tyro.conf.Positional[Path]
    """Run folder."""

    now: bool = False
    """Do not wait for a checkpoint: Slurm ends the ranks after its KillWait (30 s on most
    clusters), and what they have not saved by then is lost."""


def logs_command(arguments: list[str]) -> int:
    """`triptych logs`."""
    command = tyro.cli(LogsCommand, args=arguments, prog="triptych logs")
    files = log_files(command.run, command.job, command.rank)
    if command.follow:
        sys.stdout.flush()
        os.execvp("tail", ["tail", "-n", str(command.lines), "-F", *map(str, files)])
    for file in files:
        print(f"==> {file} <==")
        print("\n".join(file.read_text(errors="replace").splitlines()[-command.lines :]))
    return 0


def log_files(run: Path, job: str | None, rank: int) -> list[Path]:
    """What a rank, or an element of an array, has written: stdout, then stderr.

    Raises:
        ValueError: the run has no such job, or nothing was written yet.
    """
    jobs = read_jobs(run)
    known = [record.job_id for record in jobs if job is not None or record.kind == "pretrain"]
    if not known:
        raise ValueError(f"{run}: no job was submitted for it; ranks started here tell it here")
    wanted = job or known[-1]
    if wanted not in known:
        raise ValueError(f"{run}: job {wanted} is none of its; there are {', '.join(known)}")
    logs = run / "logs"
    files = [
        file
        for end in ("out", "err")
        for name in (f"{wanted}_{rank}_log.{end}", f"{wanted}_{rank}_0_log.{end}")
        if (file := logs / name).exists()
    ]
    if not files:
        raise ValueError(f"{logs}: rank {rank} of job {wanted} has written nothing yet")
    return files


def cancel_command(arguments: list[str]) -> int:
    """`triptych cancel`."""
    command = tyro.cli(CancelCommand, args=arguments, prog="triptych cancel")
    done = cancel(command.run, command.now)
    print("\n".join(done) if done else f"{command.run}: nothing runs and nothing is queued")
    return 0


def cancel(run: Path, now: bool) -> list[str]:
    """Stop what a run has going, on this machine and in Slurm's queue; says what was done.

    Raises:
        ValueError: the folder is no run's, or there is no Slurm on this machine.
        SubmissionError: Slurm does not answer.
    """
    if not (run / "config.json").is_file():
        raise ValueError(f"{run}: no run folder: it holds no config.json")
    done = []
    try:
        forbid_probes(run)  # first: a watch would submit again what is taken out of the queue
    except (ValueError, OSError) as error:
        done.append(f"probes may be submitted again, for this failed: {error}")
    jobs = {job.job_id: job for job in read_jobs(run)}
    queued: dict[str, QueuedJob] = {}
    for job in queued_jobs(list(jobs.values())):
        queued.setdefault(job.whole_id, job)
    done += [
        _cancel_job(jobs[job_id], job.state == "RUNNING" and not now)
        for job_id, job in queued.items()
    ]
    holder = lock_holder(run / LOCK_FILE)
    if holder is not None and holder.job is None and holder.has_ended(Holder.here()) is False:
        os.kill(holder.pid, signal.SIGKILL if now else signal.SIGUSR2)
        done.append(f"{holder}: {'ended' if now else 'saves and stops at its next step'}")
    return done


def _cancel_job(job: JobRecord, saves: bool) -> str:
    if job.kind == "pretrain" and saves:
        # First: what has saved and stopped asks to be queued again, and this refuses it.
        ask_slurm("scontrol", "update", f"JobId={job.job_id}", "Requeue=0")
        ask_slurm("scancel", "--signal=USR2", job.job_id)
        return f"job {job.job_id}: saves and stops at its next step"
    ask_slurm("scancel", job.job_id)
    return f"job {job.job_id} ({job.kind}): cancelled"
