"""A task's splits as problems for each representation: labels and rows, no features."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
from jaxtyping import Bool

from eval.card import Task
from eval.linear_probe import LinearProbeConfig, SplitProblem
from eval.samples import TaskSamples
from eval.splits import Split, SplitConfig, group_splits, refuse_leakage

Rows = Literal["own", "shared"]


def task_splits(samples: TaskSamples, config: SplitConfig) -> tuple[Split, ...]:
    """Splits of the testable samples; the others join every training part.

    Raises:
        ValueError: see `group_splits`; or a group lies among both kinds of samples.
    """
    count = samples.num_testable
    only_trained_on = np.arange(count, len(samples.labels))
    splits = tuple(
        replace(split, train=np.concatenate([split.train, only_trained_on]))
        for split in group_splits(samples.labels[:count], samples.groups[:count], config)
    )
    for split in splits:
        refuse_leakage(split, samples.groups)
    return splits


def usable(subset: str, task: Task, samples: TaskSamples, rows: Rows) -> Bool[np.ndarray, "sample"]:
    """Samples that a representation is probed on.

    Args:
        subset: A representation.
        task: Its card names the task's modalities.
        samples: The task's samples.
        rows: ``own``: all that it can be read from; ``shared``: of these, those that have every
            modality of the task, so that representations are compared on the same samples.
    """
    mask = samples.has(subset)
    return mask if rows == "own" else mask & samples.has_all(task.card.modalities)


def split_problems(
    task: Task,
    samples: TaskSamples,
    splits: Sequence[Split],
    linear: LinearProbeConfig,
    used: tuple[str, Bool[np.ndarray, "sample"]],
) -> list[SplitProblem]:
    """The task's splits, without the samples that are not used.

    Args:
        task: Gives the label set.
        samples: Labels and groups.
        splits: Of all samples.
        linear: The grid.
        used: What the samples must have, in a word for the error, and which of them do.

    Raises:
        ValueError: A class of the label set has no sample left.
    """
    (what, mask), classes = used, task.card.classes
    absent = sorted({*range(len(classes))} - set(samples.labels[mask].tolist()))
    if absent:
        raise ValueError(
            f"task {task.name}: no labelled sample with {what} is "
            f"{', '.join(repr(classes[place]) for place in absent)}; the label set is fixed, so "
            "every class needs samples"
        )
    return [
        SplitProblem(
            labels=samples.labels,
            groups=samples.groups,
            split=split.restricted_to(mask),
            num_classes=len(classes),
            config=linear,
        )
        for split in splits
    ]


def mean_test_share(problems: Sequence[SplitProblem]) -> float:
    """Mean of ``n_test / n_learn`` over splits; the learner sees training and validation."""
    shares = [
        len(problem.split.test) / max(len(problem.split.train) + len(problem.split.validation), 1)
        for problem in problems
    ]
    return float(np.mean(shares))
