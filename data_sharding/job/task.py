"""One task of a sharding job: ``python -m data_sharding.job.task OUT STAGE NUMBER [--stride N]``.

A task is a folder, a stage and a number, whoever runs it; two processes that run the same one do
no harm. A task that is done already is not done again.
"""

import argparse
import os
import sys
from pathlib import Path

import torch

from data_sharding.job.folder import JobFolder, Stage
from data_sharding.schema import ShardError

USER_ERRORS = (ValueError, ShardError, OSError)


def run_task(out: Path, stage: Stage, number: int) -> None:
    """Does one task unless its receipt says that it is done.

    Raises:
        ValueError: OUT holds no such job, or the corpus changed under it.
        OSError: Something cannot be read or written.
    """
    # Imported here: the two stages need different halves of the package.
    from data_sharding.job.scan import scan_task
    from data_sharding.job.write import write_task

    folder = JobFolder(out)
    if not folder.is_done(stage, number):
        (scan_task if stage == "scan" else write_task)(folder, number)


def count_tasks(out: Path, stage: Stage) -> int:
    """Number of tasks of a stage.

    Raises:
        ValueError: The stage before it is not done.
    """
    import json

    folder = JobFolder(out)
    path, name = (
        (folder.plan_file, "tasks") if stage == "scan" else (folder.resolved_file, "shards")
    )
    if not path.is_file():
        raise ValueError(
            f"{out}: its {stage} tasks are not known yet; start `triptych shard` first"
        )
    return int(json.loads(path.read_bytes())[name])


def main() -> int:
    """Runs task NUMBER, then every STRIDE-th after it; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m data_sharding.job.task", description=__doc__)
    parser.add_argument("out", type=Path, help="folder of the unfinished shard set")
    parser.add_argument("stage", choices=("scan", "write"))
    parser.add_argument("number", nargs="?", help="default: SLURM_ARRAY_TASK_ID")
    parser.add_argument("--stride", type=int, help="also do every so many-th task after it")
    given = parser.parse_args()
    torch.set_num_threads(1)
    try:
        first = int(given.number or os.environ["SLURM_ARRAY_TASK_ID"])
        last = count_tasks(given.out, given.stage) if given.stride else first + 1
        for number in range(first, last, given.stride or 1):
            run_task(given.out, given.stage, number)
    except KeyError:
        parser.error("give NUMBER, or run inside a Slurm array")
    except USER_ERRORS as error:
        print(f"{given.stage} task: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
