"""What all arms of a table are measured on: one set of splits for each representation."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from data_sharding.schema import MODALITIES
from eval.card import Task
from eval.probes.equal_words import split_task
from eval.probes.linear_probe import SplitProblem
from eval.probes.probe import ProbeConfig
from eval.probes.problems import split_problems, usable
from eval.samples import TaskSamples
from eval.splits import Split


@dataclass(frozen=True, kw_only=True)
class Board:
    """The splits of a task, by representation; the same for every arm."""

    samples: TaskSamples
    problems: Mapping[str, Sequence[SplitProblem]]
    """By representation that some sample can give."""
    late: Sequence[SplitProblem]
    """For votes of the single modalities: samples that have any of them."""


def make_board(task: Task, samples: TaskSamples, config: ProbeConfig) -> Board:
    """Split the samples as `config` says.

    Raises:
        ValueError: See `eval.probes.problems`; the task's label is a number; no sample can give any
            of the representations; copies lie on two sides of a split, and are not to be dropped;
            or without them too little is left.
    """
    if task.card.is_regression:
        raise ValueError(
            f"task {task.name}: arms are compared by classes, and its label is a number"
        )
    used = {name: usable(name, task, samples, config.rows) for name in config.representations}
    parts = split_task(task, samples, used, config.splits, config.copies)
    used = {name: part.used for name, part in parts.read.items()}
    if not used:
        raise ValueError(
            f"task {task.name}: no labelled sample has {' or '.join(config.representations)}"
        )
    if lost := [f"{name}: {part.told}" for name, part in parts.read.items() if not part.splits]:
        raise ValueError(f"task {task.name}: {'; '.join(lost)}")
    single = [mask for name, mask in used.items() if name in MODALITIES]
    voting = np.logical_or.reduce(single or list(used.values()))

    def problems(own: Sequence[Split], name: str, mask: np.ndarray) -> list[SplitProblem]:
        made = split_problems(task, samples, own, config.grids, (name, mask))
        return [problem for problem in made if isinstance(problem, SplitProblem)]

    return Board(
        samples=samples,
        problems={
            name: problems(part.splits, name, part.used) for name, part in parts.read.items()
        },
        late=problems(parts.whole, "any modality", voting),
    )
