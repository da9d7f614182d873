"""A task is a labelled shard set plus a card, kept as ``task.json`` beside the shards.

Tasks are opened here: by their folder, or built-in ones by their name.
"""

import os
from collections.abc import Callable
from pathlib import Path

from eval.card import Task, TaskCard, open_task, save_card
from eval.importers import prepare_sample_topics

__all__ = [
    "BUILTIN_TASKS",
    "Task",
    "TaskCard",
    "default_tasks_folder",
    "load_task",
    "open_task",
    "save_card",
]

BUILTIN_TASKS: dict[str, Callable[[Path], Task]] = {"sample-topics": prepare_sample_topics}
"""Tasks that need no download, each with the function that prepares it in a folder of tasks."""


def load_task(name_or_path: str | Path, tasks_folder: Path | None = None) -> Task:
    """Open a task by its folder, or a built-in one by its name.

    A built-in task is sharded on first use into ``tasks_folder`` (default: the user's cache).

    Raises:
        ValueError: Neither a built-in name nor a task folder.
        data_sharding.schema.ShardError: The shards of the task are broken.
    """
    prepare = BUILTIN_TASKS.get(str(name_or_path))
    if prepare is not None:
        return prepare(tasks_folder if tasks_folder is not None else default_tasks_folder())
    if not Path(name_or_path).is_dir():
        raise ValueError(
            f"{name_or_path}: neither a task folder nor a built-in task "
            f"({', '.join(sorted(BUILTIN_TASKS))})"
        )
    return open_task(Path(name_or_path))


def default_tasks_folder() -> Path:
    """``$XDG_CACHE_HOME/triptych/tasks``, or the same under ``~/.cache``."""
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "triptych" / "tasks"
