"""A task's splits as problems for each representation: labels and rows, no features."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Bool

from eval.card import Task, TaskCard
from eval.probes.linear_probe import LinearProbeConfig, SplitProblem
from eval.probes.regression import Problem, RegressionProblem, RidgeConfig
from eval.samples import TaskSamples
from eval.splits import Split, SplitConfig, draws_of_fixed_parts, group_splits, refuse_leakage

Rows = Literal["own", "shared"]


@dataclass(frozen=True, kw_only=True)
class Grids:
    """What validation chooses from."""

    linear: LinearProbeConfig
    ridge: RidgeConfig


def task_splits(samples: TaskSamples, config: SplitConfig) -> tuple[Split, ...]:
    """Splits of the testable samples; the others join every training part.

    Where the set's authors fixed the parts: draws of their training part.

    Raises:
        ValueError: see `group_splits`; or a group lies among both kinds of samples, or in two of
            the authors' parts.
    """
    if samples.fixed is not None:
        return draws_of_fixed_parts(samples.fixed, samples.strata, samples.groups, config)
    count = samples.num_testable
    only_trained_on = np.arange(count, len(samples.labels))
    splits = tuple(
        replace(split, train=np.concatenate([split.train, only_trained_on]))
        for split in group_splits(samples.strata[:count], samples.groups[:count], config)
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
    grids: Grids,
    used: tuple[str, Bool[np.ndarray, "sample"]],
) -> list[SplitProblem] | list[RegressionProblem]:
    """The task's splits, without the samples that are not used.

    Args:
        task: Gives the label set.
        samples: Labels and groups.
        splits: Of all samples.
        grids: What the classifier or the regression is chosen from.
        used: What the samples must have, in a word for the error, and which of them do.

    Raises:
        ValueError: A class of the label set has no sample left.
    """
    (what, mask), classes = used, task.card.classes
    if task.card.is_regression:
        return _regressions(
            task.card, samples, [part.restricted_to(mask) for part in splits], grids
        )
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
            config=grids.linear,
        )
        for split in splits
    ]


def _regressions(
    card: TaskCard, samples: TaskSamples, splits: Sequence[Split], grids: Grids
) -> list[RegressionProblem]:
    assert card.class_cuts is not None
    assert card.label_range is not None
    return [
        RegressionProblem(
            labels=samples.labels,
            groups=samples.groups,
            split=split,
            cuts=card.class_cuts,
            bounds=card.label_range,
            config=grids.ridge,
        )
        for split in splits
    ]


def mean_test_share(problems: Sequence[Problem]) -> float:
    """Mean of ``n_test / n_learn`` over splits; the learner sees training and validation."""
    shares = [
        len(problem.split.test) / max(len(problem.split.train) + len(problem.split.validation), 1)
        for problem in problems
    ]
    return float(np.mean(shares))
