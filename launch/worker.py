"""The program that is one rank of a pretraining run: ``python -m launch.worker RUN``.

torchrun, Slurm and `triptych pretrain` all start this; the rendezvous comes from the
environment. It resumes from the newest whole checkpoint of the run, if there is one.
"""

import os
import sys
from dataclasses import replace
from pathlib import Path

from launch.preemption import StopRequest, exit_code_kept


def main() -> None:
    """Entry point."""
    # First of all: what follows imports torch, which takes seconds in which a signal may come.
    stop = StopRequest()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from launch.errors import log_plainly, user_errors

    log_plainly()
    with exit_code_kept(), user_errors():
        if len(sys.argv) != 2:
            raise ValueError("usage: python -m launch.worker RUN_FOLDER")
        folder = Path(sys.argv[1])
        from launch.rank import work
        from launch.run_config import load_run_config

        # A run folder that was moved is still this run.
        sys.exit(work(replace(load_run_config(folder), run=folder), stop))


if __name__ == "__main__":
    main()
