"""The start of a run: everything that can be refused is, then its folder is claimed."""

import tempfile

from data_sharding.folder_lock import held
from eval.tasks import load_task
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
    _refuse_node_local(config)
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


def _refuse_node_local(config: RunConfig) -> None:
    """A folder that each node has for itself cannot be the run's."""
    if config.cluster != "slurm" or config.slurm.nodes == 1:
        return
    for place in (tempfile.gettempdir(), "/tmp", "/var/tmp", "/dev/shm"):
        if config.run.absolute().is_relative_to(place):
            raise ValueError(
                f"{config.run}: every node has its own {place}; give --run a folder that all "
                f"{config.slurm.nodes} nodes share"
            )
