"""One element of a probe array: ``python -m launch.probes.element CHECKPOINT DIGEST TASK...``.

It probes the task whose number SLURM_ARRAY_TASK_ID is. The digest names the very weights that the
array was submitted for: others that lie in their place by now are refused.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from launch.errors import log_plainly, user_errors
from launch.preemption import exit_code_kept
from pretrain.checkpoint import CheckpointError, open_checkpoint

ELEMENT_VARIABLE = "SLURM_ARRAY_TASK_ID"


def probe_pinned(folder: Path, digest: str, task: str) -> str:
    """Probe these very weights, and draw the run's pages anew; the scores as a table.

    Raises:
        CheckpointError: the folder holds other weights, or no whole checkpoint.
        ValueError: the task cannot be probed.
    """
    checkpoint = open_checkpoint(folder, verify=False)
    if checkpoint.digest != digest:
        raise CheckpointError(
            f"{folder}: holds other weights ({checkpoint.digest[:12]}) than this probe was "
            f"submitted for ({digest[:12]}); nothing is scored"
        )
    # Imported late: torch takes seconds, and a refusal should be told at once.
    from eval.pages.run_pages import renew_pages_or_warn
    from eval.probes.probe import ProbeConfig, probe
    from eval.probes.probe_report import format_table
    from eval.tasks import load_task

    report = probe(checkpoint, load_task(task), ProbeConfig())
    renew_pages_or_warn(checkpoint.run)
    return format_table(report)


def task_of_element(tasks: Sequence[str], element: str | None) -> str:
    """The task of an element.

    Raises:
        ValueError: it has no number, or one that no task has.
    """
    if element is None or not element.isdecimal() or int(element) >= len(tasks):
        raise ValueError(
            f"{ELEMENT_VARIABLE} is {element!r}: it must say which of {len(tasks)} tasks to probe; "
            f"start this as an array job with --array=0-{len(tasks) - 1}"
        )
    return tasks[int(element)]


def main() -> None:
    """Probe and print the table."""
    log_plainly()
    with exit_code_kept(), user_errors():
        folder, digest, *tasks = sys.argv[1:]
        task = task_of_element(tasks, os.environ.get(ELEMENT_VARIABLE))
        print(probe_pinned(Path(folder), digest, task))


if __name__ == "__main__":
    main()
