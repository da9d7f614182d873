"""What an engine is, and how a task's failure comes back from another process."""

import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from data_sharding.job.folder import Stage
from data_sharding.schema import ShardError

KINDS: dict[str, type[Exception]] = {
    "ValueError": ValueError,
    "ShardError": ShardError,
    "OSError": OSError,
}
"""Errors that a user can act on; they come back as what they were."""

OnDone = Callable[[int], None]
"""Told the number of each task that is done; what it raises stops the engine."""


@runtime_checkable
class Engine(Protocol):
    """Runs tasks of a job."""

    def run(self, out: Path, stage: Stage, numbers: Sequence[int], on_done: OnDone) -> None:
        """Runs the tasks that have no receipt and returns when all are done.

        Args:
            out: The folder of the unfinished shard set.
            stage: Which kind of task.
            numbers: Which of them, sorted.
            on_done: Called once for each number, in any order.

        Raises:
            ValueError: The first failure, where the corpus or a setting is at fault.
            OSError: The first failure, where a file, a process or a scheduler is.
        """
        ...


def task_name(stage: Stage, number: int) -> str:
    """How messages call a task."""
    return f"{stage} task {number}"


def describe(error: Exception) -> tuple[str, str]:
    """An error as two texts, which need no pickle."""
    for name, kind in KINDS.items():
        if isinstance(error, kind):
            return name, str(error)
    return type(error).__name__, "".join(traceback.format_exception(error))


def failure(stage: Stage, number: int, described: tuple[str, str]) -> Exception:
    """The described error as one that names its task."""
    kind, message = described
    return KINDS.get(kind, RuntimeError)(f"{task_name(stage, number)}: {message}")
