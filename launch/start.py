"""The start of a run: everything that can be refused is, then its folder is claimed."""

import tempfile

from data_sharding.durable import write_durably
from data_sharding.folder_lock import held
from eval.tasks import load_task
from launch.cluster import SubmittedJob
from launch.jobs import submit_pretrain
from launch.one_job import refuse_second_job
from launch.run_config import LOCK_FILE, RunConfig, check_run, save_run_config
from launch.views_sheet import write_views_sheet
from pretrain.checkpoint import start_afresh


def start_run(config: RunConfig, resume: bool, fresh: bool = False) -> None:
    """Check a run, draw its views, and write its configuration.

    The configuration comes last: a folder that holds it is a run's, and a mistake found before
    leaves the folder free for the corrected command.

    Raises:
        ShardError: the shards are none, or without their statistics.
        ValueError: a task is none, the run is going on, or see `check_run`.
    """
    refuse_node_local(config)
    check_run(config, resume, fresh)
    for task in {*config.probe_tasks, config.online_knn} - {None}:
        load_task(task)
    config.run.mkdir(parents=True, exist_ok=True)
    with held(config.run / LOCK_FILE, config.guard.lock_minutes * 60):
        if fresh:
            start_afresh(config.run)
        if not resume:
            write_views_sheet(config.pretrain, config.run)
        save_run_config(config)


def submit_run(config: RunConfig, resume: bool, fresh: bool = False) -> SubmittedJob:
    """Start a run as a Slurm job. Refused by Slurm, it leaves the folder as `start_run` found it.

    Raises:
        ShardError, ValueError: as `start_run`; a job of the run is queued already; or there is no
            Slurm on this machine.
        SubmissionError: sbatch refused the job.
    """
    # Before its configuration is replaced: a pending job would start with the new one.
    refuse_second_job(config.run)
    stored = config.run / "config.json"
    before = stored.read_bytes() if stored.exists() else None
    start_run(config, resume, fresh)
    try:
        return submit_pretrain(config.run, config.slurm)
    except (ValueError, OSError):
        if before is None:
            stored.unlink()
        else:
            write_durably(stored, before)
        raise


def refuse_node_local(config: RunConfig) -> None:
    """A folder that each node has for itself cannot be the run's.

    Raises:
        ValueError: it is one.
    """
    if config.cluster != "slurm" or config.slurm.nodes == 1:
        return
    for place in (tempfile.gettempdir(), "/tmp", "/var/tmp", "/dev/shm"):
        if config.run.absolute().is_relative_to(place):
            raise ValueError(
                f"{config.run}: every node has its own {place}; give --run a folder that all "
                f"{config.slurm.nodes} nodes share"
            )
