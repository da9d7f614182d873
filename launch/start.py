"""The start of a run: everything that can be refused is, then its folder is claimed."""

from eval.tasks import load_task
from launch.run_config import RunConfig, check_run, save_run_config
from launch.views_sheet import write_views_sheet


def start_run(config: RunConfig, resume: bool) -> None:
    """Check a run, draw its views, and write its configuration.

    The configuration comes last: a folder that holds it is a run's, and a mistake found before
    leaves the folder free for the corrected command.

    Raises:
        ShardError: the shards are none, or without their statistics.
        ValueError: a task is none, or see `check_run`.
    """
    check_run(config, resume)
    for task in {*config.probe_tasks, config.online_knn} - {None}:
        load_task(task)
    if not resume:
        write_views_sheet(config.pretrain, config.run)
    save_run_config(config)
